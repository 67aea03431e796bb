r"""Bounds with a KL weight per level (:eq:`eq-weighted`).

.. math:: \mathcal L_\beta(x) = \mathbb E_q\Bigl[ \log p(x \mid z) - \sum_l \beta_l\,
          \log \frac{q(z_l \mid \cdot)}{p(z_l \mid z_{>l})} \Bigr]

With every :math:`\beta_l = 1` this is the ELBO. With a weight below 1 it need not be a bound on
log p(x). For top-down inference it is one whenever no weight is below 1. For bottom-up inference,
where the term of a single level may be negative, it is one if the weights also do not fall on the
way up, :math:`1 \le \beta_1 \le \dots \le \beta_L`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hvae_course.config import per_level
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.base import Objective


def check_not_negative(value: float | Sequence[float], name: str) -> None:
    """Raise an error if a setting is negative.

    Args:
        value: a number, or one per level.
        name: what the number is, for the error message.

    Raises:
        ValueError: if a number is negative, or there is none.
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    if not values or not all(v >= 0 for v in values):
        raise ValueError(f"{name} must be zero or more at every level, got {value}")


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
        return replace(self, weights=weights)


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

    Source:
        Higgins et al. (2017), beta-VAE, ICLR.
    """

    weights: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        check_not_negative(self.weights, "weights")

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:  # noqa: D102
        _, reconstruction, *information = trace.terms(x)
        weights = per_level(self.weights, len(information), "weights")
        kl = sum(weight * level for weight, level in zip(weights, information, strict=True))
        return mean_over_draws(reconstruction - kl, trace)
