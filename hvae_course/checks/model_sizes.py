"""Latent sizes and widths that make models of different depths comparable, right and wrong."""

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
            f"{name} is {value}; it should be a whole number, an int; // gives one"
        ) from None


def _valid(sizes: list[int], least: float) -> bool:
    return sizes == sorted(sizes, reverse=True) and min(sizes) >= least


def check_split(answer: Callable[..., object]) -> str:
    """Check the student's splits of nine totals.

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
            raise Mistake(f"{name} should be a list of sizes, yours is {sizes}")
        if sizes is None:
            raise Mistake(f"{name} is None; does your function end with return?")
        row = [_whole(size, f"a size in {name}") for size in sizes]
        cases.append((f"{name} is {row}", total, levels, row))
    if all(row == [total] * levels for _, total, levels, row in cases):
        raise Mistake("every level gets the whole total; the sizes should sum to it")
    surplus = {len(row) - levels for _, _, levels, row in cases}
    if surplus in ({1}, {-1}):
        raise Mistake(f"this is one level too {'many' if 1 in surplus else 'few'}: {cases[3][0]}")
    for text, _, levels, row in cases:
        if len(row) != levels:
            raise Mistake(f"{text}; it should have {levels} sizes")
    for text, total, _, row in cases:
        if sum(row) == total:
            continue
        near = all(abs(sum(row) - total) <= levels for _, total, levels, row in cases)
        hint = "; is it lost by rounding? Distribute the remainder" if near else ""
        raise Mistake(f"{text}, with the sum {sum(row)} instead of {total}{hint}")
    for text, _, _, row in cases:
        if min(row) < 1:
            raise Mistake(f"{text}; one level is empty, and each needs at least one dimension")
    least = [total / levels / 4 for _, total, levels, _ in cases]
    bad = [case for case, low in zip(cases, least, strict=True) if not _valid(case[3], low)]
    turned = zip(cases, least, strict=True)
    if bad and all(_valid(case[3][::-1], low) for case, low in turned):
        if all(row[:-1] == [row[0]] * (len(row) - 1) for *_, row in cases):
            raise Mistake(
                f"{bad[0][0]}; the remainder goes to the top level; give it to a lower one"
            )
        raise Mistake(f"{bad[0][0]}; this begins with the top level; the order is bottom to top")
    for text, total, levels, row in bad:
        if row != sorted(row, reverse=True):
            raise Mistake(f"{text}; a size grows towards the top, the end of the list")
        raise Mistake(f"{text}; a level is too small, with less than {total} / {levels} / 4")
    return f"right in {len(cases)} cases of 1 to 5 levels: sum, order and smallest size"


_LIMIT = 60


class _Count:
    """Number of parameters by width; records the widths it is called with."""

    def __init__(self, formula: Callable[[int], int]) -> None:
        self.formula = formula
        self.tried: list[int] = []

    def __call__(self, width: int) -> int:
        width = _whole(width, "the argument of count")
        if width < 1:
            raise Mistake(f"count is called with width {width}; the smallest model has width 1")
        self.tried.append(width)
        if len(self.tried) >= 2000:
            if len(set(self.tried)) > 1000:
                raise Mistake(
                    f"this tries width after width, more than {_LIMIT} times; double the width "
                    "until it is too large, then halve the interval"
                )
            raise Mistake(
                f"the search does not end; it tries width {width} again and again. Does the "
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


def check_width(answer: Callable[..., object]) -> str:
    """Check a search for widths, with formulas in place of models.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    exact = "a model with exactly the budget is rejected; the count may equal the budget (<=)"
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
        found.append((value, right, formula, budget, len(count.tried)))
    errors = [value - right for value, right, *_ in found]
    wrong = [case for case, error in zip(found, errors, strict=True) if error]
    if wrong:
        value, right, formula, budget, calls = wrong[0]
        if all(value in (f(right), f(right + 1)) for value, right, f, *_ in found):
            raise Mistake("this is the number of parameters; return the width")
        if set(errors) == {1}:
            raise Mistake(
                "one too wide: this is the first width over the budget; return the last that fits"
            )
        if set(errors) == {-1}:
            raise Mistake("this is one below the largest width that fits; return that width")
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
                "this is the first width that reaches the budget; return the last that fits"
            )
        if set(errors) == {0, 1}:
            raise Mistake("this rounds up where the next width is nearer; never exceed the budget")
        if value > right:
            raise Mistake(f"width {value} has {formula(value):,} parameters, over {budget:,}")
        upper = "; is there a fixed upper limit?" if len(wrong) == 1 else ""
        raise Mistake(
            f"width {value} fits, but so does {right}; the search stops too early{upper}"
        )
    most = max(calls for *_, calls in found)
    if most > _LIMIT:
        raise Mistake(
            f"right, but after {most} calls of count in one case; at most {_LIMIT} are allowed"
        )
    try:
        value = answer(_Count(_WIDTHS[-1][0]), 1199)
    except ValueError:
        return (
            f"right in {len(found)} cases, with at most {most} calls; raises where no width fits"
        )
    raise Mistake(f"this returns {value}, but even width 1 exceeds the budget; raise ValueError")
