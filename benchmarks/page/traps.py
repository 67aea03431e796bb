"""The part of the results page on what goes wrong when papers are put side by side."""

from collections.abc import Mapping, Sequence

from benchmarks.page.published import Published
from benchmarks.page.records import Row, listing


def binarisation_gaps(published: Sequence[Published]) -> str:
    """Say what the binarisation is worth, by papers that have both.

    Args:
        published: all published rows.

    Returns:
        One part of a sentence for every such model.
    """
    fixed = {(r["model"], r["cite"]): r for r in published if r["binarisation"] == "static"}
    parts = []
    for row in published:
        other = fixed.get((row["model"], row["cite"]))
        if other and row["binarisation"] == "dynamic":
            parts.append(
                f"{other['nats']:.2f} static against {row['nats']:.2f} dynamic "
                f"({row['model']}, {{cite:t}}`{row['cite']}`)"
            )
    return listing(parts)


def step_up(published: Sequence[Published]) -> str:
    """Say what a second level is worth where one paper has both models.

    Args:
        published: all published rows.

    Returns:
        One part of a sentence; nothing if no paper has both.
    """
    found = {(row["model"], row["cite"]): row["nats"] for row in published if row["sd"]}
    for (model, cite), nats in found.items():
        two = found.get(("HVAE, two levels", cite))
        if model == "VAE, one level" and two is not None:
            return f"; a second level is worth {nats - two:.2f} in {{cite:t}}`{cite}`"
    return ""


def traps(rows: Mapping[str, Row], published: Sequence[Published], *, data: str) -> str:
    """Write what goes wrong when numbers of different papers are put side by side.

    Args:
        rows: main rows of the data set that the example is taken from.
        published: all published rows.
        data: what the page calls that data set.

    Returns:
        A list.
    """
    budgets = sum(row["epochs"] is not None for row in published)
    gaps = [e - i for row in rows.values() for e, i in zip(row.elbo, row.iw, strict=True)]
    example, unknown = "", sum(row["split"] is None for row in published)
    if gaps:
        example = (
            f" In our rows on {data} the two differ by {min(gaps):.1f} to {max(gaps):.1f} nats"
            f"{step_up(published)}."
        )
    return "\n".join(
        [
            "- **Estimator.** Some tables print −ELBO, some −IW-S, and the S is not always given."
            + example,
            "- **Binarisation.** Dynamic: pixels are drawn anew in every epoch, the test images "
            "once. Static: one drawn set for everybody, on which models overfit sooner. The same "
            f"model reads {binarisation_gaps(published)}.",
            "- **Test images.** With dynamic binarisation every group draws its own. Ours are "
            "drawn once, with the seed `data.loading.BINARISATION_SEED`.",
            "- **Split.** Some train on all of MNIST's training images, some keep a part of them "
            "for validation, as here. More images help, and models chosen on test images are "
            f"flattered. For {unknown} of our {len(published)} published rows we do not know "
            "the split.",
            f"- **Budget.** We know the epochs of {budgets} of those rows; the folded table has "
            "them.",
        ]
    )
