"""Conclusions from runs with several seeds: a paired difference, and a depth."""

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import pandas as pd
import torch

from hvae_course.checks.verdict import Answer, Mistake, as_sequence, checked, compare_cases


def runs(depths: Sequence[int], seeds: Sequence[int], columns: Sequence[str]) -> pd.DataFrame:
    """Draw results of runs whose seeds matter more than their depths.

    A seed moves the results of all depths together. The rows come in random order.

    Args:
        depths: numbers of levels.
        seeds: one per run of a depth.
        columns: names of the results.

    Returns:
        A table with the columns levels, seed and ``columns``.
    """
    steps = torch.tensor([0.0, 0.3, 0.8, 2.0])
    parts = {"levels": [d for d in depths for _ in seeds], "seed": [*seeds] * len(depths)}
    for name in columns:
        gain = steps[torch.randint(4, (len(depths), 1))] * torch.randn(len(depths), 1).sign()
        noise = 0.5 * torch.randn(len(depths), len(seeds)) + 2 * torch.randn(len(seeds))
        parts[name] = (-100 + gain + noise).double().flatten().tolist()
    order = torch.randperm(len(depths) * len(seeds)).tolist()
    return pd.DataFrame(parts).iloc[order].copy()


def _by_seed(table: pd.DataFrame, quantity: str, levels: int) -> np.ndarray:
    """Results of one depth, in the order of the seeds."""
    rows = table.levels.to_numpy() == levels
    return table[quantity].to_numpy()[rows][table.seed.to_numpy()[rows].argsort()]


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The table with seeds in the order of the rows, as if rows were not matched by seed."""
    return table.assign(seed=range(len(table)))


def _sem(values: np.ndarray, ddof: int = 1) -> float:
    """Standard error of the mean."""
    return values.std(ddof=ddof) / len(values) ** 0.5


def _pair(
    mean: Callable[[np.ndarray], float] = np.mean,
    error: Callable[[np.ndarray, np.ndarray], float] = lambda a, b: _sem(a - b),
) -> Answer:
    """An answer with a mean of the differences, and an error of two groups of runs."""

    def answer(
        table: pd.DataFrame, quantity: str, deeper: int, shallower: int
    ) -> tuple[float, float]:
        a, b = _by_seed(table, quantity, deeper), _by_seed(table, quantity, shallower)
        return mean(a - b), error(a, b)

    return answer


difference = _pair()
"""Reference for ``paired_difference``."""


@checked
def paired_difference(answer: Answer) -> str:
    """The difference between two depths whose runs share their seeds.

    Write ``paired_difference(table, quantity, deeper, shallower) -> (mean, error)``: the mean
    over seeds of the quantity at ``deeper`` levels minus that at ``shallower`` levels with the
    same seed, and its standard error, the standard deviation (with n - 1) over the root of n. The
    table has the columns levels, seed and the quantity; its rows may come in any order.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    a = runs((1, 2, 3, 5), (0, 1, 2), ("iw", "validation"))
    b = runs((2, 4), (3, 11, 7, 5, 2), ("iw", "validation"))
    cases = [(a, "iw", 5, 2), (b, "validation", 4, 2), (a, "validation", 3, 1), (b, "iw", 4, 2)]

    def finite(*inputs: object) -> Sequence[object]:
        pair = answer(*inputs)
        pair = pair.tolist() if hasattr(pair, "tolist") else pair
        pair = as_sequence(pair, 2, name="the result")
        if not all(math.isfinite(value) for value in pair):
            raise Mistake(
                "the result is not finite; pandas subtracts rows with the same index, so make "
                "the seed the index"
            )
        return pair

    names = ("the mean", "the error")
    compare_cases(finite, difference, cases, name=names, mistakes=paired_difference.mistakes)
    return f"right in {len(cases)} cases of 3 and 5 seeds, with rows in any order"


@paired_difference.mistake("this is shallower minus deeper; return deeper minus shallower")
def _(table, quantity, deeper, shallower):
    values = table.pivot(index="seed", columns="levels", values=quantity)
    difference = values[shallower] - values[deeper]
    return difference.mean(), difference.sem()


@paired_difference.mistake("the result is not finite; pandas subtracts rows with the same index")
def _(table, quantity, deeper, shallower):
    gap = table[table.levels == deeper][quantity] - table[table.levels == shallower][quantity]
    return gap.mean(), gap.sem()


_POSITION = "rows are paired by their position; pair those with the same seed"
_WRONG_ERRORS = {
    "the error is that of two groups; take the spread of the differences": (
        lambda a, b: np.hypot(_sem(a), _sem(b))
    ),
    "the error is the standard deviation; divide it by the root of the number of seeds": (
        lambda a, b: (a - b).std(ddof=1)
    ),
    "the standard deviation divides by n; for n differences divide by n - 1 (ddof=1)": (
        lambda a, b: _sem(a - b, ddof=0)
    ),
}
"""Errors that lead to a wrong choice of a depth as well."""

for _hint, _error in {
    **_WRONG_ERRORS,
    "the error is that of two groups; use the differences": (
        lambda a, b: np.hypot(a.std(ddof=1), b.std(ddof=1))
    ),
    "the error is the variance of the mean; take its root": lambda a, b: _sem(a - b) ** 2,
    "the error is the variance; return the standard error": lambda a, b: (a - b).var(ddof=1),
    "the spread is divided by n; divide by its root": lambda a, b: _sem(a - b) / len(a) ** 0.5,
    "the error is two standard errors; return one": lambda a, b: 2 * _sem(a - b),
}.items():
    paired_difference.mistake(_hint)(_pair(error=_error))

for _hint, _answer in {
    "this is the median; return the mean": _pair(np.median),
    "this sums the differences; return their mean": _pair(np.sum),
    "this adds up the differences; return their mean": _pair(
        np.sum, lambda a, b: len(a) * _sem(a - b)
    ),
    "the error comes first; return the mean first": lambda *inputs: difference(*inputs)[::-1],
    "the result should be 2 values": lambda *inputs: difference(*inputs)[0],
    _POSITION: lambda table, *others: difference(_in_order(table), *others),
    "this always uses iw; use quantity": lambda t, _, *depths: difference(t, "iw", *depths),
    "this always uses validation; use quantity": (
        lambda table, _, *depths: difference(table, "validation", *depths)
    ),
    "this compares the greatest depth with the smallest; use the two depths given": (
        lambda t, quantity, *_: difference(t, quantity, t.levels.max(), t.levels.min())
    ),
}.items():
    paired_difference.mistake(_hint)(_answer)


def tables_to_choose_from() -> list[pd.DataFrame]:
    """Draw tables of runs, after some in which few rules choose the right depth.

    Returns:
        Tables with the columns levels, seed, validation and test.
    """
    seeds, none = (0, 1, 2), (0.0, 0.0, 0.0)
    gains = [
        *({1: none, 3: (m - 1, m, m + 1)} for m in (0.75, 1.07, 1.24)),  # 1.3 to 2.15 errors
        {1: none, 2: (0.9, 1.0, 1.1), 3: (-9.0, 3.0, 15.0)},  # the best mean is luck
        {1: none, 2: (-1.0, 1.0, 3.0), 3: (1.9, 2.0, 2.1)},  # only 3 is better than 1
    ]
    tables = [
        pd.DataFrame(gain).unstack().rename_axis(["levels", "seed"]).rename("validation")
        for gain in gains
    ]
    made = [table.reset_index().assign(test=lambda t: -100.0 - t.levels) for table in tables]
    return made + [runs((1, 2, 3, 5), seeds, ("validation", "test")) for _ in range(20)]


def _unbeaten(depths: list[int], beats: Callable[[int, int], bool], among: int = 9) -> int:
    """The first depth that no deeper one beats, or none of the next few."""
    for i, depth in enumerate(depths):
        if not any(beats(deeper, depth) for deeper in depths[i + 1 : i + 1 + among]):
            return depth


def _choice(
    pair: Answer = difference,
    search: Callable[[list[int], Callable[[int, int], bool]], int] = _unbeaten,
) -> Answer:
    """An answer that searches the depths; one beats another by two errors of their pair."""

    def answer(table: pd.DataFrame) -> int:
        def beats(deeper: int, shallower: int) -> bool:
            mean, error = pair(table, "validation", deeper, shallower)
            return mean > 2 * error

        return search(sorted(set(table.levels)), beats)

    return answer


chosen = _choice()
"""Reference for ``choose_depth``."""


@checked
def choose_depth(answer: Answer) -> str:
    """A depth, chosen on the validation split with the spread over seeds.

    Write ``choose_depth(table) -> int``: the fewest levels such that no deeper model is better
    on validation by more than two standard errors of the paired difference. The table has the
    columns levels, seed, validation and test, both bounds in nats; its rows may come in any order.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [[table] for table in tables_to_choose_from()]
    mistakes = choose_depth.mistakes
    compare_cases(answer, chosen, cases, name="the number of levels", mistakes=mistakes)
    return f"right for {len(cases)} tables of 3 seeds, on validation and its spread"


_TEST = "this chooses by the test column, which biases the test result; choose by validation"
_BEST_MEAN = (
    "this takes the best mean, however small the lead; prefer fewer levels unless a deeper model "
    "leads by more than two standard errors"
)


@choose_depth.mistake(_BEST_MEAN)
def _(table):
    return table.groupby("levels").validation.mean().idxmax()


@choose_depth.mistake(_TEST)
def _(table):
    return table.groupby("levels").test.mean().idxmax()


@choose_depth.mistake("this compares with the best mean only; compare with every deeper model")
def _(table):
    best = table.groupby("levels").validation.mean().idxmax()
    return min(d for d in table.levels if chosen(table[table.levels.isin([d, best])]) == d)


for _hint, _answer in {
    _BEST_MEAN: _choice(_pair(error=lambda a, b: 0)),
    _TEST: _choice(lambda table, _, *depths: difference(table, "test", *depths)),
    "this is always the greatest depth; compare the bounds": lambda table: table.levels.max(),
    "this is always the smallest depth; compare the bounds": lambda table: table.levels.min(),
    "this compares with the next depth only; a deeper one may still be better": _choice(
        search=lambda depths, beats: _unbeaten(depths, beats, among=1)
    ),
    "this compares with the best depth so far; compare each depth with all deeper ones": _choice(
        search=lambda depths, beats: reduce(lambda d, e: e if beats(e, d) else d, depths)
    ),
    "this is the first depth better than the smallest; a deeper one may be better still": _choice(
        search=lambda depths, beats: next((d for d in depths if beats(d, depths[0])), depths[0])
    ),
    "the lead is compared with one standard error; use two": _choice(
        _pair(error=lambda a, b: _sem(a - b) / 2)
    ),
    **{hint: _choice(_pair(error=error)) for hint, error in _WRONG_ERRORS.items()},
    _POSITION: lambda table: chosen(_in_order(table)),
    "this takes the lowest bound; a better model has a higher one": (
        lambda table: table.groupby("levels").validation.mean().idxmin()
    ),
    "the sign is reversed; a deeper model is better if its bound is higher": _choice(
        lambda table, column, deeper, shallower: difference(table, column, shallower, deeper)
    ),
}.items():
    choose_depth.mistake(_hint)(_answer)
