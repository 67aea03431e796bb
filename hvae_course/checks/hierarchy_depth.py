"""Exercises on depth: fair comparisons of models with different numbers of levels.

The checks cover a comparison from end to end: latent sizes and widths that make models of
different depths comparable, a run for every setting and seed, a table without contradictions, and
conclusions that heed the spread over seeds.
"""

import math
from collections.abc import Callable

import pandas as pd
import torch

from hvae_course.checks.experiments import judge_experiment
from hvae_course.checks.model_sizes import judge_split, judge_width
from hvae_course.checks.result_tables import judge_comparison
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
    """Exercise: latent sizes of a hierarchy with a given total.

    Asked is ``split_latents(total, levels) -> list``: the sizes Z_1 to Z_L as integers, z_1 first.
    Their sum is ``total``, they never grow towards the top, and no level has less than a quarter
    of an equal share, ``total / levels / 4``, nor less than one. ``total >= levels``.

    Args:
        answer: the student's ``split_latents``.

    Returns:
        What was verified.
    """
    return judge_split(answer)


@checked
def matching_width(answer: Callable[..., object]) -> str:
    """Exercise: the width whose number of parameters comes closest to a budget from below.

    Asked is ``matching_width(count, budget) -> int``. ``count(width)`` builds a model and returns
    its number of parameters, which never falls with the width. The result is the largest width of
    at least 1 with ``count(width) <= budget``, found with at most 60 calls of ``count``. If even
    width 1 is too much, it raises ValueError.

    Args:
        answer: the student's ``matching_width``.

    Returns:
        What was verified.
    """
    return judge_width(answer)


@checked
def experiment(answer: Callable[..., object]) -> str:
    """Exercise: every setting with every seed.

    Asked is ``experiment(settings, seeds, build, train, measure) -> list``. For every setting, a
    dict, and every seed: ``torch.manual_seed(seed)``, then ``model = build(setting)``, then
    ``train(model, seed)``, which returns nothing, then a row. A row is a new dict with all of the
    setting, ``"seed"``, and all that ``measure(model)`` returns, a dict. Rows come in any order.

    Args:
        answer: the student's ``experiment``.

    Returns:
        What was verified.
    """
    return judge_experiment(answer)


@checked
def comparison(table: pd.DataFrame | None) -> str:
    """Whether a table of results contradicts itself; it is made, not written.

    Its columns are comparison (``"equal width"`` or ``"equal parameters"``), model
    (``"bottom-up"`` or ``"top-down"``), levels, seed, units (sum of the latent sizes), width,
    parameters, validation (bound with importance weights on the validation split), elbo, iw and
    reconstruction (on the test split), and information_1 upward (NaN above the top level), all
    results in nats per example. A model of one level stands under ``"bottom-up"`` only. Whatever
    the data, every cell is there once, reconstruction - information = elbo <= iw (to 0.05 nats),
    units are the same throughout, and so are widths, or parameters to 3 %, where they should be.

    Args:
        table: the student's table, or None as long as it has not been made.

    Returns:
        What was verified.
    """
    return judge_comparison(table)


@checked
def paired_difference(answer: Callable[..., object]) -> str:
    """Exercise: a difference between two depths whose runs share their seeds.

    Asked is ``paired_difference(table, quantity, deeper, shallower) -> (mean, error)``: the mean
    over seeds of the quantity at ``deeper`` levels minus that at ``shallower`` levels with the
    same seed, and its standard error, the standard deviation (with n - 1) over the root of n. The
    table has the columns levels, seed and the quantity, with rows in any order.

    Args:
        answer: the student's ``paired_difference``.

    Returns:
        What was verified.
    """
    tables = [
        runs((1, 2, 3, 5), (0, 1, 2), ("iw", "validation")),
        runs((2, 4), (3, 11, 7, 5, 2), ("iw", "validation")),
    ]
    cases = [(0, "iw", 5, 2), (1, "validation", 4, 2), (0, "validation", 3, 1), (1, "iw", 4, 2)]
    rows, right, slips = [], [], []
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
        slips.append(difference_mistakes(tables[table], *asked))
    mistakes = [
        (torch.tensor([value for value, _ in slip], dtype=torch.float64), slip[0][1])
        for slip in zip(*slips, strict=True)
    ]
    value = torch.tensor(rows, dtype=torch.float64)
    expected = torch.tensor(right, dtype=torch.float64)
    compare(value, expected, name="mean or error", mistakes=mistakes)
    return f"right in {len(cases)} cases of 3 and 5 seeds, in whatever order the rows stand"


_SEEDS = (0, 1, 2)


def _choices() -> list[pd.DataFrame]:
    """Tables of runs, with leads of the deeper model around two errors in some."""
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
    """Exercise: a depth, chosen on the validation split with the spread over seeds in mind.

    Asked is ``choose_depth(table) -> int``: the fewest levels such that no deeper model is better
    on validation by more than two standard errors of the paired difference. The table has the
    columns levels, seed, validation and test, both bounds in nats, with rows in any order.

    Args:
        answer: the student's ``choose_depth``.

    Returns:
        What was verified.
    """
    tables = _choices()
    values = [as_tensor(answer(t.copy()), (), name="the number of levels") for t in tables]
    slips = zip(*(chosen_mistakes(table) for table in tables), strict=True)
    mistakes = [(torch.tensor([float(depth) for depth, _ in slip]), slip[0][1]) for slip in slips]
    right = torch.tensor([float(chosen(table)) for table in tables])
    compare(torch.stack(values), right, name="the number of levels", mistakes=mistakes)
    return f"right for {len(tables)} tables of {len(_SEEDS)} seeds, by validation and its spread"


_THRESHOLDS = (((1, 2, 3, 5), 0.5), ((2, 4), 0.1), ((1, 3, 5), 0.8), ((3, 4, 5), 0.3))


@checked
def levels_in_use(answer: Callable[..., object]) -> str:
    """Exercise: the levels that carry information, for every depth.

    Asked is ``levels_in_use(table, threshold) -> dict``: for every depth the list of levels,
    counted from 1 at the data, whose information, averaged over seeds, exceeds the threshold. The
    table has the columns levels, seed, and information_1 to information_5, in nats, which is NaN
    where a model has no such level.

    Args:
        answer: the student's ``levels_in_use``.

    Returns:
        What was verified.
    """
    cases = []
    for depths, threshold in _THRESHOLDS:
        table = information(depths, (4, 0, 2))
        used = as_levels(answer(table.copy(), threshold), depths)
        cases.append((used, *levels_and_mistakes(table, threshold)))
    if all(used == right for used, right, _ in cases):
        return f"right for {len(cases)} tables, by the mean over seeds, from the data upward"
    for slip in zip(*(mistakes for *_, mistakes in cases), strict=True):
        if all(used == wrong for (used, *_), (wrong, _) in zip(cases, slip, strict=True)):
            raise Mistake(slip[0][1])
    used, right, _ = next(case for case in cases if case[0] != case[1])
    depth = next(depth for depth in right if used[depth] != right[depth])
    raise Mistake(
        f"with {depth} levels, {sorted(right[depth])} are in use where yours are "
        f"{sorted(used[depth])}"
    )
