r"""Distributions over colour images, whose channels depend on each other.

Red, green and blue of a pixel are strongly correlated, also given the latents. A mixture whose
components hold all channels of a pixel, each with a mean that shifts with the channels before it,
scores them together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from hvae_course.gaussians import at_least_float32
from hvae_course.grey_values import log_bin_probability

MID_GREY = 0.5
"""The value at which a channel shifts no other."""


def num_pairs(num_channels: int) -> int:
    """Count the pairs of a channel and one before it, C (C - 1) / 2.

    Args:
        num_channels: C.

    Returns:
        Their number, 0 for grey images and 3 for red, green and blue.
    """
    return num_channels * (num_channels - 1) // 2


class LogisticMixture(Distribution):
    r"""Mixtures of discretised logistic distributions over the channels of a pixel.

    .. math:: P(x) = \sum_{k=1}^K \pi_k \prod_{c=1}^C \biggl[
              \operatorname{sigm}\Bigl(\frac{x_c + \delta - \mu_{kc}(x)}{\sigma_{kc}}\Bigr)
              - \operatorname{sigm}\Bigl(\frac{x_c - \delta - \mu_{kc}(x)}{\sigma_{kc}}\Bigr)
              \biggr], \qquad \delta = \frac{1}{2 (V - 1)}

    .. math:: \mu_{kc}(x) = \mu_{kc} + \sum_{j < c} a_{kcj} \bigl(x_j - \tfrac12\bigr)

    The product over channels stands inside the sum over components, so that one component holds
    for all channels of a pixel. The first and the last bin include the tails. Hence the
    probabilities of the V^C colours of a pixel sum to one. Given z the pixels are independent.

    Images are rows ``(B, D)`` on the grid 0, 1/(V-1), ..., 1, flattened from ``(C, H, W)`` with
    the channels first, and N = H W = D / C. All parameters may have further axes in front of B.

    Args:
        logits: ``(B, K, N)``, unnormalised logarithms of the weights.
        means: locations ``(B, K, C, N)``, as they are where all channels before have the value
            `MID_GREY`.
        log_scales: logarithms of the scales sigma, ``(B, K, C, N)``.
        coefficients: a, ``(B, K, C (C - 1) / 2, N)``: how the second channel shifts with the
            first, then the third with the first, the third with the second, and so on. None for
            channels that are independent given the component.
        num_values: V, number of values of a channel.

    Raises:
        ValueError: if there is not one coefficient for each pair of channels.

    Source:
        Salimans et al. (2017), PixelCNN++, arXiv:1701.05517, with values in [-1, 1].
    """

    arg_constraints = {}

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        coefficients: Tensor | None = None,
        *,
        num_values: int,
    ) -> None:
        channels = means.shape[-2]
        if coefficients is None:
            coefficients = means.new_zeros((*means.shape[:-2], num_pairs(channels), 1))
        if coefficients.shape[-2] != num_pairs(channels):
            raise ValueError(
                f"{channels} channels need {num_pairs(channels)} coefficients per component, one "
                f"for each pair, got {coefficients.shape[-2]}; their order is green with red, "
                "blue with red, blue with green"
            )
        self.logits, self.means = at_least_float32(logits), at_least_float32(means)
        self.log_scales = at_least_float32(log_scales)
        self.coefficients = at_least_float32(coefficients)
        self.num_channels, self.num_values = channels, num_values
        event = torch.Size([channels * means.shape[-1]])
        super().__init__(means.shape[:-3], event, validate_args=False)

    def expand(
        self, batch_shape: torch.Size, _instance: Distribution | None = None
    ) -> "LogisticMixture":
        """Repeat the distribution along new or single batch axes, without copies."""
        shape = torch.Size(batch_shape)
        logits = self.logits.expand(*shape, *self.logits.shape[-2:])
        others = (self.means, self.log_scales, self.coefficients)
        expanded = [some.expand(*shape, *some.shape[-3:]) for some in others]
        return LogisticMixture(logits, *expanded, num_values=self.num_values)

    def log_prob_pixels(self, value: Tensor) -> Tensor:
        """Log-probability of single pixels, of all their channels together.

        Args:
            value: ``(..., B, D)``, on the grid.

        Returns:
            ``(..., B, N)``, nats per pixel.
        """
        channels = value.unflatten(-1, (self.num_channels, -1)).unsqueeze(-3)  # (..., B, 1, C, N)
        xs, scales = channels.unbind(-2), self.log_scales.exp().unbind(-2)
        log_p = self.logits.log_softmax(dim=-2)  # (B, K, N)
        for c, (x, scale) in enumerate(zip(xs, scales, strict=True)):
            location = _location(c, self.means, self.coefficients, xs[:c])
            log_p = log_p + log_bin_probability(x, location, scale, self.num_values)
        return log_p.logsumexp(dim=-2)

    def log_prob_each(self, value: Tensor) -> Tensor:
        """Log-probability of the single pixels of grey images.

        Args:
            value: ``(..., B, D)``, on the grid.

        Returns:
            ``(..., B, D)``, nats per pixel.

        Raises:
            TypeError: if there are several channels, which depend on each other.
        """
        if self.num_channels > 1:
            raise TypeError(
                f"the {self.num_channels} channels of a pixel depend on each other given z, so "
                "single values have no log-probability of their own; log_prob_pixels gives that "
                "of whole pixels"
            )
        return self.log_prob_pixels(value)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of images ``(..., B, D)`` on the grid, ``(..., B)``, nats."""
        return self.log_prob_pixels(value).sum(dim=-1)

    @property
    def mean(self) -> Tensor:
        """Expected value ``(B, D)``, in [0, 1]; exact for the first channel, close for the others.

        Within each component a channel is averaged with the means of the channels before it in
        their place. That differs from the exact mean, a sum over V^C colours, only as far as
        black and white cut the distribution off.
        """
        means: list[Tensor] = []  # (B, K, N) each
        for c, scale in enumerate(self.log_scales.exp().unbind(-2)):
            location = _location(c, self.means, self.coefficients, means)
            means.append(_bin_mean(location, scale, self.num_values))
        weights = self.logits.softmax(dim=-2).unsqueeze(-2)  # (B, K, 1, N)
        mean = (weights * torch.stack(means, dim=-2)).sum(dim=-3)
        return mean.flatten(-2).clamp(0, 1)  # rounding may exceed 1

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw images, ``sample_shape + (B, D)``, on the grid."""
        with torch.no_grad():
            shape, steps = torch.Size(sample_shape), self.num_values - 1
            weights = Categorical(logits=self.logits.movedim(-2, -1), validate_args=False)
            component = weights.sample(shape)[..., None, None, :]  # (..., B, 1, 1, N)

            def choose(some: Tensor) -> Tensor:
                """The parameters of the chosen components, (..., B, C, N)."""
                some = some.expand(*shape, *some.shape[:-1], component.shape[-1])
                return some.take_along_dim(component, dim=-3).squeeze(-3)

            means, coefficients = choose(self.means), choose(self.coefficients)
            scales = choose(self.log_scales).exp().unbind(-2)
            noise = torch.logit(torch.rand_like(means)).unbind(-2)
            xs: list[Tensor] = []
            for c, scale in enumerate(scales):
                # rounded before the next channel reads it, because log_prob conditions on the grid
                continuous = _location(c, means, coefficients, xs) + scale * noise[c]
                xs.append((continuous * steps).round().clamp(0, steps) / steps)
            return torch.stack(xs, dim=-2).flatten(-2)


def _location(c: int, means: Tensor, coefficients: Tensor, before: Sequence[Tensor]) -> Tensor:
    """Locations of channel c, shifted by the c channels before it."""
    first = num_pairs(c)
    # one by one, because autocast computes matrix products in half precision
    shifts = [
        coefficients[..., first + j, :] * (value - MID_GREY) for j, value in enumerate(before)
    ]
    return sum(shifts, start=means[..., c, :])


def _bin_mean(location: Tensor, scale: Tensor, num_values: int) -> Tensor:
    """Mean of discretised logistic distributions: the sum over v of P(x >= v), in grey levels."""
    steps = num_values - 1
    edges = ((v - 0.5) / steps for v in range(1, num_values))
    return sum(torch.sigmoid((location - edge) / scale) for edge in edges) / steps
