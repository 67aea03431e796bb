"""The part of the results page that stands beside papers: published rows, goals and verdicts."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.likelihood_models import BENCHMARKS, Goal
from benchmarks.page.prose import MNIST
from benchmarks.page.records import PLUS_MINUS, Row, group, listing, shown

Published = Mapping[str, Any]
READ_IN = {"table": "in the paper's own table", "quoted": "as later work quotes it"}
"""Where a published number was read."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> str:
    """Write a MyST table.

    Args:
        header: titles of the columns.
        rows: cells.
        right: numbers of the columns that are aligned to the right.

    Returns:
        Its lines.
    """
    rule = ["---:" if column in right else "---" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def folded(title: str, text: str) -> str:
    """Write something that opens at a click.

    Args:
        title: what is seen.
        text: what is folded away; may hold code blocks.

    Returns:
        A folded admonition.
    """
    return f"````{{admonition}} {title}\n:class: dropdown\n\n{text}\n````"


def value(row: Published) -> str:
    """Write a published number with its spread, if that is known.

    Args:
        row: of the table of published numbers.

    Returns:
        As ``84.45 ± 0.12``.
    """
    return f"{row['nats']:.2f}" + (f"{PLUS_MINUS}{row['sd']:.2f}" if row["sd"] else "")


def estimator(row: Published) -> str:
    """Say how a published number was estimated.

    Args:
        row: of the table of published numbers.

    Returns:
        As ``IW-5000``.
    """
    if row["estimator"] == "IW":
        return f"IW-{row['samples']:.0f}" if row["samples"] else "IW, draws not known to us"
    return "a bound on log p(x), draws not known to us"


def conditions(row: Published) -> str:
    """Say what is known about how a published number came about.

    Args:
        row: of the table of published numbers.

    Returns:
        Conditions and epochs.
    """
    parts = [row["conditions"]] if row["conditions"] else []
    if row["epochs"]:
        parts.append(f"{row['epochs']:,.0f} epochs")
    return "; ".join(parts) or "not known to us"


def beside(rows: Mapping[str, Row], published: Sequence[Published]) -> str:
    """Table of our models with the published rows that they can be held against.

    Args:
        rows: main rows on MNIST; models without a run are missing.
        published: all published rows.

    Returns:
        The table.
    """
    lines, draws = [], BENCHMARKS["mnist"].num_samples
    for name, model in BENCHMARKS["mnist"].models.items():
        ours = f"**{shown(rows[name].iw)}**" if name in rows else "not trained yet"
        for row in published:
            if name in (row["beside"] or "").split():
                theirs = f"{value(row)} {{cite:p}}`{row['cite']}`"
                lines.append([model.title if ours else "", ours, row["model"], theirs])
                ours = ""
    return table(["model", f"ours, −IW-{draws}", "held against", "published"], lines, right=[1])


def reached(goal: Goal, rows: Mapping[str, Row]) -> tuple[str, float] | None:
    """Find the best model of a goal.

    Args:
        goal: the goal.
        rows: main rows on MNIST.

    Returns:
        Its name and its nats per image; None if no model of the goal has a run.
    """
    there = [(name, rows[name].best) for name in goal.models if name in rows]
    return min(there, key=lambda found: found[1]) if there else None


def goal_lines(rows: Mapping[str, Row]) -> tuple[str, str]:
    """Table of the goals with the verdicts, and the verdict over all.

    Args:
        rows: main rows on MNIST.

    Returns:
        The table, and one sentence.
    """
    lines, met, judged, goals = [], [], 0, BENCHMARKS["mnist"].goals
    for goal in goals:
        best = reached(goal, rows)
        verdict = "not measured yet"
        if best is not None:
            judged += 1
            short = best[1] - goal.nats
            verdict = f"missed by {short:.2f}" if short > 0 else f"**met**, {-short:.2f} to spare"
            met += [goal.title] if short <= 0 else []
        ours = "" if best is None else f"{best[1]:.2f}"
        lines.append([goal.title, f"{goal.nats:.1f}", ours, verdict])
    text = f"{len(met)} of {len(goals)} goals are met"
    text += f": {'; '.join(met)}." if met else "."
    if judged < len(goals):
        text += f" {len(goals) - judged} of them have no trained model yet."
    return table(["goal", "our goal", "ours", "verdict"], lines, right=[1, 2]), text


def last_tenth(run: Mapping[str, Any]) -> tuple[float, float]:
    """Look at the end of a training.

    Args:
        run: what a JSON file holds.

    Returns:
        How much the validation ELBO rose in the last tenth of the epochs, and how far the training
        ELBO ended above it, nats per image.
    """
    curve = run["curve"]
    before = [i for i, epoch in enumerate(curve["epoch"]) if epoch <= 0.9 * curve["epoch"][-1]]
    validation = curve["validation"]
    rise = max(validation) - max(validation[: before[-1] + 1] if before else validation[:1])
    return rise, curve["train"][-1] - validation[-1]


def shortfalls(rows: Mapping[str, Row], published: Sequence[Published]) -> list[str]:
    """Say of every model that missed a goal what its own training shows about the reason.

    Args:
        rows: main rows on MNIST.
        published: all published rows.

    Returns:
        One paragraph per model, and one on how to read them; none if no goal was missed.
    """
    texts = {}
    for goal in BENCHMARKS["mnist"].goals:
        best = reached(goal, rows)
        if best is None or best[1] <= goal.nats:
            continue
        row = rows[best[0]]
        ends = [last_tenth(run) for run in row.runs]
        rise, gap = (statistics.mean(values) for values in zip(*ends, strict=True))
        text = (
            f"**Why “{row.model.title}” falls short.** In the last tenth of training its "
            f"validation ELBO rose by {rise:.2f} nats, and the training ELBO ended {abs(gap):.1f} "
            f"nats {'above' if gap > 0 else 'below'} it."
        )
        theirs = [r["epochs"] for r in published if best[0] in (r["beside"] or "").split()]
        theirs = [number for number in theirs if number]
        if theirs:
            ours = row.runs[0]["epochs"]
            text += f" It had {ours:,} epochs, the published row {max(theirs):,.0f}."
        levels = len(row.information)
        if row.used_levels < levels:
            text += f" {row.used_levels} of its {levels} levels are used."
        texts[best[0]] = text
    rule = (
        "A training bound far above the validation bound asks for regularisation or data; one "
        "close to it, or below it, says that the images are not used up, and asks for more epochs "
        "or wider networks. A flat end says little: the learning rate falls to zero there, "
        "whatever is left to learn. An idle level may ask for another {term}`warm-up`, or only "
        "pass on what is above it ({doc}`04_ladder_merge`). The training bound is that of a model "
        "in training, which normalises by the batch at hand."
    )
    return [*texts.values(), rule] if texts else []


def all_published(published: Sequence[Published]) -> str:
    """Table of all published rows with their conditions.

    Args:
        published: the rows.

    Returns:
        The table.
    """
    lines = [
        [
            f"{row['model']} {{cite:p}}`{row['cite']}`",
            f"{value(row)}, {row['binarisation']}",
            f"{estimator(row)}; read {READ_IN[row['read_in']]}",
            conditions(row),
        ]
        for row in sorted(published, key=lambda row: (row["binarisation"], -row["nats"]))
    ]
    return table(["model", "−log p(x)", "estimate", "what we know of it"], lines, right=[])


def mnist_section(rows: Mapping[str, Row], published: Sequence[Published]) -> str:
    """Write the section on MNIST.

    Args:
        rows: all rows on MNIST; may be empty.
        published: all published rows.

    Returns:
        Markdown without the title.
    """
    main, models = group(rows), BENCHMARKS["mnist"].models
    missing = [
        f"“{model.title}”"
        for name, model in models.items()
        if model.group == "main" and name not in main
    ]
    if not main:
        state = (
            "No model has been trained on MNIST for this page yet. Goals and published rows "
            "stand here before the results do."
        )
    elif missing:
        state = f"Not trained yet: {listing(missing)}."
    else:
        state = "All models of the table are trained."
    goals, verdict = goal_lines(main)
    return "\n\n".join(
        [
            f"{MNIST} {state}",
            beside(main, published),
            "Published numbers are those of the authors' models, not ours trained again; the "
            "networks differ, and so may split and budget.",
            folded("All published rows, and what we know of them", all_published(published)),
            f"Our goals, in −IW-{BENCHMARKS['mnist'].num_samples}: **{verdict}**",
            goals,
            *shortfalls(main, published),
        ]
    )
