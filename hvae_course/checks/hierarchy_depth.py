"""Checks of the sheet on depth: fair comparisons of models with different numbers of levels.

The checks cover a comparison from end to end: latent sizes and widths that make models of
different depths comparable, a run for every setting and seed, a consistent table of results, and
conclusions that take the spread over seeds into account.
"""

import math
from collections.abc import Callable

import pandas as pd
import torch

from hvae_course.checks.experiments import check_experiment
from hvae_course.checks.model_sizes import check_split, check_width
from hvae_course.checks.result_tables import check_comparison
from hvae_course.checks.seeded_runs import (
    chosen,
    chosen_mistakes,
    difference,
    difference_mistakes,
    lead,
    runs,
)
from hvae_course.checks.used_levels import as_levels, information, levels_and_mistakes
from hvae_course.checks.verdict import Mistake, as_sequence, as_tensor, checked, compare


@checked
def split_latents(answer: Callable[..., object]) -> str:
    """Latent sizes of a hierarchy with a given total.

    Write ``split_latents(total, levels) -> list``: the sizes Z_1 to Z_L as integers, z_1 first.
    Their sum is ``total``, they never grow towards the top, and every level has at least a quarter
    of an equal share, ``total / levels / 4``, and at least one. ``total >= levels``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    return check_split(answer)


@checked
def matching_width(answer: Callable[..., object]) -> str:
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
    return check_width(answer)


@checked
def experiment(answer: Callable[..., object]) -> str:
    """A run for every setting and every seed.

    Write ``experiment(settings, seeds, build, train, measure) -> list``. For every setting, a
    dict, and every seed, call ``torch.manual_seed(seed)``, then ``model = build(setting)``, then
    ``train(model, seed)``, which returns nothing, and add a row: a new dict with the setting,
    ``"seed"``, and the dict that ``measure(model)`` returns. Rows may come in any order.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    return check_experiment(answer)


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
    return check_comparison(table)


@checked
def paired_difference(answer: Callable[..., object]) -> str:
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
    tables = [
        runs((1, 2, 3, 5), (0, 1, 2), ("iw", "validation")),
        runs((2, 4), (3, 11, 7, 5, 2), ("iw", "validation")),
    ]
    cases = [(0, "iw", 5, 2), (1, "validation", 4, 2), (0, "validation", 3, 1), (1, "iw", 4, 2)]
    rows, right, wrong = [], [], []
    for table, *asked in cases:
        pair = answer(tables[table].copy(), *asked)
        pair = pair.tolist() if hasattr(pair, "tolist") else pair
        pair = [float(v) for v in as_sequence(pair, 2, name="the result")]
        if not all(math.isfinite(v) for v in pair):
            raise Mistake(
                "the result is not finite; pandas subtracts rows with the same index, so make "
                "the seed the index"
            )
        rows.append(pair)
        right.append(difference(tables[table], *asked))
        wrong.append(difference_mistakes(tables[table], *asked))
    mistakes = [
        (torch.tensor([value for value, _ in pairs], dtype=torch.float64), pairs[0][1])
        for pairs in zip(*wrong, strict=True)
    ]
    value = torch.tensor(rows, dtype=torch.float64)
    expected = torch.tensor(right, dtype=torch.float64)
    compare(value, expected, name="mean or error", mistakes=mistakes)
    return f"right in {len(cases)} cases of 3 and 5 seeds, with rows in any order"


_SEEDS = (0, 1, 2)


def _choices() -> list[pd.DataFrame]:
    """Tables of runs; in some the deeper model leads by about two standard errors."""
    columns = ("validation", "test")
    near = [lead(runs((1, 3), _SEEDS, columns), factor) for factor in (1.3, 1.85, 2.15)]
    gains = (
        {1: (0.0, 0.0, 0.0), 2: (0.9, 1.0, 1.1), 3: (-9.0, 3.0, 15.0)},  # the best mean is luck
        {1: (0.0, 0.0, 0.0), 2: (-1.0, 1.0, 3.0), 3: (1.9, 2.0, 2.1)},  # only 3 beats 1
    )
    made = [
        pd.DataFrame(
            [
                {"levels": l, "seed": k, "validation": v - 100.0, "test": -100.0 - l}
                for l, values in by_depth.items()
                for k, v in enumerate(values)
            ]
        )
        for by_depth in gains
    ]
    return near + made + [runs((1, 2, 3, 5), _SEEDS, columns) for _ in range(20)]


@checked
def choose_depth(answer: Callable[..., object]) -> str:
    """A depth, chosen on the validation split with the spread over seeds.

    Write ``choose_depth(table) -> int``: the fewest levels such that no deeper model is better
    on validation by more than two standard errors of the paired difference. The table has the
    columns levels, seed, validation and test, both bounds in nats; its rows may come in any order.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    tables = _choices()
    values = [as_tensor(answer(t.copy()), (), name="the number of levels") for t in tables]
    wrong = zip(*(chosen_mistakes(table) for table in tables), strict=True)
    mistakes = [
        (torch.tensor([float(depth) for depth, _ in pairs]), pairs[0][1]) for pairs in wrong
    ]
    right = torch.tensor([float(chosen(table)) for table in tables])
    compare(torch.stack(values), right, name="the number of levels", mistakes=mistakes)
    return f"right for {len(tables)} tables of {len(_SEEDS)} seeds, on validation and its spread"


_THRESHOLDS = (((1, 2, 3, 5), 0.5), ((2, 4), 0.1), ((1, 3, 5), 0.8), ((3, 4, 5), 0.3))


@checked
def levels_in_use(answer: Callable[..., object]) -> str:
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
    cases = []
    for depths, threshold in _THRESHOLDS:
        table = information(depths, (4, 0, 2))
        used = as_levels(answer(table.copy(), threshold), depths)
        cases.append((used, *levels_and_mistakes(table, threshold)))
    if all(used == right for used, right, _ in cases):
        return f"right for {len(cases)} tables, by the mean over seeds, with z_1 next to the data"
    for pairs in zip(*(mistakes for *_, mistakes in cases), strict=True):
        if all(used == wrong for (used, *_), (wrong, _) in zip(cases, pairs, strict=True)):
            raise Mistake(pairs[0][1])
    used, right, _ = next(case for case in cases if case[0] != case[1])
    depth = next(depth for depth in right if used[depth] != right[depth])
    raise Mistake(
        f"with {depth} levels, {sorted(right[depth])} are in use where yours are "
        f"{sorted(used[depth])}"
    )
