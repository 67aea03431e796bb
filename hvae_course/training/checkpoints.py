"""Checkpoints: weights and configuration in one file that is always complete.

A checkpoint is written to a temporary file beside its target and renamed, so an interruption
leaves either the old file or the new one. It holds only tensors, numbers and strings and is read
with ``weights_only=True``, so opening a file from an unknown source runs no code.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from hvae_course.tensor_files import read_tensors, write_tensors

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
