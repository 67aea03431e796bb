r"""A hidden factor behind all columns of a table, of which any part may be missing.

.. math:: z \sim N(0, 1), \qquad x_d \mid z \sim N(w_d z, s_d), \qquad d = 1, \dots, D

The columns vary together, so what was observed of a row tells of the rest. Given any part of a row
both the evidence and the posterior of z have closed forms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown
from hvae_course.likelihoods import MissingValues
from hvae_course.oracles.layers import LinearGaussianLikelihood
from hvae_course.posteriors import Chain
from hvae_course.priors import StandardNormal


@dataclass(frozen=True)
class OneFactor:
    """One Gaussian factor; NaN marks values that were not observed.

    Args:
        slopes: ``(w_1, ..., w_D)``.
        variances: ``(s_1, ..., s_D)``.

    Raises:
        ValueError: if there is not one positive variance per slope.
    """

    slopes: Sequence[float]
    variances: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.slopes) != len(self.variances) or not all(s > 0 for s in self.variances):
            raise ValueError(
                f"each of the {len(self.slopes)} slopes needs one positive variance, got "
                f"{tuple(self.variances)}"
            )

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and precision of p(z | what was observed), each ``(B,)``."""
        w, s = x.new_tensor(self.slopes), x.new_tensor(self.variances)
        seen = ~x.isnan()
        precision = 1 + (seen * w**2 / s).sum(dim=1)
        return (x.masked_fill(~seen, 0) * w / s).sum(dim=1) / precision, precision

    def log_px(self, x: Tensor) -> Tensor:
        """Exact log-density of what was observed.

        Args:
            x: data ``(B, D)``.

        Returns:
            ``(B,)``, nats per example; 0 for a row of which nothing was observed.
        """
        s, seen = x.new_tensor(self.variances), ~x.isnan()
        mean, precision = self._posterior(x)
        squares = (x.masked_fill(~seen, 0) ** 2 / s).sum(dim=1) - precision * mean**2
        log_determinant = precision.log() + (seen * (2 * math.pi * s).log()).sum(dim=1)
        return -0.5 * (squares + log_determinant)

    def sample_x(self, n: int, *, seed: int = 0) -> Tensor:
        """Draw complete data from the model.

        Args:
            n: number of examples.
            seed: seed of the draw.

        Returns:
            ``(n, D)``, float64.
        """
        generator = torch.Generator().manual_seed(seed)
        z, noise = (
            torch.randn(n, size, generator=generator, dtype=torch.float64)
            for size in (1, len(self.slopes))
        )
        return z * z.new_tensor(self.slopes) + noise * z.new_tensor(self.variances).sqrt()

    def expected_x(self, x: Tensor) -> Tensor:
        """Exact mean of the complete row given what was observed of it.

        Args:
            x: data ``(B, D)``.

        Returns:
            ``(B, D)``; what was observed stays as it is.
        """
        mean, _ = self._posterior(x)
        return torch.where(x.isnan(), mean[:, None] * x.new_tensor(self.slopes), x)

    def hvae(self) -> HierarchicalVAE:
        """The same model on the package's spine, with its exact posterior.

        Returns:
            A float64 model without parameters of its own.
        """
        return HierarchicalVAE(
            StandardNormal(1),
            BottomUp([nn.Identity()]),
            posterior=Chain([_Exact(self)]),
            top_down=TopDown(
                [MarkovUpdate()], [], MissingValues(LinearGaussianLikelihood(_Columns(self)))
            ),
        ).double()


class _Exact(nn.Module):
    """p(z | what was observed of x)."""

    def __init__(self, factor: OneFactor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Independent:
        mean, precision = self.factor._posterior(x)
        return diag_normal(mean[:, None], -0.5 * precision.log()[:, None])


class _Columns(nn.Module):
    """p(x | z) of complete rows."""

    def __init__(self, factor: OneFactor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, z: Tensor) -> Independent:
        w, s = z.new_tensor(self.factor.slopes), z.new_tensor(self.factor.variances)
        return diag_normal(z * w, 0.5 * s.log())
