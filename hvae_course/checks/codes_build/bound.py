"""Check of the bound of a model with codes, and of what training maximises."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import Answer, checked, compare_cases

_SUMMED = (1, 2)
"""Axes of the pixels."""


@checked
def objective(answer: Answer) -> str:
    r"""The bound with a uniform prior over codes, and the objective (:eq:`eq-two-grids`).

    Write ``objective(logits, values, index, num_codes, penalty) -> (bound, objective)``, each
    ``(B,)``, nats. ``logits``, ``(B, V, H, W)``, are those of the V grey values of every pixel,
    and ``values``, ``(B, H, W)``, the whole numbers to be explained. ``index`` has a map ``(B,
    h_l, w_l)`` per grid, and ``num_codes`` a number of codes per grid. The bound is log p(x | z)
    minus the rate of the uniform prior; the objective, which is maximised, is the bound minus the
    penalty ``(B,)``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    shapes = (
        (4, 5, (4, 6), ((2, 3), (1, 2)), (7, 3)),
        (3, 16, (4, 4), ((4, 4), (2, 2)), (32, 8)),
        (1, 3, (2, 4), ((2, 2),), (5,)),
    )
    cases = []
    for batch, values, size, grids, num_codes in shapes:
        logits = 2 * torch.randn(batch, values, *size)
        index = [
            torch.randint(n, (batch, *grid)) for n, grid in zip(num_codes, grids, strict=True)
        ]
        pixels = torch.randint(values, (batch, *size))
        cases.append((logits, pixels, index, list(num_codes), 1 + torch.rand(batch)))
    names, known = ["the bound", "the objective"], objective.mistakes
    compare_cases(answer, _scored(), cases, name=names, mistakes=known)
    logits, pixels, index, num_codes, penalty = cases[0]
    of_two = [
        lambda logits, penalty, f=f: f(logits, pixels.clone(), [*index], [*num_codes], penalty)
        for f in (answer, _scored())
    ]
    with saved_tensors_hooks(lambda saved: saved.detach().clone(), lambda saved: saved):
        # of their own, as an answer may change what it is given
        check_gradients(*of_two, [logits, penalty], names=["the logits", "the penalty"])
    return "bound and objective are right for one and two grids, and so are their gradients"


def _log_px(logits: Tensor, values: Tensor) -> Tensor:
    return -F.cross_entropy(logits, values, reduction="none").sum(dim=_SUMMED)


def _rate(index: Sequence[Tensor], num_codes: Sequence[int]) -> float:
    return sum(k[0].numel() * math.log(n) for k, n in zip(index, num_codes, strict=True))


def _scored(
    log_px: Callable[[Tensor, Tensor], Tensor] = _log_px,
    rate: Callable[[Sequence[Tensor], Sequence[int]], float] = _rate,
    both: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda bound, penalty: (
        bound,
        bound - penalty,
    ),
) -> Answer:
    """Bound and objective, or a mistake in one of their terms."""

    def answer(
        logits: Tensor,
        values: Tensor,
        index: Sequence[Tensor],
        num_codes: Sequence[int],
        penalty: Tensor,
    ) -> tuple[Tensor, Tensor]:
        return both(log_px(logits, values) - rate(index, num_codes), penalty)

    return answer


def _squared_error(logits: Tensor, values: Tensor) -> Tensor:
    grey = torch.arange(logits.shape[1]).to(logits)
    mean = torch.einsum("bvhw,v->bhw", logits.softmax(dim=1), grey)
    return -(values - mean).square().sum(dim=_SUMMED)


for _hint, _wrong in {
    "log p(x | z) is averaged over pixels, which weighs the rate and the penalty by their number; "
    "add the pixels up": lambda logits, values: _log_px(logits, values) / values[0].numel(),
    "log p(x | z) has the wrong sign: this is the cross-entropy": (
        lambda logits, values: -_log_px(logits, values)
    ),
    "log p(x | z) is added up over the batch; keep one number per example, (B,)": (
        lambda logits, values: _log_px(logits, values).sum()
    ),
    "log p(x | z) is averaged over the batch and the pixels, as F.cross_entropy does by itself; "
    "ask it for reduction='none', and add the pixels up": (
        lambda logits, values: -F.cross_entropy(logits, values)
    ),
    "log p(x | z) is a squared error, which is not a log-probability of grey values": (
        _squared_error
    ),
    "the logits are taken as log-probabilities; normalise them over axis 1": (
        lambda logits, values: logits.gather(1, values[:, None])[:, 0].sum(dim=_SUMMED)
    ),
}.items():
    objective.mistake(_hint, _scored(log_px=_wrong))

for _hint, _wrong in {
    "the rate is missing; a uniform prior costs log n nats for every code": (
        lambda index, num_codes: 0.0
    ),
    "the rate counts every grid once; every position of a grid costs log n nats": (
        lambda index, num_codes: sum(math.log(n) for n in num_codes)
    ),
    "the rate is that of the bottom grid alone": (
        lambda index, num_codes: _rate(index[:1], num_codes[:1])
    ),
    "the rate is that of the top grid alone": (
        lambda index, num_codes: _rate(index[-1:], num_codes[-1:])
    ),
    "the rate is in bits; the course counts nats": (
        lambda index, num_codes: _rate(index, num_codes) / math.log(2)
    ),
    "the rate has the wrong sign; log p of a code is -log n": (
        lambda index, num_codes: -_rate(index, num_codes)
    ),
    "the rate counts the positions of the whole batch; count those of one example": (
        lambda index, num_codes: _rate(index, num_codes) * len(index[0])
    ),
    "the rate is the number of positions times the number of codes; take its logarithm": (
        lambda index, num_codes: sum(
            k[0].numel() * n for k, n in zip(index, num_codes, strict=True)
        )
    ),
    "the rate is averaged over positions; add them up": (
        lambda index, num_codes: sum(map(math.log, num_codes)) / len(num_codes)
    ),
    "both grids have the number of codes of the bottom": (
        lambda index, num_codes: _rate(index, [num_codes[0]] * len(num_codes))
    ),
    "the numbers of codes belong to the other grids; the bottom comes first": (
        lambda index, num_codes: _rate(index, num_codes[::-1])
    ),
}.items():
    objective.mistake(_hint, _scored(rate=_wrong))

for _hint, _wrong in {
    "the bound pays the penalty; that is no part of it, but of the objective alone": (
        lambda bound, penalty: (bound - penalty, bound - penalty)
    ),
    "the objective does not pay the penalty": lambda bound, penalty: (bound, bound),
    "the penalty is added to the objective; subtract it": (
        lambda bound, penalty: (bound, bound + penalty)
    ),
    "the objective pays the penalty of the whole batch; subtract that of each example": (
        lambda bound, penalty: (bound, bound - penalty.sum())
    ),
    "the objective pays the batch's mean penalty; subtract that of each example": (
        lambda bound, penalty: (bound, bound - penalty.mean())
    ),
    "the objective comes first; return (bound, objective)": (
        lambda bound, penalty: (bound - penalty, bound)
    ),
    "these are losses; both are to be maximised": (
        lambda bound, penalty: (-bound, penalty - bound)
    ),
    "the second is a loss; both are to be maximised": (
        lambda bound, penalty: (bound, penalty - bound)
    ),
    "the bound should have shape (4,), yours has ()": (
        lambda bound, penalty: (bound.mean(), (bound - penalty).mean())
    ),
    "no gradient reaches the penalty": lambda bound, penalty: (bound, bound - penalty.detach()),
    "no gradient reaches the logits": lambda bound, penalty: (
        bound.detach(),
        bound.detach() - penalty,
    ),
}.items():
    objective.mistake(_hint, _scored(both=_wrong))
