"""Settings of a run: validation before it starts, comparison with those of a checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hvae_course.hierarchy.trace import Trace
from hvae_course.training.checkpoints import Checkpoint

Objective = Callable[[Trace, Tensor], Tensor]
"""A function ``(trace, x) -> (B,)`` in nats per example, to be maximised.

An objective with a warm-up also has ``for_epoch(epoch)``, which returns the objective of that
epoch, and ``duration``, the last epoch of the warm-up; calling it gives the final objective.
`hvae_course.objectives.constrained.Constrained` changes in every step; checkpoints hold its state.
"""


DECAY_SHAPES = ("linear", "cosine")
"""Shapes of the decay of the learning rate."""


def describe(objective: Objective) -> str:
    """Describe an objective, so that a checkpoint can recognise it.

    Args:
        objective: what is maximised.

    Returns:
        Its name, or its representation if it has settings.
    """
    if dataclasses.is_dataclass(objective) or isinstance(objective, nn.Module):
        return repr(objective)
    return getattr(objective, "__name__", type(objective).__name__)


def check_settings(settings: dict[str, Any], *, epochs: int, patience: int | None) -> None:
    """Check the settings before any work starts.

    Args:
        settings: settings of the run.
        epochs: total number of epochs.
        patience: epochs without improvement, or None.

    Raises:
        ValueError: if a setting is out of range.
    """
    counts = {name: settings[name] for name in ("batch_size", "num_samples")}
    counts |= {"epochs": epochs, "patience": 1 if patience is None else patience}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name in ("learning_rate", "prior_learning_rate"):
        if not settings[name] > 0:
            raise ValueError(f"{name} must be positive, got {settings[name]}")
    if not 0 <= settings["decay"] <= 1:
        raise ValueError(f"decay is a share of the epochs in [0, 1], got {settings['decay']}")
    if settings["decay_shape"] not in DECAY_SHAPES:
        raise ValueError(
            f"unknown decay_shape {settings['decay_shape']!r}; choose one of "
            f"{', '.join(DECAY_SHAPES)}"
        )
    if not 0 <= settings["averaging"] < 1:
        raise ValueError(
            f"averaging is a decay per step in [0, 1), 0 for none, got {settings['averaging']}"
        )
    if settings["batch_size"] % settings["num_processes"]:
        raise ValueError(
            f"batch_size={settings['batch_size']} cannot be shared equally by "
            f"{settings['num_processes']} processes; choose a multiple of their number"
        )


def check_same_start(epoch: int, accelerator: Accelerator) -> None:
    """Require all processes to resume from the same epoch (otherwise they deadlock).

    Args:
        epoch: last epoch in the checkpoint that this process read, 0 without one.
        accelerator: the processes.

    Raises:
        ValueError: if the epochs differ.
    """
    epochs = accelerator.gather(torch.tensor([epoch], device=accelerator.device)).tolist()
    if len(set(epochs)) > 1:
        raise ValueError(
            f"the processes found checkpoints of different epochs, {epochs}; put the checkpoint "
            "into a folder that all of them share"
        )


def check_same_run(checkpoint: Checkpoint, settings: dict[str, Any], *, path: str | Path) -> None:
    """Require that a checkpoint belongs to this model and these settings.

    Args:
        checkpoint: the checkpoint.
        settings: settings of this run.
        path: its file, for the message.

    Raises:
        ValueError: if it holds only weights, or belongs to another run.
    """
    if "settings" not in checkpoint.run:
        raise ValueError(f"{path} holds only weights and cannot be resumed; choose another file")
    before = checkpoint.run["settings"] | checkpoint.config
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        listed = ", ".join(f"{n} was {before.get(n)!r} and is {settings[n]!r}" for n in changed)
        raise ValueError(
            f"{path} belongs to a run with other settings: {listed}. Resume with the same "
            "settings, or choose another checkpoint file"
        )
