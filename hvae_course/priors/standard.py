"""The standard normal prior p(z_L) = N(0, I) (:eq:`eq-generative`)."""

import torch
from torch.distributions import Independent

from hvae_course.gaussians import standard_normal
from hvae_course.priors.base import Encode, Prior, check_positive


class StandardNormal(Prior):
    """N(0, I) over the top level.

    Args:
        size: number of latent dimensions Z_L.

    Raises:
        ValueError: if the size is not positive.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        check_positive(size=size)
        self.size = size
        self.register_buffer("anchor", torch.empty(0), persistent=False)

    def forward(self, encode: Encode | None = None) -> Independent:
        """Give the prior.

        Args:
            encode: not used.

        Returns:
            N(0, I), batch shape ``()``, event shape ``(Z_L,)``.
        """
        return standard_normal(self.size, like=self.anchor)
