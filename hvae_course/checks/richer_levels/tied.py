"""Check of the toy in which one noise for all steps reports more than the evidence."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, checked, compare_cases
from hvae_course.oracles import SharedNoise

_SIGNS = ((1, -1, 1, -1), (1, -1, 1), (1, 1), (-1,), (1, 1, -1, 1, 1))


@checked
def toy_bounds(answer: Answer) -> str:
    r"""The bound of a sum of latents, and what one noise for all of them reports instead.

    Write ``toy_bounds(x, mean, variance, signs) -> (bound, reported)``, each ``(B,)``, nats. The
    prior of each of T latents is N(0, 1), x given them is N(sum of z_t, 1), and every posterior is
    N(mean, variance). The bound is its mean over independent draws. What is reported is the mean
    over draws :math:`z_t = m + s_t \sqrt v\, \epsilon` that share one :math:`\epsilon`, charged as
    if they were independent. ``x``, ``mean`` and ``variance`` are ``(B,)``; ``signs``, ``(T,)``,
    holds :math:`s_t`, 1 or -1.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = []
    for batch, signs in zip((4, 3, 1, 2, 5), _SIGNS, strict=True):
        x, mean = torch.randn(2, batch)
        cases.append((2 * x, mean, 0.2 + 2 * torch.rand(batch), torch.tensor(signs).to(x)))
    names, known = ["the bound", "what is reported"], toy_bounds.mistakes
    compare_cases(answer, _by_oracle, cases, name=names, mistakes=known)
    x = torch.tensor([1.5])
    toy, signs = SharedNoise(), torch.tensor(_SIGNS[0]).to(x)
    _, reported = _by_oracle(x, *toy.best_shared(x), signs)
    return (
        f"right for {len(_SIGNS)} patterns of signs; with {len(signs)} of alternating sign, "
        f"{reported.item():.3f} can be reported where log p(x) is {toy.log_px(x).item():.3f}"
    )


def _by_oracle(x: Tensor, mean: Tensor, variance: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Both values, the second from the difference in the variance of the sum."""
    bound = SharedNoise(len(signs)).independent(x, mean, variance)
    return bound, bound + (len(signs) - signs.sum() ** 2) * variance / 2


def _values(
    apart: Callable[[int, Tensor], Tensor] = lambda steps, v: steps * v,
    together: Callable[[Tensor, Tensor], Tensor] = lambda s, v: s.sum() ** 2 * v,
    charged: Callable[[int], tuple[int, int]] = lambda steps: (steps, steps),
    divergence: Callable[[Tensor, Tensor], Tensor] = lambda m, v: (m**2 + v - 1 - v.log()) / 2,
    fit: Callable[[Tensor, Tensor], Tensor] = lambda error, spread: (
        -(math.log(2 * math.pi) + error**2 + spread) / 2
    ),
    centre: Callable[[int, Tensor], Tensor] = lambda steps, m: steps * m,
    sign: int = -1,
    swapped: bool = False,
) -> Answer:
    """Both values, or a mistake in a part of them."""

    def answer(x: Tensor, mean: Tensor, variance: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
        steps = len(signs)
        spreads = apart(steps, variance), together(signs, variance)
        bound, reported = (
            fit(x - centre(steps, mean), spread) + sign * times * divergence(mean, variance)
            for spread, times in zip(spreads, charged(steps), strict=True)
        )
        return (reported, bound) if swapped else (bound, reported)

    return answer


for _hint, _wrong in {
    "what is reported equals the bound: with one noise the variance of the sum is another": (
        _values(together=lambda s, v: s.square().sum() * v)
    ),
    "with one noise the sum has the noise (sum of signs) * sqrt(v) * eps; square the sum": (
        _values(together=lambda s, v: s.sum() * v)
    ),
    "one noise without its signs: the noises of steps with opposite signs cancel": _values(
        together=lambda s, v: len(s) ** 2 * v
    ),
    "one noise enters the sum once per step, with its sign": _values(together=lambda s, v: v),
    "the spread of the sum is left out of what is reported": _values(together=lambda s, v: 0 * v),
    "the spread of the sum is left out of both: average log p(x | z) over the draws": _values(
        lambda steps, v: 0 * v, lambda s, v: 0 * v
    ),
    "independent draws add their variances; the sum of T of them has T v": _values(
        lambda steps, v: steps**2 * v
    ),
    "the spread of the bound is that of one latent; the sum of T has the variance T v": _values(
        lambda steps, v: v
    ),
    "what is reported charges one KL divergence; the program charges every step": _values(
        charged=lambda steps: (steps, 1)
    ),
    "one KL divergence is charged; every step has its own": _values(charged=lambda steps: (1, 1)),
    "the KL divergences are added; subtract them": _values(sign=1),
    "no KL divergence is subtracted": _values(sign=0),
    "the mean of the sum is T times the mean of one latent": _values(centre=lambda steps, m: m),
    "variance is taken for a standard deviation in the KL divergence": _values(
        divergence=lambda m, v: (m**2 + v**2 - 1) / 2 - v.log()
    ),
    "the factor 1/2 is missing in the KL divergence": _values(
        divergence=lambda m, v: m**2 + v - 1 - v.log()
    ),
    "this is KL(p || q); it is KL(q || p)": _values(
        divergence=lambda m, v: ((1 + m**2) / v - 1 + v.log()) / 2
    ),
    "this is the log of the mean of p(x | z); the bound has the mean of log p(x | z)": _values(
        fit=lambda error, spread: (
            -(math.log(2 * math.pi) + (1 + spread).log() + error**2 / (1 + spread)) / 2
        )
    ),
    "the constant of log p(x | z) is missing, log(2 pi) / 2": _values(
        fit=lambda error, spread: -(error**2 + spread) / 2
    ),
    "bound and report are swapped": _values(swapped=True),
}.items():
    toy_bounds.mistake(_hint, _wrong)


@toy_bounds.mistake("this is log p(x), which the bound reaches only for the exact posterior")
def _(x, mean, variance, signs):
    exact = SharedNoise(len(signs)).log_px(x)
    return exact, _values()(x, mean, variance, signs)[1]
