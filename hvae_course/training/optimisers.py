"""The optimiser as a part: which rule, which parameters, which gradients and which step size."""

import math
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hvae_course.config import Training

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
}
"""Optimisers by name, with PyTorch's defaults.

:meta hide-value:
"""


def make_optimiser(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Make the optimiser of a model, with the prior's parameters in a group of their own.

    Args:
        model: the model, with an attribute ``prior``.
        training: the rule, the two step sizes and the weight decay.

    Returns:
        An optimiser with two groups, the prior's last; one group if the prior has no parameters.
    """
    rate, prior_rate = training.learning_rate, training.prior_learning_rate
    prior = list(model.prior.parameters())
    known = {id(p) for p in prior}
    groups = [{"params": [p for p in model.parameters() if id(p) not in known], "lr": rate}]
    if prior:
        groups.append({"params": prior, "lr": rate if prior_rate is None else prior_rate})
    # one kernel for all parameters, where PyTorch has it
    how = {"foreach": True} if training.optimiser == "adamax" else {"fused": True}
    if training.weight_decay is not None:
        how["weight_decay"] = training.weight_decay
    return OPTIMISERS[training.optimiser](groups, **how)


def share_of_rate(epoch: int, training: Training) -> float:
    """Return the share of the step sizes in one epoch.

    Args:
        epoch: counted from 1.
        training: number of epochs and decay.

    Returns:
        A number in (0, 1], 1 before the decay begins.
    """
    left = training.epochs + 1 - epoch
    remaining = min(1.0, left / (training.decay * training.epochs + 1))
    if training.decay_shape == "linear":
        return remaining
    return (1 - math.cos(math.pi * remaining)) / 2


def clip_gradient(model: nn.Module, training: Training, accelerator: Accelerator) -> Tensor | None:
    """Scale a gradient down that is longer than ``clip_norm``.

    Args:
        model: the model, after the backward pass.
        training: the largest norms; without any, nothing is computed.
        accelerator: device, precision and processes.

    Returns:
        The norm before, ``()``; None if no norm is limited.
    """
    if training.clip_norm is None and training.skip_norm is None:
        return None
    longest = math.inf if training.clip_norm is None else training.clip_norm
    return accelerator.clip_grad_norm_(model.parameters(), longest)
