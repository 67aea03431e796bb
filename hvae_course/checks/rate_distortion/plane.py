"""Checks of the two axes of the rate-distortion plane, and of what a KL weight chooses on it."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, checked, compare_cases

# Rate and distortion of a trace


@checked
def rate_distortion(answer: Answer) -> str:
    r"""Rate and distortion of every example, from the draws of a trace (:eq:`eq-rate-distortion`).

    Write ``rate_distortion(log_px, log_q, log_p) -> (rate, distortion)``, each ``(B,)``, nats.
    ``log_px``, ``(B, K)``, holds log p(x | z) of K joint draws; ``log_q`` and ``log_p``,
    ``(L, B, K)``, the log-densities of each level under its posterior and its prior.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    shapes = ((2, 5, 3), (1, 4, 1), (3, 3, 3))
    cases = [
        (-20 + torch.randn(b, k), torch.randn(n, b, k), -1.5 + torch.randn(n, b, k))
        for n, b, k in shapes
    ]
    names, known = ["the rate", "the distortion"], rate_distortion.mistakes
    compare_cases(answer, _axes(), cases, name=names, mistakes=known)
    return "rate and distortion of models of one, two and three levels"


def _axes(
    levels: Callable[[Tensor], Tensor] = lambda info: info.sum(0),
    draws: Callable[[Tensor], Tensor] = lambda values: values.mean(1),
    sign: float = -1.0,
    swapped: bool = False,
    first: float = 1.0,
) -> Answer:
    """Rate and distortion, or a mistake in a part of them."""

    def answer(log_px: Tensor, log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
        rate = draws(levels(first * (log_q - log_p)))
        distortion = draws(sign * log_px)
        return (distortion, rate) if swapped else (rate, distortion)

    return answer


for _hint, _wrong in {
    "the distortion is the negative reconstruction term, so that a worse fit is a larger number": (
        _axes(sign=1.0)
    ),
    "the rate has the opposite sign: it is log q - log p": _axes(first=-1.0),
    "this is the rate of z_1 alone; every level adds its own": _axes(lambda info: info[0]),
    "this is the rate of the top level alone; every level adds its own": _axes(
        lambda info: info[-1]
    ),
    "the levels are averaged; their rates add up": _axes(lambda info: info.mean(0)),
    "the K draws are added up; they are draws of one example, so average them": _axes(
        draws=lambda values: values.sum(1)
    ),
    "this is one draw of K; average over all of them": _axes(draws=lambda values: values[:, 0]),
    "this is the mean over the batch for each draw; average over the draws of each example": _axes(
        draws=lambda values: values.mean(0)
    ),
    "rate and distortion are swapped": _axes(swapped=True),
    "the negative parts of the log-ratios are cut off: a single draw may be negative": _axes(
        lambda info: info.clamp(min=0).sum(0)
    ),
    "this averages over the batch; return one number per example, (B,)": _axes(
        draws=lambda values: values.mean()
    ),
}.items():
    rate_distortion.mistake(_hint, _wrong)


# What beta chooses


_RATES = (0.1, 2.0, 3.0, 5.0, 9.0, 6.0, 10.0)
_DISTORTIONS = (19.0, 15.5, 14.9, 13.8, 12.9, 14.5, 13.0)
_BETAS = (0.05, 0.21, 0.3, 0.58, 0.8, 1.0, 1.5, 1.9, 4.0)


@checked
def best_for_beta(answer: Answer) -> str:
    r"""Which of several models each KL weight prefers (:eq:`eq-rate-beta`).

    Write ``best_for_beta(rate, distortion, beta) -> (rate, distortion)``, each ``(N,)``. ``rate``
    and ``distortion``, ``(M,)``, are those of M models; ``beta``, ``(N,)``, are KL weights. The
    result is where on the plane each weight ends: rate and distortion of the model whose objective
    is best.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    rate, distortion = torch.tensor(_RATES), torch.tensor(_DISTORTIONS)
    order, beta = torch.randperm(len(rate)), torch.tensor(_BETAS)
    cases = [(rate, distortion, beta), (rate[order], distortion[order], beta.flip(0))]
    cases += [(rate[:3], distortion[:3], beta[:2])]
    names, known = ["the rate", "the distortion"], best_for_beta.mistakes
    compare_cases(answer, _choice(), cases, name=names, mistakes=known)
    chosen = len(_choice()(rate, distortion, beta)[0].unique())
    return f"{len(beta)} weights choose {chosen} of {len(rate)} models"


def _choice(
    value: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda r, d, beta: d + beta * r,
    pick: Callable[[Tensor], Tensor] = lambda values: values.argmin(dim=1),
    swapped: bool = False,
) -> Answer:
    """The best model for each weight, or a mistake in the objective."""

    def answer(rate: Tensor, distortion: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        best = pick(value(rate, distortion, beta[:, None]))
        return (distortion[best], rate[best]) if swapped else (rate[best], distortion[best])

    return answer


for _hint, _wrong in {
    "beta multiplies the rate, not the distortion": _choice(lambda r, d, beta: beta * d + r),
    "this is the best ELBO for every weight; beta multiplies the rate alone": _choice(
        lambda r, d, beta: beta * (d + r)
    ),
    "this is the worst model: D + beta R is a cost, so take the smallest": _choice(
        pick=lambda values: values.argmax(dim=1)
    ),
    "this is the model with the smallest rate, whatever beta is": _choice(
        lambda r, d, beta: beta * r
    ),
    "this is the model with the smallest distortion, whatever beta is": _choice(
        lambda r, d, beta: d + 0 * beta
    ),
    "the signs differ: D + beta R, a sum of two costs": _choice(lambda r, d, beta: d - beta * r),
    "rate and distortion are swapped": _choice(swapped=True),
}.items():
    best_for_beta.mistake(_hint, _wrong)


@best_for_beta.mistake(
    "these are the terms of the objective; return the rate itself, without beta"
)
def _(rate: Tensor, distortion: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    best = (distortion + beta[:, None] * rate).argmin(dim=1)
    return beta * rate[best], distortion[best]
