"""Levels in use, from the information per level of runs with several seeds."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch

from hvae_course.checks.hierarchy_depth.seeded_runs import runs
from hvae_course.checks.verdict import Answer, Mistake, checked, hint_for

_CASES = (((1, 2, 3, 5), 0.5), ((2, 4), 0.1), ((1, 3, 5), 0.8), ((3, 4, 5), 0.3))
"""Depths with a threshold."""


def _information(depths: Sequence[int]) -> pd.DataFrame:
    """Draw the information of every level of runs, some near zero, with outliers."""
    table = runs(depths, (4, 0, 2), [])
    level_mean = 2 * torch.rand(len(depths), 5) ** 2
    row = torch.tensor([list(depths).index(depth) for depth in table.levels])
    size = level_mean[row] * 3 * torch.rand(len(table), 5) ** 2 - 0.05
    for level in range(1, 6):
        table[f"information_{level}"] = size[:, level - 1].double().tolist()
        table.loc[table.levels < level, f"information_{level}"] = float("nan")
    return table


def _as_levels(value: object, depths: Sequence[int]) -> dict[int, set[int]]:
    """Convert an answer to a set of levels for every depth."""
    if value is None:
        raise Mistake("the dict is None; does your function end with return?")
    if not hasattr(value, "items"):
        raise Mistake(f"this is a {type(value).__name__}; return a dict {{depth: levels}}")
    levels = dict(value.items())
    if set(levels) != set(depths):
        raise Mistake(f"the keys should be the depths {list(depths)}, yours are {list(levels)}")
    for depth, used in levels.items():
        used = used.tolist() if hasattr(used, "tolist") else used
        if isinstance(used, list | tuple | set | frozenset | range):
            used = [level.item() if hasattr(level, "item") else level for level in used]
        numbers = used if isinstance(used, list) else [used]
        if any(level != level for level in numbers):
            raise Mistake(f"for depth {depth} this is {used}, which is not finite")
        if numbers is not used or any(type(level) is not int for level in numbers):
            raise Mistake(f"for depth {depth} this is {used}; list the levels, such as [1, 2]")
        levels[depth] = set(numbers)
    return levels


def _keep(
    keep: Callable[[pd.Series, float], bool],
    listed: Callable[[list[int], int], object] = lambda levels, depth: levels,
) -> Answer:
    """An answer that keeps the levels whose runs satisfy a rule, and lists them in some way."""

    def answer(table: pd.DataFrame, threshold: float) -> Mapping[int, object]:
        return {
            depth: listed(
                [l for l in range(1, 6) if keep(own[f"information_{l}"], threshold)], depth
            )
            for depth, own in table.groupby("levels")
        }

    return answer


def _over(x: pd.Series, threshold: float) -> bool:
    return x.mean() > threshold


_in_use = _keep(_over)


@checked
def levels_in_use(answer: Answer) -> str:
    """The levels that carry information, for every depth.

    Write ``levels_in_use(table, threshold) -> dict``: for every depth the list of levels,
    counted from 1 next to the data, whose information, averaged over seeds, exceeds the threshold.
    The table has the columns levels, seed, and information_1 to information_5, in nats, NaN where
    a model has no such level.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [(_information(depths), threshold, depths) for depths, threshold in _CASES]

    def results(function: Answer) -> list[dict[int, set[int]]]:
        return [
            _as_levels(function(table.copy(), threshold), depths)
            for table, threshold, depths in cases
        ]

    values = results(answer)
    for value, right in zip(values, results(_in_use), strict=True):
        if value == right:
            continue
        hint_for(levels_in_use.mistakes, lambda known: results(known) == values)
        depth = next(depth for depth in right if value[depth] != right[depth])
        raise Mistake(
            f"for depth {depth}, levels {sorted(right[depth])} are in use where yours are "
            f"{sorted(value[depth])}"
        )
    return f"right for {len(cases)} tables, by the mean over seeds, with z_1 next to the data"


for _hint, _rule in {
    "one seed over the threshold is enough here; take the mean": lambda x, t: (x > t).any(),
    "every seed must exceed the threshold here; take the mean": lambda x, t: (x > t).all(),
    "these are the levels not in use": lambda x, t: x.mean() <= t,
    "levels above the top are kept; any comparison with NaN is False": (
        lambda x, t: not x.mean() <= t
    ),
    "the mean is compared with 0; use the threshold": lambda x, t: x.mean() > 0,
    "this sums over seeds; take the mean": lambda x, t: x.sum() > t,
    "this is the median over seeds; take the mean": (
        lambda x, t: x.notna().all() and x.median() > t
    ),
    "these are all levels; keep those above the threshold": lambda x, t: x.notna().all(),
}.items():
    levels_in_use.mistake(_hint)(_keep(_rule))

levels_in_use.mistake("levels are counted from 0; the one next to the data is 1")(
    _keep(_over, lambda levels, depth: [level - 1 for level in levels])
)
levels_in_use.mistake("levels are counted from the top; level 1 is next to the data")(
    _keep(_over, lambda levels, depth: [depth + 1 - level for level in levels])
)
for _listed in (
    lambda levels, depth: len(levels),
    lambda levels, depth: [level in levels for level in range(1, depth + 1)],
    lambda levels, depth: [f"information_{level}" for level in levels],
):
    levels_in_use.mistake("list the levels, such as [1, 2]")(_keep(_over, _listed))
levels_in_use.mistake("return a dict")(lambda *inputs: list(_in_use(*inputs).values()))
levels_in_use.mistake("the keys should be the depths")(
    lambda *inputs: {str(depth): levels for depth, levels in _in_use(*inputs).items()}
)


@levels_in_use.mistake(
    "this is the level with the most information; keep every level above the threshold"
)
def _(table, threshold):
    mean = table.groupby("levels").mean().filter(like="information")
    return {depth: [int(row.argmax()) + 1] for depth, row in mean.iterrows()}
