"""Levels in use, from tables of information per level of runs with several seeds."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch

from hvae_course.checks.seeded_runs import runs
from hvae_course.checks.verdict import Mistake


def _in_use(
    table: pd.DataFrame, kept: Callable[[pd.Series, int], bool], *, start: int = 1
) -> dict[int, set[int]]:
    """Levels of every depth that a rule keeps; the rule sees the runs of one level."""
    return {
        depth: {
            level - 1 + start
            for level in range(1, 6)
            if kept(table[table.levels == depth][f"information_{level}"], depth)
        }
        for depth in sorted(set(table.levels))
    }


def information(depths: Sequence[int], seeds: Sequence[int]) -> pd.DataFrame:
    """Draw the information of every level of runs, some near zero, with outliers.

    Args:
        depths: numbers of levels, at most five.
        seeds: one per run of a depth.

    Returns:
        A table with the columns levels, seed, and information_1 to information_5, which is NaN
        above the top level.
    """
    table = runs(depths, seeds, [])
    level_mean = 2 * torch.rand(len(depths), 5) ** 2
    row = torch.tensor([list(depths).index(depth) for depth in table.levels])
    size = level_mean[row] * 3 * torch.rand(len(table), 5) ** 2 - 0.05
    for level in range(1, 6):
        table[f"information_{level}"] = size[:, level - 1].double().tolist()
        table.loc[table.levels < level, f"information_{level}"] = float("nan")
    return table


def levels_and_mistakes(
    table: pd.DataFrame, threshold: float
) -> tuple[dict[int, set[int]], list[tuple[dict[int, set[int]], str]]]:
    """Levels in use by their mean information, and what mistakes give, each with its hint.

    Args:
        table: as from ``information``.
        threshold: in nats.

    Returns:
        The levels of every depth, and wrong ones with hints.
    """

    def over(x: pd.Series, depth: int) -> bool:
        return x.mean() > threshold

    right = _in_use(table, over)
    top = {depth: {depth + 1 - level for level in used} for depth, used in right.items()}
    return right, [
        (
            _in_use(table, over, start=0),
            "levels are counted from 0; the one next to the data is 1",
        ),
        (top, "levels are counted from the top; level 1 is next to the data"),
        (
            _in_use(table, lambda x, _: (x > threshold).any()),
            "a level is kept if any seed exceeds the threshold; take the mean over seeds",
        ),
        (
            _in_use(table, lambda x, _: (x > threshold).all()),
            "a level is kept only if every seed exceeds the threshold; take the mean over seeds",
        ),
        (_in_use(table, lambda x, _: x.mean() <= threshold), "these are the levels not in use"),
        (
            _in_use(table, lambda x, _: not x.mean() <= threshold),
            "levels above the top are kept; their information is NaN, and any comparison with NaN "
            "is False",
        ),
        (
            _in_use(table, lambda x, _: x.mean() > 0),
            "the mean is compared with 0; use the threshold",
        ),
        (_in_use(table, lambda x, _: x.sum() > threshold), "this sums over seeds; take the mean"),
        (
            _in_use(table, lambda x, _: x.notna().all() and x.median() > threshold),
            "this is the median over seeds; take the mean",
        ),
        (
            _in_use(table, lambda x, depth: len(x.dropna()) > 0),
            "these are all levels; keep those above the threshold",
        ),
    ]


def as_levels(value: object, depths: Sequence[int]) -> dict[int, set[int]]:
    """Convert an answer to a set of levels for every depth.

    Args:
        value: what the student's function returned.
        depths: the right keys.

    Returns:
        Sets of levels by depth.

    Raises:
        Mistake: if it is something else.
    """
    if value is None:
        raise Mistake("the dict is None; does your function end with return?")
    if not hasattr(value, "items"):
        raise Mistake(f"this is a {type(value).__name__}; return a dict {{depth: levels}}")
    levels = dict(value.items())
    if set(levels) != set(depths):
        raise Mistake(f"the keys should be the depths {list(depths)}, yours are {list(levels)}")
    return {int(depth): _numbers(used, depth) for depth, used in levels.items()}


def _numbers(used: object, depth: int) -> set[int]:
    used = used.tolist() if hasattr(used, "tolist") else used
    if not isinstance(used, list | tuple | set | frozenset | range):
        raise Mistake(
            f"for {depth} levels this is one value, {used}; list the levels that are in use"
        )
    used = [level.item() if hasattr(level, "item") else level for level in used]
    if any(isinstance(level, bool) for level in used):
        raise Mistake("these are True and False; list the numbers of the levels that are in use")
    if any(level != level for level in used):
        raise Mistake(f"a level of {depth} is not finite; list the numbers of the levels")
    if not all(isinstance(level, int) for level in used):
        raise Mistake(f"for {depth} levels this is {used}; list levels by number, such as [1, 2]")
    return set(used)
