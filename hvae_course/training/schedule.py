"""Functions of the epoch: the learning rate, and when to stop."""

import math

from hvae_course.training.history import History
from hvae_course.training.settings import Objective


def share_of_rate(epoch: int, epochs: int, *, decay: float, shape: str) -> float:
    """Return the share of the learning rate in one epoch.

    Args:
        epoch: counted from 1.
        epochs: number of epochs in all.
        decay: last share of the epochs, over which the rate falls towards zero.
        shape: a name in `hvae_course.training.settings.DECAY_SHAPES`.

    Returns:
        A number in (0, 1], 1 before the decay begins.
    """
    remaining = min(1.0, (epochs + 1 - epoch) / (decay * epochs + 1))
    return remaining if shape == "linear" else (1 - math.cos(math.pi * remaining)) / 2


def out_of_patience(
    patience: int | None, epoch: int, history: History, objective: Objective
) -> bool:
    """Whether ``patience`` epochs have passed since the best one or the end of warm-up.

    Args:
        patience: the number of epochs, or None to never stop early.
        epoch: the next epoch.
        history: record of the epochs before it.
        objective: what is maximised; one with a warm-up has a ``duration``.

    Returns:
        Whether to stop.
    """
    if patience is None:
        return False
    settled = getattr(objective, "duration", 0)
    return epoch - 1 - max(history.best_epoch, settled) >= patience
