"""Sizes that make models of different depths comparable: latent dimensions and layer widths."""

import bisect
import itertools
import math
import operator
from collections.abc import Callable

from hvae_course.checks.verdict import Answer, Mistake, checked, hint_for

_SPLITS = ((12, 1), (12, 2), (20, 3), (7, 5), (32, 3), (32, 5), (31, 5), (5, 5), (64, 2))
_LIMIT = 60
"""Calls of ``count`` that a search may need."""
_EXACT = "a model with exactly the budget is rejected; the count may equal the budget (<=)"


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


def _check_sizes(sizes: object, total: int, levels: int) -> None:
    """Whether one division of the latent dimensions is right."""
    name = f"split_latents({total}, {levels})"
    sizes = sizes.tolist() if hasattr(sizes, "tolist") else sizes
    if sizes is None:
        raise Mistake(f"{name} is None; does your function end with return?")
    if not isinstance(sizes, list | tuple):
        raise Mistake(f"{name} should be a list of sizes, yours is {sizes}")
    sizes = [_whole(size, f"a size in {name}") for size in sizes]
    text, falling = f"{name} is {sizes}", sorted(sizes, reverse=True)
    if len(sizes) != levels:
        hint = {1: ", one level too many", -1: ", one level too few"}.get(len(sizes) - levels, "")
        raise Mistake(f"{text}{hint}; the list should have length {levels}")
    if levels > 1 and sizes == [total] * levels:
        raise Mistake(f"{text}; every level gets the whole total; the sizes should sum to it")
    if sum(sizes) != total:
        near = abs(sum(sizes) - total) <= levels
        hint = "; is it lost by rounding? Distribute the remainder" if near else ""
        raise Mistake(f"{text}, with the sum {sum(sizes)} instead of {total}{hint}")
    if sizes != falling:
        hint = "a size grows towards the top, the end of the list"
        if sizes[::-1] == falling:
            hint = "this begins with the top level; the order is bottom to top"
        if sizes[:-1] == [total // levels] * (levels - 1):
            hint = "the remainder goes to the top level; give it to a lower one"
        raise Mistake(f"{text}; {hint}")
    if sizes[-1] < 1:
        raise Mistake(f"{text}; one level is empty, and each needs at least one dimension")
    if sizes[-1] < total / levels / 4:
        raise Mistake(f"{text}; a level is too small, with less than {total} / {levels} / 4")


@checked
def split_latents(answer: Answer) -> str:
    """Latent sizes of a hierarchy with a given total.

    Write ``split_latents(total, levels) -> list``: the sizes Z_1 to Z_L as integers, z_1 first.
    Their sum is ``total``, they never grow towards the top, and every level has at least a quarter
    of an equal share, ``total / levels / 4``, and at least one. ``total >= levels``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for total, levels in _SPLITS:
        _check_sizes(answer(total, levels), total, levels)
    return f"right in {len(_SPLITS)} cases of 1 to 5 levels: sum, order and smallest size"


def _split(total: int, levels: int) -> list[int]:
    share, rest = divmod(total, levels)
    return [share + 1] * rest + [share] * (levels - rest)


for _hint, _answer in {
    "this begins with the top level": lambda total, levels: _split(total, levels)[::-1],
    "the remainder goes to the top level": lambda total, levels: (
        [total // levels] * (levels - 1) + [total // levels + total % levels]
    ),
    "a size grows towards the top": lambda total, levels: (
        _split(total, levels)[1:] + _split(total, levels)[:1]
    ),
    "one level is empty": lambda total, levels: [total] + [0] * (levels - 1),
    "a level is too small": lambda total, levels: [total - levels + 1] + [1] * (levels - 1),
    "is it lost by rounding?": lambda total, levels: [total // levels] * levels,
    "is it lost by rounding? Distribute": lambda total, levels: [round(total / levels)] * levels,
    "every level gets the whole total": lambda total, levels: [total] * levels,
    "with the sum": lambda total, levels: [total // 2 ** (l + 1) for l in range(levels)],
    "one level too many": lambda total, levels: [total // levels] * (levels + 1),
    "one level too few": lambda total, levels: [total // levels] * (levels - 1),
    "should be a whole number": lambda total, levels: [total / levels] * levels,
    "should be a list of sizes": lambda total, levels: total // levels,
}.items():
    split_latents.mistake(_hint)(_answer)


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


def _fit(count: Callable[[int], int], budget: int) -> int:
    """The largest width whose count is within the budget; 0 if there is none."""
    return bisect.bisect_right(range(1, 2**20), budget, key=count)


@checked
def matching_width(answer: Answer) -> str:
    """The largest width whose number of parameters stays within a budget.

    Write ``matching_width(count, budget) -> int``. ``count(width)`` builds a model and returns its
    number of parameters, which never falls as the width grows. Return the largest width of at
    least 1 with ``count(width) <= budget``, after at most 60 calls of ``count``. If even width 1
    exceeds the budget, raise ValueError.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    values, calls = [], []
    for formula, budget in _WIDTHS:
        count = _Count(formula)
        try:
            values.append(_whole(answer(count, budget), "the width"))
        except ValueError:
            if formula(1) == budget:
                raise Mistake(_EXACT) from None
            raise
        calls.append(len(count.tried))
    right = [_fit(*case) for case in _WIDTHS]
    wrong = [row for row in zip(values, right, _WIDTHS, strict=True) if row[0] != row[1]]
    if wrong and max(calls) <= 3:
        raise Mistake(
            "this assumes that the count is proportional to the width; it is not, so search"
        )
    for value, fits, (formula, budget) in wrong:
        if value < fits == max(right) and len(wrong) == 1:
            raise Mistake(f"width {value} fits, but so does {fits}; is there a fixed upper limit?")
        hint_for(
            matching_width.mistakes,
            lambda known: values == [known(_Count(formula), limit) for formula, limit in _WIDTHS],
        )
        if value > fits:
            raise Mistake(f"width {value} has {formula(value):,} parameters, over {budget:,}")
        raise Mistake(f"width {value} fits, but so does {fits}; the search stops too early")
    if max(calls) > _LIMIT:
        raise Mistake(f"right, but with {max(calls)} calls of count; at most {_LIMIT} are allowed")
    try:
        value = answer(_Count(_WIDTHS[-1][0]), 1199)
    except ValueError:
        return (
            f"right in {len(values)} cases, with at most {max(calls)} calls; raises where no "
            "width fits"
        )
    raise Mistake(f"this returns {value}, but even width 1 exceeds the budget; raise ValueError")


for _hint, _wrong in {
    "this is the first width over the budget; return the last that fits": lambda fits, *_: fits
    + 1,
    "this is one below the largest width that fits": lambda fits, count, budget: fits - 1,
    "this is below the largest width that fits": lambda fits, count, budget: max(1, fits - 1),
    "this is the number of parameters; return the width": lambda fits, count, _: count(fits),
    "this is a number of parameters; return a width": lambda fits, count, _: count(fits + 1),
    "a power of two is too small; bisect after it": lambda fits, *_: 2 ** (fits.bit_length() - 1),
    "a power of two is too wide; bisect before it": lambda fits, *_: 2 ** fits.bit_length(),
    "this rounds up where the next width is nearer; never exceed the budget": (
        lambda fits, count, budget: min(fits, fits + 1, key=lambda w: abs(count(w) - budget))
    ),
    "calls of count; at most 60 are allowed": lambda fits, count, budget: next(
        width for width in range(max(1, fits - 99), fits + 1) if count(width + 1) > budget
    ),
    "raise ValueError": lambda fits, count, budget: max(1, fits),
    "is there a fixed upper limit?": lambda fits, count, budget: min(fits, 4096),
}.items():
    matching_width.mistake(_hint)(
        lambda count, budget, wrong=_wrong: wrong(_fit(count, budget), count, budget)
    )

for _hint, _answer in {
    _EXACT: lambda count, budget: max(1, _fit(count, budget - 1)),
    "a model with exactly the budget is rejected": lambda count, budget: (
        _fit(count, budget) if count(1) < budget else int("no width fits")
    ),
    "this is the first width that reaches the budget; return the last that fits": (
        lambda count, budget: _fit(count, budget - 1) + 1
    ),
    "assumes that the count is proportional": lambda count, budget: max(1, budget // count(1)),
    "proportional to the width": lambda count, budget: int(64 * budget / count(64)),
    "this tries width after width": lambda count, budget: next(
        width for width in itertools.count(1) if count(width + 1) > budget
    ),
    "the search does not end": lambda count, budget: next(
        middle for middle in itertools.repeat(budget // 2) if count(middle) == budget
    ),
    "the smallest model has width 1": lambda count, budget: count(0),
    "the argument of count is": lambda count, budget: count(budget / 2),
    "should be a whole number": lambda count, budget: budget / count(1),
}.items():
    matching_width.mistake(_hint)(_answer)
