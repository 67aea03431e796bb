"""Latent sizes and widths that make models of different depths comparable, and slips in them."""

import bisect
import math
import operator
from collections.abc import Callable

from hvae_course.checks.verdict import Mistake

_SPLITS = ((12, 1), (12, 2), (20, 3), (32, 3), (32, 5), (31, 5), (7, 5), (5, 5), (64, 2))


def _whole(value: object, name: str) -> int:
    """A whole number, however it is held."""
    if value is None:
        raise Mistake(f"{name} is None; does your function end with return?")
    if isinstance(value, float) and not math.isfinite(value):
        raise Mistake(f"{name} is not finite")
    try:
        return operator.index(value)
    except TypeError:
        raise Mistake(
            f"{name} is {value}, and should be a whole number, an int (// divides so)"
        ) from None


def _valid(sizes: list[int], least: float) -> bool:
    return sizes == sorted(sizes, reverse=True) and min(sizes) >= least


def judge_split(answer: Callable[..., object]) -> str:
    """Split totals over levels and look at what comes.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = []
    for total, levels in _SPLITS:
        name = f"split_latents({total}, {levels})"
        sizes = answer(total, levels)
        sizes = sizes.tolist() if hasattr(sizes, "tolist") else sizes
        if sizes is not None and not isinstance(sizes, list | tuple):
            raise Mistake(f"{name} should be a list of sizes, this is {sizes}")
        if sizes is None:
            raise Mistake(f"{name} is None; does your function end with return?")
        row = [_whole(size, f"a size in {name}") for size in sizes]
        cases.append((f"{name} is {row}", total, levels, row))
    if all(row == [total] * levels for _, total, levels, row in cases):
        raise Mistake("every level gets the whole total; asked is that the sizes sum to it")
    surplus = {len(row) - levels for _, _, levels, row in cases}
    if surplus in ({1}, {-1}):
        raise Mistake(f"this is one level too {'many' if 1 in surplus else 'few'}: {cases[3][0]}")
    for text, _, levels, row in cases:
        if len(row) != levels:
            raise Mistake(f"{text}, and should have {levels} sizes")
    for text, total, _, row in cases:
        if sum(row) == total:
            continue
        near = all(abs(sum(row) - total) <= levels for _, total, levels, row in cases)
        hint = "; is it lost by rounding? Hand out what is left over" if near else ""
        raise Mistake(f"{text}, with the sum {sum(row)} where {total} is asked{hint}")
    for text, _, _, row in cases:
        if min(row) < 1:
            raise Mistake(f"{text}; no level may be empty")
    least = [total / levels / 4 for _, total, levels, _ in cases]
    bad = [case for case, low in zip(cases, least, strict=True) if not _valid(case[3], low)]
    turned = zip(cases, least, strict=True)
    if bad and all(_valid(case[3][::-1], low) for case, low in turned):
        if all(row[:-1] == [row[0]] * (len(row) - 1) for *_, row in cases):
            raise Mistake(
                f"{bad[0][0]}; what is left over goes to the top; give it to lower levels"
            )
        raise Mistake(f"{bad[0][0]}; the order is bottom to top, Z_1 first")
    for text, total, levels, row in bad:
        if row != sorted(row, reverse=True):
            raise Mistake(f"{text}; sizes never grow towards the top, the end of the list")
        raise Mistake(f"{text}; a level starves, with less than {total} / {levels} / 4")
    return f"right in {len(cases)} cases of 1 to 5 levels: sum, order, and no level starves"


_LIMIT = 60


class _Count:
    """A number of parameters by width, which notes the widths it is asked for."""

    def __init__(self, formula: Callable[[int], int]) -> None:
        self.formula = formula
        self.asked: list[int] = []

    def __call__(self, width: int) -> int:
        width = _whole(width, "the width that count is asked for")
        if width < 1:
            raise Mistake(f"count is asked for width {width}; the smallest model has width 1")
        self.asked.append(width)
        if len(self.asked) >= 2000:
            if len(set(self.asked)) > 1000:
                raise Mistake(
                    f"this tries width after width, more than {_LIMIT} times; double the width "
                    "until it is too much, then halve the interval"
                )
            raise Mistake(
                f"the search does not end; it asks for width {width} again and again. Does the "
                "interval shrink in every step?"
            )
        return self.formula(width)


_WIDTHS = (
    (lambda w: 2 * w * w + 1568 * w + 794, 500_000),
    (lambda w: 2 * w * w + 65 * w + 10, 2 * 96 * 96 + 65 * 96 + 10),
    (lambda w: 3000 + 320 * -(-w // 8), 7161),
    (lambda w: 100_000 + 37 * w, 200_000),
    (lambda w: 10 * w * w, 40_959),
    (lambda w: 90 * w + 2000, 3_600_000),
    (lambda w: 500 * w + 700, 1200),
)
"""Formulas with budgets: dense layers, a budget met exactly, steps of 8, a large offset, a next
width nearer to the budget, a wide model, and width 1 met exactly."""


def judge_width(answer: Callable[..., object]) -> str:
    """Search widths with formulas in place of models.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    exact = "a model with exactly the budget fits; the count may equal it (<=)"
    found = []
    for formula, budget in _WIDTHS:
        right = bisect.bisect_right(range(1, 2**20), budget, key=formula)
        count = _Count(formula)
        try:
            value = answer(count, budget)
        except ValueError:
            if formula(1) == budget:
                raise Mistake(exact) from None
            raise
        value = _whole(value, "the width")
        found.append((value, right, formula, budget, len(count.asked)))
    errors = [value - right for value, right, *_ in found]
    wrong = [case for case, error in zip(found, errors, strict=True) if error]
    if wrong:
        value, right, formula, budget, calls = wrong[0]
        if all(value in (f(right), f(right + 1)) for value, right, f, *_ in found):
            raise Mistake("this is the number of parameters; asked is the width")
        if set(errors) == {1}:
            raise Mistake("one too wide: the first that exceeds; asked is the last that fits")
        if set(errors) == {-1}:
            raise Mistake("one too narrow; asked is the largest width that fits")
        if max(calls for *_, calls in found) <= 3:
            raise Mistake(
                "this assumes that the count is proportional to the width; it is not, so search"
            )
        if all(f(right) == budget for _, right, f, budget, _ in wrong) and set(errors) == {0, -1}:
            raise Mistake(exact)
        cases = zip(errors, found, strict=True)
        inexact = [e for e, (_, right, f, budget, _) in cases if f(right) != budget]
        if set(errors) == {0, 1} and all(inexact):
            raise Mistake(
                "this is the first width that reaches the budget; asked is the last that fits"
            )
        if set(errors) == {0, 1}:
            raise Mistake("this rounds up where the next width is nearer; never exceed the budget")
        if value > right:
            raise Mistake(f"width {value} has {formula(value):,} parameters, over {budget:,}")
        upper = "; is there a fixed upper limit?" if len(wrong) == 1 else ""
        raise Mistake(f"width {value} fits, but so does {right}; the search stops too soon{upper}")
    most = max(calls for *_, calls in found)
    if most > _LIMIT:
        raise Mistake(
            f"right, but this tries width after width, {most} in one case; {_LIMIT} are allowed"
        )
    try:
        value = answer(_Count(_WIDTHS[-1][0]), 1199)
    except ValueError:
        return f"right in {len(found)} cases, with {most} calls at most; refuses what cannot fit"
    raise Mistake(f"even width 1 exceeds this budget; raise ValueError, yours returns {value}")
