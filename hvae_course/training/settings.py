"""What a run is: settings that cannot be right are refused, and so is another run's checkpoint."""

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

One that changes with the epoch also has ``for_epoch(epoch)``, the objective of that epoch, and
``duration``, the epoch after which it stays the same; calling it gives the final one.
`hvae_course.objectives.constrained.Constrained` changes with every step and has a state, which
checkpoints hold.
"""


DECAY_SHAPES = ("linear", "cosine")
"""How a learning rate may fall at the end of a run."""


def describe(objective: Objective) -> str:
    """How a checkpoint recognises an objective.

    Args:
        objective: what is maximised.

    Returns:
        Its name, or its settings where it has some.
    """
    if dataclasses.is_dataclass(objective) or isinstance(objective, nn.Module):
        return repr(objective)
    return getattr(objective, "__name__", type(objective).__name__)


def check_settings(settings: dict[str, Any], *, epochs: int, patience: int | None) -> None:
    """Refuse settings that cannot be right before any work starts.

    Args:
        settings: of the run.
        epochs: number of epochs in all.
        patience: epochs without progress, or None.

    Raises:
        ValueError: if one is out of range.
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
            f"{settings['num_processes']} processes; choose a multiple"
        )


def check_same_start(epoch: int, accelerator: Accelerator) -> None:
    """Refuse processes that would go on from different epochs, and wait for each other in vain.

    Args:
        epoch: the last one that this process read from its checkpoint, 0 without one.
        accelerator: the processes.

    Raises:
        ValueError: if another process read another one.
    """
    epochs = accelerator.gather(torch.tensor([epoch], device=accelerator.device)).tolist()
    if len(set(epochs)) > 1:
        raise ValueError(
            f"the processes found checkpoints of different epochs, {epochs}; put the checkpoint "
            "into a folder that all of them share"
        )


def check_same_run(checkpoint: Checkpoint, settings: dict[str, Any], *, path: str | Path) -> None:
    """Refuse to go on with a run of another model or with other settings.

    Args:
        checkpoint: as it was read.
        settings: of this run.
        path: where the checkpoint came from.

    Raises:
        ValueError: if it holds weights alone, or belongs to another run.
    """
    if "settings" not in checkpoint.run:
        raise ValueError(f"{path} holds weights alone and cannot be resumed; choose another file")
    before = checkpoint.run["settings"] | checkpoint.config
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        listed = ", ".join(f"{n} was {before.get(n)!r} and is {settings[n]!r}" for n in changed)
        raise ValueError(
            f"{path} belongs to a run with other settings: {listed}. Resume with the same ones, "
            "or choose another checkpoint file"
        )
