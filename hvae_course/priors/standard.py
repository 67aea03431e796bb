"""The normal priors: p(z_L) = N(0, I) (:eq:`eq-generative`), and one whose scale is learned."""

import torch
from torch import nn
from torch.distributions import Independent, Normal

from hvae_course.gaussians import DiagNormal, at_least_float32, bound_log_std, standard_normal
from hvae_course.priors.base import Encode, Prior, check_positive


class StandardNormal(Prior):
    """N(0, I) over the top level.

    Args:
        *shape: shape of z_L; for a vector, Z_L.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        check_positive(size=shape)
        self.shape = shape
        self.register_buffer("anchor", torch.empty(0), persistent=False)

    def forward(self, encode: Encode | None = None) -> Independent:
        """Give N(0, I)."""
        return standard_normal(*self.shape, like=self.anchor)


class LearnedNormal(Prior):
    """A normal prior with a learned mean and scale per dimension, N(0, I) at the start.

    Below a top level of this prior nothing changes: it is the conditional prior of a state that is
    the same for all examples.

    Args:
        *shape: shape of z_L; for a vector, Z_L.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        check_positive(size=shape)
        self.mean = nn.Parameter(torch.zeros(shape))
        self.log_std = nn.Parameter(torch.zeros(shape))

    def forward(self, encode: Encode | None = None) -> Independent:
        """Give the prior."""
        std = bound_log_std(self.log_std).exp()
        normal = Normal(at_least_float32(self.mean), std, validate_args=False)
        return DiagNormal(normal, self.mean.dim(), validate_args=False)
