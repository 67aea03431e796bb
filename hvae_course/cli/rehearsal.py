"""Try settings on a few blank images, so that wrong ones are refused at once.

The rehearsal runs the same recipe, objective and `hvae_course.training.loop.fit` as the training,
up to the first value of the objective. It raises their errors before the data are loaded, and
needs no rules of its own.
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
    """The objective was computed, so the settings are accepted."""


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
    """Raise the errors that the settings of a run would raise, without its data.

    Args:
        recipe: a key of `hvae_course.recipes.models.RECIPES`.
        arguments: arguments of the recipe.
        objective: the objective to maximise.
        training: arguments of `hvae_course.training.loop.fit`.
        accelerator: device, precision and processes.
    """
    if training["compiled"]:
        check_compiler(accelerator.device)
    arguments = dict(arguments)
    if arguments.get("likelihood") is None:
        arguments.pop("likelihood_options", None)  # the data determine the likelihood
    data = _blank()
    model = build_seeded(recipe, data.spec, arguments, seed=0)
    first = getattr(objective, "for_epoch", lambda _: objective)(1)

    def accept(trace: Trace, x: Tensor) -> Tensor:
        first(trace, x)
        raise _Accepted

    try:
        settings = {
            **training,
            "compiled": False,
        }  # compiling for one step takes longer than running it
        fit(model, data, objective=accept, **settings, accelerator=accelerator, progress=False)
    except _Accepted:
        pass
    finally:
        accelerator.free_memory()  # it holds references to everything it prepared
