"""Check of a rule that skips steps with long gradients, and ends its skipping."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, Mistake, as_sequence, checked, compare_cases
from hvae_course.config import Training
from hvae_course.training.optimisers import Skipping

_NAN, _INF = math.nan, math.inf
_CLIP, _THRESHOLD, _MOST = 100.0, 400.0, 2
_CASES = (
    # spikes one by one, in pairs, and a run of long gradients that ends
    ([50, 300, 500, 80, 500, 900, 60, 500, 600, 700, 450, 90, 800, 500, 800, 500, 40], _MOST),
    # the limit itself, just below and above the clip, and a length of zero
    ([400, 401, 100, 99, 101, 400, 0], _MOST),
    # numbers that are not finite: alone, within a run of long gradients, and after its end
    ([_NAN, 50, 500, _NAN, 600, 700, _NAN, 50, _INF, 500, 50], _MOST),
    ([500, 600, _INF, 700, _NAN, 800, 80, 500, 500, 500, 500, 500, 30], 3),
    ([500, 20, 500, 500, 500, 20], 1),
)


@checked
def step_factors(answer: Answer) -> str:
    r"""Which steps of a training are taken, and with which factor (:eq:`eq-skip`).

    Write ``step_factors(norms, clip, threshold, most) -> (T,)``, the factors of the gradients of T
    steps one after another, 0 for a step that is skipped. ``norms``, ``(T,)``, are the lengths of
    the gradients. A gradient of at most ``threshold`` is multiplied by ``min(1, clip / norm)``,
    which is 1 for the norm 0. A longer one is skipped, unless ``most`` long ones were skipped
    since the last gradient of at most ``threshold``: then it is taken, with the same factor, and
    so are all that follow, up to the next gradient of at most ``threshold``. A gradient whose norm
    is not finite is never taken, and changes the count in no way.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [
        (torch.tensor(norms, dtype=torch.float32), _CLIP, _THRESHOLD, most)
        for norms, most in _CASES
    ]
    for case in cases:
        values = as_sequence(answer(case[0].clone(), *case[1:]), len(case[0]), name="the result")
        factors = torch.stack([torch.as_tensor(value).detach().double() for value in values])
        if not factors.isfinite().all():
            raise Mistake(
                "a factor is not finite; a comparison with NaN is false, so decide first about "
                "norms that are not finite"
            )
    hints = step_factors.mistakes
    compare_cases(answer, _by_package, cases, name="the factor", mistakes=hints)
    steps = sum(len(norms) for norms, _ in _CASES)
    return f"{steps} steps in {len(cases)} runs are those of the package's training loop"


def _by_package(norms: Tensor, clip: float, threshold: float, most: int) -> Tensor:
    """The factors of the training loop."""
    options = {"clip_norm": clip, "skip_norm": threshold, "skip_limit": most}
    skipping = Skipping(Training(**options))
    takes = torch.tensor([skipping.takes(norm) for norm in norms])
    return torch.where(takes, (clip / norms).clamp(max=1), torch.zeros_like(norms))


def _factors(
    factor: Callable[[float, float, float], float] = lambda norm, clip, limit: (
        clip / max(clip, norm)
    ),
    short: Callable[[float, float, float], bool] = lambda norm, clip, limit: norm <= limit,
    ends: Callable[[int, int], bool] = lambda skipped, most: skipped >= most,
    taken: Callable[[int], int] = lambda skipped: skipped,
    reset: Callable[[int], int] = lambda skipped: 0,
    finite: Callable[[float], bool] = math.isfinite,
    strange: Callable[[int], int] = lambda skipped: skipped,
) -> Answer:
    """The rule, or a mistake in a part of it."""

    def answer(norms: Tensor, clip: float, threshold: float, most: int) -> Tensor:
        factors, skipped = [], 0
        for norm in norms.tolist():
            if not finite(norm):
                factors.append(0.0)
                skipped = strange(skipped)
            elif short(norm, clip, threshold):
                factors.append(factor(norm, clip, threshold))
                skipped = reset(skipped)
            elif ends(skipped, most):
                factors.append(factor(norm, clip, threshold))
                skipped = taken(skipped)
            else:
                factors.append(0.0)
                skipped += 1
        return torch.tensor(factors)

    return answer


for _hint, _wrong in {
    "a long gradient is always skipped: with a threshold that is too low, training would stop "
    "for ever": _factors(ends=lambda skipped, most: False),
    "the count is never reset; a gradient of at most the threshold sets it to 0": _factors(
        reset=lambda skipped: skipped
    ),
    "the count begins again after a long gradient that was taken; only a short one resets it": (
        _factors(taken=lambda skipped: 0)
    ),
    "no step is skipped: a long gradient is scaled down and taken, or the threshold is compared "
    "with the clipped norm, which is never above it": _factors(
        short=lambda norm, clip, limit: min(norm, clip) <= limit
    ),
    "the threshold is compared with the clip; compare the norm": _factors(
        short=lambda norm, clip, limit: norm <= clip
    ),
    "these factors are 0 and 1; a gradient that is taken is multiplied by min(1, clip / norm)": (
        _factors(lambda norm, clip, limit: 1.0)
    ),
    "the gradients are clipped at the threshold; clip them at clip": _factors(
        lambda norm, clip, limit: limit / max(limit, norm)
    ),
    "short gradients are made longer: the factor is at most 1": _factors(
        lambda norm, clip, limit: clip / max(norm, 1e-12)
    ),
    "these are the lengths after clipping; return the factors": _factors(
        lambda norm, clip, limit: min(norm, clip)
    ),
    "a gradient as long as the threshold is skipped; it is taken": _factors(
        short=lambda norm, clip, limit: norm < limit
    ),
    "one step too many is skipped in a row": _factors(ends=lambda skipped, most: skipped > most),
    "one step too few is skipped in a row": _factors(
        ends=lambda skipped, most: skipped >= most - 1
    ),
    "a norm that is not finite counts as a skip; it changes the count in no way": _factors(
        strange=lambda skipped: skipped + 1
    ),
    "a norm that is not finite resets the count; it changes the count in no way": _factors(
        strange=lambda skipped: 0
    ),
    "a gradient that is not a number is taken: min(1, clip / norm) is 1 for NaN in Python": (
        _factors(
            finite=lambda norm: True,
            short=lambda norm, clip, limit: not norm > limit,
        )
    ),
    "a gradient that is not a number is taken after enough skips; it never is": _factors(
        finite=lambda norm: True
    ),
    "your code raised ZeroDivisionError": _factors(lambda norm, clip, limit: min(1, clip / norm)),
    "a factor is not finite; a comparison with NaN is false": _factors(
        lambda norm, clip, limit: (clip / torch.tensor(norm)).clamp(max=1).item(),
        finite=lambda norm: True,
        short=lambda norm, clip, limit: not norm > limit,
    ),
}.items():
    step_factors.mistake(_hint, _wrong)
