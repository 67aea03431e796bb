"""Conditionals with linear means, the parts of an exact hierarchy."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from hvae_course.gaussians import LOG_STD_BOUND, diag_normal
from hvae_course.likelihoods import Likelihood


class LinearGaussianLayer(nn.Module):
    r"""N(slope * input + offset, variance), element by element.

    Args:
        slope: factor of the input.
        variance: positive variance.
        offset: constant added to the mean.

    Raises:
        ValueError: if the variance is not positive.
    """

    def __init__(self, slope: float, variance: float, offset: float = 0.0) -> None:
        super().__init__()
        self.slope, self.offset = slope, offset
        if not variance > 0:
            raise ValueError(f"a layer needs a positive variance, got {variance}")
        self.log_std = 0.5 * math.log(variance)

    def forward(self, value: Tensor) -> Independent:
        """Give the diagonal Gaussian of an input of any shape."""
        mean = self.slope * value + self.offset
        return diag_normal(mean, mean.new_tensor(self.log_std))


class LinearGaussianPair(nn.Module):
    r"""N(c d + b h, variance) on the concatenation of d and h, element by element.

    Args:
        slopes: c and b; at the top level, where there is no h, c alone.
        variance: positive variance.
    """

    def __init__(self, slopes: Sequence[float], variance: float) -> None:
        super().__init__()
        self.slopes = tuple(slopes)
        self.log_std = 0.5 * math.log(variance)

    def forward(self, features: Tensor) -> Independent:
        """Give the conditional distribution.

        Args:
            features: ``(B, 2 D, ...)``, or ``(B, D, ...)`` at the top level.

        Returns:
            Diagonal Gaussian over ``(D, ...)``.
        """
        parts = features.chunk(len(self.slopes), dim=1)
        mean = sum(slope * part for slope, part in zip(self.slopes, parts, strict=True))
        return diag_normal(mean, mean.new_tensor(self.log_std))


class LinearGaussianDelta(nn.Module):
    """Shift and raw log-scale that take a prior N(a h, s) to a posterior N(c d + b h, r).

    Args:
        posterior: the posterior to reach.
        prior: the prior to start from; None for the standard normal of the top level.
    """

    def __init__(self, posterior: LinearGaussianPair, prior: LinearGaussianLayer | None) -> None:
        super().__init__()
        c, *b = posterior.slopes
        a, log_std = (prior.slope, prior.log_std) if prior else (0.0, 0.0)
        self.slopes = (c, *(slope - a for slope in b))
        scale = posterior.log_std - log_std
        self.raw = LOG_STD_BOUND * math.atanh(scale / LOG_STD_BOUND)  # undoes bound_log_std

    def forward(self, features: Tensor) -> Tensor:
        """Give the shift and the raw log-scale.

        Args:
            features: ``(B, 2 D, ...)``, or ``(B, D, ...)`` at the top level.

        Returns:
            ``(B, 2 D, ...)``.
        """
        parts = features.chunk(len(self.slopes), dim=1)
        shift = sum(slope * part for slope, part in zip(self.slopes, parts, strict=True))
        return torch.cat([shift, torch.full_like(shift, self.raw)], dim=1)


class LinearGaussianLikelihood(Likelihood):
    """A likelihood whose network already returns the distribution."""

    def forward(self, h: Tensor) -> Independent:
        """Give p(x | z)."""
        return self.net(h)
