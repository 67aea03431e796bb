"""Settings are tried on a handful of empty images, so that wrong ones are refused at once.

The rehearsal is the real thing, the same recipe, objective and
`hvae_course.training.loop.fit`, up to the first value of the objective. So it refuses what they
refuse, without a list of rules of its own, and before the data are loaded.
"""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import Trace
from hvae_course.recipes import build_seeded
from hvae_course.training import Objective, fit
from hvae_course.training.step import check_compiler


class _Accepted(Exception):
    """The objective has a value, so the settings are accepted."""


def _blank() -> DataSet:
    def split() -> Split:
        return Split(torch.zeros(4, 1, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), 1)

    return DataSet("blank", (1, 1), 2, "none", split(), split(), split())


def rehearse(
    recipe: str,
    arguments: Mapping[str, Any],
    *,
    objective: Objective,
    training: Mapping[str, Any],
    accelerator: Accelerator,
) -> None:
    """Raise what the settings of a run would raise, without its data.

    Args:
        recipe: a key of `hvae_course.recipes.models.RECIPES`.
        arguments: of the recipe.
        objective: what is to be maximised.
        training: arguments of `hvae_course.training.loop.fit`.
        accelerator: device, precision and processes.
    """
    if training["compiled"]:
        check_compiler(accelerator.device)
    arguments = dict(arguments)
    if arguments.get("likelihood") is None:
        arguments.pop("likelihood_options", None)  # of a likelihood that only the data decide
    data = _blank()
    model = build_seeded(recipe, data.spec, arguments, seed=0)
    first = getattr(objective, "for_epoch", lambda _: objective)(1)

    def accept(trace: Trace, x: Tensor) -> Tensor:
        first(trace, x)
        raise _Accepted

    try:
        settings = {**training, "compiled": False}  # one example is not worth the seconds
        fit(model, data, objective=accept, **settings, accelerator=accelerator, progress=False)
    except _Accepted:
        pass
    finally:
        accelerator.free_memory()  # it keeps what it has prepared
