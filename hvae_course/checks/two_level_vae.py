"""Checks of chapter 1: a closed-form KL, the bound from one joint draw, the bound from many draws.

The bound from one draw is first checked where no statistical tolerance is needed: in a
linear-Gaussian hierarchy with the exact posterior, every draw gives log p(x). An answer that fails
there is compared with what known mistakes give under a posterior that is not exact.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Independent

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
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


@gaussian_kl.mistake(
    "this is one number per latent; add up the dimensions, the KL is one per example"
)
def _(q_mean, q_std, p_mean, p_std):
    ratio = (q_std / p_std) ** 2
    return 0.5 * (ratio - 1 - ratio.log() + ((q_mean - p_mean) / p_std) ** 2)


gaussian_kl.mistakes += over_the_batch(_kl)
for _hint, _wrong in {
    "this averages over the dimensions of the latent; a KL adds them up": (
        lambda m, s, n, t: _kl(m, s, n, t) / m.shape[1]
    ),
    "this treats q_std and p_std as variances; they are standard deviations": (
        lambda m, s, n, t: _kl(m, s.sqrt(), n, t.sqrt())
    ),
    "this takes exp of q_std and p_std, but they are not logarithms": (
        lambda m, s, n, t: _kl(m, s.exp(), n, t.exp())
    ),
    "this is KL(p || q); return KL(q || p)": lambda m, s, n, t: _kl(n, t, m, s),
    "this is the KL from N(0, I); return the KL from N(p_mean, p_std^2)": (
        lambda m, s, n, t: _kl(m, s, 0 * n, 0 * t + 1)
    ),
    "the sign is reversed; a KL divergence is never negative": lambda *v: -_kl(*v),
    "this is twice the KL; the factor 1/2 is missing": lambda *v: 2 * _kl(*v),
    "the -1 of every dimension is missing; KL(q || q) must be zero": (
        lambda m, s, n, t: _kl(m, s, n, t) + 0.5 * m.shape[1]
    ),
    "the -1 belongs inside the sum, once per dimension": (
        lambda m, s, n, t: _kl(m, s, n, t) + 0.5 * (m.shape[1] - 1)
    ),
    "this takes the log of the ratio of standard deviations; the log of the ratio of variances is "
    "twice as large": lambda m, s, n, t: _kl(m, s, n, t) + 0.5 * (s / t).log().sum(-1),
    "the sign of the logarithm is reversed": (
        lambda m, s, n, t: _kl(m, s, n, t) + 2 * (s / t).log().sum(-1)
    ),
    "the squared distance of the means is not divided by the variance of p": (
        lambda m, s, n, t: _kl(0 * m, s, 0 * n, t) + 0.5 * ((m - n) ** 2).sum(-1)
    ),
    "the squared distance of the means is divided by p_std; divide by p_std^2": (
        lambda m, s, n, t: _kl(0 * m, s, 0 * n, t) + 0.5 * ((m - n) ** 2 / t).sum(-1)
    ),
    "the result has an axis of length 1 too many; sum without keepdim": (
        lambda *v: _kl(*v).unsqueeze(1)
    ),
    "no gradient passes through it": lambda *v: _kl(*v).detach(),
    "reaches p_mean": lambda m, s, n, t: _kl(m, s, n.detach(), t),
}.items():
    gaussian_kl.mistake(_hint)(_wrong)

_MODEL = LinearGaussian((0.8, 0.9), (0.5, 0.3), size=2)
_DRAWS = 20_000


def _bound(
    x: Tensor,
    q1: Callable,
    q2: Callable,
    p1: Callable,
    px: Callable,
    *,
    z1: Tensor | None = None,
    z2: Tensor | None = None,
    signs: Sequence[int] = (1, 1, 1, -1, -1),
) -> Tensor:
    """The log-weight of one joint draw, with other draws or other signs of its five terms."""
    z1 = q1(x).rsample() if z1 is None else z1
    z2 = q2(z1).rsample() if z2 is None else z2
    log_p = px(z1).log_prob(x), p1(z2).log_prob(z1), _prior(z2).log_prob(z2)
    log_q = q1(x).log_prob(z1), q2(z1).log_prob(z2)
    return sum(sign * term for sign, term in zip(signs, (*log_p, *log_q), strict=True))


def _prior(z2: Tensor) -> Independent:
    return standard_normal(z2.shape[-1], like=z2)


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
    x, parameters = _rough_parameters()
    mean, log_std, offset, log_rest = parameters

    def q1(x: Tensor) -> Independent:
        return diag_normal(mean, log_std)

    def q2(z1: Tensor) -> Independent:
        return diag_normal(0.6 * z1 + offset, log_rest)

    rough = (q1, q2, p1, px)
    value = answer(x.clone(), *rough)
    if failed and getattr(value, "shape", None) != (_DRAWS,):
        raise failed
    draws, right = as_tensor(value, (_DRAWS,), name="the bound"), _bound(x, *rough)

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


def _rough_parameters() -> tuple[Tensor, list[Tensor]]:
    """One example many times, and the parameters of a posterior that is not exact."""
    mean, offset = torch.tensor([0.4, 0.7]), torch.tensor([0.3, -0.5])
    scales = torch.full((2,), math.log(0.6)), torch.full((2,), math.log(0.3))
    parameters = (mean, scales[0], offset, scales[1])
    x = torch.tensor([[1.3, -0.4]]).repeat(_DRAWS, 1)
    return x, [v.expand(_DRAWS, 2).clone().requires_grad_() for v in parameters]


_TRAP = (
    "this takes KL(q(z_1 | x) || p(z_1 | z_2)) in closed form, the trap of the chapter; z_2 was "
    "drawn from z_1, so score both densities of z_1 at that draw"
)
_REDRAWN = (
    "z_1 seems to be drawn a second time; score the z_1 from which z_2 was drawn, in "
    "log p(z_1 | z_2) and in all other terms"
)
_INTEGRATED = (
    "right on average, but the KL of z_2 is in closed form; use the five log-densities of one "
    "joint draw, which give log p(x) without noise when q is exact"
)


@joint_elbo.mistake(_TRAP)
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z2).sum(-1)
    kl = torch.distributions.kl_divergence(q1(x), p1(z2))
    return px(z1).log_prob(x) + prior - kl - q2(z1).log_prob(z2)


@joint_elbo.mistake(_TRAP)
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    return px(z1).log_prob(x) - kl_normal(q1(x), p1(z2)) - kl_normal(q2(z1), _prior(z2))


@joint_elbo.mistake(_REDRAWN)
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    rest = _bound(x, q1, q2, p1, px, z1=z1, z2=z2, signs=(1, 0, 1, -1, -1))
    return rest + p1(z2).log_prob(q1(x).rsample())


@joint_elbo.mistake(_REDRAWN)
def _(x, q1, q2, p1, px):
    return _bound(x, q1, q2, p1, px, z2=q2(q1(x).rsample()).rsample())


@joint_elbo.mistake("z_2 is drawn from the mean of q(z_1 | x), not from its draw")
def _(x, q1, q2, p1, px):
    return _bound(x, q1, q2, p1, px, z2=q2(q1(x).mean).rsample())


def _with_signs(*signs: int) -> Answer:
    """The bound with other signs of log p(x | z_1), log p of z_1 and z_2, log q of z_1 and z_2."""
    return lambda *inputs: _bound(*inputs, signs=signs)


for _hint, _wrong in {
    "the prior of z_2 is missing: add log p(z_2) of N(0, I)": _with_signs(1, 1, 0, -1, -1),
    "log p(z_1 | z_2) is missing": _with_signs(1, 0, 1, -1, -1),
    "log q(z_2 | z_1) is missing, so the KL of z_2 is incomplete": _with_signs(1, 1, 1, -1, 0),
    "log q(z_1 | x) is missing, so the KL of z_1 is incomplete": _with_signs(1, 1, 1, 0, -1),
    "the reconstruction log p(x | z_1) is missing": _with_signs(0, 1, 1, -1, -1),
    "the reconstruction has the wrong sign; add log p(x | z_1)": _with_signs(-1, 1, 1, -1, -1),
    "this is the negative bound, a loss; return the bound": _with_signs(-1, -1, -1, 1, 1),
    "the signs of p and q are swapped; add log p, subtract log q": _with_signs(1, -1, -1, 1, 1),
}.items():
    joint_elbo.mistake(_hint)(_wrong)


@joint_elbo.mistake("x is scored under px(z_2); the decoder reads z_1")
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    rest = _bound(x, q1, q2, p1, px, z1=z1, z2=z2, signs=(0, 1, 1, -1, -1))
    return rest + px(z2).log_prob(x)


@joint_elbo.mistake(_INTEGRATED)
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    rest = _bound(x, q1, q2, p1, px, z1=z1, z2=z2, signs=(1, 1, 0, -1, 0))
    return rest - kl_normal(q2(z1), _prior(z2))


@joint_elbo.mistake(_INTEGRATED)
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    rest = _bound(x, q1, q2, p1, px, z1=z1, z2=z2, signs=(1, 1, 0, 0, 0))
    return rest + q1(x).entropy() - kl_normal(q2(z1), _prior(z2))


@joint_elbo.mistake("are several draws averaged?")
def _(*inputs: object) -> Tensor:
    return sum(_bound(*inputs) for _ in range(10)) / 10


@joint_elbo.mistake("the gradient of the parameters of q(z_1 | .)")
def _(x, q1, q2, p1, px):
    return _bound(x, q1, q2, p1, px, z1=q1(x).sample())


@joint_elbo.mistake("the gradient of the parameters of q(z_2 | .)")
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    return _bound(x, q1, q2, p1, px, z1=z1, z2=q2(z1).sample())


@joint_elbo.mistake("the gradient of the parameters of q(z_2 | .)")
def _(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    log_q = _bound(x, q1, q2, p1, px, z1=z1, z2=z2, signs=(0, 0, 0, 1, 1)).detach()
    return _bound(x, q1, q2, p1, px, z1=z1, z2=z2, signs=(1, 1, 1, 0, 0)) - log_q


joint_elbo.mistake("but no gradient passes")(lambda *inputs: _bound(*inputs).detach())
joint_elbo.mistakes += over_the_batch(_bound)


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
_OVER_EXAMPLES = "this reduces the batch, axis 0; the K draws are axis 1"
for _wrong in (
    lambda w: w.logsumexp(0),
    lambda w: w.logsumexp(0) - math.log(w.shape[0]),
    lambda w: w.logsumexp(0) - math.log(w.shape[1]),
):
    importance_weighted.mistake(_OVER_EXAMPLES)(_wrong)
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
    importance_weighted.mistake(_hint)(_wrong)
