r"""Learning as constrained optimisation (:eq:`eq-lagrangian`).

.. math:: \min\; \mathbb E \Bigl[ \log \frac{q(z \mid x)}{p(z)} \Bigr] \quad \text{such that}
          \quad \mathbb E\, C(x, z) \le \kappa^2

C is the reconstruction error per dimension: -log p(x | z) up to a constant and a unit. The
negative Lagrangian, divided by its multiplier, is reconstruction minus a KL weight
:math:`\beta = 1/\lambda` times information: the objective of the beta-VAE, with a weight that
follows the constraint.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives.base import Objective
from hvae_course.objectives.identity import describe
from hvae_course.objectives.multipliers import GECO, ReWO, plain_number
from hvae_course.objectives.weighted import mean_over_draws, mean_over_processes
from hvae_course.tables import ObservedValues


def squared_error(trace: Trace, x: Tensor) -> Tensor:
    """Squared distance of x to the mean of the likelihood, per dimension that was observed.

    Args:
        trace: the model's trace of x.
        x: data ``(B, D)``.

    Returns:
        ``(B,)``, averaged over draws, in squared units of the data.
    """
    num_observed = _num_observed(trace, x)
    x = x.repeat_interleave(trace.num_samples, dim=0)  # (B, D) -> (B K, D)
    if num_observed is None:
        return mean_over_draws((x - trace.px.mean).square().flatten(1).mean(dim=1), trace)
    x = torch.where(x.isnan(), trace.px.mean, x)
    squares = (x - trace.px.mean).square().flatten(1).sum(dim=1)
    return mean_over_draws(squares, trace) / num_observed


def negative_log_likelihood(trace: Trace, x: Tensor) -> Tensor:
    """Negative reconstruction term, per dimension that was observed.

    Args:
        trace: the model's trace of x.
        x: data ``(B, D)``.

    Returns:
        ``(B,)``, averaged over draws, nats per dimension; positive for discrete data.
    """
    num_observed = _num_observed(trace, x)
    return -mean_over_draws(trace.log_px(x), trace) / (
        x[0].numel() if num_observed is None else num_observed
    )


def _num_observed(trace: Trace, x: Tensor) -> Tensor | None:
    """Dimensions that were observed, ``(B,)``, at least 1; None if none can be missing."""
    if not isinstance(trace.px, ObservedValues):
        return None
    return (~x.isnan()).flatten(1).sum(dim=1).clamp(min=1)


ERRORS: dict[str, Callable[[Trace, Tensor], Tensor]] = {
    error.__name__: error for error in (squared_error, negative_log_likelihood)
}
"""Reconstruction errors C by name.

:meta hide-value:
"""


class ConstraintNeverMet(UserWarning):
    """A constrained training never met its constraint."""


class Constrained(nn.Module, Objective):
    r"""Reconstruction minus beta times information, where beta follows a constraint.

    It has a state: the moving average of the error, the KL weight and the phase, tensors on the
    device that every training step updates and every checkpoint holds. In training mode the value
    is the Lagrangian's. In evaluation mode it is the ELBO, to which the two agree at beta = 1.

    In the first phase, until the moving average meets the constraint for the first time, beta
    stays where it starts and the prior is not trained: the model learns to reconstruct. A
    constraint that is out of reach keeps it there; `hvae_course.training.loop.fit` reports that.

    Args:
        kappa: square root of the largest allowed error.
        rule: how the KL weight moves, see `hvae_course.objectives.multipliers`.
        error: C, a key of `ERRORS`.
        beta: KL weight at the start.
        smoothing: weight of the past in the moving average.
        first_phase: whether there is one.
        inner_steps: steps of encoder, decoder and KL weight between two steps of the prior (the
            double loop); 0 updates all of them in every step. In the first phase the prior's
            steps change nothing.
        max_step: largest change of log beta in one step.
        max_violation: largest error of a batch that enters the average, as a multiple of the
            allowed one; an error that is not finite counts as the average before it. So a single
            bad batch neither overflows nor stays in the average for long.
        bounds: smallest and largest KL weight.

    Raises:
        ValueError: if a setting is out of range.
        TypeError: if a setting is not a number, or the rule is not a function.

    Source:
        Klushyn et al. (2019), arXiv:1905.04982; Rezende and Viola (2018), arXiv:1810.00597.
    """

    def __init__(
        self,
        kappa: float,
        *,
        rule: GECO | ReWO | None = None,
        error: str = "squared_error",
        beta: float = 0.01,
        smoothing: float = 0.95,
        first_phase: bool = True,
        inner_steps: int = 0,
        max_step: float = 1.0,
        max_violation: float = 100.0,
        bounds: tuple[float, float] = (1e-6, 1e4),
    ) -> None:
        super().__init__()
        if not isinstance(error, str) or error not in ERRORS:
            raise ValueError(f"unknown error {error!r}; choose one of {', '.join(ERRORS)}")
        if rule is not None and (isinstance(rule, type) or not callable(rule)):
            raise TypeError(f"rule must be an object such as ReWO() or GECO(0.1), got {rule!r}")
        kappa, beta = plain_number(kappa, "kappa"), plain_number(beta, "beta")
        smoothing = plain_number(smoothing, "smoothing")
        inner_steps = plain_number(inner_steps, "inner_steps")
        max_step = plain_number(max_step, "max_step")
        max_violation = plain_number(max_violation, "max_violation")
        try:
            low, high = (plain_number(bound, "bounds") for bound in bounds)
        except (TypeError, ValueError):
            raise TypeError(f"bounds must be two numbers, got {bounds!r}") from None
        bounds = (low, high)
        settings = {
            "kappa > 0": 0 < kappa < math.inf,
            "0 < bounds[0] <= beta <= bounds[1]": 0 < low <= beta <= high,
            "0 <= smoothing < 1": 0 <= smoothing < 1,
            "whole inner_steps >= 0": inner_steps >= 0 and inner_steps % 1 == 0,
            "max_step > 0": max_step > 0,
            "max_violation > 1": 1 < max_violation < math.inf,
        }
        for condition, holds in settings.items():
            if not holds:
                raise ValueError(
                    f"a constrained objective needs {condition}, got kappa={kappa}, beta={beta}, "
                    f"bounds={bounds}, smoothing={smoothing}, inner_steps={inner_steps}, "
                    f"max_step={max_step}, max_violation={max_violation}"
                )
        self.kappa, self.rule, self.error = kappa, rule or ReWO(), error
        self.start, self.smoothing, self.first_phase = beta, smoothing, first_phase
        self.inner_steps, self.bounds = int(inner_steps), bounds
        self.max_step, self.max_violation = max_step, max_violation
        for name in ("beta", "average", "best", "released", "steps", "settled"):
            self.register_buffer(name, torch.zeros(()))
        self.beta: Tensor
        """KL weight, 1 / lambda, ``()``."""
        self.average: Tensor
        """Moving average of the error, ``()``."""
        self.best: Tensor
        """Smallest moving average so far, ``()``."""
        self.released: Tensor
        """1 once the first phase is over, ``()``."""
        self.steps: Tensor
        """Training steps so far, ``()``."""
        self.settled: Tensor
        """Last epoch that began in the first phase, ``()``; 0 if none did."""
        self.reset()

    def begin(self, device: torch.device) -> None:
        """Return to the state before training, on a device.

        Args:
            device: device of the model.
        """
        self.to(device).reset()

    def reset(self) -> None:
        """Return to the state before training."""
        self.beta.fill_(self.start)
        self.released.fill_(float(not self.first_phase))
        self.best.fill_(math.inf)
        for state in (self.average, self.steps, self.settled):
            state.zero_()

    @property
    def duration(self) -> float:
        """Epochs after which the first phase is over; infinite while it lasts."""
        return self.settled.item() if self.released.item() else math.inf

    def for_epoch(self, epoch: int) -> "Constrained":
        """Note the epoch that begins, from which patience counts once the first phase is over.

        Args:
            epoch: counted from 1.

        Returns:
            The same objective in every epoch.
        """
        self.settled.copy_(torch.where(self.released > 0, self.settled, epoch))
        return self

    @property
    def met(self) -> bool:
        """Whether the moving average of the error has ever met the constraint."""
        return self.best.item() <= self.kappa**2

    @torch.no_grad()
    def update(self, error: Tensor) -> None:
        """Move the state by one step, without waiting for the device.

        Args:
            error: mean of C over the batch, ``()``.
        """
        error = mean_over_processes(error.detach().to(self.average))
        most = self.max_violation * self.kappa**2
        first = error.nan_to_num(most).clamp(-most, most)
        past = torch.where(self.steps == 0, first, self.average)
        error = torch.where(error.isfinite(), error.clamp(-most, most), past)
        self.average.copy_((1 - self.smoothing) * error + self.smoothing * past)
        self.best.copy_(torch.minimum(self.best, self.average))
        violation = self.average / self.kappa**2 - 1
        self.released.copy_(torch.maximum(self.released, (violation <= 0).to(self.released)))
        step = self.rule(self.beta, violation).clamp(-self.max_step, self.max_step)
        moved = (self.beta * step.exp()).clamp(*self.bounds)
        turn = self.inner_steps == 0 or self.steps % (self.inner_steps + 1) < self.inner_steps
        self.beta.copy_(torch.where((self.released > 0) & turn, moved, self.beta))
        self.steps.add_(1)

    def forward(self, trace: Trace, x: Tensor) -> Tensor:
        """Value of the objective; in training mode the state moves first.

        Args:
            trace: the model's trace of x.
            x: data ``(B, D)``.

        Returns:
            ``(B,)``, nats per example; to be maximised.
        """
        log_weight, reconstruction, *information = trace.terms(x)
        if not self.training:
            return mean_over_draws(log_weight, trace)
        self.update(ERRORS[self.error](trace, x).mean())
        return mean_over_draws(reconstruction - self.beta * sum(information), trace)

    def report(self) -> dict[str, float]:
        """State in numbers; waits for the device.

        Returns:
            ``beta`` and ``error``, the moving average of C.
        """
        return {"beta": self.beta.item(), "error": self.average.item()}

    def extra_repr(self) -> str:
        """Settings, by which a checkpoint recognises the objective.

        Returns:
            All of them.
        """
        return (
            f"kappa={self.kappa}, rule={describe(self.rule)}, error={self.error!r}, "
            f"beta={self.start}, smoothing={self.smoothing}, first_phase={self.first_phase}, "
            f"inner_steps={self.inner_steps}, max_step={self.max_step}, "
            f"max_violation={self.max_violation}, bounds={self.bounds}"
        )

    @contextlib.contextmanager
    def holding_back(
        self, optimizer: torch.optim.Optimizer, prior: Sequence[nn.Parameter]
    ) -> Iterator[None]:
        """Freeze parameters while the block runs, with hooks right before the optimiser's step.

        During the first phase the prior's gradients are multiplied by zero, and so is the
        optimiser's step count for it: when the phase ends, the prior starts as in a new run. All
        of this happens on the device. In a double loop, the gradients of the parameters that are
        not updated are set to None, and the optimiser skips them.

        Args:
            optimizer: an optimiser of all parameters.
            prior: the prior's parameters; without any, nothing is held back.

        Yields:
            None: nothing.
        """
        if not prior:
            yield
            return
        of_prior = {id(p) for p in prior}
        others = [p for g in optimizer.param_groups for p in g["params"] if id(p) not in of_prior]
        cycle, count = self.inner_steps + 1, int(self.steps.item())

        def hold_back(*_: object) -> None:
            nonlocal count
            outer = cycle > 1 and count % cycle == cycle - 1
            for parameter in others if outer else prior if cycle > 1 else ():
                parameter.grad = None
            gradients = [p.grad for p in prior if p.grad is not None]
            if gradients:
                torch._foreach_mul_(gradients, self.released)
            count += 1

        def start_afresh(*_: object) -> None:
            steps = [optimizer.state[p]["step"] for p in prior if "step" in optimizer.state[p]]
            if steps:
                torch._foreach_mul_(steps, self.released.to(steps[0].device))

        hooks = [
            optimizer.register_step_pre_hook(hold_back),
            optimizer.register_step_post_hook(start_afresh),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def finish(self) -> None:
        """Warn if the constraint was never met."""
        if self.met:
            return
        prior = "; the prior has not been trained" if not self.released.item() else ""
        warnings.warn(
            f"the constraint was never met in {int(self.steps.item())} steps: the smallest "
            f"moving average of the {self.error} is {self.best.item():.3g}, the largest allowed "
            f"is {self.kappa**2:.3g}{prior}. Raise kappa, train longer, or give the model more "
            "capacity",
            ConstraintNeverMet,
            stacklevel=4,
        )
