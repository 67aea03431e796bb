r"""Free bits: the KL term of a level has a floor (:eq:`eq-free-bits`).

.. math:: \mathcal L_{\underline I} = \mathbb E_{\text{batch}}\bigl[\log p(x \mid z)\bigr]
          - \sum_l \max\bigl(\underline I_l, \mathbb E_{\text{batch}}[I_l]\bigr)

Below its floor the KL term of a level is constant: it has no gradient, and neither pushes
information out of the level nor says what the level should encode.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_course.config import per_level
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.weighted import (
    WithWeights,
    mean_over_draws,
    mean_over_processes,
    not_negative,
)

FLOORS = ("batch", "example")
"""The floor is compared with the batch mean of a level, or with the value of each example."""


@dataclass(frozen=True)
class FreeBits(WithWeights):
    """Reconstruction minus the information of the levels, each counted at least as its floor.

    With a floor under the batch mean, a level below it counts as the floor and gets no gradient
    from its KL term; above it, its information counts as it is. With a floor under each example,
    examples below the floor get no gradient and count as the floor, so a level whose mean is above
    the floor may still count as more than its information. The value of one draw is compared, so
    noise alone raises it. The floor is applied first, the weight after it: a floor under a
    weighted information would move with the weight. A floor of zero is also a floor: the batch
    mean of z_1 under a bottom-up posterior may be negative, and then counts as zero.

    Args:
        nats: the floor, one for all levels or one per level from z_1 upward.
        floor: ``"batch"`` or ``"example"``.
        weights: KL weight, one for all levels or one per level from z_1 upward.

    Raises:
        ValueError: if a setting is negative or unknown.
        TypeError: if a floor or a weight is not a number.

    Source:
        Kingma et al. (2016), Improved variational inference with inverse autoregressive flow,
        arXiv:1606.04934, for the floor under the batch mean.
    """

    nats: float | tuple[float, ...] = 0.5
    floor: str = "batch"
    weights: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        for name in ("nats", "weights"):
            object.__setattr__(self, name, not_negative(getattr(self, name), name))
        if self.floor not in FLOORS:
            raise ValueError(f"unknown floor {self.floor!r}; choose one of {', '.join(FLOORS)}")

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        """Value of the objective; its mean over the batch is what the equation says.

        Args:
            trace: the model's trace of x.
            x: data ``(B, D)``.

        Returns:
            ``(B,)``, nats per example; to be maximised.
        """
        _, reconstruction, *information = trace.terms(x)
        value = mean_over_draws(reconstruction, trace)
        settings: Sequence[tuple[float, ...]] = (
            per_level(self.nats, len(information), "FreeBits.nats"),
            self.weight_per_level(len(information)),
        )
        for nats, weight, level in zip(*settings, information, strict=True):
            level = mean_over_draws(level, trace)  # (B K,) -> (B,)
            if self.floor == "example":
                counted = level.clamp(min=nats)
            else:  # all examples count as they are, or all as the floor
                above = mean_over_processes(level.detach().mean()) > nats
                counted = torch.where(above, level, torch.full_like(level, nats))
            value = value - weight * counted
        return value
