"""Check of one step of inverse autoregressive flow, whose draw and density come together."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.richer_levels.masked import CountedMaps, Maps, check_runs, total
from hvae_course.checks.verdict import Answer, checked, compare_cases

_STANDARD = Normal(0.0, 1.0)


@checked
def iaf_step(answer: Answer) -> str:
    r"""A draw of a flow and its information, from one run of the network (:eq:`eq-iaf`).

    Write ``iaf_step(noise, mean, log_std, maps) -> (z, information)``, ``(B, Z)`` and ``(B,)``,
    nats. ``noise``, ``mean`` and ``log_std`` are ``(B, Z)``: they give the draw :math:`\tilde z`
    of a Gaussian. ``shift, log_scale = maps(...)`` gives two tensors ``(B, Z)``, whose entry i
    depends on the entries before i of what the network reads. The draw of the level is :math:`z =
    (\tilde z - \text{shift})\, e^{-\text{log\_scale}}`, and its information log q(z) - log p(z)
    with p = N(0, I).

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = []
    for batch, size in ((4, 3), (1, 6), (5, 1)):
        noise, mean, log_std = torch.randn(3, batch, size)
        cases.append((noise, mean, log_std / 2, CountedMaps(size)))
    names, known = ["z", "the information"], iaf_step.mistakes
    compare_cases(answer, _step(), cases, name=names, mistakes=known)
    *gaussian, maps = cases[1]
    given = [*(part.clone() for part in gaussian), maps]
    check_runs(answer, given, why="q is known at your own draw: keep its terms from the draw")
    of_gaussian = [lambda *parts, f=f: f(*parts, maps) for f in (answer, _step())]
    check_gradients(*of_gaussian, gaussian, names=["the noise", "mean", "log_std"])
    return "draws of one, three and six entries with their information, from one run each"


def _step(
    draw: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda z0, a, b: (z0 - a) * (-b).exp(),
    log_q: Callable[..., Tensor] = lambda q0, z0, z, b: q0.log_prob(z0) + b,
    log_p: Callable[[Tensor, Tensor], Tensor] = lambda z0, z: _STANDARD.log_prob(z),
    std: Callable[[Tensor], Tensor] = torch.exp,
    reduce: Callable[[Tensor], Tensor] = total,
    sign: int = 1,
) -> Answer:
    """Draw and information, or a mistake in a part of them."""

    def answer(noise: Tensor, mean: Tensor, log_std: Tensor, maps: Maps) -> tuple[Tensor, Tensor]:
        q0 = Normal(mean, std(log_std), validate_args=False)
        z0 = mean + std(log_std) * noise
        shift, log_scale = maps(z0)
        z = draw(z0, shift, log_scale)
        return z, reduce(sign * (log_q(q0, z0, z, log_scale) - log_p(z0, z)))

    return answer


def _recomputed(noise: Tensor, mean: Tensor, log_std: Tensor, maps: Maps) -> Tensor:
    """The draw before the flow, found again from z by as many runs as there are entries."""
    z, _ = _step()(noise, mean, log_std, maps)
    z0 = z
    for _ in range(z.shape[1]):
        shift, log_scale = maps(z0)
        z0 = shift + log_scale.exp() * z
    return z0


def _closed(noise: Tensor, mean: Tensor, log_std: Tensor, maps: Maps) -> tuple[Tensor, Tensor]:
    z, _ = _step()(noise, mean, log_std, maps)
    return z, total((mean**2 + (2 * log_std).exp() - 1) / 2 - log_std)


iaf_step.mistake(
    "this is the KL divergence of the Gaussian before the flow plus the sum of log_scale; score "
    "the draw behind the flow, log q(z) - log p(z)",
    lambda noise, mean, log_std, maps: (
        _step()(noise, mean, log_std, maps)[0],
        _closed(noise, mean, log_std, maps)[1] + total(maps(mean + log_std.exp() * noise)[1]),
    ),
)
iaf_step.mistake(
    "this is the KL divergence of the Gaussian before the flow; score the draw behind it, "
    "log q(z) - log p(z)",
    _closed,
)
for _hint, _wrong in {
    "the sign of the log-determinant is wrong: a division by exp(log_scale) raises the density": (
        _step(log_q=lambda q0, z0, z, b: q0.log_prob(z0) - b)
    ),
    "the sum of log_scale is missing in log q": _step(log_q=lambda q0, z0, z, b: q0.log_prob(z0)),
    "the density of the Gaussian before the flow is missing in log q": _step(
        log_q=lambda q0, z0, z, b: b
    ),
    "the Gaussian is scored at z; it is the density of the draw before the flow": _step(
        log_q=lambda q0, z0, z, b: q0.log_prob(z) + b
    ),
    "the Gaussian is scored at z, and the sum of log_scale is missing: q is not this Gaussian": (
        _step(log_q=lambda q0, z0, z, b: q0.log_prob(z))
    ),
    "the density of the noise is taken for that of the Gaussian; subtract log_std as well": (
        _step(log_q=lambda q0, z0, z, b: _STANDARD.log_prob((z0 - q0.mean) / q0.stddev) + b)
    ),
    "the prior is scored before the flow; p is the density of z": _step(
        log_p=lambda z0, z: _STANDARD.log_prob(z0)
    ),
    "the flow is left out of the information; score z, and add the sum of log_scale to log q": (
        _step(
            log_q=lambda q0, z0, z, b: q0.log_prob(z0),
            log_p=lambda z0, z: _STANDARD.log_prob(z0),
        )
    ),
    "this is log q(z); subtract log p(z)": _step(log_p=lambda z0, z: torch.zeros_like(z)),
    "the information has the opposite sign: log q - log p": _step(sign=-1),
    "the draw is that of the other direction; here z = (draw - shift) / exp(log_scale)": _step(
        lambda z0, a, b: a + b.exp() * z0
    ),
    "draw and log q are those of the other direction; here z = (draw - shift) / exp(log_scale)": (
        _step(lambda z0, a, b: a + b.exp() * z0, lambda q0, z0, z, b: q0.log_prob(z0) - b)
    ),
    "the draw is multiplied by exp(log_scale); divide by it": _step(
        lambda z0, a, b: (z0 - a) * b.exp()
    ),
    "z is the draw before the flow; shift and scale it": _step(lambda z0, a, b: z0),
    "log_std is taken for the standard deviation; take its exponential": _step(
        std=lambda log_std: log_std
    ),
    "log_std is taken for a log-variance": _step(std=lambda log_std: (log_std / 2).exp()),
    "the information is averaged over the entries; sum them": _step(
        reduce=lambda each: each.mean(dim=1)
    ),
    "the information is summed over the batch; return one number per example, (B,)": _step(
        reduce=torch.sum
    ),
    "the information is averaged over the batch; return one number per example, (B,)": _step(
        reduce=lambda each: each.sum(dim=1).mean()
    ),
}.items():
    iaf_step.mistake(_hint, _wrong)


@iaf_step.mistake("the network reads the noise; it reads the draw of the Gaussian")
def _(noise, mean, log_std, maps):
    return _step()(noise, mean, log_std, lambda z0: maps(noise))


@iaf_step.mistake(
    "log q is computed again from z in the wrong direction: the network reads the draw before the "
    "flow, not z"
)
def _(noise, mean, log_std, maps):
    z, _ = _step()(noise, mean, log_std, maps)
    shift, log_scale = maps(z)
    log_q = Normal(mean, log_std.exp()).log_prob(shift + log_scale.exp() * z) + log_scale
    return z, total(log_q - _STANDARD.log_prob(z))


@iaf_step.mistake("q is known at your own draw")
def _(noise, mean, log_std, maps):
    z0 = _recomputed(noise, mean, log_std, maps)
    return _step()((z0 - mean) / log_std.exp(), mean, log_std, maps)


@iaf_step.mistake("no gradient reaches mean")
def _(noise, mean, log_std, maps):
    return _step()(noise, mean.detach(), log_std, maps)
