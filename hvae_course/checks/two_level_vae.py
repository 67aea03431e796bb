"""Checks of chapter 1: a closed-form KL, the bound from one joint draw, the bound from many draws.

The bound from one draw is first checked where no statistical tolerance is needed: in a
linear-Gaussian hierarchy with the exact posterior, every draw gives log p(x). An answer that fails
there is compared with what known mistakes give under a posterior that is not exact.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
    Known,
    Mistake,
    alike,
    as_tensor,
    checked,
    compare,
    compare_draws,
    hint_for,
    over_the_batch,
)
from hvae_course.gaussians import diag_normal, kl_normal, standard_normal
from hvae_course.oracles import LinearGaussian, two_level_terms


def _kl(q_mean: Tensor, q_std: Tensor, p_mean: Tensor, p_std: Tensor) -> Tensor:
    return kl_normal(diag_normal(q_mean, q_std.log()), diag_normal(p_mean, p_std.log()))


@checked
def gaussian_kl(answer: Answer) -> str:
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
        (q_std, p_std), name = (0.6 * torch.randn(2, *shape)).exp(), "the KL"
        if case == 4:
            q_mean, q_std, name = p_mean, p_std, "KL(q || q)"
        inputs = (q_mean, q_std, p_mean, p_std)
        compare(answer, _kl, inputs, name=name, mistakes=gaussian_kl.mistakes)
        check_gradients(answer, _kl, inputs, names=("q_mean", "q_std", "p_mean", "p_std"))
    q, p = diag_normal(q_mean, q_std.log()), diag_normal(p_mean, p_std.log())
    z = q.sample((100_000,))
    draws = q.log_prob(z) - p.log_prob(z)
    compare_draws(answer(*inputs), draws, name="the mean of log q - log p")
    return f"agrees with {len(shapes)} closed forms, their gradients and 100,000 draws"


def kl_mistakes(kl: Answer) -> list[Known]:
    """Mistakes in the sum over the dimensions of any KL divergence.

    Args:
        kl: the reference, from arguments ``(B, Z)`` to ``(B,)``.

    Returns:
        Known mistakes, for the list of a check.
    """

    def terms(*inputs: Tensor) -> Tensor:
        return kl(*(value.reshape(-1, 1) for value in inputs)).reshape(inputs[0].shape)

    hints = {
        "this is one number per latent; add up the dimensions, the KL is one per example": terms,
        "this averages over the dimensions of the latent; a KL adds them up": (
            lambda *inputs: terms(*inputs).mean(-1)
        ),
        "the sign is reversed; a KL divergence is never negative": lambda *inputs: -kl(*inputs),
        "this is twice the KL; the factor 1/2 is missing": lambda *inputs: 2 * kl(*inputs),
        "the -1 of every dimension is missing; where q = p, the KL must be zero": (
            lambda *inputs: (terms(*inputs) + 0.5).sum(-1)
        ),
        "the -1 belongs inside the sum, once per dimension": (
            lambda *inputs: (terms(*inputs) + 0.5).sum(-1) - 0.5
        ),
        "no gradient passes through it": lambda *inputs: kl(*inputs).detach(),
    }
    return [*(Known(wrong, hint) for hint, wrong in hints.items()), *over_the_batch(kl)]


@gaussian_kl.mistake("this is the KL from N(0, I); return the KL from N(p_mean, p_std^2)")
def _(q_mean, q_std, p_mean, p_std):
    return 0.5 * (q_std**2 - 1 - 2 * q_std.log() + q_mean**2).sum(-1)


for _hint, _wrong in {
    "this treats q_std and p_std as variances; they are standard deviations": (
        lambda m, s, n, t: _kl(m, s.sqrt(), n, t.sqrt())
    ),
    "this takes exp of q_std and p_std, but they are not logarithms": (
        lambda m, s, n, t: _kl(m, s.exp(), n, t.exp())
    ),
    "this is KL(p || q); return KL(q || p)": lambda m, s, n, t: _kl(n, t, m, s),
    "this takes the log of the ratio of standard deviations; the log of the ratio of variances "
    "is twice as large": lambda m, s, n, t: _kl(m, s, n, t) + 0.5 * (s / t).log().sum(-1),
    "the sign of the logarithm is reversed": (
        lambda m, s, n, t: _kl(m, s, n, t) + 2 * (s / t).log().sum(-1)
    ),
    "the squared distance of the means is not divided by the variance of p": (
        lambda m, s, n, t: _kl(m * t, s, n * t, t)
    ),
    "the squared distance of the means is divided by p_std; divide by p_std^2": (
        lambda m, s, n, t: _kl(m * t.sqrt(), s, n * t.sqrt(), t)
    ),
    "the result has an axis of length 1 too many; sum without keepdim": (
        lambda *inputs: _kl(*inputs).unsqueeze(1)
    ),
    "reaches p_mean": lambda m, s, n, t: _kl(m, s, n.detach(), t),
}.items():
    gaussian_kl.mistake(_hint, _wrong)
gaussian_kl.mistakes += kl_mistakes(_kl)

_MODEL = LinearGaussian((0.8, 0.9), (0.5, 0.3), size=2)
_DRAWS = 20_000


def _scored(
    score: Callable[[SimpleNamespace], Tensor] = lambda draw: draw.log_weight,
    z1: Callable = lambda q1: q1.rsample(),
    z2: Callable = lambda q1, q2, z1: q2(z1).rsample(),
) -> Answer:
    """The bound from one joint draw, or with another score or other draws."""

    def answer(x: Tensor, q1: Callable, q2: Callable, p1: Callable, px: Callable) -> Tensor:
        draw = SimpleNamespace(x=x, px=px, q1=q1(x))
        draw.z1 = z1(draw.q1)
        draw.z2 = z2(draw.q1, q2, draw.z1)
        draw.q2, draw.p1 = q2(draw.z1), p1(draw.z2)
        draw.p2 = standard_normal(draw.z2.shape[-1], like=draw.z2)
        draw.log_px, draw.log_p1 = px(draw.z1).log_prob(x), draw.p1.log_prob(draw.z1)
        draw.log_p2, draw.log_q1 = draw.p2.log_prob(draw.z2), draw.q1.log_prob(draw.z1)
        draw.log_q2 = draw.q2.log_prob(draw.z2)
        draw.log_p, draw.log_q = draw.log_px + draw.log_p1 + draw.log_p2, draw.log_q1 + draw.log_q2
        draw.log_weight = draw.log_p - draw.log_q
        return score(draw)

    return answer


def _same_distribution(a: Tensor, b: Tensor) -> bool:
    """Whether two sets of draws agree in mean and spread, to five standard errors."""
    if a.shape != b.shape:
        return False
    a, b = a.detach().double(), b.detach().double()
    for left, right in ((a, b), ((a - a.mean()) ** 2, (b - b.mean()) ** 2)):
        error = ((left.var() + right.var()) / len(a)).sqrt() + 1e-6
        if (left.mean() - right.mean()).abs() > 5 * error:
            return False
    return True


@checked
def joint_elbo(answer: Answer) -> str:
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
    (px, p1), known, failed = _MODEL.layers(), joint_elbo.mistakes, None
    exact = (_MODEL.sample_x(64, seed=1).float(), *_MODEL.posterior_chain(), p1, px)
    name = "with the exact posterior every draw is log p(x); the bound"
    try:
        compare(answer, lambda x, *_: _MODEL.log_px(x), exact, name=name, mistakes=known)
    except Mistake as mistake:
        failed = mistake
    x = torch.tensor([[1.3, -0.4]]).repeat(_DRAWS, 1)
    settings = [[0.4, 0.7], [math.log(0.6)] * 2, [0.3, -0.5], [math.log(0.3)] * 2]
    parameters = [torch.tensor(v).repeat(_DRAWS, 1).requires_grad_() for v in settings]
    mean, log_std, offset, log_rest = parameters
    rough = (
        lambda x: diag_normal(mean, log_std),
        lambda z1: diag_normal(0.6 * z1 + offset, log_rest),
        p1,
        px,
    )
    value = answer(x.clone(), *rough)
    if failed and getattr(value, "shape", None) != (_DRAWS,):
        raise failed
    draws, right = as_tensor(value, (_DRAWS,), name="the bound"), _scored()(x, *rough)

    def explains(wrong: Answer) -> bool:
        """Whether a mistake does the same under the exact posterior and under the other."""
        right_at_exact = alike(wrong(*exact), _MODEL.log_px(exact[0]))
        return right_at_exact == (failed is None) and _same_distribution(draws, wrong(x, *rough))

    at = [v[:1].detach().double().requires_grad_() for v in parameters]
    elbo = two_level_terms(
        x[:1].double(),
        slopes=_MODEL.slopes,
        variances=_MODEL.variances,
        mean=at[0],
        variance=(2 * at[1]).exp(),
        gain=at[0].new_tensor(0.6),
        offset=at[2],
        residual=(2 * at[3]).exp(),
    ).elbo.sum()
    if failed or (draws.mean() - elbo).abs() > 5 * draws.std() / _DRAWS**0.5:
        hint_for(known, explains)
        raise failed or Mistake(
            f"right for the exact posterior; for another posterior the mean over {_DRAWS:,} draws "
            f"should be {elbo.item():.3f}, yours is {draws.mean():.3f}"
        )
    if not _same_distribution(draws, right):
        raise Mistake(
            "right on average, but the spread is not that of one draw of (z_1, z_2) per example; "
            "are several draws averaged?"
        )
    if not value.requires_grad:
        raise Mistake(
            "the value is right, but no gradient passes through it; do not detach or use no_grad()"
        )
    own = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
    pairs = zip((1, 1, 2, 2), own, torch.autograd.grad(elbo, at), strict=True)
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


@joint_elbo.mistake(
    "this takes KL(q(z_1 | x) || p(z_1 | z_2)) in closed form, the trap of the chapter; z_2 was "
    "drawn from z_1, so score both densities of z_1 at that draw",
    _scored(lambda d: d.log_px - kl_normal(d.q1, d.p1) - kl_normal(d.q2, d.p2)),
)
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z2).sum(-1)
    kl = torch.distributions.kl_divergence(q1(x), p1(z2))
    return px(z1).log_prob(x) + prior - kl - q2(z1).log_prob(z2)


joint_elbo.mistake(
    "z_1 seems to be drawn a second time; score the z_1 from which z_2 was drawn, in "
    "log p(z_1 | z_2) and in all other terms",
    _scored(lambda d: d.log_weight - d.log_p1 + d.p1.log_prob(d.q1.rsample())),
    _scored(z2=lambda q1, q2, z1: q2(q1.rsample()).rsample()),
)
joint_elbo.mistake(
    "z_2 is drawn from the mean of q(z_1 | x), not from its draw",
    _scored(z2=lambda q1, q2, z1: q2(q1.mean).rsample()),
)
for _hint, _score in {
    "the prior of z_2 is missing; add log p(z_2) of N(0, I)": lambda d: d.log_weight - d.log_p2,
    "log p(z_1 | z_2) is missing": lambda d: d.log_weight - d.log_p1,
    "log q(z_2 | z_1) is missing; without it the KL term of z_2 is incomplete": (
        lambda d: d.log_p - d.log_q1
    ),
    "log q(z_1 | x) is missing; without it the KL term of z_1 is incomplete": (
        lambda d: d.log_p - d.log_q2
    ),
    "the reconstruction log p(x | z_1) is missing": lambda d: d.log_weight - d.log_px,
    "the sign of the reconstruction is wrong; add log p(x | z_1)": (
        lambda d: d.log_weight - 2 * d.log_px
    ),
    "this is the negative bound, a loss; return the bound": lambda d: -d.log_weight,
    "the signs of p and q are swapped; add log p, subtract log q": (
        lambda d: 2 * d.log_px - d.log_weight
    ),
    "x is scored under px(z_2); the decoder reads z_1": (
        lambda d: d.log_weight - d.log_px + d.px(d.z2).log_prob(d.x)
    ),
    "but no gradient passes": lambda d: d.log_weight.detach(),
}.items():
    joint_elbo.mistake(_hint, _scored(_score))
joint_elbo.mistake(
    "right on average, but the KL of z_2 is in closed form; use the five log-densities of one "
    "joint draw, which give log p(x) without noise when q is exact",
    _scored(lambda d: d.log_px + d.log_p1 - d.log_q1 - kl_normal(d.q2, d.p2)),
    _scored(lambda d: d.log_px + d.log_p1 + d.q1.entropy() - kl_normal(d.q2, d.p2)),
)
joint_elbo.mistake(
    "are several draws averaged?",
    lambda *inputs: sum(_scored()(*inputs) for _ in range(10)) / 10,
)
joint_elbo.mistake(
    "the gradient of the parameters of q(z_1 | .)", _scored(z1=lambda q1: q1.sample())
)
joint_elbo.mistake(
    "the gradient of the parameters of q(z_2 | .)",
    _scored(z2=lambda q1, q2, z1: q2(z1).sample()),
    _scored(lambda d: d.log_p - d.log_q.detach()),
)
joint_elbo.mistakes += over_the_batch(_scored())


def _log_mean(log_weights: Tensor) -> Tensor:
    return log_weights.logsumexp(1) - math.log(log_weights.shape[1])


@checked
def importance_weighted(answer: Answer) -> str:
    r"""The importance-weighted bound, :eq:`eq-iwae`.

    Write ``importance_weighted(log_weights) -> (B,)`` for log-weights ``(B, K)``: the logarithm
    of the mean of the K weights of each example, in nats. It must stay finite where the weights
    themselves underflow or overflow, and pass gradients.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for b, k in ((6, 4), (3, 50), (5, 1)):
        inputs, name = [torch.randn(b, k) - 1], f"the bound with K = {k}"
        compare(answer, _log_mean, inputs, name=name, mistakes=importance_weighted.mistakes)
        check_gradients(answer, _log_mean, inputs, names=["log_weights"])
    for shift in (-2000.0, 1500.0):
        log_w = torch.randn(4, 5) + shift * torch.tensor([[1.0], [0.5], [0.0], [1.0]])
        value = answer(log_w.clone())
        if isinstance(value, Tensor) and not value.isfinite().all():
            raise Mistake(
                f"log-weights near {shift:.0f} do not give a finite number, as their exp is 0 or "
                "infinite; subtract the largest first, as logsumexp does"
            )
        compare(answer, _log_mean, [log_w], name=f"the bound of log-weights near {shift:.0f}")
    return "agrees with the log of the mean weight for K = 1, 4, 50, and near -2000 and 1500 nats"


@importance_weighted.mistake("this is the mean of the logarithms; the mean belongs inside the log")
def _(log_weights):
    return log_weights.mean(1)


importance_weighted.mistakes += over_the_batch(_log_mean)
importance_weighted.mistake(
    "this reduces the batch, axis 0; the K draws are axis 1",
    lambda w: w.logsumexp(0),
    lambda w: w.logsumexp(0) - math.log(w.shape[0]),
    lambda w: w.logsumexp(0) - math.log(w.shape[1]),
)
for _hint, _wrong in {
    "this adds up the log-weights, which multiplies the weights": lambda w: w.sum(1),
    "this is the log of the sum of the weights; subtract log K for that of the mean": (
        lambda w: w.logsumexp(1)
    ),
    "log K is added; the mean divides by K, so subtract it": (
        lambda w: w.logsumexp(1) + math.log(w.shape[1])
    ),
    "the 1/K stands outside the logarithm; inside, it becomes minus log K": (
        lambda w: w.logsumexp(1) / w.shape[1]
    ),
    "this divides by the size of the batch B, not by K": (
        lambda w: w.logsumexp(1) - math.log(w.shape[0])
    ),
    "this is the mean of the weights; return its logarithm": lambda w: w.exp().mean(1),
    "this is the negative bound, a loss; return the bound": lambda w: -_log_mean(w),
    "this is the largest log-weight of the K, not the log of the mean": lambda w: w.amax(1),
    "as their exp is 0 or infinite": lambda w: w.exp().mean(1).log(),
    "as logsumexp does": lambda w: (w - w.max()).exp().mean(1).log() + w.max(),
    "no gradient passes through": lambda w: _log_mean(w).detach(),
}.items():
    importance_weighted.mistake(_hint, _wrong)
