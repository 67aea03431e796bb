r"""Bounds with a KL weight per level (:eq:`eq-weighted`).

.. math:: \mathcal L_\beta(x) = \mathbb E_q\Bigl[ \log p(x \mid z) - \sum_l \beta_l\,
          \log \frac{q(z_l \mid \cdot)}{p(z_l \mid z_{>l})} \Bigr]

With every :math:`\beta_l = 1` this is the ELBO. With a weight below 1 it need not be a bound on
log p(x). For top-down inference it is one whenever no weight is below 1. For bottom-up inference,
where the term of a single level may be negative, it is one if the weights also do not fall on the
way up, :math:`1 \le \beta_1 \le \dots \le \beta_L`. Where some levels are drawn on the way up and
others on the way down, it is enough that no weight is below 1 and that no level of the first kind
weighs more than a level above it.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvae_course.config import per_level
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.base import Objective
from hvae_course.objectives.multipliers import plain_number


def not_negative(value: Any, name: str) -> Any:  # noqa: ANN401
    """Convert a setting to Python's own numbers, and refuse it if one is negative.

    Args:
        value: a number, or one per level.
        name: what the number is, for the error message.

    Returns:
        A number; a list for a list, otherwise a tuple.

    Raises:
        ValueError: if a number is negative or not finite, or there is none.
    """
    given = value.tolist() if hasattr(value, "tolist") else value
    several = isinstance(given, list | tuple)
    kind = "a number, or a sequence with one number per level"
    numbers = [plain_number(n, name, kind) for n in (given if several else [given])]
    if not numbers or not all(0 <= n < math.inf for n in numbers):
        raise ValueError(f"{name} must be zero or more at every level, got {value}")
    return (numbers if isinstance(value, list) else tuple(numbers)) if several else numbers[0]


def mean_over_draws(values: Tensor, trace: Trace) -> Tensor:
    """Average over the K draws of each example.

    Args:
        values: ``(B K,)``.
        trace: the trace that they belong to.

    Returns:
        ``(B,)``.
    """
    return values.unflatten(0, (-1, trace.num_samples)).mean(dim=1)


def mean_over_processes(value: Tensor) -> Tensor:
    """Average over all processes a mean over one process's share of the batch.

    Args:
        value: without gradients, the same shape in every process.

    Returns:
        The mean, the same in every process.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value = value.clone()
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return value


class WithWeights(Objective):
    """An objective with KL weights."""

    weights: float | tuple[float, ...]
    """KL weight, one for all levels or one per level from z_1 upward."""

    def on(self, device: torch.device) -> "WithWeights":  # noqa: D102
        def tensor(weight: float) -> Tensor:
            return torch.tensor(weight, dtype=torch.float64, device=device)

        weights = self.weights
        weights = tuple(map(tensor, weights)) if isinstance(weights, Sequence) else tensor(weights)
        same = copy.copy(self)
        object.__setattr__(same, "weights", weights)
        return same

    def weight_per_level(self, num_levels: int) -> tuple[float, ...]:
        """KL weights from z_1 upward.

        Args:
            num_levels: L.

        Returns:
            L weights.

        Raises:
            ValueError: if they, or the times of the warm-up, are given for another number.
        """
        name = getattr(self, "source_of_weights", f"{type(self).__name__}.weights")
        return per_level(self.weights, num_levels, name)


@dataclass(frozen=True)
class Weighted(WithWeights):
    """Reconstruction minus the weighted information of the levels.

    One number for all levels is the beta-VAE, a bound on log p(x) if it is not below 1. With a
    bottom-up posterior and a smaller weight for z_2 than for z_1, the objective can rise without
    limit, by making z_2 an ever more exact copy of z_1.

    Args:
        weights: beta, one for all levels or one per level from z_1 upward.

    Raises:
        ValueError: if a weight is negative.
        TypeError: if it is not a number.

    Source:
        Higgins et al. (2017), beta-VAE, ICLR.
    """

    weights: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", not_negative(self.weights, "weights"))

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:  # noqa: D102
        _, reconstruction, *information = trace.terms(x)
        weights = self.weight_per_level(len(information))
        kl = sum(weight * level for weight, level in zip(weights, information, strict=True))
        return mean_over_draws(reconstruction - kl, trace)
