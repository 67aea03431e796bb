"""Tables of runs with several seeds, and what is concluded from them, rightly and wrongly."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

Better = Callable[[int, int], bool]


def runs(depths: Sequence[int], seeds: Sequence[int], columns: Sequence[str]) -> pd.DataFrame:
    """Results of runs whose seeds matter more than their depths.

    A seed moves the results of all depths together. The rows are in no order, and the seeds come
    in another one for each depth.

    Args:
        depths: numbers of levels.
        seeds: one per run of a depth.
        columns: names of the results.

    Returns:
        A table with the columns levels, seed and those asked for.
    """
    steps = torch.tensor([0.0, 0.3, 0.8, 2.0])
    parts = {"levels": [d for d in depths for _ in seeds], "seed": [*seeds] * len(depths)}
    for name in columns:
        gain = steps[torch.randint(4, (len(depths), 1))] * torch.randn(len(depths), 1).sign()
        noise = 0.5 * torch.randn(len(depths), len(seeds)) + 2 * torch.randn(len(seeds))
        parts[name] = (-100 + gain + noise).double().flatten().tolist()
    order = torch.randperm(len(depths) * len(seeds)).tolist()
    return pd.DataFrame(parts).iloc[order].copy()


def _values(table: pd.DataFrame, quantity: str, levels: int, *, matched: bool = True) -> Tensor:
    """One depth's results, in the order of the seeds or as the rows stand."""
    rows = table.levels.to_numpy() == levels
    values, seeds = table[quantity].to_numpy()[rows], table.seed.to_numpy()[rows]
    return torch.tensor(values[seeds.argsort()] if matched else values)


def difference(
    table: pd.DataFrame, quantity: str, deeper: int, shallower: int, *, error: str = "paired"
) -> tuple[float, float]:
    """Mean over seeds of a difference between two depths, and its error.

    Args:
        table: runs.
        quantity: the column that is compared.
        deeper: depth whose values count positive.
        shallower: depth whose values count negative.
        error: ``"paired"`` is the standard error; the others are the mistakes that go by the names
            ``"unpaired"``, ``"position"``, ``"spread"`` and ``"population"``.

    Returns:
        Mean and error.
    """
    matched = error != "position"
    a = _values(table, quantity, deeper, matched=matched)
    b = _values(table, quantity, shallower, matched=matched)
    gap, n = a - b, len(a)
    if error == "unpaired":
        width = (a.var() + b.var()).sqrt()
    else:
        width = gap.std(correction=0 if error == "population" else 1)
    return gap.mean().item(), (width / (1 if error == "spread" else n**0.5)).item()


def _rivals(
    table: pd.DataFrame, *, factor: float = 2, column: str = "validation", error: str = "paired"
) -> Better:
    """Whether one depth is better than another by so many errors."""

    def better(deeper: int, shallower: int) -> bool:
        mean, width = difference(table, column, deeper, shallower, error=error)
        return mean > factor * width

    return better


def _fewest(depths: Sequence[int], better: Better, *, among: int | None = None) -> int:
    """The first depth that none of the next, or of as many as are looked at, improves on."""
    for i, depth in enumerate(depths[:-1]):
        stop = None if among is None else i + 1 + among
        if not any(better(deeper, depth) for deeper in depths[i + 1 : stop]):
            return depth
    return depths[-1]


def lead(table: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The same runs of two depths, with a lead of the deeper on validation by so many errors.

    Args:
        table: runs with the columns levels, seed and validation.
        factor: mean difference in standard errors.

    Returns:
        A new table.
    """
    shallower, deeper = sorted(set(table.levels))
    mean, error = difference(table, "validation", deeper, shallower)
    shift = (factor * error - mean) * (table.levels == deeper)
    return table.assign(validation=table.validation + shift)


def chosen(table: pd.DataFrame) -> int:
    """The fewest levels on which no deeper model improves by more than two standard errors.

    Args:
        table: runs with the columns levels, seed and validation.

    Returns:
        A depth.
    """
    return _fewest(sorted(set(table.levels)), _rivals(table))


def chosen_mistakes(table: pd.DataFrame) -> list[tuple[int, str]]:
    """Depths that other rules choose, each with its hint.

    Args:
        table: runs with the columns levels, seed, validation and test.

    Returns:
        Depths and hints.
    """
    depths = sorted(set(table.levels))
    means = table.groupby("levels").validation.mean()
    tests = table.groupby("levels").test.mean()
    test = "this chooses by the test column; then the test result is no longer an honest one"
    unpaired = "the error is that of two separate groups; seeds are paired, so use the differences"

    def rule(**options: float | str) -> int:
        return _fewest(depths, _rivals(table, **options))

    return [
        (rule(column="test"), test),
        (tests.idxmax(), test),
        (
            means.idxmax(),
            "this takes the best mean, however small the lead; fewer levels win unless a deeper "
            "model leads by more than two standard errors",
        ),
        (depths[-1], "this is always the deepest"),
        (depths[0], "this is always the shallowest"),
        (
            _fewest(depths, _rivals(table), among=1),
            "this looks at the next depth only; a model two steps deeper may still be better",
        ),
        (
            next((d for d in depths[1:] if _rivals(table)(d, depths[0])), depths[0]),
            "this is the first depth that is better than the shallowest; a deeper one may be "
            "better still",
        ),
        (rule(error="unpaired"), unpaired),
        (rule(factor=1), "the lead is compared with one standard error; asked are two"),
        (
            rule(error="spread"),
            "the lead is compared with standard deviations; divide by the root of the number of "
            "seeds",
        ),
        (rule(error="population"), "divide by n - 1 in the standard deviation of n differences"),
        (
            rule(error="position"),
            "rows are paired as they stand; pair those that have the same seed",
        ),
        (
            means.idxmin(),
            "this takes the lowest; the column is a bound, and a better model has a higher one",
        ),
        (
            _fewest(depths, lambda a, b: _rivals(table)(b, a)),
            "the sign is turned round; a deeper model is better if its bound is higher",
        ),
    ]


def difference_mistakes(
    table: pd.DataFrame, quantity: str, deeper: int, shallower: int
) -> list[tuple[tuple[float, float], str]]:
    """Pairs that slips of ``difference`` give, each with its hint.

    Args:
        table: runs.
        quantity: the column that is compared.
        deeper: depth whose values count positive.
        shallower: depth whose values count negative.

    Returns:
        Pairs of mean and error, with hints.
    """
    asked = (quantity, deeper, shallower)
    mean, error = difference(table, *asked)
    gap = _values(table, quantity, deeper) - _values(table, quantity, shallower)
    n, depths = len(gap), sorted(set(table.levels))

    def slip(name: str) -> tuple[float, float]:
        return mean, difference(table, *asked, error=name)[1]

    separate = "the error is that of two separate groups; take the spread of the differences"
    column = "this is another column; asked is the one that quantity names"
    others = [name for name in table if name not in ("levels", "seed")]
    return [
        ((-mean, error), "the sign is turned round; asked is deeper minus shallower"),
        ((error, mean), "the two numbers are in the other order; the mean comes first"),
        (slip("unpaired"), separate),
        ((mean, slip("unpaired")[1] * n**0.5), separate),
        (
            slip("position"),
            "rows are paired as they stand; pair those that have the same seed",
        ),
        (
            slip("spread"),
            "this is the standard deviation; the error of the mean is smaller by the root of the "
            "number of seeds",
        ),
        (
            slip("population"),
            "the standard deviation divides by n; for n differences divide by n - 1 (ddof=1)",
        ),
        ((mean, error**2), "this is the variance of the mean; the standard error is its root"),
        ((mean, error * error * n), "this is the variance; the standard error is asked"),
        ((mean, gap.std().item() / n), "the spread is divided by n; divide by its root"),
        ((mean, 2 * error), "these are two standard errors; asked is one"),
        ((gap.median().item(), error), "this is the median; asked is the mean"),
        ((mean * n, error), "this sums the differences; asked is their mean"),
        ((mean * n, error * n), "this sums the differences; asked is their mean"),
        *((difference(table, name, deeper, shallower), column) for name in others),
        (
            difference(table, quantity, depths[-1], depths[0]),
            "this compares the deepest with the shallowest; the depths are given",
        ),
    ]
