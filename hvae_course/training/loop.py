"""The training loop, for every model and objective of the course.

Read ``_train_epoch`` first: take a batch, walk the hierarchy and score it
(`hvae_course.training.step.step`), maximise the objective. Then read `fit`, which shuffles the
data, validates, keeps the best weights and saves checkpoints. Accelerate handles device, precision
and processes; within an epoch the loop never synchronises with the device.
"""

import contextlib
import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from tqdm import tqdm

from hvae_course.compatibility import check_data
from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import Constrained, elbo
from hvae_course.seeding import isolated_random, seed_all
from hvae_course.training.averaging import MovingAverage
from hvae_course.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from hvae_course.training.history import History
from hvae_course.training.phases import holding_back, parameter_groups, report_unmet, set_mode
from hvae_course.training.schedule import out_of_patience, share_of_rate
from hvae_course.training.settings import (
    Objective,
    check_same_run,
    check_same_start,
    check_settings,
    describe,
)
from hvae_course.training.step import Step, compile_step, step, weights_on


def _batches(order: Tensor, batch_size: int, accelerator: Accelerator) -> Iterator[Tensor]:
    """Cut an order into batches of equal size; each process gets its share of every batch."""
    size = min(batch_size, len(order) - len(order) % accelerator.num_processes)
    for start in range(0, len(order) - size + 1, size):
        index = order[start : start + size]
        yield index[accelerator.process_index :: accelerator.num_processes]


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: Split,
    order: Tensor,
    *,
    objective: Objective,
    num_samples: int,
    batch_size: int,
    accelerator: Accelerator,
    average: MovingAverage | None = None,
    step: Step = step,
) -> list[float]:
    """Train for one epoch and return the statistics, averaged over its steps."""
    model.train()
    set_mode(objective, training=True)
    total, steps = 0.0, 0
    for index in _batches(order, batch_size, accelerator):
        optimizer.zero_grad()
        value, statistics = step(model, objective, split.batch(index), num_samples)
        accelerator.backward(-value)
        optimizer.step()
        if average is not None:
            average.update(model)
        total, steps = total + statistics, steps + 1
    return accelerator.reduce(total / steps, "mean").tolist()  # the only wait for the device


@torch.no_grad()
def _validate(model: nn.Module, split: Split, *, objective: Objective, num_samples: int) -> Tensor:
    """Compute the same statistics on a split, in evaluation mode."""
    model.eval()
    set_mode(objective, training=False)
    total, batch_size = 0.0, 500
    for start in range(0, len(split), batch_size):
        x = split.batch(slice(start, start + batch_size))
        total = total + len(x) * step(model, objective, x, num_samples)[1]
    return total / len(split)


def _describe(statistics: list[float]) -> dict[str, str]:
    """Format the bound and the information per level for the progress bar."""
    shown = {"elbo": statistics[1]}
    shown |= {f"z_{l}": value for l, value in enumerate(statistics[3:], start=1)}
    return {name: f"{value:.1f}" for name, value in shown.items()}


@contextlib.contextmanager
def _prepared(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[nn.Module, torch.optim.Optimizer]]:
    """Wrap model and optimiser for device, precision and processes; unwrap at the end."""
    network, optimizer = accelerator.prepare(model, optimizer)
    try:
        yield network, optimizer
    finally:
        accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        model.__dict__.pop("_is_accelerate_prepared", None)  # or the next fit will not wrap it


def _check_finite(statistics: list[float], epoch: int) -> list[float]:
    if not all(map(math.isfinite, statistics)):
        raise FloatingPointError(
            f"the objective is no longer finite in epoch {epoch} ({_describe(statistics)}); "
            "lower learning_rate, or check the data for outliers"
        )
    return statistics


def fit(
    model: HierarchicalVAE,
    data: DataSet,
    *,
    objective: Objective = elbo,
    num_samples: int = 1,
    epochs: int = 100,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    prior_learning_rate: float | None = None,
    decay: float = 0.0,
    decay_shape: str = "linear",
    averaging: float = 0.0,
    compiled: bool = False,
    patience: int | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> History:
    """Train a model; afterwards it holds the weights of its best validation epoch.

    This also holds after an interruption or an error; before the first epoch ends the weights are
    unchanged.

    The random numbers of an epoch depend only on the seed, the epoch and the process, so a run
    that is resumed from its checkpoint gives the same weights as an uninterrupted one.

    Args:
        model: the model, changed in place.
        data: the data set; moved to the accelerator's device as bytes.
        objective: what to maximise, a function of trace and data. Validation uses the final form
            of `hvae_course.objectives.warm_up.WarmUp` and
            `hvae_course.objectives.constrained.Constrained`, whose state is reset first.
        num_samples: K, draws of the latents per example.
        epochs: total number of epochs, including epochs before resuming; a longer checkpoint is
            left unchanged.
        batch_size: examples per step over all processes; a smaller last batch is dropped (other
            examples in every epoch, because the order is shuffled).
        learning_rate: step size of Adam.
        prior_learning_rate: step size for the prior over the top level; None for the same one.
        decay: last share of the epochs, over which both step sizes fall towards zero.
        decay_shape: ``"linear"`` or ``"cosine"``.
        averaging: decay per step of a moving average of the weights, such as 0.999; the average
            is validated and kept instead of the weights. 0 for none.
        compiled: whether to compile the step (`hvae_course.training.step`), which takes some
            seconds at the start and makes later steps faster; needs a C++ compiler. Results agree
            with those of the plain step up to rounding.
        patience: stop after this many epochs without a better validation objective, counted from
            the end of the warm-up at the earliest; None never stops early.
        seed: seed of the run.
        checkpoint: file to save to after every epoch, and to resume from if it exists.
        accelerator: device, precision and processes; by default chosen by Accelerate.
        progress: whether to show a progress bar.

    Returns:
        Bound, reconstruction and information per level of every epoch.

    Raises:
        ValueError: if a setting is out of range, the model was built for other data, or the
            checkpoint belongs to a run with other settings.
        FloatingPointError: if the objective is no longer finite.

    Warns:
        ConstraintNeverMet: if a constrained objective never met its constraint.
    """
    accelerator = accelerator or Accelerator()
    prior_rate = learning_rate if prior_learning_rate is None else prior_learning_rate
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "prior_learning_rate": prior_rate,
        "decay": decay,
        "decay_shape": decay_shape,
        "averaging": averaging,
        "compiled": compiled,
        "decays_until": epochs if decay else None,
        "num_samples": num_samples,
        "seed": seed,
        "data": str(data),
        "objective": describe(objective),
        "num_processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
    }
    check_settings(settings, epochs=epochs, patience=patience)
    forward = compile_step(accelerator.device) if compiled else step
    data = data.to(accelerator.device)
    with isolated_random(accelerator.device):
        check_data(model, data, data.train, data.validation)
    history = History()
    resumed = load_checkpoint(checkpoint) if checkpoint and Path(checkpoint).exists() else None
    best, best_objective, start = copy.deepcopy(model.state_dict()), -float("inf"), 0

    model.to(accelerator.device)
    rates = {name: settings[name] for name in ("learning_rate", "prior_learning_rate")}
    optimizer = torch.optim.Adam(parameter_groups(model, **rates), fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    average = MovingAverage(model, averaging) if averaging else None
    constrained = isinstance(objective, Constrained)
    if constrained:
        objective.to(accelerator.device).reset()
    if resumed is not None:
        check_same_run(resumed, settings | model.config, path=checkpoint)
        run, best = resumed.run, resumed.weights
        model.load_state_dict(run["weights"])
        optimizer.load_state_dict(run["optimizer"])
        if constrained:
            objective.load_state_dict(run["state"])
        if average is not None:
            average.load_state_dict(run["average"])
        history = History([tuple(row) for row in run["history"]], run["best_epoch"])
        best_objective, start = run["best_objective"], run["epoch"]

    check_same_start(start, accelerator)
    bar = tqdm(
        range(start + 1, epochs + 1),
        initial=start,
        total=epochs,
        unit="epoch",
        disable=not (progress and accelerator.is_main_process),
    )
    for_epoch = getattr(objective, "for_epoch", lambda _: objective)
    prepared = _prepared(accelerator, model, optimizer)
    phases = holding_back(objective, optimizer, list(model.prior.parameters()))
    try:
        with isolated_random(accelerator.device), prepared as (network, optimizer), phases:
            for epoch in bar:
                if out_of_patience(patience, epoch, history, objective):
                    break
                share = share_of_rate(epoch, epochs, decay=decay, shape=decay_shape)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * share
                seed_all(seed, epoch)  # one order for all processes
                order = torch.randperm(len(data.train), device=accelerator.device)
                seed_all(seed, epoch, 1 + accelerator.process_index)  # different noise in each
                goal = for_epoch(epoch)
                train = _train_epoch(
                    network,
                    optimizer,
                    data.train,
                    order,
                    objective=weights_on(goal, accelerator.device) if compiled else goal,
                    num_samples=num_samples,
                    batch_size=batch_size,
                    accelerator=accelerator,
                    average=average,
                    step=forward,
                )
                validated = network if average is None else average.model
                seed_all(seed, 0)  # the same noise in every validation
                validation = _validate(
                    validated, data.validation, objective=objective, num_samples=num_samples
                )
                # running statistics are each process's own, and all must stop at the same epoch
                validation = broadcast(validation).tolist()
                history.record(epoch, "train", _check_finite(train, epoch))
                history.record(epoch, "validation", _check_finite(validation, epoch))
                if constrained:
                    history.note(epoch, objective.report())
                if validation[0] > best_objective:
                    best_objective, history.best_epoch = validation[0], epoch
                    best = copy.deepcopy(accelerator.unwrap_model(validated).state_dict())
                bar.set_postfix(_describe(validation))
                if checkpoint and accelerator.is_main_process:
                    run = {
                        "epoch": epoch,
                        "best_epoch": history.best_epoch,
                        "best_objective": best_objective,
                        "weights": accelerator.unwrap_model(network).state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "history": history.rows,
                        "settings": settings,
                        "state": objective.state_dict() if constrained else None,
                        "average": average and average.state_dict(),
                    }
                    save_checkpoint(Checkpoint(model.config, best, run), checkpoint)
    finally:
        model.load_state_dict(best)
        model.eval()
        set_mode(objective, training=False)
    report_unmet(objective)
    return history
