"""What training maximises: a function of a trace, and what the loop must know of it.

Any function ``(trace, x) -> (B,)`` will do. An `Objective` may also change with the epoch, keep a
state that checkpoints hold, report numbers, and hold parameters back.
"""

import contextlib
import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from hvae_course.hierarchy.model import HierarchicalVAE
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.identity import describe, identify


class Objective:
    """A function of a trace, to be maximised; every hook does nothing unless it is overridden."""

    duration: float = 0
    """Last epoch in which the objective changes; infinite while that is not known."""

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        """Value of the objective in its final form, which validation uses.

        Args:
            trace: the model's trace of x, with K draws per example.
            x: data ``(B, D)``.

        Returns:
            ``(B,)``, nats per example; to be maximised.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say what it computes; define "
            "__call__(self, trace, x) -> (B,), nats per example"
        )

    @property
    def description(self) -> str:
        """Name and settings, to be read; it begins with the name of the function or class."""
        return describe(self)

    @property
    def identity(self) -> str | None:
        """Text by which a checkpoint recognises the objective, see `identify`.

        Attributes count as they are after `begin`, so what changes in training must be reset
        there. None if some code cannot be read; then a checkpoint cannot be resumed.
        """
        try:
            beginning = copy.deepcopy(self)
            beginning.begin(torch.device("cpu"))
            return identify(beginning.train())
        except Exception:  # of an objective that cannot be copied
            return None

    def for_epoch(self, epoch: int) -> "Objective":
        """The objective that training maximises in one epoch, counted from 1."""
        return self

    def on(self, device: torch.device) -> "Objective":
        """The same objective with tensors for changing numbers, so that it is compiled once."""
        return self

    def begin(self, device: torch.device) -> None:
        """Return to the state before training, on the device of the model."""

    def train(self, mode: bool = True) -> "Objective":
        """Switch between training, where the state moves, and validation."""
        return nn.Module.train(self, mode) if isinstance(self, nn.Module) else self

    def state_dict(self) -> dict[str, Any] | None:
        """The state for a checkpoint, tensors by name; that of a module, otherwise None."""
        return nn.Module.state_dict(self) if isinstance(self, nn.Module) else None

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Restore the state of a checkpoint."""
        if isinstance(self, nn.Module):
            nn.Module.load_state_dict(self, state)

    def report(self) -> dict[str, float]:
        """Numbers to record after an epoch, by name."""
        return {}

    def holding_back(
        self, optimizer: torch.optim.Optimizer, prior: Sequence[nn.Parameter]
    ) -> AbstractContextManager[None]:
        """A context in which the objective decides at every step which parameters move.

        Args:
            optimizer: an optimiser of all parameters.
            prior: the prior's parameters.

        Returns:
            The context manager; training runs inside it.
        """
        return contextlib.nullcontext()

    def finish(self) -> None:
        """Warn about what training did not reach."""


class _Function(Objective):
    """A plain function, method or module as an objective."""

    def __init__(self, function: Callable[[Trace, Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        return self.function(trace, x)

    @property
    def description(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        text = describe(self.function)
        return text if text.startswith(name) else f"{name}: {text}"

    @property
    def identity(self) -> str | None:
        return identify(self.function)

    def state_dict(self) -> dict[str, Any] | None:
        module = module_of(self)
        return None if module is None else module.state_dict() or None

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        module_of(self).load_state_dict(state)


def module_of(objective: Objective) -> nn.Module | None:
    """Give the module that an objective is, or that the function it wraps is or belongs to.

    Args:
        objective: the objective.

    Returns:
        The module, None without one. The model itself does not count.
    """
    function = objective.function if isinstance(objective, _Function) else objective
    module = getattr(function, "__self__", function)
    known = isinstance(module, nn.Module) and not isinstance(module, HierarchicalVAE)
    return module if known else None


def as_objective(objective: Objective | Callable[[Trace, Tensor], Tensor]) -> Objective:
    """Give a plain function the hooks of an objective.

    Args:
        objective: an objective, or a function ``(trace, x) -> (B,)``.

    Returns:
        The objective.

    Raises:
        TypeError: if it cannot be called.
    """
    if isinstance(objective, Objective):
        return objective
    if not callable(objective) or isinstance(objective, type):
        raise TypeError(
            f"an objective is a function (trace, x) -> (B,), got {objective!r}; make_objective "
            "makes one from a hvae_course.config.Objective, and a class needs its settings"
        )
    return _Function(objective)
