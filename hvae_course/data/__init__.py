r"""Data sets that live on the device, images as bytes.

A data set is three splits, kept on the device that trains. Shuffling is an index, and turning
bytes into a batch (scaling, or drawing binary pixels) happens where the bytes are, so a training
step waits for nothing.

Binarisation changes the data that a bound is about, and two numbers can be compared only if it is
the same. It is one of:

- ``"dynamic"``: each training batch draws every pixel again, with its grey value as probability;
  validation and test set are drawn once with a fixed seed, so that every evaluation scores the
  same images;
- ``"static"``: all splits are drawn once with a fixed seed;
- ``"threshold"``: a pixel is 1 where its grey value is at least one half;
- ``"none"``: the values themselves; real-valued data know no other.
"""

from hvae_course.data import motion, nested_shapes, pendulum
from hvae_course.data.loading import BINARISATION_SEED, load, load_motion
from hvae_course.data.splits import DataSet, DataSpec, Split, Standardisation

__all__ = [
    "BINARISATION_SEED",
    "DataSet",
    "DataSpec",
    "Split",
    "Standardisation",
    "load",
    "load_motion",
    "motion",
    "nested_shapes",
    "pendulum",
]
