"""Trainings of chapter 2, epoch by epoch, for its explorer.

Run it with ``python -m benchmarks.collapse_recording``; it takes two minutes on one thread. It
trains the baseline of chapter 2 and five of its changes on digits and writes
``book/figures/collapse_recording.json``, which ``book/_static/collapse_explorer.js`` plays. The
recipes are those of the chapter's table; no run stops early, so that all have the same number of
epochs.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.remedies import SHARED, remedies
from hvae_course import data, fit
from hvae_course.config import Model, Training
from hvae_course.files import write_whole
from hvae_course.hierarchy import HierarchicalVAE, evaluating, hold
from hvae_course.objectives import WarmUp, elbo
from hvae_course.recipes import build
from hvae_course.seeding import isolated_random

WRITTEN = Path(__file__).parent.parent / "book/figures/collapse_recording.json"
EPOCHS, SEED = 40, 0
ROWS, COLUMNS = 2, 4
"""Draws of z_2, and of z_1 for each of them, in the samples of an epoch."""
SHOWN = {
    "baseline": "no remedy",
    "warm-up, both": "warm-up, both levels",
    "warm-up, z_2 last": "warm-up, z\u2082 last",
    "free bits, z_2": "free bits for z\u2082",
    "one hidden layer": "one hidden layer",
    "top-down, free bits": "top-down, free bits",
}
"""The remedies of `benchmarks.remedies` that are recorded, and their titles."""


def look(model: HierarchicalVAE, images: torch.Tensor) -> tuple[list[float], np.ndarray]:
    """Measure the levels of a model, and draw samples whose noise is always the same.

    Args:
        model: a model of two levels.
        images: data ``(B, D)``.

    Returns:
        Information of z_1 and z_2, nats per image, and mean images of samples as bytes,
        ``(ROWS * COLUMNS, D)``; the images of a row share z_2.
    """
    with evaluating(model), isolated_random(model.device):
        torch.manual_seed(SEED)
        information = [level.information.mean().item() for level in model(images).levels]
        torch.manual_seed(SEED)
        z2 = model.top_prior().sample((ROWS,)).repeat_interleave(COLUMNS, dim=0)
        means = model.generate(ROWS * COLUMNS, hold({2: z2})).px.mean
    return information, (255 * means.clamp(0, 1)).round().byte().numpy()


def record(name: str, digits: data.DataSet, *, epochs: int = EPOCHS) -> dict[str, Any]:
    """Train a model and look at it before the first epoch and after each.

    Args:
        name: of a remedy, see `benchmarks.remedies.remedies`.
        digits: the data set.
        epochs: length of the training.

    Returns:
        Title, information per epoch and level, images per epoch, and, with a warm-up, the KL
        weights per epoch and level.
    """
    options = SHARED | remedies(EPOCHS)[name]
    objective = options.pop("objective", elbo)
    torch.manual_seed(SEED)
    model = build(Model(**options), digits)
    images = digits.validation.batch(slice(None))
    seen = [look(model, images)]
    fit(
        model,
        digits,
        Training(epochs=epochs, seed=SEED),
        objective=objective,
        progress=False,
        after_epoch=lambda _epoch, trained, _history: seen.append(look(trained, images)),
    )
    run: dict[str, Any] = {
        "title": SHOWN[name],
        "information": [[round(nats, 3) for nats in information] for information, _ in seen],
        "images": base64.b64encode(np.stack([drawn for _, drawn in seen]).tobytes()).decode(),
    }
    if isinstance(objective, WarmUp):
        weights = [objective.for_epoch(max(epoch, 1)).weights for epoch in range(epochs + 1)]
        run["weights"] = np.round(np.broadcast_to(np.c_[weights], (epochs + 1, 2)), 3).tolist()
    return run


def images(run: dict[str, Any], recording: dict[str, Any]) -> np.ndarray:
    """Read the samples of a recorded run.

    Args:
        run: one of the recording's runs.
        recording: what `main` writes.

    Returns:
        Bytes, ink is 255, ``(epochs + 1, rows, columns, side, side)``.
    """
    rows, columns, side = (recording[key] for key in ("rows", "columns", "side"))
    written = np.frombuffer(base64.b64decode(run["images"]), dtype=np.uint8)
    return written.reshape(-1, rows, columns, side, side)


def main() -> None:
    """Record all runs."""
    digits = data.load("digits")
    recording = {
        "rows": ROWS,
        "columns": COLUMNS,
        "side": digits.image_shape[-1],
        "runs": [record(name, digits) for name in SHOWN],
    }
    text = json.dumps(recording, separators=(",", ":"), ensure_ascii=False)
    write_whole(WRITTEN, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()
