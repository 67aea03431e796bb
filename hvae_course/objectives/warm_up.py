r"""KL warm-up: the KL weight rises from near zero to one (:eq:`eq-warm-up`).

.. math:: \beta_l(t) = \min(1, t / T_l)

A warm-up supplies one objective per epoch; validation uses the final one. It keeps no state, so a
resumed run meets the same weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from hvae_course.config import per_level
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.base import Objective
from hvae_course.objectives.weighted import Weighted, WithWeights, not_negative


@dataclass(frozen=True)
class WarmUp(Objective):
    """An objective whose KL weights rise linearly over the first epochs.

    Validation, and with it the choice of the best epoch, uses the final objective throughout, so
    the best epoch may come before the weights have reached their final values.

    Args:
        epochs: T, epochs until the full KL weight; one for all levels or one per level from z_1
            upward. The first epoch has the weight 1 / T.
        objective: the final objective, by default the ELBO.

    Raises:
        ValueError: if a number of epochs is negative, or times and weights differ in number.
        TypeError: if a time is not a number, or the objective has no weights.

    Source:
        Sønderby et al. (2016), Ladder Variational Autoencoders, arXiv:1602.02282.
    """

    epochs: int | tuple[int, ...] = 20
    objective: WithWeights = field(default_factory=Weighted)

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", not_negative(self.epochs, "epochs"))
        if not isinstance(self.objective, WithWeights):
            raise TypeError(
                "a warm-up changes the weights of Weighted() or FreeBits(...), got "
                f"{self.objective!r}"
            )
        given = (self.epochs, self.objective.weights)
        lengths = [len(v) for v in given if isinstance(v, Sequence)]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"{lengths[0]} warm-up times for {lengths[1]} weights; give one per level"
            )

    @property
    def duration(self) -> int:
        """Number of epochs after which the objective no longer changes."""
        return max(self.epochs) if isinstance(self.epochs, Sequence) else self.epochs

    def for_epoch(self, epoch: int) -> WithWeights:
        """Give the final objective with its weights multiplied by min(1, epoch / T).

        Args:
            epoch: counted from 1.

        Returns:
            The objective of that epoch.
        """

        def risen(weight: float, epochs: int) -> float:
            return weight * min(1.0, epoch / epochs) if epochs else weight

        weights, epochs = self.objective.weights, self.epochs
        if not isinstance(weights, Sequence) and not isinstance(epochs, Sequence):
            return replace(self.objective, weights=risen(weights, epochs))
        num_levels = len(epochs) if isinstance(epochs, Sequence) else len(weights)
        weights = per_level(weights, num_levels, "weights")
        epochs = per_level(epochs, num_levels, "epochs")
        pairs = zip(weights, epochs, strict=True)
        objective = replace(self.objective, weights=tuple(risen(w, t) for w, t in pairs))
        if isinstance(self.epochs, Sequence):  # for the error if the model has other levels
            object.__setattr__(objective, "source_of_weights", "WarmUp.epochs")
        return objective

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:  # noqa: D102
        return self.objective(trace, x)
