r"""A mixture of Gaussians as the prior (:eq:`eq-mixture-prior`).

.. math:: p(z_L) = \sum_{i=1}^{U} \pi_i\, N(z_L;\, \mu_i, \operatorname{diag} \sigma_i^2)

The simplest prior that can have more than one mode. Nothing ties its components to the data: a
component that starts far from every code gets almost no gradient and may never be used.
"""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily

from hvae_course.gaussians import LOG_STD_BOUND, at_least_float32, bound_log_std, diag_normal
from hvae_course.priors.base import Encode, Prior, check_positive, event_shape


class DiagNormalMixture(MixtureSameFamily):
    """Mixture of U diagonal Gaussians whose density does not need U times the memory of the draws.

    PyTorch's own density subtracts every mean from every draw, which makes N x U x Z numbers of N
    draws. That is what happens here too where gradients are recorded. Where they are not, as in
    `hvae_course.analysis.evaluation.evaluate` with its thousands of draws, the squares are
    multiplied out into one matrix product; it is in float64, since large terms cancel in it.
    """

    _single: "DiagNormalMixture | None" = None
    """The mixture before its batch was expanded."""

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "DiagNormalMixture":
        """Repeat the mixture, without memory."""
        new = super().expand(batch_shape, _instance)
        new._single = self._single or self
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, exact up to rounding."""
        single = self._single or self
        normal = single.component_distribution.base_dist
        recorded = torch.is_grad_enabled() or value.device.type == "mps"  # which has no float64
        if recorded or single.batch_shape:
            return super().log_prob(value)
        mean, precision = normal.mean.flatten(1).double(), normal.scale.flatten(1).double() ** -2
        constant = mean.square() * precision - precision.log() + math.log(2 * math.pi)
        weights = torch.cat([-0.5 * precision, mean * precision], dim=-1)
        z = value.flatten(start_dim=-len(self.event_shape)).double()
        joint = torch.cat([z.square(), z], dim=-1) @ weights.mT - 0.5 * constant.sum(dim=-1)
        joint = joint + single.mixture_distribution.logits
        nats = joint.logsumexp(dim=-1).to(torch.result_type(value, normal.mean))
        return nats.expand(torch.broadcast_shapes(nats.shape, self.batch_shape))


def mixture(logits: Tensor, components: Independent) -> DiagNormalMixture:
    """Mixture of diagonal Gaussians over one event, with an empty batch shape.

    Args:
        logits: ``(U,)``, log-weights up to a constant.
        components: U Gaussians, batch shape ``(U,)``.

    Returns:
        The mixture; its ``log_prob`` is exact.
    """
    weights = Categorical(logits=at_least_float32(logits), validate_args=False)
    return DiagNormalMixture(weights, components, validate_args=False)


class MixtureOfGaussians(Prior):
    """Mixture of diagonal Gaussians whose weights, means and scales are learned.

    Args:
        size: number of latent dimensions Z_L, or the shape of z_L.
        num_components: U.
        spread: standard deviation of the means at the start, which are drawn at random.
        log_std_bound: see `hvae_course.gaussians.bound_log_std`.

    Raises:
        ValueError: if a size or the spread is not positive.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        num_components: int = 100,
        *,
        spread: float = 1.0,
        log_std_bound: float = LOG_STD_BOUND,
    ) -> None:
        super().__init__()
        check_positive(size=size, num_components=num_components)
        if not (isinstance(spread, Real) and 0 < spread < math.inf):
            raise ValueError(f"the spread of the means must be positive, got spread={spread}")
        self.logits = nn.Parameter(torch.zeros(num_components))
        shape = event_shape(size)
        self.means = nn.Parameter(spread * torch.randn(num_components, *shape))
        # more components are narrower, so that each has its own part of the space
        scale = spread * num_components ** (-1 / shape.numel())
        self.log_stds = nn.Parameter(torch.full((num_components, *shape), math.log(scale)))
        self.log_std_bound = log_std_bound

    def forward(self, encode: Encode | None = None) -> DiagNormalMixture:
        """Give the mixture."""
        log_stds = bound_log_std(self.log_stds, self.log_std_bound)
        return mixture(self.logits, diag_normal(self.means, log_stds))
