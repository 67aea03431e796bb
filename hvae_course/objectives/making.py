"""Objectives by name."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hvae_course import config
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.balancing import KLBalancing
from hvae_course.objectives.base import Objective, as_objective
from hvae_course.objectives.elbo import elbo
from hvae_course.objectives.free_bits import FreeBits
from hvae_course.objectives.iwae import importance_weighted
from hvae_course.objectives.warm_up import WarmUp
from hvae_course.objectives.weighted import Weighted

OBJECTIVES: dict[str, Callable[[Trace, Tensor], Tensor]] = {
    "elbo": elbo,
    "iwae": importance_weighted,
}
"""Objectives by name.

:meta hide-value:
"""


def make_objective(chosen: config.Objective) -> Objective:
    """Assemble an objective.

    Args:
        chosen: its name, warm-up, free bits and balancing.

    Returns:
        What `hvae_course.training.loop.fit` maximises.
    """
    if chosen.warm_up is None and chosen.free_bits is None:
        return as_objective(OBJECTIVES[chosen.objective])
    free = chosen.free_bits
    final = Weighted() if free is None else FreeBits(_one_or_all(free))
    if chosen.warm_up is None:
        return final
    warm_up = WarmUp(_one_or_all(chosen.warm_up), final)
    return KLBalancing(warm_up) if chosen.kl_balancing else warm_up


def _one_or_all(values: tuple[Any, ...]) -> Any:  # noqa: ANN401
    return values[0] if len(values) == 1 else values
