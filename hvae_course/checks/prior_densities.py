"""Densities of learned priors: the right values, and those that the usual mistakes give."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.gradients import judge_gradients
from hvae_course.checks.verdict import Mistake, compare


def refuse_overflow(value: object, shape: tuple[int, ...], *, hint: str) -> None:
    """Refuse a value that is not finite.

    Args:
        value: what the student's function returned.
        shape: shape asked for.
        hint: what was not finite.

    Raises:
        Mistake: if it has this shape and is not finite.
    """
    if isinstance(value, Tensor) and value.shape == shape and not torch.isfinite(value).all():
        raise Mistake(f"{hint}; use logsumexp instead of exp and log")


def judge_bound(
    answer: Callable[..., object], likelihood: Tensor, zeta: Tensor, q: Tensor
) -> None:
    """Compare a bound with the log of the mean weight, and with what the usual mistakes give.

    Args:
        answer: function of the three log-densities.
        likelihood: log p(z | zeta), ``(K, B)``.
        zeta: log p(zeta), ``(K, B)``.
        q: log q(zeta | z), ``(K, B)``.

    Raises:
        Mistake: if the answer is wrong.
    """
    num_samples = len(likelihood)
    log_w = likelihood.double() + zeta - q
    total = log_w.logsumexp(dim=0)
    log_k = math.log(num_samples)
    right = total - log_k

    def bound(weights: Tensor) -> Tensor:
        return weights.double().logsumexp(dim=0) - log_k

    found = [
        (total, "this is the sum of the weights; subtract log K for their mean"),
        (log_w.mean(dim=0), "this is the mean of the log-weights; asked is the log of the mean"),
        (log_w.sum(dim=0), "this is the sum of the log-weights; asked is the log of the mean"),
        (bound(likelihood - q), "p(zeta) is left out of the weights"),
        (bound(likelihood + zeta), "q(zeta | z) is left out; divide by it"),
        (bound(likelihood + zeta + q), "the sign of log q is wrong; the weights divide by q"),
        (bound(likelihood - zeta - q), "the sign of log p(zeta) is wrong; it multiplies"),
        (bound(likelihood), "p(zeta) and q(zeta | z) are left out of the weights"),
        (bound(zeta - q), "p(z | zeta) is left out of the weights"),
        (total + log_k, "log K is added; subtract it"),
        (right.exp(), "this is the estimate of p(z); its logarithm is asked"),
        (-right, "the sign is wrong; asked is a bound on log p(z)"),
        (log_w.max(dim=0).values, "this is the largest log-weight; asked is the log of the mean"),
        (
            log_w.logsumexp(dim=1) - math.log(log_w.shape[1]),
            "this is the mean over the examples; the draws run along the first axis",
        ),
        (
            log_w.logsumexp(dim=1) - log_k,
            "this is the mean over the examples; the draws run along the first axis",
        ),
        (right.mean(), "this is the mean over the batch; asked is one per example"),
        (right.sum(), "this is the sum over the batch; asked is one per example"),
    ]
    compare(
        answer(likelihood.clone(), zeta.clone(), q.clone()),
        right,
        name="the bound",
        mistakes=found,
    )
    judge_gradients(
        answer,
        lambda likelihood, zeta, q: [bound(likelihood.double() + zeta - q)],
        (likelihood, zeta, q),
        names=("log_p_z_given_zeta", "log_p_zeta", "log_q_zeta"),
    )


def components(z: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """Log-density of each component in each dimension.

    Args:
        z: ``(B, Z)``.
        means: ``(K, Z)``.
        stds: ``(K, Z)``.

    Returns:
        ``(B, K, Z)``, nats, in double precision.
    """
    return Normal(means.double(), stds.double()).log_prob(z.double()[:, None])


def judge_mixture(answer: Callable[..., object], z: Tensor, means: Tensor, stds: Tensor) -> None:
    """Compare a log-density with the mixture's, and with what the usual mistakes give.

    Args:
        answer: function of z, means and standard deviations.
        z: ``(B, Z)``.
        means: ``(K, Z)``.
        stds: ``(K, Z)``.

    Raises:
        Mistake: if the answer is wrong.
    """
    log_k = math.log(len(means))
    each = components(z, means, stds)
    log_q = each.sum(dim=-1)  # (B, K)
    right = log_q.logsumexp(dim=1) - log_k

    def mixture(std: Tensor) -> Tensor:
        return components(z, means, std).sum(dim=-1).logsumexp(dim=1) - log_k

    half = 0.5 * z.shape[1] * math.log(2 * math.pi)
    found = [
        (log_q.logsumexp(dim=1), "the components are added; subtract log K for their mean"),
        (log_q.sum(dim=1), "this sums log-densities over the components; average densities"),
        (log_q.mean(dim=1), "this averages log-densities over the components; average densities"),
        (
            log_q.sum(dim=1) - log_k,
            "this sums log-densities over the components; average densities",
        ),
        (
            each.logsumexp(dim=1).sum(dim=-1) - log_k * z.shape[1],
            "each dimension has a mixture of its own; sum over dimensions before logsumexp",
        ),
        (
            each.logsumexp(dim=1).sum(dim=-1) - log_k,
            "each dimension has a mixture of its own; sum over dimensions before logsumexp",
        ),
        (
            each.mean(dim=-1).logsumexp(dim=1) - log_k,
            "this is a mean over the dimensions; log-densities of a component add",
        ),
        (
            each.logsumexp(dim=1) - log_k,
            "the sum over the dimensions is missing; a component's log-density is one number",
        ),
        (
            each.logsumexp(dim=(1, 2)) - log_k,
            "densities are added over the dimensions; sum their logarithms before logsumexp",
        ),
        (mixture(stds.sqrt()), "stds are treated as variances; they are standard deviations"),
        (mixture(stds**2), "the variance stands where the standard deviation is asked"),
        (mixture(stds.exp()), "stds are treated as log stds; they are standard deviations"),
        (right + half, "the constant -Z/2 log 2 pi is missing"),
        (right + log_k * 2, "log K is added; subtract it"),
        (right.exp(), "this is the density; its logarithm is asked"),
        (-right, "the sign is wrong; asked is log p(z)"),
        (log_q.max(dim=1).values, "this is the nearest component alone; average over all"),
        (right.mean(), "this is the mean over the batch; asked is one per example"),
        (right.sum(), "this is the sum over the batch; asked is one per example"),
        (
            log_q.logsumexp(dim=0) - math.log(len(z)),
            "this averages over the examples; the components are what is averaged",
        ),
    ]
    compare(answer(z.clone(), means.clone(), stds.clone()), right, name="log p(z)", mistakes=found)
    judge_gradients(
        answer,
        lambda z, means, stds: [components(z, means, stds).sum(dim=-1).logsumexp(dim=1)],
        (z, means, stds),
        names=("z", "means", "stds"),
    )
