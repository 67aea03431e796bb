"""How a constrained objective acts on the optimiser: phases, double loop, warning.

`hvae_course.objectives.constrained.Constrained` decides in every step which parameters may move.
Hooks apply this to the gradients right before the optimiser's step, so the loop needs no change.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from hvae_course.objectives import Constrained
from hvae_course.training.settings import Objective


class ConstraintNeverMet(UserWarning):
    """A constrained training never met its constraint."""


def parameter_groups(
    model: nn.Module, *, learning_rate: float, prior_learning_rate: float
) -> list[dict]:
    """Split the parameters into those of the prior and the others.

    Args:
        model: the model, with an attribute ``prior``.
        learning_rate: step size of the others.
        prior_learning_rate: step size of the prior.

    Returns:
        Two groups for an optimiser, the prior's last; one group if the prior has no parameters.
    """
    prior = list(model.prior.parameters())
    known = {id(p) for p in prior}
    others = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": others, "lr": learning_rate}]
    return [*groups, {"params": prior, "lr": prior_learning_rate}] if prior else groups


def set_mode(objective: Objective, *, training: bool) -> None:
    """Switch a stateful objective between training and validation.

    Args:
        objective: what is maximised.
        training: whether its state is updated.
    """
    if isinstance(objective, nn.Module):
        objective.train(training)


@contextlib.contextmanager
def holding_back(
    objective: Objective, optimizer: torch.optim.Optimizer, prior: Sequence[nn.Parameter]
) -> Iterator[None]:
    """Let a constrained objective freeze parameters while the block runs.

    During the first phase the prior's gradients are multiplied by zero, and so is the optimiser's
    step count for it: when the phase ends, the prior starts as in a new run. All of this happens
    on the device. In a double loop, the gradients of the parameters that are not updated are set
    to None, and the optimiser skips them.

    Args:
        objective: what is maximised; only a constrained one has an effect.
        optimizer: an optimiser of all parameters.
        prior: the prior's parameters.

    Yields:
        None: nothing.
    """
    if not isinstance(objective, Constrained) or not prior:
        yield
        return
    of_prior = {id(p) for p in prior}
    others = [p for g in optimizer.param_groups for p in g["params"] if id(p) not in of_prior]
    cycle, count = objective.inner_steps + 1, int(objective.steps.item())

    def hold_back(*_: object) -> None:
        nonlocal count
        outer = cycle > 1 and count % cycle == cycle - 1
        for parameter in others if outer else prior if cycle > 1 else ():
            parameter.grad = None
        gradients = [p.grad for p in prior if p.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, objective.released)
        count += 1

    def start_afresh(*_: object) -> None:
        steps = [optimizer.state[p]["step"] for p in prior if "step" in optimizer.state[p]]
        if steps:
            torch._foreach_mul_(steps, objective.released.to(steps[0].device))

    hooks = [
        optimizer.register_step_pre_hook(hold_back),
        optimizer.register_step_post_hook(start_afresh),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def report_unmet(objective: Objective) -> None:
    """Warn if a constraint was never met.

    Args:
        objective: what was maximised.
    """
    if isinstance(objective, Constrained) and not objective.met:
        prior = "; the prior has not been trained" if not objective.released.item() else ""
        warnings.warn(
            f"the constraint was never met in {int(objective.steps.item())} steps: the smallest "
            f"moving average of the {objective.error} is {objective.best.item():.3g}, the largest "
            f"allowed is {objective.kappa**2:.3g}{prior}. Raise kappa, train longer, or give the "
            "model more capacity",
            ConstraintNeverMet,
            stacklevel=3,
        )
