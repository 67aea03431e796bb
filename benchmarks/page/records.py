"""The committed results as records, and how their numbers are put into words.

A row of the page is one model on one data set: all its seeds together. Bounds are shown as papers
print them, with the sign turned round, in nats per image.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.likelihood_models import BENCHMARKS, DEPTHS, FAMILIES, Model
from hvae_course.cli.files import read_json

FOLDER = Path(__file__).parents[1]
RESULTS, PUBLISHED = FOLDER / "results", FOLDER / "published.csv"
SCALING = RESULTS / "scaling.csv"
PLUS_MINUS = "\u00a0±\u00a0"
"""Spaces that do not break, so that a value stays in one line."""
USED = 0.1
"""Nats per image above which a level counts as used, as in `hvae_course.analysis.diagnose`."""


@dataclass(frozen=True)
class Row:
    """One model on one data set, all its seeds."""

    name: str
    model: Model
    runs: tuple[Mapping[str, Any], ...]
    """What the JSON files hold, by seed."""

    def values(self, read: Callable[[Mapping[str, Any]], float]) -> list[float]:
        """Read one number of every seed.

        Args:
            read: from what a JSON file holds to the number.

        Returns:
            One number per seed.
        """
        return [read(run) for run in self.runs]

    @property
    def iw(self) -> list[float]:
        """Minus the importance-weighted bound on the test split, per seed, nats per image."""
        return self.values(lambda run: -run["test"]["log_likelihood"]["mean"])

    @property
    def elbo(self) -> list[float]:
        """Minus the ELBO on the test split, per seed, nats per image."""
        return self.values(lambda run: -run["test"]["elbo"]["mean"])

    @property
    def best(self) -> float:
        """Mean of `iw` over the seeds."""
        return statistics.mean(self.iw)

    @property
    def seconds(self) -> float:
        """Mean seconds of training."""
        return statistics.mean(self.values(lambda run: run["seconds"]))

    @property
    def parameters(self) -> int:
        """Number of parameters, the same for all seeds."""
        return self.runs[0]["parameters"]

    @property
    def information(self) -> list[float]:
        """Nats per image of z_1, ..., z_L on the test split, means over the seeds."""
        per_seed = [[level["mean"] for level in run["test"]["information"]] for run in self.runs]
        return [statistics.mean(level) for level in zip(*per_seed, strict=True)]

    @property
    def used_levels(self) -> int:
        """Levels that carry more than `USED` nats in every seed."""
        per_seed = [[level["mean"] for level in run["test"]["information"]] for run in self.runs]
        return sum(min(level) > USED for level in zip(*per_seed, strict=True))


Results = Mapping[str, Mapping[str, Row]]
"""Rows by data set and model, in the order of the benchmarks; models without a run are missing."""


def load_rows(name: str, folder: Path = RESULTS) -> dict[str, Row]:
    """Read the results of one benchmark.

    Args:
        name: a key of `BENCHMARKS`.
        folder: one folder of JSON files per benchmark.

    Returns:
        The rows, in the order of the benchmark.
    """
    rows = {}
    for key, model in BENCHMARKS[name].models.items():
        paths = (folder / name).glob(f"{key}-*.json")
        runs = [read_json(p) for p in paths if p.stem.rpartition("-")[0] == key]
        if runs:
            rows[key] = Row(key, model, tuple(sorted(runs, key=lambda run: run["seed"])))
    return rows


def load_results(folder: Path = RESULTS) -> Results:
    """Read all results on test splits that there are.

    Args:
        folder: one folder of JSON files per data set.

    Returns:
        The rows.
    """
    judged = [name for name, benchmark in BENCHMARKS.items() if benchmark.num_samples is not None]
    return {name: load_rows(name, folder) for name in judged}


def group(rows: Mapping[str, Row], name: str = "main") -> dict[str, Row]:
    """Choose the rows of one group.

    Args:
        rows: of one data set.
        name: ``"main"``, ``"depth"`` or ``"warm_up"``.

    Returns:
        Those rows, in the same order.
    """
    return {key: row for key, row in rows.items() if row.model.group == name}


def compared(results: Results) -> Results:
    """Choose the data sets whose models can be compared.

    Args:
        results: all rows.

    Returns:
        All rows of those with at least two main models.
    """
    return {data: rows for data, rows in results.items() if len(group(rows)) > 1}


def by_depth(rows: Mapping[str, Row]) -> dict[str, dict[int, Row]]:
    """Sort the rows of the comparison by depth.

    Args:
        rows: of one data set.

    Returns:
        For each recipe its rows by number of levels; empty if one of them is missing.
    """
    names = {recipe: {d: f"depth_{recipe}_{d}" for d in DEPTHS} for recipe in FAMILIES}
    if any(name not in rows for of_recipe in names.values() for name in of_recipe.values()):
        return {}
    return {recipe: {d: rows[n] for d, n in of.items()} for recipe, of in names.items()}


def load_published(path: Path = PUBLISHED) -> list[dict[str, Any]]:
    """Read the published numbers.

    Args:
        path: CSV file.

    Returns:
        One dictionary per row; None where a cell is empty.
    """
    table = pd.read_csv(path).astype(object)
    return table.where(table.notna(), None).to_dict("records")


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over the seeds.

    Args:
        values: one per seed.

    Returns:
        The standard deviation; None for a single seed.
    """
    return statistics.stdev(values) if len(values) > 1 else None


def shown(values: Sequence[float], digits: int = 2) -> str:
    """Write mean and standard deviation over the seeds.

    Args:
        values: one per seed.
        digits: after the point.

    Returns:
        As ``87.21 ± 0.12``, or the value alone for a single seed.

    Example:
        >>> shown([1.0, 2.0]).split(PLUS_MINUS), shown([1.0])
        (['1.50', '0.71'], '1.00')
    """
    deviation = spread(values)
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if deviation is None else f"{mean}{PLUS_MINUS}{deviation:.{digits}f}"


def short(nats: float) -> str:
    """Write nats with one digit, and no minus before a zero.

    Args:
        nats: a number.

    Returns:
        As ``4.2``.

    Example:
        >>> short(-0.04), short(-0.06)
        ('0.0', '-0.1')
    """
    return f"{round(nats, 1) + 0.0:.1f}"


def between(values: Sequence[float], digits: int = 2, *, unit: str = "") -> str:
    """Write the range of some numbers.

    Args:
        values: at least one.
        digits: after the point.
        unit: put behind the number.

    Returns:
        As ``0.40 to 0.52``, or one number if both ends read alike.

    Example:
        >>> between([0.401, 0.523]), between([2.0, 2.0], 0, unit=" seconds")
        ('0.40 to 0.52', '2 seconds')
    """
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return (low if low == high else f"{low} to {high}") + unit


def listing(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    Args:
        words: at least one.

    Returns:
        As ``a, b and c``.

    Example:
        >>> listing(["a"]), listing(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def seeds(rows: Mapping[str, Row]) -> str:
    """Say how many seeds rows have.

    Args:
        rows: at least one.

    Returns:
        As ``three seeds``, ``one seed``, or ``1 to 3 seeds``.
    """
    counts = sorted({len(row.runs) for row in rows.values()})
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} seeds"
    names = {1: "one seed", 2: "two seeds", 3: "three seeds", 4: "four seeds", 5: "five seeds"}
    return names.get(counts[0], f"{counts[0]} seeds")


def growth(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Fit a straight line by least squares.

    Args:
        sizes: what was varied.
        costs: what it cost.

    Returns:
        Slope, and the share of the variance that the line explains; 1 for costs that are equal.
    """
    slope, intercept = statistics.linear_regression(sizes, costs)
    mean = statistics.mean(costs)
    total = sum((cost - mean) ** 2 for cost in costs)
    left = sum((c - intercept - slope * s) ** 2 for s, c in zip(sizes, costs, strict=True))
    return slope, 1 - left / total if not math.isclose(total, 0) else 1.0
