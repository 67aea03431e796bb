r"""Posteriors relative to a prior whose mean and scale are squashed, chapter 8.

.. math:: p(z_l \mid z_{>l}) &= N\bigl(c(m),\; (e^{c(s)} + \epsilon)^2\bigr),
          \qquad c(a) = 5 \tanh(a / 5), \\
          q(z_l \mid x, z_{>l}) &= N\bigl(c(m + \Delta m),\;
          (e^{c(s + \Delta s)} + \epsilon)^2\bigr)

The network gives a change of the prior's raw parameters m and s, and the *sum* is squashed. With
:math:`\Delta m = \Delta s = 0` the posterior equals the prior, as in chapter 3. Otherwise
:math:`c(m + \Delta m) - c(m)` is not :math:`\Delta m`, and
:math:`\log(e^{c(s + \Delta s)} + \epsilon) - \log(e^{c(s)} + \epsilon)` is not :math:`\Delta s`.
The closed form of `hvae_course.posteriors.delta.kl_delta` at :math:`(\Delta m, \Delta s)` is
therefore not the KL divergence of these two distributions, but at least as large, since both
slopes are at most 1; `hvae_course.gaussians.kl_normal` is.
"""

from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from hvae_course.gaussians import DiagNormal, at_least_float32, bound_log_std
from hvae_course.hierarchy.states import join
from hvae_course.posteriors.base import PosteriorRule

SQUASH_BOUND = 5.0
"""Largest magnitude of a squashed mean or log-scale, std in [.017, 148]."""
STD_FLOOR = 0.01
"""What is added to every standard deviation, so that no density grows without limit."""


class SquashedNormal(DiagNormal):
    """Diagonal Gaussian that knows the raw parameters which it was squashed from."""

    raw: tuple[Tensor, Tensor]
    """Mean and log-scale before they were squashed, ``(B, ...)``."""

    def expand(self, batch_shape: Any, _instance: Any = None) -> "SquashedNormal":  # noqa: ANN401
        """Repeat the distribution and its raw parameters over a batch."""
        expanded = super().expand(batch_shape, _instance)
        expanded.raw = tuple(part.expand(expanded.mean.shape) for part in self.raw)
        return expanded


def squashed_normal(
    mean: Tensor, log_scale: Tensor, *, bound: float = SQUASH_BOUND, floor: float = STD_FLOOR
) -> SquashedNormal:
    r"""Diagonal Gaussian :math:`N(c(m), (e^{c(s)} + \epsilon)^2)` of raw parameters.

    Args:
        mean: m, ``(B, ...)``; every axis but the first is the event.
        log_scale: s, same shape.
        bound: of c.
        floor: :math:`\epsilon`.

    Returns:
        A distribution with batch shape ``(B,)``.

    Source:
        Vahdat and Kautz (2020), NVAE, arXiv:2007.03898. The constants are those of the published
        code.

    Example:
        >>> import torch
        >>> p = squashed_normal(torch.full((1, 2), 50.0), torch.zeros(1, 2))
        >>> p.mean, p.stddev
        (tensor([[5., 5.]]), tensor([[1.0100, 1.0100]]))
    """
    mean, log_scale = at_least_float32(mean), at_least_float32(log_scale)
    std = bound_log_std(log_scale, bound).exp() + floor
    normal = Normal(bound_log_std(mean, bound), std, validate_args=False)
    distribution = SquashedNormal(normal, mean.dim() - 1, validate_args=False)
    distribution.raw = (mean, log_scale)
    return distribution


def split_squashed(outputs: Tensor) -> SquashedNormal:
    """Squashed Gaussian from the outputs of a network, which hold raw mean and log-scale.

    Args:
        outputs: ``(B, 2 C, ...)``, the means first.

    Returns:
        Distribution with batch shape ``(B,)`` and event shape ``(C, ...)``.
    """
    return squashed_normal(*outputs.chunk(2, dim=1))


class ResidualNormal(PosteriorRule):
    r"""``q(z_l | x, z_>l)`` from a change of the raw parameters of a squashed prior.

    Args:
        net: module to :math:`\Delta m` and :math:`\Delta s`, ``(B, 2 Z_l, ...)``, from d_l and h
            joined along axis 1.
        bound: that of the prior, see `squashed_normal`.
        floor: that of the prior.

    Source:
        Vahdat and Kautz (2020), NVAE, arXiv:2007.03898.
    """

    reads_prior = True

    def __init__(
        self, net: nn.Module, *, bound: float = SQUASH_BOUND, floor: float = STD_FLOOR
    ) -> None:
        super().__init__()
        self.net, self.bound, self.floor = net, bound, floor

    def forward(self, d: Tensor, h: Tensor, p: Distribution) -> SquashedNormal:
        """Give ``q(z_l | x, z_>l)``, squashed as the prior has to be."""
        if not isinstance(p, SquashedNormal):
            raise TypeError(
                "ResidualNormal changes the raw parameters of a squashed Gaussian prior, and "
                f"{type(p).__name__} has none; make the conditional priors with squashed_normal, "
                "or use Delta, which shifts any diagonal Gaussian"
            )
        mean, log_scale = p.raw
        shift, log_factor = self.net(join(d, h)).chunk(2, dim=1)
        return squashed_normal(
            mean + shift, log_scale + log_factor, bound=self.bound, floor=self.floor
        )
