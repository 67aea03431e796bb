"""Internal consistency of a table of results, for any data and any models."""

import itertools
import re

import pandas as pd

from hvae_course.checks.verdict import Mistake, checked

_CELL = ["comparison", "model", "levels", "seed"]
_NAMES = {"comparison": ("equal width", "equal parameters"), "model": ("bottom-up", "top-down")}
_NUMBERS = ["levels", "seed", "units", "width", "parameters"]
_RESULTS = ["validation", "elbo", "iw", "reconstruction"]
_CLOSE = 0.05
"""Nats by which one number may differ from itself, through rounding and batch sizes."""


def _place(row: pd.Series) -> str:
    """Where in the table a row stands."""
    return f"{row.comparison}, {row.model}, levels {row.levels:g}, seed {row.seed:g}"


@checked
def comparison(table: pd.DataFrame | None) -> str:
    """Check a table of results for internal consistency; there is nothing to implement.

    The columns of the table are comparison (``"equal width"`` or ``"equal parameters"``), model
    (``"bottom-up"`` or ``"top-down"``), levels, seed, units (sum of the latent sizes), width,
    parameters, validation (bound with importance weights on the validation split), elbo, iw and
    reconstruction (on the test split), and information_1 upward (NaN above the top level), all
    results in nats per example. A model of one level is listed under ``"bottom-up"`` only. For any
    data, every cell must be there once, reconstruction - information = elbo <= iw must hold to
    0.05 nats, units must be equal throughout, widths equal under equal width, and parameters equal
    to 3 % under equal parameters.

    Args:
        table: the student's table, or None if it does not exist yet.

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
    _require(table, [*_NAMES, *_NUMBERS, *_RESULTS])
    if table.empty:
        raise Mistake("the table has no rows")
    table = table.reset_index(drop=True)
    levels = [name for name in table if re.fullmatch(r"information_\d+", str(name))]
    numbers = [*_NUMBERS, *_RESULTS, *levels]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce").astype(float)
    _check_cells(table)
    _check_bounds(table, _information(table, levels))
    _check_fairness(table)
    depths, seeds = sorted({int(d) for d in table.levels}), table.seed.nunique()
    return (
        f"{len(table)} models of depths {', '.join(map(str, depths))} with {seeds} seed"
        f"{'s' * (seeds > 1)}, none missing; bounds, information, units and sizes are consistent"
    )


def _require(table: pd.DataFrame, names: list[str]) -> None:
    missing = [name for name in names if name not in table]
    if missing:
        raise Mistake(f"the table lacks the columns {', '.join(missing)}")


def _check_cells(table: pd.DataFrame) -> None:
    """Whether every run has one row, and every column holds numbers."""
    for column, names in _NAMES.items():
        other = set(table[column]) - set(names)
        if other:
            raise Mistake(f"{column} holds {other.pop()!r}; use {' or '.join(names)}")
    for name in (*_NUMBERS, *_RESULTS):
        if not (table[name].abs() < float("inf")).all():
            raise Mistake(f"{name} holds something that is not a finite number")
    if table.duplicated(_CELL).any():
        raise Mistake(f"there are two rows for {_place(table[table.duplicated(_CELL)].iloc[0])}")
    if table.levels.nunique() < 2:
        raise Mistake("the table holds one depth only; compare several")
    there = set(table[_CELL].itertuples(index=False, name=None))
    optional = not ((table.model == "top-down") & (table.levels == 1)).any()
    for cell in itertools.product(*(dict.fromkeys(table[name]) for name in _CELL)):
        if cell not in there and not (optional and cell[1:3] == ("top-down", 1)):
            raise Mistake(f"a row is missing: {_place(pd.Series(cell, _CELL))}")


def _information(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Sum of the information over the levels that a model has."""
    _require(table, [f"information_{l}" for l in range(1, int(table.levels.max()) + 1)])
    for name in columns:
        there = table.levels >= int(name.removeprefix("information_"))
        for row in table[there & table[name].isna()].itertuples():
            raise Mistake(f"{name} is not finite where the model has that level: {_place(row)}")
        for row in table[~there & table[name].notna()].itertuples():
            raise Mistake(f"{name} should be NaN where a model has no such level: {_place(row)}")
    return table[columns].sum(axis=1)


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
    widths = table.width[table.comparison == "equal width"]
    if widths.nunique() > 1:
        raise Mistake(f"widths under equal width are {widths.min():g} to {widths.max():g}")
    sizes = table.parameters[table.comparison == "equal parameters"]
    if sizes.max() > 1.03 * sizes.min():
        raise Mistake(
            f"parameters under equal parameters are {sizes.min():,.0f} to {sizes.max():,.0f}, "
            "more than 3 % apart"
        )
    same = table.duplicated(["comparison", "model", "levels", *_RESULTS])
    if same.any():
        raise Mistake(
            f"two seeds have exactly the same results ({_place(table[same].iloc[0])}); the seed "
            "has no effect"
        )
