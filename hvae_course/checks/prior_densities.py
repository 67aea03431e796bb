"""Log-densities of learned priors: the right values, and those that the usual mistakes give."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import Mistake, compare


def refuse_overflow(value: object, shape: tuple[int, ...], *, hint: str) -> None:
    """Refuse a value that is not finite.

    Args:
        value: what the student's function returned.
        shape: the right shape.
        hint: what is not finite.

    Raises:
        Mistake: if it has this shape and is not finite.
    """
    if isinstance(value, Tensor) and value.shape == shape and not torch.isfinite(value).all():
        raise Mistake(f"{hint}; use logsumexp instead of exp and log")


def check_bound(
    answer: Callable[..., object], likelihood: Tensor, zeta: Tensor, q: Tensor
) -> None:
    """Compare a bound with the log of the mean weight, and with what the usual mistakes give.

    Args:
        answer: function of the three log-densities.
        likelihood: log p(z | zeta), ``(M, B)``.
        zeta: log p(zeta), ``(M, B)``.
        q: log q(zeta | z), ``(M, B)``.

    Raises:
        Mistake: if the answer is wrong.
    """
    num_draws = len(likelihood)
    log_w = likelihood.double() + zeta - q
    total = log_w.logsumexp(dim=0)
    log_m = math.log(num_draws)
    right = total - log_m

    def bound(weights: Tensor) -> Tensor:
        return weights.double().logsumexp(dim=0) - log_m

    found = [
        (
            total,
            "this is the log of the sum of the weights; subtract log M for the log of the mean",
        ),
        (
            log_w.mean(dim=0),
            "this is the mean of the log-weights; return the log of the mean weight",
        ),
        (
            log_w.sum(dim=0),
            "this is the sum of the log-weights; return the log of the mean weight",
        ),
        (bound(likelihood - q), "the weights lack p(zeta); multiply by it"),
        (bound(likelihood + zeta), "the weights lack q(zeta | z); divide by it"),
        (
            bound(likelihood + zeta + q),
            "log q is added; subtract it, since the weights divide by q",
        ),
        (
            bound(likelihood - zeta - q),
            "log p(zeta) is subtracted; add it, since the weights multiply by p(zeta)",
        ),
        (bound(likelihood), "the weights lack p(zeta) and q(zeta | z)"),
        (bound(zeta - q), "the weights lack p(z | zeta); multiply by it"),
        (total + log_m, "log M is added; subtract it"),
        (right.exp(), "this is the estimate of p(z); return its logarithm"),
        (-right, "this is minus the bound; return the bound on log p(z)"),
        (
            log_w.max(dim=0).values,
            "this is the largest log-weight; return the log of the mean weight",
        ),
        (
            log_w.logsumexp(dim=1) - math.log(log_w.shape[1]),
            "this averages over the examples; the draws run along the first axis",
        ),
        (
            log_w.logsumexp(dim=1) - log_m,
            "this averages over the examples; the draws run along the first axis",
        ),
        (right.mean(), "this is the mean over the batch; return one value per example"),
        (right.sum(), "this is the sum over the batch; return one value per example"),
    ]
    compare(
        answer(likelihood.clone(), zeta.clone(), q.clone()),
        right,
        name="the bound",
        mistakes=found,
    )
    check_gradients(
        answer,
        lambda likelihood, zeta, q: [bound(likelihood.double() + zeta - q)],
        (likelihood, zeta, q),
        names=("log_p_z_given_zeta", "log_p_zeta", "log_q_zeta"),
    )


def components(z: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """Log-density of each component in each dimension.

    Args:
        z: ``(B, Z)``.
        means: ``(U, Z)``.
        stds: ``(U, Z)``.

    Returns:
        ``(B, U, Z)``, nats, in double precision.
    """
    return Normal(means.double(), stds.double()).log_prob(z.double()[:, None])


def check_mixture(answer: Callable[..., object], z: Tensor, means: Tensor, stds: Tensor) -> None:
    """Compare a log-density with the mixture's, and with what the usual mistakes give.

    Args:
        answer: function of z, means and standard deviations.
        z: ``(B, Z)``.
        means: ``(U, Z)``.
        stds: ``(U, Z)``.

    Raises:
        Mistake: if the answer is wrong.
    """
    log_u = math.log(len(means))
    each = components(z, means, stds)
    log_q = each.sum(dim=-1)  # (B, U)
    right = log_q.logsumexp(dim=1) - log_u

    def mixture(std: Tensor) -> Tensor:
        return components(z, means, std).sum(dim=-1).logsumexp(dim=1) - log_u

    half = 0.5 * z.shape[1] * math.log(2 * math.pi)
    found = [
        (
            log_q.logsumexp(dim=1),
            "this is the log of the sum of the components; subtract log U for the log of the mean",
        ),
        (log_q.sum(dim=1), "this sums log-densities over the components; average the densities"),
        (
            log_q.mean(dim=1),
            "this averages log-densities over the components; average the densities",
        ),
        (
            log_q.sum(dim=1) - log_u,
            "this sums log-densities over the components; average the densities",
        ),
        (
            each.logsumexp(dim=1).sum(dim=-1) - log_u * z.shape[1],
            "this is one mixture per dimension; sum over the dimensions before logsumexp",
        ),
        (
            each.logsumexp(dim=1).sum(dim=-1) - log_u,
            "this is one mixture per dimension; sum over the dimensions before logsumexp",
        ),
        (
            each.mean(dim=-1).logsumexp(dim=1) - log_u,
            "this averages over the dimensions; sum the log-densities of a component over them",
        ),
        (
            each.logsumexp(dim=1) - log_u,
            "this returns one value per dimension; sum over the dimensions before logsumexp",
        ),
        (
            each.logsumexp(dim=(1, 2)) - log_u,
            "this sums densities over the dimensions; sum log-densities before logsumexp",
        ),
        (mixture(stds.sqrt()), "stds are treated as variances; they are standard deviations"),
        (mixture(stds**2), "stds are squared; Normal takes the standard deviation"),
        (mixture(stds.exp()), "stds are treated as log stds; they are standard deviations"),
        (right + half, "the constant -Z/2 log 2 pi is missing"),
        (right + log_u * 2, "log U is added; subtract it"),
        (right.exp(), "this is the density; return its logarithm"),
        (-right, "this is -log p(z); return log p(z)"),
        (
            log_q.max(dim=1).values,
            "this is the largest component alone; average over all components",
        ),
        (right.mean(), "this is the mean over the batch; return one value per example"),
        (right.sum(), "this is the sum over the batch; return one value per example"),
        (
            log_q.logsumexp(dim=0) - math.log(len(z)),
            "this averages over the examples; average over the components",
        ),
    ]
    compare(answer(z.clone(), means.clone(), stds.clone()), right, name="log p(z)", mistakes=found)
    check_gradients(
        answer,
        lambda z, means, stds: [components(z, means, stds).sum(dim=-1).logsumexp(dim=1)],
        (z, means, stds),
        names=("z", "means", "stds"),
    )
