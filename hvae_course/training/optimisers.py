"""The optimiser as a part: which rule, which parameters, which gradients and which step size."""

import math
from collections.abc import Callable, Sequence

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
        training: the rule with its constants, the two step sizes and the weight decay.

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
    chosen = {"betas": training.betas, "eps": training.epsilon}
    chosen["weight_decay"] = training.weight_decay
    how |= {name: value for name, value in chosen.items() if value is not None}
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


def share_of_step(number: int, training: Training) -> float:
    """Return the share of the step sizes at the start of training.

    Args:
        number: of the step in the whole training, counted from 1; skipped steps count.
        training: with the steps over which the step sizes rise.

    Returns:
        A number in (0, 1], 1 from the end of the warm-up.
    """
    return min(1.0, number / training.rate_warm_up) if training.rate_warm_up else 1.0


def set_rates(
    step: int,
    *,
    epoch: int,
    num_steps: int,
    optimizer: torch.optim.Optimizer,
    rates: Sequence[float],
    training: Training,
) -> None:
    """Set the step size of every group for a step.

    Args:
        step: its number in the epoch, counted from 1.
        epoch: counted from 1.
        num_steps: steps per epoch.
        optimizer: the optimiser.
        rates: full step size of every group.
        training: warm-up and decay.
    """
    number = (epoch - 1) * num_steps + step
    share = share_of_rate(epoch, training) * share_of_step(number, training)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * share


def clip_gradient(model: nn.Module, training: Training, accelerator: Accelerator) -> Tensor | None:
    """Scale a gradient down that is longer than ``clip_norm`` or ``skip_norm``.

    A step whose gradient is longer than ``skip_norm`` is skipped, and if `Skipping` takes it after
    all, then with the gradient scaled down.

    Args:
        model: the model, after the backward pass.
        training: the largest norms; without any, nothing is computed.
        accelerator: device, precision and processes.

    Returns:
        The norm before, ``()``; None if no norm is limited.
    """
    limits = [n for n in (training.clip_norm, training.skip_norm) if n is not None]
    if not limits:
        return None
    return accelerator.clip_grad_norm_(model.parameters(), min(limits))


class Skipping:
    """Decides which steps are taken, so that training can neither skip nor fail for ever.

    A step whose gradient is longer than ``skip_norm`` is skipped, which rare spikes call for. More
    than ``skip_limit`` such steps before a short enough gradient are not a spike: the threshold is
    too low for the weights as they are, for instance at the start. From there on steps are taken
    with the gradient scaled down, until a gradient is short enough again. A gradient that is not
    finite is never taken, and more than ``skip_limit`` of them in a row end the training. In half
    precision the objective is scaled up, and a gradient that overflows halves the scale: it is not
    counted while the scale is above 1.

    Args:
        training: the largest norm, and the most steps in a row.

    Source:
        Child (2021), Very deep VAEs generalize autoregressive models, arXiv:2011.10650, for
        skipping; the code skips without a limit.
    """

    def __init__(self, training: Training) -> None:
        self.norm, self.limit = training.skip_norm, training.skip_limit
        self.skipped = self.not_finite = 0

    def takes(self, norm: Tensor | None, *, scaler: torch.amp.GradScaler | None = None) -> bool:
        """Decide about one step; waits for the device if ``skip_norm`` is given.

        Args:
            norm: norm of the gradient before it was scaled down, ``()``.
            scaler: what scales the objective in half precision; None without.

        Returns:
            Whether the optimiser may take the step.

        Raises:
            FloatingPointError: if too many gradients in a row are not finite.
        """
        if self.norm is None:
            return True
        length = norm.item()
        if not math.isfinite(length):
            if scaler is not None and scaler.get_scale() > 1:
                return False
            self.not_finite += 1
            if self.not_finite > self.limit:
                raise FloatingPointError(
                    f"the gradients of {self.not_finite} steps in a row are not finite, more than "
                    f"skip_limit={self.limit} allows; lower learning_rate, or check the scales "
                    "of the model's distributions and the data for outliers"
                )
            return False
        self.not_finite = 0
        if length <= self.norm:
            self.skipped = 0
            return True
        if self.skipped < self.limit:
            self.skipped += 1
            return False
        return True

    def state_dict(self) -> dict[str, int]:
        """Return the state for a checkpoint.

        Returns:
            How many steps were skipped for their norm since the last short enough gradient, and
            how many in a row because it was not finite.
        """
        return {"skipped": self.skipped, "not_finite": self.not_finite}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the state of a checkpoint.

        Args:
            state: as returned by `state_dict`.
        """
        self.skipped, self.not_finite = state["skipped"], state["not_finite"]
