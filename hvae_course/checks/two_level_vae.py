"""Checks of chapter 1: a closed-form KL, the bound from one joint draw, the bound from many draws.

The bound from one draw is first checked where no statistical tolerance is needed: in a
linear-Gaussian hierarchy with the exact posterior, every draw gives log p(x). An answer that fails
there is compared with what typical mistakes give under a posterior that is not exact.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.joint_draws import alike, scores_and_hints
from hvae_course.checks.verdict import (
    Mistake,
    as_tensor,
    checked,
    compare,
    compare_draws,
    compare_gradients,
    over_the_batch,
)
from hvae_course.gaussians import diag_normal
from hvae_course.oracles import LinearGaussian, two_level_terms

_MODEL = LinearGaussian((0.8, 0.9), (0.5, 0.3), size=2)
_DRAWS = 20_000


def _terms(q_mean: Tensor, q_std: Tensor, p_mean: Tensor, p_std: Tensor) -> Tensor:
    """KL per dimension, ``(B, Z)``."""
    t = 2 * (q_std / p_std).log()
    return 0.5 * (torch.expm1(t) - t + ((q_mean - p_mean) / p_std) ** 2)


def _kl_mistakes(
    q_mean: Tensor, q_std: Tensor, p_mean: Tensor, p_std: Tensor
) -> list[tuple[Tensor, str]]:
    right, size = _terms(q_mean, q_std, p_mean, p_std), q_mean.shape[1]
    kl, log_ratio = right.sum(-1), (q_std / p_std).log()
    distance = 0.5 * (q_mean - p_mean) ** 2
    scaled = distance / p_std**2
    zero, one = torch.zeros_like(p_mean), torch.ones_like(p_std)
    as_variance = _terms(q_mean, q_std.sqrt(), p_mean, p_std.sqrt())
    as_log = _terms(q_mean, q_std.exp(), p_mean, p_std.exp())
    return [
        (right, "this is one number per latent; add up the dimensions, the KL is one per example"),
        *over_the_batch(kl),
        (right.mean(-1), "this averages over the dimensions of the latent; a KL adds them up"),
        (
            as_variance.sum(-1),
            "this treats q_std and p_std as variances; they are standard deviations",
        ),
        (as_log.sum(-1), "this takes exp of q_std and p_std, but they are not logarithms"),
        (_terms(p_mean, p_std, q_mean, q_std).sum(-1), "this is KL(p || q); return KL(q || p)"),
        (
            _terms(q_mean, q_std, zero, one).sum(-1),
            "this is the KL from N(0, I); return the KL from N(p_mean, p_std^2)",
        ),
        (-kl, "the sign is reversed; a KL divergence is never negative"),
        (2 * kl, "this is twice the KL; the factor 1/2 is missing"),
        (kl + 0.5 * size, "the -1 of every dimension is missing; KL(q || q) must be zero"),
        (kl + 0.5 * (size - 1), "the -1 belongs inside the sum, once per dimension"),
        (
            (right + 0.5 * log_ratio).sum(-1),
            "this takes the log of the ratio of standard deviations; the log of the ratio of "
            "variances is twice as large",
        ),
        ((right + 2 * log_ratio).sum(-1), "the sign of the logarithm is reversed"),
        (
            (right - scaled + distance).sum(-1),
            "the squared distance of the means is not divided by the variance of p",
        ),
        (
            (right - scaled + distance / p_std).sum(-1),
            "the squared distance of the means is divided by p_std; divide by p_std^2",
        ),
    ]


@checked
def gaussian_kl(answer: Callable[..., Tensor]) -> str:
    r"""KL divergence of diagonal Gaussians, :eq:`eq-kl-gauss`.

    Write ``gaussian_kl(q_mean, q_std, p_mean, p_std) -> (B,)``: KL(q || p) in nats per example
    for q = N(q_mean, q_std^2) and p = N(p_mean, p_std^2). All four arguments are ``(B, Z)``;
    ``q_std`` and ``p_std`` are standard deviations. Gradients must reach all four.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    shapes = [(6, 3), (4, 2), (5, 1), (1, 7), (3, 2), (2, 4)]
    for case, shape in enumerate(shapes):
        q_mean, p_mean = torch.randn(2, *shape)
        q_std, p_std = (0.6 * torch.randn(2, *shape)).exp()
        if case == 4:
            q_mean, q_std = p_mean, p_std
        inputs = [value.clone().requires_grad_() for value in (q_mean, q_std, p_mean, p_std)]
        wide = [value.double() for value in inputs]
        value = answer(*(value.clone() for value in inputs))
        expected = _terms(*wide).sum(-1)
        name = "KL(q || q)" if case == 4 else "the KL"
        compare(value, expected, name=name, mistakes=_kl_mistakes(*wide))
        names = ("q_mean", "q_std", "p_mean", "p_std")
        compare_gradients(value, expected, inputs, names=names)
    q, p = diag_normal(q_mean, q_std.log()), diag_normal(p_mean, p_std.log())
    z = q.sample((100_000,))
    compare_draws(value, q.log_prob(z) - p.log_prob(z), name="the mean of log q - log p")
    return f"agrees with {len(shapes)} closed forms, their gradients and 100,000 draws"


@checked
def joint_elbo(answer: Callable[..., Tensor]) -> str:
    r"""The bound from one joint draw, :eq:`eq-log-weight`.

    Write ``joint_elbo(x, q1, q2, p1, px) -> (B,)``: the log-weight of one draw of
    :math:`(z_1, z_2)` per example, in nats; its mean is the ELBO :eq:`eq-elbo`. ``x`` is
    ``(B, D)``. The other arguments are functions that return distributions with a batch of B,
    whose ``rsample()`` gives ``(B, Z)`` and whose ``log_prob`` gives ``(B,)``: ``q1(x)`` is
    :math:`q(z_1 \mid x)`, ``q2(z1)`` is :math:`q(z_2 \mid z_1)`, ``p1(z2)`` is
    :math:`p(z_1 \mid z_2)`, ``px(z1)`` is :math:`p(x \mid z_1)`. The prior :math:`p(z_2)` is
    N(0, I). Draws are reparametrised.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    x = _MODEL.sample_x(64, seed=1).float()
    (px, p1), (q1, q2) = _MODEL.layers(), _MODEL.posterior_chain()
    value, expected = answer(x.clone(), q1, q2, p1, px), _MODEL.log_px(x.double())
    name = "with the exact posterior every draw is log p(x); the bound"
    x_many = torch.tensor([[1.3, -0.4]]).repeat(_DRAWS, 1)
    mean, offset = torch.tensor([0.4, 0.7]), torch.tensor([0.3, -0.5])
    scales = torch.full((2,), math.log(0.6)), torch.full((2,), math.log(0.3))
    q_parameters = mean, scales[0], offset, scales[1]
    q_parameters = [v.expand(_DRAWS, 2).clone().requires_grad_() for v in q_parameters]
    mean, log_std, offset, log_rest = q_parameters

    def rough_1(x: Tensor) -> torch.distributions.Independent:
        return diag_normal(mean, log_std)

    def rough_2(z1: Tensor) -> torch.distributions.Independent:
        return diag_normal(0.6 * z1 + offset, log_rest)

    rough, failed = (rough_1, rough_2, p1, px), None
    try:
        compare(value, expected, name=name, mistakes=over_the_batch(expected))
    except Mistake as mistake:
        if getattr(value, "shape", None) != expected.shape or not value.isfinite().all():
            raise
        failed = mistake
    value = answer(x_many.clone(), *rough)
    draws = as_tensor(value, (_DRAWS,), name="the bound")
    at = [v[:1].detach().double().requires_grad_() for v in q_parameters]
    exact = two_level_terms(
        x_many[:1].double(),
        slopes=_MODEL.slopes,
        variances=_MODEL.variances,
        mean=at[0],
        variance=(2 * at[1]).exp(),
        gain=at[0].new_tensor(0.6),
        offset=at[2],
        residual=(2 * at[3]).exp(),
    ).elbo.sum()
    (one, _), *mistakes = scores_and_hints(x_many, *rough)
    if failed or (draws.mean() - exact).abs() > 5 * draws.std() / _DRAWS**0.5:
        for wrong, hint in mistakes:
            if alike(draws, wrong):
                raise Mistake(hint)
        raise failed or Mistake(
            f"right for the exact posterior; for another posterior the mean over {_DRAWS:,} draws "
            f"should be {exact.item():.3f}, yours is {draws.mean():.3f}"
        )
    if not alike(draws, one):
        raise Mistake(
            "right on average, but the spread is not that of one draw of (z_1, z_2) per example; "
            "are several draws averaged?"
        )
    if not value.requires_grad:
        raise Mistake(
            "the value is right, but no gradient passes through it; do not detach or use no_grad()"
        )
    own = torch.autograd.grad(value.sum(), q_parameters, allow_unused=True)
    pairs = zip((1, 1, 2, 2), own, torch.autograd.grad(exact, at), strict=True)
    for level, got, right in reversed(list(pairs)):  # z_2 passes gradients on to z_1
        got = torch.zeros_like(mean) if got is None else got
        if ((got.mean(0) - right[0]).abs() > 5 * got.std(0) / _DRAWS**0.5 + 1e-4).any():
            raise Mistake(
                f"the value is right, but the gradient of the parameters of q(z_{level} | .) is "
                f"not; draw z_{level} with rsample(), not with sample(), and detach nothing"
            )
    return (
        "gives log p(x) in each of 64 draws from the exact posterior; under another posterior, "
        f"value and gradients agree with the exact bound over {_DRAWS:,} draws"
    )


@checked
def importance_weighted(answer: Callable[..., Tensor]) -> str:
    r"""The importance-weighted bound, :eq:`eq-iwae`.

    Write ``importance_weighted(log_weights) -> (B,)`` for log-weights ``(B, K)``: the logarithm
    of the mean of the K weights of each example, in nats. It must stay finite where the weights
    themselves underflow or overflow, and pass gradients.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for shape in ((6, 4), (3, 50), (5, 1)):
        log_w = (torch.randn(shape) - 1).requires_grad_()
        wide, log_k = log_w.double(), math.log(shape[1])
        total, across = wide.logsumexp(1), wide.logsumexp(0)
        over_examples = "this reduces the batch, axis 0; the K draws are axis 1"
        mistakes = [
            *over_the_batch(total - log_k),
            (across, over_examples),
            (across - math.log(shape[0]), over_examples),
            (across - log_k, over_examples),
            (wide.mean(1), "this is the mean of the logarithms; the mean belongs inside the log"),
            (wide.sum(1), "this adds up the log-weights, which multiplies the weights"),
            (
                total,
                "this is the log of the sum of the weights; subtract log K for that of the mean",
            ),
            (total + log_k, "log K is added; the mean divides by K, so subtract it"),
            (
                total / shape[1],
                "the 1/K stands outside the logarithm; inside, it becomes minus log K",
            ),
            (total - math.log(shape[0]), "this divides by the size of the batch B, not by K"),
            (wide.exp().mean(1), "this is the mean of the weights; return its logarithm"),
            (log_k - total, "this is the negative bound, a loss; return the bound"),
            (wide.amax(1), "this is the largest log-weight of the K, not the log of the mean"),
        ]
        value = answer(log_w.clone())
        expected = total - log_k
        compare(value, expected, name=f"the bound with K = {shape[1]}", mistakes=mistakes)
        compare_gradients(value, expected, [log_w], names=["log_weights"])
    for shift in (-2000.0, 1500.0):
        log_w = torch.randn(4, 5) + shift * torch.tensor([[1.0], [0.5], [0.0], [1.0]])
        value = answer(log_w.clone())
        if isinstance(value, Tensor) and not value.isfinite().all():
            raise Mistake(
                f"log-weights near {shift:.0f} do not give a finite number, as their exp is 0 or "
                "infinite; subtract the largest first, as logsumexp does"
            )
        expected = log_w.double().logsumexp(1) - math.log(5)
        compare(value, expected, name=f"the bound of log-weights near {shift:.0f}")
    return "agrees with the log of the mean weight for K = 1, 4, 50, and near -2000 and 1500 nats"
