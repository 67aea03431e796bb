"""Reference implementation of the course on hierarchical variational autoencoders.

>>> import hvae_course
>>> data = hvae_course.data.load("digits")
>>> model = hvae_course.recipes.two_level_vae(data)
>>> trace = model(data.test.batch(slice(0, 5)))
>>> [tuple(level.z.shape) for level in trace.levels]
[(5, 16), (5, 8)]

Importing it changes nothing: no seed, no default dtype, no plotting style. Its parts, and PyTorch
with them, are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvae_course import (
        analysis,
        checks,
        config,
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
    from hvae_course.compatibility import check_data
    from hvae_course.hierarchy import HierarchicalVAE, Level, Trace
    from hvae_course.training import fit

__version__ = "0.1.0"

__all__ = [
    "HierarchicalVAE",
    "Level",
    "Trace",
    "analysis",
    "check_data",
    "checks",
    "config",
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

_HOMES = {
    "HierarchicalVAE": "hierarchy",
    "Level": "hierarchy",
    "Trace": "hierarchy",
    "check_data": "compatibility",
    "evaluate": "analysis",
    "fit": "training",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
