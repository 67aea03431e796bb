r"""KL balancing: while the KL weight rises, levels with little information are charged less.

.. math:: \gamma_l = L\, \frac{k_l}{\sum_m k_m}, \qquad
          k_l = \frac{\lvert\mathbb E_{\text{batch}}[I_l]\rvert + \epsilon}{\alpha_l}

The KL weight of level l is :math:`\beta_l(t)\, \gamma_l` until the warm-up ends and
:math:`\beta_l` from there on. With :math:`\alpha_l` the number of latent dimensions, a level is
charged in proportion to its information per dimension. The factors have the mean 1 and no
gradient. In NVAE's code :math:`\alpha_l` is the number of positions of a map divided by the number
of levels of that resolution.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hvae_course.config import per_level
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.base import Objective
from hvae_course.objectives.warm_up import WarmUp
from hvae_course.objectives.weighted import WithWeights, mean_over_processes, not_negative


def balance(trace: Trace, x: Tensor, sizes: Sequence[float], *, epsilon: float = 0.01) -> Tensor:
    """Factors of the KL weights, larger for levels with more information for their size.

    Args:
        trace: the model's trace of x.
        x: data ``(B, D)``.
        sizes: alpha, one number per level from z_1 upward.
        epsilon: what is added to the information of every level, nats, so that an idle level keeps
            a weight.

    Returns:
        ``(L,)``, from z_1 upward, with the mean 1 and without gradients.
    """
    information = torch.stack(trace.terms(x)[2:]).detach()  # (L, B K)
    nats = mean_over_processes(information.mean(dim=1)).abs() + epsilon
    # a tensor of the sizes would be copied to the device in every step
    share = torch.stack([level / size for level, size in zip(nats.unbind(), sizes, strict=True)])
    return share / share.mean()


@dataclass(frozen=True)
class KLBalancing(Objective):
    """A warm-up whose KL weights are balanced between the levels until it ends.

    A level with little information per dimension gets a smaller weight, so that the rising KL
    weight does not switch it off before it has learned to encode something. What is validated, and
    the objective of every epoch from the last one of the warm-up on, is that of the warm-up. The
    factors are those of a batch, and the objective of an epoch with them need not be a bound.

    Args:
        warm_up: how the KL weights rise, and the final objective.
        sizes: alpha, one number per level from z_1 upward; None for the number of latent
            dimensions of each level.
        epsilon: what is added to the information of every level, nats.

    Raises:
        ValueError: if a size is zero or not finite, or epsilon not positive.
        TypeError: if there is no warm-up, or a setting is not a number.

    Source:
        Vahdat and Kautz (2020), NVAE, arXiv:2007.03898.
    """

    warm_up: WarmUp = field(default_factory=WarmUp)
    sizes: tuple[float, ...] | None = None
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if not isinstance(self.warm_up, WarmUp):
            raise TypeError(
                f"KL balancing acts during a warm-up, such as WarmUp(20), got {self.warm_up!r}"
            )
        for name in ("sizes", "epsilon"):
            value = getattr(self, name)
            if value is not None:
                value = not_negative(value, name)
                object.__setattr__(self, name, value)
                if not all(value if isinstance(value, Sequence) else [value]):
                    raise ValueError(f"{name} must be positive, got {value}")

    @property
    def duration(self) -> int:
        """Number of epochs after which the objective no longer changes."""
        return self.warm_up.duration

    def for_epoch(self, epoch: int) -> Objective:
        """Give the warm-up's objective of an epoch, balanced before the last of the warm-up.

        Args:
            epoch: counted from 1.

        Returns:
            The objective of that epoch.
        """
        objective = self.warm_up.for_epoch(epoch)
        return objective if epoch >= self.duration else _Balanced(objective, self)

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:  # noqa: D102
        return self.warm_up(trace, x)


@dataclass(frozen=True)
class _Balanced(Objective):
    """An objective whose KL weights are multiplied by factors of the batch."""

    objective: WithWeights
    settings: KLBalancing

    def on(self, device: torch.device) -> "_Balanced":
        return _Balanced(self.objective.on(device), self.settings)

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        num_levels, sizes = len(trace.levels), self.settings.sizes
        if sizes is None:
            sizes = [level.z[0].numel() for level in trace.levels]
        sizes = per_level(sizes, num_levels, "KLBalancing.sizes")
        factors = balance(trace, x, sizes, epsilon=self.settings.epsilon)
        weights = self.objective.weight_per_level(num_levels)
        same = copy.copy(self.objective)
        pairs = zip(weights, factors.unbind(), strict=True)
        object.__setattr__(same, "weights", tuple(weight * factor for weight, factor in pairs))
        return same(trace, x)
