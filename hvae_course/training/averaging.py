"""A moving average of the weights, which is validated and kept instead of the last weights."""

import copy

import torch
from torch import Tensor, nn


class MovingAverage:
    r"""Exponential moving average of a model's weights, one update per step of the optimiser.

    .. math:: \bar\theta_t = \bar\theta_{t-1} + (1 - d_t) (\theta_t - \bar\theta_{t-1}), \qquad
              d_t = \min\bigl(d, \tfrac{1 + t}{10 + t}\bigr)

    The first updates forget faster, so that the initial weights drop out of the average. Running
    statistics of batch normalisation are averaged too: the mean of a linear function of the
    weights is that of their average, while variances come out too large
    (`hvae_course.training.reestimation` gives statistics that fit). An update launches a few
    kernels without synchronising with the device; ``torch.optim.swa_utils.AveragedModel`` copies
    its counter to the device in every step.

    Args:
        model: the model; it is copied.
        decay: d, in (0, 1); the average looks back over about 1 / (1 - d) steps.

    Source:
        Polyak and Juditsky (1992), SIAM J. Control Optim. 30(4), for the uniform average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights after a step.

        Args:
            model: the model in training, of the same architecture.
        """
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        own, new = ([*m.parameters(), *m.buffers()] for m in (self.model, model))
        pairs = [(a, b.detach()) for a, b in zip(own, new, strict=True) if a.numel()]
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([a for a, _ in moving], [b for _, b in moving], weight)
            for a, b in pairs:
                if not a.is_floating_point():  # a counter
                    a.copy_(b)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        """Return the state for a checkpoint.

        Returns:
            The number of updates and the averaged weights.
        """
        return {"steps": self.steps, "weights": self.model.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore the state of a checkpoint.

        Args:
            state: as returned by `state_dict`.
        """
        self.steps = state["steps"]
        self.model.load_state_dict(state["weights"])
