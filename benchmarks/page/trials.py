"""The part of the results page on which settings matter, asked on validation images."""

import statistics
from collections.abc import Mapping

from benchmarks.likelihood_models import BENCHMARKS, WARM_UPS
from benchmarks.page.published import table
from benchmarks.page.records import Row, group, listing, seeds, shown

BASE = BENCHMARKS["mnist"].models["concatenation"].title
"""What the page calls the model that is varied."""


def validation_cost(row: Row) -> float:
    """Minus the ELBO on the validation split.

    Args:
        row: one variant.

    Returns:
        Mean over the seeds, nats per image.
    """
    return -statistics.mean(row.values(lambda run: run["validation"]["elbo"]["mean"]))


def training_cost(row: Row) -> float:
    """Minus the ELBO of the last epoch on the images of training, as the model saw them.

    Args:
        row: one variant.

    Returns:
        Mean over the seeds, nats per image.
    """
    return -statistics.mean(row.values(lambda run: run["curve"]["train"][-1]))


def extremes(rows: Mapping[str, Row]) -> str:
    """Say which changes helped most and hurt most.

    Args:
        rows: the variants, ``"base"`` among them.

    Returns:
        One sentence.
    """
    base = validation_cost(rows["base"])
    gains = {row.model.title: base - validation_cost(row) for row in rows.values()}
    del gains[rows["base"].model.title]
    best, worst = max(gains, key=gains.get), min(gains, key=gains.get)
    helped = (
        f"Most is gained by “{best}” ({gains[best]:.2f} nats)"
        if gains[best] > 0
        else "No change gained anything"
    )
    hurt = (
        f"most is lost by “{worst}” ({-gains[worst]:.2f})"
        if gains[worst] < 0
        else "no change lost anything"
    )
    return f"{helped}, and {hurt}."


def signed(nats: float) -> str:
    """Write a difference with its sign.

    Args:
        nats: the difference.

    Returns:
        As ``+0.20`` or ``−0.20``.
    """
    return f"{nats:+.2f}".replace("-", "−")


def handicap(trials: Mapping[str, Row], full: Mapping[str, Row]) -> str:
    """Say what the VampPrior pays for a normalisation that treats every row on its own.

    Args:
        trials: all of them.
        full: all rows on MNIST.

    Returns:
        One sentence; nothing where the model does not share the settings of a trial that lost.
    """
    if "vamp" not in full or "layer" not in trials:
        return ""
    row, layer = full["vamp"], trials["layer"]
    loss = validation_cost(layer) - validation_cost(trials["base"])
    shared = ("normalisation", "learning_rate")
    theirs, its = (of.runs[0]["settings"] for of in (row, layer))
    if loss <= 0 or any(theirs[name] != its[name] for name in shared):
        return ""
    return (
        f"“{row.model.title}” is inferred with the settings of “{layer.model.title}”: in batch "
        "normalisation pseudo-inputs would change each other's codes. Where all networks have "
        f"them, these settings cost {loss:.2f} nats above, and part of that is the likely reason "
        "for what this model misses."
    )


def full_trainings(rows: Mapping[str, Row]) -> str:
    """Write what a warm-up was worth in trainings of full length.

    Args:
        rows: all rows on MNIST.

    Returns:
        One paragraph; nothing if no model was trained both ways.
    """
    texts, disagree = [], False
    for with_it, without in WARM_UPS["mnist"]:
        if with_it in rows and without in rows:
            pair = [rows[name] for name in (with_it, without)]
            draws = BENCHMARKS["mnist"].num_samples
            texts.append(
                f"“{pair[1].model.title}” has a −ELBO of {validation_cost(pair[0]):.2f} with it "
                f"and {validation_cost(pair[1]):.2f} without on validation images, and a "
                f"−IW-{draws} of {shown(pair[0].iw)} and {shown(pair[1].iw)} on test images"
            )
            bounds = [validation_cost(row) for row in pair], [row.best for row in pair]
            disagree |= len({low < high for low, high in bounds}) > 1
    if not texts:
        return ""
    text = (
        f"Trained in full, both ways, {'; '.join(texts)}. The training with a warm-up came first "
        "and fell short of its goal, which is why the question was asked at all; the answer, and "
        "the choice between the two, rest on the ELBO of validation images alone."
    )
    if disagree:
        text += (
            " The importance-weighted bound prefers the other one. Who chooses by the ELBO has "
            "not chosen by that bound: the ELBO also pays for a posterior that is easy to match. "
            "To choose by the other bound, compute it on validation images; that was not done "
            "here, and the row stays as it was chosen."
        )
    return text


def warm_up_text(rows: Mapping[str, Row], full: Mapping[str, Row]) -> str:
    """Write which models gain by a warm-up.

    Args:
        rows: all trials.
        full: all rows on MNIST.

    Returns:
        A paragraph and a table; nothing if no model was trained both ways.
    """
    lines, gains = [], {}
    for with_it, without in WARM_UPS["trials"]:
        if with_it not in rows or without not in rows:
            continue
        nats = [validation_cost(rows[name]) for name in (with_it, without)]
        title = BASE if with_it == "base" else rows[with_it].model.title
        gains[title] = nats[1] - nats[0]
        lines.append([title, *(f"{value:.2f}" for value in nats), signed(-gains[title])])
    if not lines:
        return ""
    sides = {
        "helps": [f"“{title}” ({gain:.2f} nats)" for title, gain in gains.items() if gain > 0],
        "harms": [f"“{title}” ({-gain:.2f} nats)" for title, gain in gains.items() if gain <= 0],
    }
    found = " and ".join(f"{verb} {listing(titles)}" for verb, titles in sides.items() if titles)
    parts = [
        "{term}`Warm-up` keeps upper levels from being given up while they are still of no "
        f"use. Which models need it was asked with the same settings: it {found}.",
        table(
            ["model", "−ELBO with warm-up", "without", "difference by warm-up"],
            lines,
            right=[1, 2, 3],
        ),
        full_trainings(full),
    ]
    return "\n\n".join(part for part in parts if part)


def trials_text(trials: Mapping[str, Row], full: Mapping[str, Row]) -> str:
    """Write what was tried.

    Args:
        trials: all of them; ``"base"`` and at least one other variant of it.
        full: all rows on MNIST.

    Returns:
        Paragraphs and tables.
    """
    rows = group(trials)
    base = rows["base"]
    settings = base.runs[0]["settings"]
    cost = validation_cost(base)
    lines = [
        [
            row.model.title,
            f"{validation_cost(row):.2f}",
            "" if row is base else signed(validation_cost(row) - cost),
            f"{training_cost(row):.2f}",
        ]
        for row in rows.values()
    ]
    widths = listing([str(width) for width in settings["hidden"]])
    luck = (
        ", and a difference of a few tenths of a nat may be luck."
        if all(len(row.runs) == 1 for row in rows.values())
        else "."
    )
    parts = [
        f"Which settings matter was asked with shorter trainings of “{BASE}”: "
        f"{settings['epochs']} epochs, {settings['warm_up'][0]} of them {{term}}`warm-up`, hidden "
        f"layers of {widths} units, batches of {settings['batch_size']}, a learning rate of "
        f"{settings['learning_rate']:g} that falls to zero, batch normalisation; {seeds(rows)}. "
        "Every other row changes what its first column says. No test image is involved.",
        table(
            ["changed", "−ELBO, validation", "difference", "−ELBO, training"],
            lines,
            right=[1, 2, 3],
        ),
        f"{extremes(rows)} The training bound is that of a model in training, with the noise "
        "of its normalisation and dropout; where it is lower than the validation bound, the "
        "model has begun to fit single images. What a change is worth may differ in a longer "
        f"training{luck}",
        handicap(trials, full),
        warm_up_text(trials, full),
    ]
    return "\n\n".join(part for part in parts if part)
