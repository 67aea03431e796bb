r"""Diagonal Gaussians: how they are made, bounded and compared.

Every latent of the course is Gaussian given its neighbours, so three decisions are taken once,
here: scales are parametrised by their logarithm and bounded smoothly; densities are held in at
least float32, whatever the networks compute in; the KL divergence is written so that it does not
cancel.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

LOG_STD_BOUND = 7.0
"""Largest magnitude of a log standard deviation from a network, std in [9e-4, 1.1e3]."""

_LOG_ROOT_2_PI = math.log(math.sqrt(2 * math.pi))


def at_least_float32(value: Tensor) -> Tensor:
    """Promote half precision to float32; leave float32 and float64 alone.

    Under autocast the networks may compute in bfloat16, where ``exp(d) - 1 - d`` at ``d = -0.01``,
    which cannot be negative, comes out as -0.0017. Distributions are built from promoted
    parameters, so that log-densities and KL divergences are computed in float32.

    Args:
        value: any floating-point tensor.

    Returns:
        The same values in float32 or float64.
    """
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def bound_log_std(raw: Tensor, bound: float = LOG_STD_BOUND) -> Tensor:
    r"""Squash a raw log-scale smoothly into ``(-bound, bound)`` (:eq:`eq-bounded-scale`).

    .. math:: \log\sigma = 7 \tanh(\xi / 7)

    Close to the identity near zero. Unlike that of a hard clamp, the gradient does not vanish past
    the bound, so a scale that has gone too far can come back.

    Args:
        raw: output of a network, any shape.
        bound: the largest magnitude of the result; positive.

    Returns:
        Bounded log-scales, same shape.

    Source:
        Vahdat and Kautz (2020), NVAE, arXiv:2007.03898, bound their scales in the same way.
    """
    return bound * torch.tanh(at_least_float32(raw) / bound)


def sum_event(values: Tensor, distribution: Distribution) -> Tensor:
    """Sum over the event axes of a distribution, which come last.

    Args:
        values: one per dimension of the event, ``(..., B, *event)``.
        distribution: its event shape says how many axes to sum.

    Returns:
        ``(..., B)``.
    """
    axes = len(distribution.event_shape)
    return values.flatten(start_dim=values.dim() - axes).sum(dim=-1) if axes else values


class DiagNormal(Independent):
    """Independent normal distributions, with a log-density of fewer operations than PyTorch's.

    The numbers are the same: the sum of negated terms is the negated sum.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats."""
        difference, std = value - self.base_dist.loc, self.base_dist.scale
        terms = difference * difference / (2 * std**2) + std.log() + _LOG_ROOT_2_PI
        return -sum_event(terms, self)


def diag_normal(mean: Tensor, log_std: Tensor) -> Independent:
    """Diagonal Gaussian whose event is every axis but the first.

    Args:
        mean: ``(B, ...)``.
        log_std: log standard deviation, broadcast against ``mean``.

    Returns:
        A distribution with batch shape ``(B,)``; ``log_prob`` gives nats per example.

    Example:
        >>> q = diag_normal(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> q.batch_shape, q.event_shape
        (torch.Size([4]), torch.Size([2]))
    """
    mean, std = at_least_float32(mean), at_least_float32(log_std).exp()
    return DiagNormal(Normal(mean, std, validate_args=False), mean.dim() - 1, validate_args=False)


def standard_normal(*event_shape: int, like: Tensor) -> Independent:
    """Standard normal over one event, with an empty batch shape.

    Args:
        *event_shape: sizes of the event.
        like: a tensor whose device and dtype the distribution takes.

    Returns:
        N(0, I) with batch shape ``()``.
    """
    zeros = at_least_float32(like.new_zeros(event_shape))
    normal = Normal(zeros, zeros + 1, validate_args=False)
    return DiagNormal(normal, len(event_shape), validate_args=False)


def is_diag_normal(distribution: Distribution) -> bool:
    """Whether a distribution is a diagonal Gaussian as `diag_normal` makes it.

    Args:
        distribution: any distribution.

    Returns:
        True for ``Independent(Normal)``.
    """
    return isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal)


def kl_normal(q: Independent, p: Independent) -> Tensor:
    r"""Closed-form KL(q || p) of two diagonal Gaussians (:eq:`eq-kl-gauss`).

    .. math:: \mathrm{KL} = \tfrac12 \sum_i \Bigl[ e^{t_i} - 1 - t_i +
              \Bigl(\frac{\mu_{q,i}-\mu_{p,i}}{\sigma_{p,i}}\Bigr)^2 \Bigr],
              \qquad t_i = 2 \log (\sigma_{q,i} / \sigma_{p,i})

    ``expm1`` keeps the digits that the textbook form loses when q is close to p.

    Args:
        q: diagonal Gaussian, batch shape ``(B,)``.
        p: diagonal Gaussian over the same event; batch shapes broadcast.

    Returns:
        ``(B,)``, nats per example, never negative.

    Raises:
        TypeError: if either is not a diagonal Gaussian.
        ValueError: if the event shapes differ.
    """
    for name, distribution in (("q", q), ("p", p)):
        if not is_diag_normal(distribution):
            raise TypeError(
                f"kl_normal needs two diagonal Gaussians, got {type(distribution).__name__} for "
                f"{name}; estimate this KL from samples instead, as Level.information does"
            )
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"q and p must be over the same latent, got event shapes {tuple(q.event_shape)} and "
            f"{tuple(p.event_shape)}"
        )
    q_std, p_std = q.base_dist.scale, p.base_dist.scale
    t = 2 * (q_std.log() - p_std.log())
    per_dimension = 0.5 * (torch.expm1(t) - t + ((q.mean - p.mean) / p_std) ** 2)
    return sum_event(per_dimension, q)


def split_normal(outputs: Tensor, log_std_bound: float = LOG_STD_BOUND) -> Independent:
    """Diagonal Gaussian from the outputs of a network, which hold mean and raw log-scale.

    Args:
        outputs: ``(B, 2 C, ...)``, the means first.
        log_std_bound: see `bound_log_std`.

    Returns:
        Distribution with batch shape ``(B,)`` and event shape ``(C, ...)``.
    """
    mean, raw = outputs.chunk(2, dim=1)
    return diag_normal(mean, bound_log_std(raw, log_std_bound))


class GaussianHead(nn.Module):
    r"""Last layer of a conditional Gaussian: features in, N(mu, sigma^2) out.

    One matrix product gives mean and raw log-scale together.

    Args:
        in_features: width of the features.
        size: number of latent dimensions Z.
        log_std_bound: see `bound_log_std`.
    """

    def __init__(
        self, in_features: int, size: int, *, log_std_bound: float = LOG_STD_BOUND
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, 2 * size)
        self.log_std_bound = log_std_bound

    def forward(self, features: Tensor) -> Independent:
        """Map features to a diagonal Gaussian.

        Args:
            features: ``(B, F)``.

        Returns:
            Distribution with batch shape ``(B,)`` and event shape ``(Z,)``.
        """
        return split_normal(self.linear(features), self.log_std_bound)
