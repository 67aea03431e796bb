"""Training runs step by step: what an optimiser did, and runs that are interrupted or spoilt."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook


@contextmanager
def after_every_step(call: Callable[[torch.optim.Optimizer], object]) -> Iterator[None]:
    """Call a function with the optimiser after each of its steps, while a block runs."""
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: call(optimizer))
    try:
        yield
    finally:
        handle.remove()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def weights_at_every_step(train, model: nn.Module, **settings) -> tuple[list, object]:
    """Weights before training and after every step of its optimiser, and the history."""
    seen = [weights(model)]
    with after_every_step(lambda _: seen.append(weights(model))):
        history = train(model, **settings)
    return seen, history


def moving_average(values: list[Tensor], decay: float) -> Tensor:
    """The average as one sum over all values: weight of each, times what later ones leave."""
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(1, len(values))]
    shares = [1.0] + [1 - d for d in decays]
    return sum(shares[t] * math.prod(decays[t:]) * value for t, value in enumerate(values))


def interrupted_after(epochs: int) -> Callable:
    """A callback for ``after_epoch`` that interrupts the run when so many epochs are saved."""

    def interrupt(epoch, model, history):
        if epoch == epochs:
            raise KeyboardInterrupt

    return interrupt
