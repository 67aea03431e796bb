"""The standard normal prior p(z_L) = N(0, I) (:eq:`eq-generative`)."""

import torch
from torch.distributions import Independent

from hvae_course.gaussians import standard_normal
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
