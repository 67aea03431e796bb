"""Distributions over images with V grey values on the grid 0, 1/(V-1), ..., 1.

PyTorch's categorical distribution scores integers, and PyTorch has no discretised logistic. Both
distributions here score the grid in [0, 1] that the encoder reads, so callers convert nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical as CategoricalDistribution
from torch.distributions import Distribution

from hvae_course.gaussians import at_least_float32, sum_event


def _grid(num_values: int, *, like: Tensor) -> Tensor:
    return torch.linspace(0, 1, num_values, dtype=like.dtype, device=like.device)


def log_bin_probability(value: Tensor, location: Tensor, scale: Tensor, num_values: int) -> Tensor:
    r"""Log-probability of a logistic distribution in the bin of a grey value.

    The difference of two sigmoids is written as a product, which does not cancel. So it is finite,
    with a gradient, at any distance from the location:

    .. math:: \operatorname{sigm}(u) - \operatorname{sigm}(l)
              = \operatorname{sigm}(u) \operatorname{sigm}(-l) (1 - e^{l - u})

    Args:
        value: grey values on the grid 0, 1/(V-1), ..., 1; the bins of the first and the last
            include the tails.
        location: of the logistic distribution, broadcast against ``value``.
        scale: of the logistic distribution, likewise.
        num_values: V, number of grey values.

    Returns:
        Broadcast shape, nats per value.
    """
    half_bin = 0.5 / (num_values - 1)
    upper = (value - location + half_bin) / scale
    lower = (value - location - half_bin) / scale
    width = torch.log(-torch.expm1(-2 * half_bin / scale))
    inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + width
    first, last = value < half_bin, value > 1 - half_bin
    return torch.where(first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), inside))


class GreyCategorical(Distribution):
    """Independent categorical distributions over the grey values 0, 1/(V-1), ..., 1.

    Args:
        logits: ``(B, D, V)``, unnormalised log-probabilities.
    """

    arg_constraints = {}

    def __init__(self, logits: Tensor) -> None:
        self.base = CategoricalDistribution(logits=at_least_float32(logits), validate_args=False)
        self.num_values = logits.shape[-1]
        super().__init__(logits.shape[:1], logits.shape[1:-1], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Expected grey value, ``(B, D)``, in [0, 1]."""
        probs = self.base.probs
        # a product and a sum, because autocast computes matrix products in half precision
        return (probs * _grid(self.num_values, like=probs)).sum(dim=-1)

    def log_prob_each(self, value: Tensor) -> Tensor:
        """Log-probability of single pixels.

        Args:
            value: broadcast against ``(B, D)``, on the grid.

        Returns:
            Broadcast shape, nats per pixel.
        """
        return self.base.log_prob((value * (self.num_values - 1)).round().long())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of images ``(B, D)`` on the grid, ``(B,)``, nats per example."""
        return sum_event(self.log_prob_each(value), self)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw images, ``sample_shape + (B, D)``, on the grid."""
        return self.base.sample(sample_shape).to(self.base.logits) / (self.num_values - 1)


class DiscretizedLogisticDistribution(Distribution):
    r"""Independent logistic distributions, integrated over the bin of each grey value.

    .. math:: P(x) = \operatorname{sigm}\Bigl(\frac{x + \delta - \mu}{\sigma}\Bigr)
              - \operatorname{sigm}\Bigl(\frac{x - \delta - \mu}{\sigma}\Bigr),
              \qquad \delta = \frac{1}{2 (V - 1)}

    The first and the last bin include the tails, so the probabilities sum to one
    (:eq:`eq-discretised-logistic`).

    Args:
        mean: location ``(B, D)``.
        log_scale: logarithm of the scale sigma, ``(B, D)``.
        num_values: V, number of grey values.
    """

    arg_constraints = {}

    def __init__(self, mean: Tensor, log_scale: Tensor, num_values: int) -> None:
        self.location = at_least_float32(mean)
        self.scale = at_least_float32(log_scale).exp()
        self.num_values = num_values
        super().__init__(mean.shape[:1], mean.shape[1:], validate_args=False)

    def log_prob_each(self, value: Tensor) -> Tensor:
        """Log-probability of single pixels.

        Args:
            value: broadcast against ``(B, D)``, on the grid.

        Returns:
            Broadcast shape, nats per pixel.
        """
        return log_bin_probability(value, self.location, self.scale, self.num_values)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of images ``(B, D)`` on the grid, ``(B,)``, nats per example."""
        return sum_event(self.log_prob_each(value), self)

    @property
    def mean(self) -> Tensor:
        """Expected grey value, ``(B, D)``, in [0, 1]; the sum of P(x > edge) over inner edges."""
        steps = self.num_values - 1
        edges = _grid(self.num_values, like=self.location)[:-1] + 0.5 / steps
        return sum(((self.location - edge) / self.scale).sigmoid() for edge in edges) / steps

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw images, ``sample_shape + (B, D)``, on the grid."""
        shape = torch.Size(sample_shape) + self.location.shape
        u = torch.rand(shape, dtype=self.location.dtype, device=self.location.device)
        continuous = self.location + self.scale * torch.logit(u)
        steps = self.num_values - 1
        return (continuous * steps).round().clamp(0, steps) / steps
