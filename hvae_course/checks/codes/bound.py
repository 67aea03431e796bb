"""Check of a bound with codes, and of its gap, by a list of all codes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.verdict import Answer, checked, compare_cases
from hvae_course.codes import nearest

_SHAPES = ((4, 2, 3, 4), (1, 3, 2, 3), (5, 1, 2, 6), (3, 4, 2, 2))
"""Batch size, positions, dimensions and rows of every case."""


@checked
def code_bound(answer: Answer) -> str:
    r"""The bound of a model with codes, and how far log p(x) lies above it (:eq:`eq-code-bound`).

    Write ``code_bound(z, rows, log_p, log_px) -> (bound, gap)``, each ``(B,)``, nats. ``z``, ``(B,
    N, D)``, holds the row that the encoder chose at each of N positions, one of the ``rows``,
    ``(K, D)``. ``log_p``, ``(N, K)``, is the prior's log-probability of each row at each position;
    the positions are independent. ``log_px``, ``(B, K, ..., K)`` with N axes of size K, holds
    log p(x | c) for every choice of rows c: ``log_px[b, 2, 0]`` for row 2 at the first position
    and row 0 at the second. The gap is log p(x) minus the bound.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = []
    for batch, positions, size, num_rows in _SHAPES:
        rows = 2 * torch.randn(num_rows, size)
        z = rows[torch.randint(num_rows, (batch, positions))]
        log_p = (1.5 * torch.randn(positions, num_rows)).log_softmax(dim=1)
        log_px = -9 + 2 * torch.randn(batch, *(num_rows,) * positions)
        cases.append((z, rows, log_p, log_px))
    names, known = ["the bound", "the gap"], code_bound.mistakes
    compare_cases(answer, _values(), cases, name=names, mistakes=known)
    gap = _values()(*cases[0])[1].mean()
    listed = ", ".join(str(k**n) for _, n, _, k in _SHAPES)
    return f"agrees with lists of {listed} codes; the first gap is {gap:.2f} nats on average"


def _joint_prior(log_p: Tensor) -> Tensor:
    """Log-probability of every choice of rows, one axis per position."""
    total = log_p.new_zeros(())
    for each in log_p:
        total = total[..., None] + each
    return total


def _chosen(log_px: Tensor, index: Tensor) -> Tensor:
    """The entry of every example at its own code."""
    return log_px[(torch.arange(len(index), device=index.device), *index.unbind(dim=1))]


def _rate(z: Tensor, index: Tensor, log_p: Tensor) -> Tensor:
    return -log_p.expand(len(index), -1, -1).gather(2, index[..., None]).sum(dim=(1, 2))


def _values(
    rate: Callable[[Tensor, Tensor, Tensor], Tensor] = _rate,
    prior: Callable[[Tensor], Tensor] = _joint_prior,
    evidence: Callable[[Tensor], Tensor] = lambda joint: joint.logsumexp(dim=1),
    gap: Callable[..., Tensor] = lambda evidence, bound, fit, rate: evidence - bound,
    order: Callable[[Tensor], Tensor] = lambda index: index,
    bound: Callable[[Tensor, Tensor], Tensor] = lambda fit, rate: fit - rate,
    result: Callable[..., tuple[Tensor, Tensor]] = lambda bound, gap: (bound, gap),
) -> Answer:
    """Bound and gap, or a mistake in a part of them."""

    def answer(z: Tensor, rows: Tensor, log_p: Tensor, log_px: Tensor) -> tuple[Tensor, Tensor]:
        index = nearest(z, rows)
        fit, paid = _chosen(log_px, order(index)), rate(z, index, log_p)
        whole = evidence((log_px + prior(log_p)).flatten(1))
        value = bound(fit, paid)
        return result(value, gap(whole, value, fit, paid))

    return answer


def _uniform(positions: Callable[[int], int]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def rate(z: Tensor, index: Tensor, log_p: Tensor) -> Tensor:
        num_positions, num_rows = log_p.shape
        each = positions(num_positions) * math.log(num_rows)
        return torch.full((len(z),), each).to(log_p)

    return rate


for _hint, _wrong in {
    "the prior is taken as a density of the rows' vectors; it is a probability of their numbers": (
        _values(lambda z, index, log_p: -Normal(0.0, 1.0).log_prob(z).sum(dim=(1, 2)))
    ),
    "the rate is missing in the bound: subtract -log p(c)": _values(bound=lambda fit, rate: fit),
    "the rate of a uniform prior, N log K, is subtracted; log_p is another prior": _values(
        _uniform(lambda n: n)
    ),
    "log K is subtracted once, for any number of positions and any prior; use log_p": _values(
        _uniform(lambda n: 1)
    ),
    "the rate is averaged over the positions; it is their sum": _values(
        lambda z, index, log_p: _rate(z, index, log_p) / index.shape[1]
    ),
    "the rate is that of the first position alone; every position has its own": _values(
        lambda z, index, log_p: -log_p[0][index[:, 0]]
    ),
    "all positions have the prior of the first; log_p has one row per position": _values(
        lambda z, index, log_p: -log_p[0][index].sum(dim=1)
    ),
    "the rate is the entropy of the prior; it is -log p of the rows that were chosen": _values(
        lambda z, index, log_p: -(log_p.exp() * log_p).sum().expand(len(z))
    ),
    "the rate is added; subtract it": _values(bound=lambda fit, rate: fit + rate),
    "the bound has the opposite sign": _values(
        bound=lambda fit, rate: rate - fit,
        gap=lambda evidence, bound, fit, rate: evidence + bound,
    ),
    "the positions are in the wrong order: the first is axis 1 of log_px": _values(
        order=lambda index: index.flip(1)
    ),
    "the positions of the prior are in the wrong order: row n of log_p is that of position n": (
        _values(
            lambda z, index, log_p: _rate(z, index, log_p.flip(0)),
            prior=lambda log_p: _joint_prior(log_p.flip(0)),
        )
    ),
    "the first value is log p(x) itself; the bound is log p(x | c) + log p(c) of the chosen c": (
        _values(
            result=lambda bound, gap: (bound + gap, gap),
        )
    ),
    "the gap has the opposite sign: log p(x) lies above the bound": _values(
        gap=lambda evidence, bound, fit, rate: bound - evidence
    ),
    "the gap is 0: the posterior is certain, but p(c | x) of the model is not": _values(
        gap=lambda evidence, bound, fit, rate: 0 * bound
    ),
    "the gap is the rate; it is -log p(c | x), not -log p(c)": _values(
        gap=lambda evidence, bound, fit, rate: rate
    ),
    "this is log p(x) - log p(x | c); subtract the whole bound": _values(
        gap=lambda evidence, bound, fit, rate: evidence - fit
    ),
    "this is log p(x); the gap is how far it lies above the bound": _values(
        gap=lambda evidence, bound, fit, rate: evidence
    ),
    "this is p(c | x); the gap is minus its logarithm": _values(
        gap=lambda evidence, bound, fit, rate: (bound - evidence).exp()
    ),
    "log p(x) takes the best code alone; sum over all codes": _values(
        evidence=lambda joint: joint.amax(dim=1)
    ),
    "log p(x) is the mean over the codes; it is the sum of p(x | c) p(c)": _values(
        evidence=lambda joint: joint.logsumexp(dim=1) - math.log(joint.shape[1])
    ),
    "log p(x) leaves the prior out; sum p(x | c) p(c)": _values(
        prior=lambda log_p: torch.zeros_like(_joint_prior(log_p))
    ),
    "log p(x) takes all codes as equally probable; the prior is log_p": _values(
        prior=lambda log_p: torch.full_like(
            _joint_prior(log_p), -log_p.shape[0] * math.log(log_p.shape[1])
        )
    ),
    "log p(x) adds logarithms; add probabilities": _values(
        evidence=lambda joint: joint.sum(dim=1)
    ),
    "this sums over the batch; return one number per example, (B,)": _values(
        bound=lambda fit, rate: (fit - rate).sum(),
        gap=lambda evidence, bound, fit, rate: evidence.sum() - bound,
    ),
}.items():
    code_bound.mistake(_hint, _wrong)
