"""The part of the results page on both bounds of our models: the table, and what it supports.

A sentence that can be true or false is written by a function that looks.
"""

import statistics
from collections.abc import Mapping
from itertools import combinations

from benchmarks.likelihood_models import BENCHMARKS
from benchmarks.page.published import table
from benchmarks.page.records import Row, between, seeds, short, shown


def bounds_table(data: str, rows: Mapping[str, Row]) -> str:
    """Table of both bounds.

    Args:
        data: name of the data set.
        rows: its main rows.

    Returns:
        The table, and below it what all rows share.
    """
    lines = []
    for row in rows.values():
        gap = statistics.mean(row.elbo) - row.best
        cells = [row.model.title, shown(row.elbo), f"**{shown(row.iw)}**", f"{gap:.2f}"]
        lines.append([*cells, " · ".join(map(short, row.information))])
    draws = BENCHMARKS[data].num_samples
    header = ["model", "−ELBO", f"−IW-{draws}", "gap", "$z_1$, $z_2$, …"]
    tests = [run["test"] for row in rows.values() for run in row.runs]
    errors = between([test["log_likelihood"]["standard_error"] for test in tests])
    images = between([float(test["num_examples"]) for test in tests], 0)
    some = next(iter(rows.values())).runs[0]
    note = (
        f"Nats per image on {images} test images; mean ± standard deviation over {seeds(rows)} "
        if any(len(row.runs) > 1 for row in rows.values())
        else f"Nats per image on {images} test images, one seed "
    )
    note += (
        f"({some['data_description']}). The standard error over the images is {errors} for "
        f"−IW-{draws}; all models see the same images, so much of it is common to all rows. "
        "The last column is the {term}`information` of every level, from the bottom up."
    )
    return table(header, lines, right=[1, 2, 3]) + "\n\n" + note


def swaps(rows: Mapping[str, Row]) -> tuple[int, list[str]]:
    """Find the pairs of models that the two bounds put in different orders.

    Args:
        rows: the models.

    Returns:
        The number of all pairs, and the titles of those pairs.
    """
    pairs = list(combinations(rows.values(), 2))
    found = [
        f"“{a.model.title}” and “{b.model.title}”"
        for a, b in pairs
        if (statistics.mean(a.elbo) - statistics.mean(b.elbo)) * (a.best - b.best) < 0
    ]
    return len(pairs), found


def gap_text(rows: Mapping[str, Row]) -> str:
    """Say what the two bounds say differently.

    Args:
        rows: at least two models.

    Returns:
        One paragraph.
    """
    gaps = {row.model.title: statistics.mean(row.elbo) - row.best for row in rows.values()}
    small, large = min(gaps, key=gaps.get), max(gaps, key=gaps.get)
    text = (
        "The gap is what the posterior misses of the true posterior, as far as so many draws show "
        f"it: smallest for “{small}” ({gaps[small]:.2f} nats), largest for “{large}” "
        f"({gaps[large]:.2f})."
    )
    number, found = swaps(rows)
    if not found:
        return f"{text} Here both bounds put all models in the same order."
    more = ", among them " if len(found) > 3 else ": "
    return (
        f"{text} {len(found)} of {number} pairs of models change places when the other bound is "
        f"asked{more}{'; '.join(found[:3])}."
    )


def close_pairs(rows: Mapping[str, Row]) -> str:
    """Say which differences the seeds do not support.

    Args:
        rows: main rows.

    Returns:
        One sentence.
    """
    if any(len(row.runs) < 2 for row in rows.values()):
        return "With one seed, nothing tells a difference between two models from luck."
    pairs = [
        (a, b)
        for a, b in combinations(rows.values(), 2)
        if not (max(a.iw) < min(b.iw) or max(b.iw) < min(a.iw))
    ]
    number = len(rows) * (len(rows) - 1) // 2
    return (
        f"In {number - len(pairs)} of {number} pairs every seed of one model beats every seed of "
        "the other; the others are not ordered by these runs."
    )


def validation_text(rows: Mapping[str, Row]) -> str:
    """Say how far validation and test differ.

    Args:
        rows: main rows.

    Returns:
        One sentence.
    """
    shift = [
        run["test"]["elbo"]["mean"] - run["validation"]["elbo"]["mean"]
        for row in rows.values()
        for run in row.runs
    ]
    easier = "easier" if min(shift) > 0 else "harder" if max(shift) < 0 else "not always easier"
    return (
        f"The test images are {easier} than those of the validation split (by "
        f"{between([abs(s) for s in shift], 1)} nats of ELBO): a model is never to be compared "
        "across splits."
    )
