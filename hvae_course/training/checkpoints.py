"""Checkpoints: weights and configuration in one file that is always complete.

A checkpoint is written to a temporary file beside its target and renamed, so an interruption
leaves either the old file or the new one. It holds only tensors, numbers and strings and is read
with ``weights_only=True``, so opening a file from an unknown source runs no code.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from hvae_course.config import Model, Training, differences, plain, take
from hvae_course.files import read_tensors, write_tensors

FORMAT = 1


@dataclass
class Checkpoint:
    """State of a run after a whole number of epochs."""

    config: dict[str, Any]
    """What `hvae_course.recipes.models.build` needs to build the model."""
    weights: dict[str, torch.Tensor]
    """Weights with the best validation objective so far."""
    run: dict[str, Any] = field(default_factory=dict)
    """What `hvae_course.training.loop.fit` needs to resume; empty if only weights are kept."""
    format: int = FORMAT
    """Version of this layout."""


def save_checkpoint(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint atomically.

    Args:
        checkpoint: what to write.
        path: the file; its folder is created if needed.
    """
    content = {entry.name: getattr(checkpoint, entry.name) for entry in fields(checkpoint)}
    write_tensors(content, path)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, without running code from it.

    Args:
        path: a file that `save_checkpoint` wrote.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a checkpoint of this format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; fit(..., checkpoint=path) writes one")
    content = read_tensors(path, kind="checkpoint")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{path} has checkpoint format {found!r}, this version reads {FORMAT}; "
            "train again, or use the version of hvae_course that wrote it"
        )
    expected = {entry.name for entry in fields(Checkpoint)}
    if set(content) != expected:
        raise ValueError(
            f"{path} holds {sorted(content)}, a checkpoint holds {sorted(expected)}; train again"
        )
    return Checkpoint(**content)


def check_same_run(
    checkpoint: Checkpoint,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    path: str | Path,
) -> None:
    """Require that a checkpoint belongs to this model and these settings.

    Args:
        checkpoint: the checkpoint.
        settings: settings of this run.
        config: ``config`` of this model.
        path: its file, for the message.

    Raises:
        ValueError: if it holds only weights, or belongs to another run.
    """
    if "settings" not in checkpoint.run:
        raise ValueError(f"{path} holds only weights and cannot be resumed; choose another file")
    # an option newer than the file has its default
    before = asdict(Training()) | checkpoint.run["settings"] | as_recorded(checkpoint.config)
    wanted = {**settings, **as_recorded(config)}
    changed = differences({name: before.get(name) for name in wanted}, wanted)
    if changed:
        raise ValueError(
            f"{path} belongs to a run with other settings: {changed}. Resume with the same "
            "settings, or choose another checkpoint file"
        )


def as_recorded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give ``config`` of a model in one form, whatever version recorded it.

    Args:
        config: as in a checkpoint; empty for a model that no recipe built.

    Returns:
        Options of the model, also unknown ones, with the number of features and grey values.
    """
    if "recipe" not in config:
        return dict(config)
    size = math.prod(config["shape"]) if "shape" in config else config["num_features"]
    others = {name: value for name, value in config.items() if name != "shape"}
    return others | plain(take(Model, config)) | {"num_features": size}
