"""Reference implementation of the course on hierarchical variational autoencoders.

>>> import hvae_course
>>> data = hvae_course.data.load("digits")
>>> model = hvae_course.recipes.two_level_vae(data)
>>> trace = model(data.test.batch(slice(0, 5)))
>>> [tuple(level.z.shape) for level in trace.levels]
[(5, 16), (5, 8)]

Importing it changes nothing: no seed, no default dtype, no plotting style.
"""

from hvae_course import (
    analysis,
    checks,
    data,
    likelihoods,
    objectives,
    oracles,
    plots,
    posteriors,
    pretrained,
    priors,
    recipes,
    training,
)
from hvae_course.analysis import evaluate
from hvae_course.hierarchy import HierarchicalVAE, Level, Trace
from hvae_course.training import fit

__version__ = "0.1.0"

__all__ = [
    "HierarchicalVAE",
    "Level",
    "Trace",
    "analysis",
    "checks",
    "data",
    "evaluate",
    "fit",
    "likelihoods",
    "objectives",
    "oracles",
    "plots",
    "posteriors",
    "pretrained",
    "priors",
    "recipes",
    "training",
]
