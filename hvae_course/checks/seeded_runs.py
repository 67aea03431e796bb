"""Tables of runs with several seeds, and right and wrong conclusions from them."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

Better = Callable[[int, int], bool]


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


def _values(table: pd.DataFrame, quantity: str, levels: int, *, matched: bool = True) -> Tensor:
    """Results of one depth, in the order of the seeds or of the rows."""
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
        error: ``"paired"`` is the standard error; ``"unpaired"``, ``"position"``, ``"spread"`` and
            ``"population"`` are known mistakes.

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


def _better_by(
    table: pd.DataFrame, *, factor: float = 2, column: str = "validation", error: str = "paired"
) -> Better:
    """A rule: one depth is better than another if it leads by ``factor`` errors."""

    def better(deeper: int, shallower: int) -> bool:
        mean, width = difference(table, column, deeper, shallower, error=error)
        return mean > factor * width

    return better


def _fewest(depths: Sequence[int], better: Better, *, among: int | None = None) -> int:
    """The first depth that none of the deeper ones, or of the next ``among``, improves on."""
    for i, depth in enumerate(depths[:-1]):
        stop = None if among is None else i + 1 + among
        if not any(better(deeper, depth) for deeper in depths[i + 1 : stop]):
            return depth
    return depths[-1]


def lead(table: pd.DataFrame, factor: float) -> pd.DataFrame:
    """Shift runs of two depths, so that the deeper leads on validation by ``factor`` errors.

    Args:
        table: runs with the columns levels, seed and validation.
        factor: the lead in standard errors.

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
    return _fewest(sorted(set(table.levels)), _better_by(table))


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
    test = "this chooses by the test column, which biases the test result; choose by validation"
    unpaired = "the error is that of two separate groups; seeds are paired, so use the differences"

    def rule(**options: float | str) -> int:
        return _fewest(depths, _better_by(table, **options))

    return [
        (rule(column="test"), test),
        (tests.idxmax(), test),
        (
            means.idxmax(),
            "this takes the best mean, however small the lead; prefer fewer levels unless a "
            "deeper model leads by more than two standard errors",
        ),
        (depths[-1], "this is always the greatest depth; compare the validation bounds"),
        (depths[0], "this is always the smallest depth; compare the validation bounds"),
        (
            _fewest(depths, _better_by(table), among=1),
            "this compares with the next depth only; a model two steps deeper may still be better",
        ),
        (
            next((d for d in depths[1:] if _better_by(table)(d, depths[0])), depths[0]),
            "this is the first depth that is better than the smallest; a deeper one may be better "
            "still",
        ),
        (rule(error="unpaired"), unpaired),
        (rule(factor=1), "the lead is compared with one standard error; use two"),
        (
            rule(error="spread"),
            "the lead is compared with standard deviations; divide by the root of the number of "
            "seeds",
        ),
        (
            rule(error="population"),
            "the standard deviation divides by n; for n differences divide by n - 1 (ddof=1)",
        ),
        (
            rule(error="position"),
            "rows are paired by their position; pair those with the same seed",
        ),
        (
            means.idxmin(),
            "this takes the lowest bound; a better model has a higher one",
        ),
        (
            _fewest(depths, lambda a, b: _better_by(table)(b, a)),
            "the sign is reversed; a deeper model is better if its bound is higher",
        ),
    ]


def difference_mistakes(
    table: pd.DataFrame, quantity: str, deeper: int, shallower: int
) -> list[tuple[tuple[float, float], str]]:
    """Pairs that mistakes in ``difference`` give, each with its hint.

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

    def known(name: str) -> tuple[float, float]:
        return mean, difference(table, *asked, error=name)[1]

    separate = "the error is that of two separate groups; take the spread of the differences"
    column = "this uses a fixed column; use the one that quantity names"
    others = [name for name in table if name not in ("levels", "seed")]
    return [
        ((-mean, error), "this is shallower minus deeper; return deeper minus shallower"),
        ((error, mean), "the error comes first; return the mean first"),
        (known("unpaired"), separate),
        ((mean, known("unpaired")[1] * n**0.5), separate),
        (
            known("position"),
            "rows are paired by their position; pair those with the same seed",
        ),
        (
            known("spread"),
            "the second number is the standard deviation; divide it by the root of the number of "
            "seeds",
        ),
        (
            known("population"),
            "the standard deviation divides by n; for n differences divide by n - 1 (ddof=1)",
        ),
        (
            (mean, error**2),
            "the second number is the variance of the mean; the standard error is its root",
        ),
        (
            (mean, error * error * n),
            "the second number is the variance; return the standard error",
        ),
        ((mean, gap.std().item() / n), "the spread is divided by n; divide by its root"),
        ((mean, 2 * error), "the second number is two standard errors; return one"),
        ((gap.median().item(), error), "this is the median; return the mean"),
        ((mean * n, error), "this sums the differences; return their mean"),
        ((mean * n, error * n), "this sums the differences; return their mean"),
        *((difference(table, name, deeper, shallower), column) for name in others),
        (
            difference(table, quantity, depths[-1], depths[0]),
            "this compares the greatest depth with the smallest; use the two depths given",
        ),
    ]
