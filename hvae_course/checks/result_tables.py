"""Internal consistency of a table of results, for any data and any models."""

import re

import pandas as pd

from hvae_course.checks.verdict import Mistake

_CELL = ["comparison", "model", "levels", "seed"]
_NUMBERS = ["levels", "seed", "units", "width", "parameters"]
_RESULTS = ["validation", "elbo", "iw", "reconstruction"]
_CLOSE = 0.05
"""Nats by which one number may differ from itself, through rounding and batch sizes."""


def _level_columns(table: pd.DataFrame) -> list[str]:
    """Columns with the information of one level."""
    return [name for name in table if re.fullmatch(r"information_\d+", str(name))]


def _place(row: pd.Series) -> str:
    """Where in the table a row stands."""
    return f"{row.comparison}, {row.model}, levels {row.levels:g}, seed {row.seed:g}"


def check_comparison(table: object) -> str:
    """Look for contradictions in a table of results.

    Args:
        table: the student's table, or None.

    Returns:
        What was verified.
    """
    if table is None:
        raise Mistake(
            "not written yet: the table is made by the cell above once the exercises before it "
            "are right"
        )
    if not isinstance(table, pd.DataFrame):
        kind = type(table).__name__
        raise Mistake(f"this is a {kind}; pass a pandas DataFrame, such as pd.DataFrame(rows)")
    needed = ["comparison", "model", *_NUMBERS, *_RESULTS]
    missing = [name for name in needed if name not in table]
    if missing:
        raise Mistake(f"the table lacks the columns {', '.join(missing)}")
    if table.empty:
        raise Mistake("the table has no rows")
    table = table.reset_index(drop=True)
    numbers = [*_NUMBERS, *_RESULTS, *_level_columns(table)]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce").astype(float)
    _check_cells(table)
    information = _information(table)
    _check_bounds(table, information)
    _check_fairness(table)
    depths, seeds = sorted({int(d) for d in table.levels}), table.seed.nunique()
    return (
        f"{len(table)} models of depths {', '.join(map(str, depths))} with {seeds} seed"
        f"{'s' * (seeds > 1)}, none missing; bounds, information, units and sizes are consistent"
    )


def _check_cells(table: pd.DataFrame) -> None:
    """Whether every run has one row, and every column holds numbers."""
    known = {"comparison": ("equal width", "equal parameters"), "model": ("bottom-up", "top-down")}
    for column, names in known.items():
        other = set(table[column]) - set(names)
        if other:
            raise Mistake(f"{column} holds {other.pop()!r}; use {' or '.join(names)}")
    for name in (*_NUMBERS, *_RESULTS):
        if table[name].isin([float("inf"), -float("inf")]).any() or table[name].isna().any():
            raise Mistake(f"{name} holds something that is not a finite number")
    if table.duplicated(_CELL).any():
        row = table[table.duplicated(_CELL)].iloc[0]
        raise Mistake(f"there are two rows for {_place(row)}")
    depths = sorted(set(table.levels))
    if len(depths) < 2:
        raise Mistake("the table holds one depth only; compare several")
    there = set(table[_CELL].itertuples(index=False, name=None))
    optional = not ((table.model == "top-down") & (table.levels == 1)).any()
    for comparison in dict.fromkeys(table.comparison):
        for model in dict.fromkeys(table.model):
            for levels in depths:
                if model == "top-down" and levels == 1 and optional:
                    continue
                for seed in dict.fromkeys(table.seed):
                    if (comparison, model, levels, seed) not in there:
                        where = f"{comparison}, {model}, levels {levels:g}, seed {seed:g}"
                        raise Mistake(f"a row is missing: {where}")


def _information(table: pd.DataFrame) -> pd.Series:
    """Sum of the information over the levels that a model has."""
    deepest = int(table.levels.max())
    missing = [f"information_{level}" for level in range(1, deepest + 1)]
    missing = [name for name in missing if name not in table]
    if missing:
        raise Mistake(f"the table lacks the columns {', '.join(missing)}")
    total = pd.Series(0.0, index=table.index)
    for name in _level_columns(table):
        there = table.levels >= int(name.removeprefix("information_"))
        if table.loc[there, name].isna().any():
            row = table[there & table[name].isna()].iloc[0]
            raise Mistake(f"{name} is not finite where the model has that level: {_place(row)}")
        if table.loc[~there, name].notna().any():
            row = table[~there & table[name].notna()].iloc[0]
            raise Mistake(f"{name} should be NaN where a model has no such level: {_place(row)}")
        total = total + table[name].fillna(0.0)
    return total


def _check_bounds(table: pd.DataFrame, information: pd.Series) -> None:
    """Whether the bounds have the right sign and order, and add up."""
    gap = table.reconstruction - information - table.elbo
    adds_up = gap.abs() <= _CLOSE
    ordered = table.elbo <= table.iw + _CLOSE
    if (table.elbo > 0).all() and not (adds_up.all() and ordered.all()):
        raise Mistake(
            "elbo is positive throughout; this looks like a loss, and the bound is minus the loss"
        )
    if (table.elbo < 0).all() and (table.validation > 0).all():
        raise Mistake("validation is positive where elbo is negative; is it minus the bound?")
    if not ordered.all():
        row = table[~ordered].iloc[0]
        hint = "is one of another model" if ordered.mean() > 0.5 else "are the columns swapped"
        raise Mistake(f"elbo {row.elbo:.2f} exceeds iw {row.iw:.2f} ({_place(row)}); {hint}?")
    if not adds_up.all():
        if ((gap + 2 * information).abs() <= _CLOSE).all():
            raise Mistake(
                "the information has the wrong sign; elbo = reconstruction - information"
            )
        first = gap.abs().idxmax()
        row = table.loc[first]
        raise Mistake(
            f"reconstruction - information is {row.elbo + gap[first]:.2f} where elbo is "
            f"{row.elbo:.2f} ({_place(row)}); do they come from one model, one split and one "
            "evaluation?"
        )


def _check_fairness(table: pd.DataFrame) -> None:
    """Whether what should be equal between models is equal."""
    if table.units.nunique() > 1:
        low, high = table.loc[table.units.idxmin()], table.loc[table.units.idxmax()]
        raise Mistake(
            f"the latent sizes sum to {low.units:g} ({_place(low)}) and to {high.units:g} "
            f"({_place(high)}); every model should have the same total"
        )
    equal = table[table.comparison == "equal width"]
    if equal.width.nunique() > 1:
        raise Mistake(
            f"widths under equal width are {equal.width.min():g} to {equal.width.max():g}"
        )
    equal = table[table.comparison == "equal parameters"]
    if len(equal) and equal.parameters.max() > 1.03 * equal.parameters.min():
        raise Mistake(
            f"parameters under equal parameters are {equal.parameters.min():,.0f} to "
            f"{equal.parameters.max():,.0f}, more than 3 % apart"
        )
    same = table.duplicated(["comparison", "model", "levels", *_RESULTS], keep="first")
    if same.any():
        raise Mistake(
            f"two seeds have exactly the same results ({_place(table[same].iloc[0])}); the seed "
            "has no effect"
        )
