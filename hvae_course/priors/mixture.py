r"""A mixture of Gaussians as the prior (:eq:`eq-mixture-prior`).

.. math:: p(z_L) = \sum_{k=1}^{K} \pi_k\, N(z_L;\, \mu_k, \operatorname{diag} \sigma_k^2)

The plainest prior that can have more than one mode. Nothing ties its components to the data: one
that starts where no code is may never be found by any.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily

from hvae_course.gaussians import LOG_STD_BOUND, at_least_float32, bound_log_std, diag_normal
from hvae_course.priors.base import Encode, Prior, check_positive


def mixture(logits: Tensor, components: Independent) -> MixtureSameFamily:
    """Mixture of diagonal Gaussians over one event, with an empty batch shape.

    Args:
        logits: ``(K,)``, log-weights up to a constant.
        components: K Gaussians, batch shape ``(K,)``.

    Returns:
        The mixture, event shape ``(Z,)``; its ``log_prob`` is exact.
    """
    weights = Categorical(logits=at_least_float32(logits), validate_args=False)
    return MixtureSameFamily(weights, components, validate_args=False)


class MixtureOfGaussians(Prior):
    """Mixture of diagonal Gaussians whose weights, means and scales are learned.

    Args:
        size: number of latent dimensions Z_L.
        num_components: K.
        spread: standard deviation of the means at the start, which are drawn at random.
        log_std_bound: see `hvae_course.gaussians.bound_log_std`.

    Raises:
        ValueError: if a size or the spread is not positive.
    """

    def __init__(
        self,
        size: int,
        num_components: int = 100,
        *,
        spread: float = 1.0,
        log_std_bound: float = LOG_STD_BOUND,
    ) -> None:
        super().__init__()
        check_positive(size=size, num_components=num_components)
        if not spread > 0:
            raise ValueError(f"the spread of the means must be positive, got spread={spread}")
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.means = nn.Parameter(spread * torch.randn(num_components, size))
        # narrower the more there are, so that each has its own part of the space
        scale = spread * num_components ** (-1 / size)
        self.log_stds = nn.Parameter(torch.full((num_components, size), math.log(scale)))
        self.log_std_bound = log_std_bound

    def forward(self, encode: Encode | None = None) -> MixtureSameFamily:
        """Give the prior.

        Args:
            encode: not used.

        Returns:
            The mixture, batch shape ``()``, event shape ``(Z_L,)``.
        """
        log_stds = bound_log_std(self.log_stds, self.log_std_bound)
        return mixture(self.logits, diag_normal(self.means, log_stds))
