"""The part of the results page on which settings matter, asked on validation images."""

import statistics
from collections.abc import Mapping

from benchmarks.page.published import table
from benchmarks.page.records import Row, listing, seeds


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


def trials_text(rows: Mapping[str, Row]) -> str:
    """Write what was tried.

    Args:
        rows: the variants; ``"base"`` and at least one other.

    Returns:
        Paragraphs and a table.
    """
    base = rows["base"]
    settings = base.runs[0]["settings"]
    cost = validation_cost(base)
    lines = [
        [
            row.model.title,
            f"{validation_cost(row):.2f}",
            "" if row is base else f"{validation_cost(row) - cost:+.2f}".replace("-", "−"),
            f"{training_cost(row):.2f}",
        ]
        for row in rows.values()
    ]
    widths = listing([str(width) for width in settings["hidden"]])
    return "\n\n".join(
        [
            "Which settings matter was asked with shorter trainings of “two levels, "
            f"concatenation”: {settings['epochs']} epochs, {settings['warm_up'][0]} of them "
            f"{{term}}`warm-up`, hidden layers of {widths} units, batches of "
            f"{settings['batch_size']}, a learning rate of {settings['learning_rate']:g} that "
            f"falls to zero, batch normalisation; {seeds(rows)}. Every other row changes what its "
            "first column says. No test image is involved.",
            table(
                ["changed", "−ELBO, validation", "difference", "−ELBO, training"],
                lines,
                right=[1, 2, 3],
            ),
            f"{extremes(rows)} The training bound is that of a model in training, with the noise "
            "of its normalisation and dropout; where it is lower than the validation bound, the "
            "model has begun to fit single images. What a change is worth may differ in a longer "
            "training"
            + (
                ", and a difference of a few tenths of a nat may be luck."
                if all(len(row.runs) == 1 for row in rows.values())
                else "."
            ),
        ]
    )
