"""Draw what readers without scripts see in place of an explorer: ``make figures``."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks import collapse_recording
from hvae_course import plots
from hvae_course.gaussians import diag_normal, kl_normal
from hvae_course.posteriors import precision_weighted_merge

FOLDER = Path(__file__).parent
EPOCHS = (1, 10, 40)
"""Epochs of the trainings that are shown."""


def merge() -> None:
    """A prior, a message and their merge, with its KL from the prior."""

    def gaussian(mean: float, std: float) -> torch.distributions.Independent:
        return diag_normal(torch.tensor([[mean]]), torch.tensor(std).log())

    prior, message = gaussian(0.0, 1.0), gaussian(2.0, 0.5)
    merged = precision_weighted_merge(message, prior)
    kl = kl_normal(merged, prior).item()
    figure, axes = plt.subplots(figsize=(plots.PAGE_WIDTH, 2.6))
    z = torch.linspace(-5, 5, 400)[:, None]
    for density, label, colour, line in (
        (prior, "prior, from above", "prior", "-"),
        (message, "message of $x$", "posterior", "--"),
        (merged, f"merge, {kl:.2f} nats from the prior", "posterior", "-"),
    ):
        height = density.log_prob(z).exp()
        axes.plot(z, height, line, color=plots.COLOURS[colour], label=label)
    axes.fill_between(z[:, 0], height, color=plots.COLOURS["posterior"], alpha=0.15, lw=0)
    axes.set(xlabel="latent $z$", ylabel="density", xlim=(-5, 5), ylim=(0, None))
    axes.legend(loc="upper left")
    figure.savefig(FOLDER / "merge_explorer.png")


def collapse() -> None:
    """Every recorded training: nats per level, and the samples of three epochs."""
    recording = json.loads((FOLDER / "collapse_recording.json").read_text("utf-8"))
    figure, axes = plt.subplots(
        len(recording["runs"]), 1 + len(EPOCHS), figsize=(plots.PAGE_WIDTH, 7), sharex="col"
    )
    for panels, run in zip(axes, recording["runs"], strict=True):
        nats = np.array(run["information"])
        for level, line in enumerate(("--", "-")):
            colour = plots.COLOURS["posterior"]
            panels[0].plot(nats[:, level], line, color=colour, label=f"$z_{level + 1}$")
        panels[0].set(ylim=(-9, 15), title=run["title"], ylabel="nats")
        panels[0].axhline(0, color="0.7", lw=0.8, zorder=0)
        images = collapse_recording.images(run, recording)
        for panel, epoch in zip(panels[1:], EPOCHS, strict=True):
            framed = np.pad(images[epoch], ((0, 0), (0, 0), (0, 1), (0, 1)))
            image = np.concatenate(np.concatenate(framed, axis=1), axis=1)
            panel.imshow(image, vmin=0, vmax=255)
            panel.axis("off")
    for panel, epoch in zip(axes[0, 1:], EPOCHS, strict=True):
        panel.set_title(f"epoch {epoch}")
    axes[0, 0].legend(loc="upper right", ncols=2)
    axes[-1, 0].set_xlabel("epoch")
    figure.savefig(FOLDER / "collapse_explorer.png")


if __name__ == "__main__":
    plots.use_style()
    merge()
    collapse()
