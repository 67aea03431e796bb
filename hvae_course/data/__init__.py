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

`from_arrays`, `from_dataset`, `from_folder` and `from_npz` make a data set of data of your own.
"""

from hvae_course.data import kinematics, motion, nested_shapes, patches, pendulum
from hvae_course.data.arrays import DataWarning, from_arrays
from hvae_course.data.binarisation import BINARISATION_SEED
from hvae_course.data.files import from_dataset, from_folder, from_npz
from hvae_course.data.loading import load, load_motion
from hvae_course.data.motion_files import MOTIONS, download_motion
from hvae_course.data.splits import DataSet, DataSpec, Split, Standardisation, as_data_set

__all__ = [
    "BINARISATION_SEED",
    "DataSet",
    "DataSpec",
    "DataWarning",
    "MOTIONS",
    "Split",
    "Standardisation",
    "as_data_set",
    "download_motion",
    "from_arrays",
    "from_dataset",
    "from_folder",
    "from_npz",
    "kinematics",
    "load",
    "load_motion",
    "motion",
    "nested_shapes",
    "patches",
    "pendulum",
]
