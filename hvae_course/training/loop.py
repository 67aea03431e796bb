"""The training loop, for every model and objective of the course.

Read ``_train_epoch`` first: take a batch, walk the hierarchy and score it
(`hvae_course.training.step.step`), maximise the objective. Then read `fit`, which shuffles the
data, validates, keeps the best weights and saves checkpoints. Accelerate handles device, precision
and processes; within an epoch the loop never synchronises with the device.
"""

import contextlib
import copy
import functools
import hashlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from tqdm import tqdm

from hvae_course.compatibility import check_data, check_kinds
from hvae_course.config import Training, named_options
from hvae_course.data import DataSet, Split
from hvae_course.files import as_path
from hvae_course.hierarchy import HierarchicalVAE, Trace, evaluating
from hvae_course.machine import using
from hvae_course.objectives import Objective, as_objective, elbo
from hvae_course.objectives.base import module_of
from hvae_course.seeding import isolated_random, seed_all
from hvae_course.training.averaging import MovingAverage
from hvae_course.training.checkpoints import (
    Checkpoint,
    check_same_run,
    checkpoint_file,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from hvae_course.training.guards import (
    check_first,
    check_objective,
    check_sizes,
    evaluate_frozen,
    identity_in,
    unchanged,
    warn_if_bound_falls,
    warn_if_idle,
    warn_that_it_cannot_resume,
    warn_that_its_state_is_lost,
)
from hvae_course.training.history import History
from hvae_course.training.optimisers import Skipping, clip_gradient, make_optimiser, set_rates
from hvae_course.training.step import Step, compile_step, step

WRAPPING = ("forward", "_original_forward", "_is_accelerate_prepared")
"""Attributes that Accelerate gives to a model.

:meta hide-value:
"""

LEVELS_SHOWN = 6
"""Largest number of levels whose information the progress bar shows one by one.

:meta hide-value:
"""

AfterEpoch = Callable[[int, HierarchicalVAE, History], object]
"""A function that is called with the number of an epoch, the model and the history so far."""


def _batch_size(num_examples: int, training: Training, accelerator: Accelerator) -> int:
    """Examples per step, which all processes share; at most as many as there are."""
    return min(training.batch_size, num_examples - num_examples % accelerator.num_processes)


def _batches(order: Tensor, training: Training, accelerator: Accelerator) -> Iterator[Tensor]:
    """Cut an order into batches of equal size; each process gets its share of every batch."""
    size = _batch_size(len(order), training, accelerator)
    for start in range(0, len(order) - size + 1, size):
        index = order[start : start + size]
        yield index[accelerator.process_index :: accelerator.num_processes]


def _batch(
    split: Split, index: Tensor | slice, model: HierarchicalVAE
) -> tuple[Tensor, Tensor | None]:
    """Examples in the type of a model's weights, and their labels if it is conditional."""
    x = split.batch(index).to(model.dtype)
    return x, None if model.num_classes is None else split.labels[index]


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: Split,
    order: Tensor,
    *,
    objective: Objective,
    training: Training,
    accelerator: Accelerator,
    average: MovingAverage | None = None,
    skipping: Skipping | None = None,
    warm_up: Callable[[int], object] | None = None,
    step: Step = step,
    first: bool = False,
) -> list[float]:
    """Train for one epoch and return the statistics, averaged over its steps."""
    model.train()
    evaluate_frozen(model)
    objective.train()
    bare = accelerator.unwrap_model(model)
    skipping = Skipping(training) if skipping is None else skipping
    total, steps, skipped, norms = 0.0, 0, 0, []
    for index in _batches(order, training, accelerator):
        optimizer.zero_grad()
        if warm_up is not None:
            warm_up(steps + 1)
        x, y = _batch(split, index, bare)
        value, statistics = step(model, objective, x, training.num_samples, y)
        if first and not steps:
            check_first(value, bare)
        accelerator.backward(-value)
        norm = clip_gradient(model, training, accelerator)
        if skipping.takes(norm, scaler=accelerator.scaler):
            optimizer.step()
            if average is not None:
                average.update(model)
        else:
            skipped += 1
            if accelerator.scaler is not None:
                accelerator.scaler.update()  # as a step would have done
        if training.skip_norm is not None:
            norms.append(norm)
        total, steps = total + statistics, steps + 1
    warn_if_idle(norms, skipped, training)
    return accelerator.reduce(total / steps, "mean").tolist()  # the only wait for the device


@torch.no_grad()
def _validate(
    model: nn.Module, split: Split, *, objective: Objective, num_samples: int, bare: nn.Module
) -> Tensor:
    """Compute the same statistics on a split, in evaluation mode."""
    model.eval()
    objective.train(False)
    module = module_of(objective)
    total, batch_size = 0.0, 500
    with contextlib.nullcontext() if module is None else evaluating(module):
        for start in range(0, len(split), batch_size):
            x, y = _batch(split, slice(start, start + batch_size), bare)
            total = total + len(x) * step(model, objective, x, num_samples, y)[1]
    return total / len(split)


def _describe(statistics: list[float]) -> dict[str, str]:
    """Format the bound and the information for the progress bar, per level if they fit."""
    shown, levels = {"elbo": statistics[1]}, statistics[3:]
    if len(levels) > LEVELS_SHOWN:
        shown["information"] = sum(levels)
    else:
        shown |= {f"z_{l}": value for l, value in enumerate(levels, start=1)}
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
        model.zero_grad()
        for kept in (accelerator._models, accelerator._optimizers):  # or they live for as long
            kept[:] = [one for one in kept if one is not network and one is not optimizer]


@contextlib.contextmanager
def _unwrapped(model: nn.Module) -> Iterator[None]:
    """Take off what `_prepared` put around a model, or copies of it would keep the precision."""
    held = {name: model.__dict__.get(name) for name in WRAPPING if name in model.__dict__}
    for name in held.keys() - {"forward"}:
        del model.__dict__[name]
    if "_original_forward" in held:
        model.forward = held["_original_forward"]
    try:
        yield
    finally:
        model.__dict__.update(held)


def _check_finite(statistics: list[float], epoch: int) -> list[float]:
    if not all(map(math.isfinite, statistics)):
        raise FloatingPointError(
            f"the objective is no longer finite in epoch {epoch} ({_describe(statistics)}); "
            "lower learning_rate, or check the data for outliers"
        )
    return statistics


def _out_of_patience(epoch: int, training: Training, history: History, settled: float) -> bool:
    """Whether ``patience`` epochs have passed since the best one or the end of warm-up."""
    if training.patience is None:
        return False
    return epoch - 1 - max(history.best_epoch, settled) >= training.patience


def _settings(
    training: Training,
    model: HierarchicalVAE,
    data: DataSet,
    *,
    objective: Objective,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Everything that a resumed run must have in common with the run before."""
    settings = asdict(training)
    for free in ("epochs", "patience"):  # a run may go on for longer
        del settings[free]
    if training.prior_learning_rate is None:
        settings["prior_learning_rate"] = training.learning_rate
    if not model.config:  # which otherwise says more
        settings["model_content"] = hashlib.sha256(repr(model).encode()).hexdigest()
    return settings | {
        "decays_until": training.epochs if training.decay else None,
        "data": str(data),
        "data_content": data.fingerprint(),
        "objective": objective.description,
        "objective_content": objective.identity,
        "num_processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "weights": str(model.dtype),
    }


def _restore(
    checkpoint: Checkpoint,
    model: HierarchicalVAE,
    optimizer: torch.optim.Optimizer,
    *,
    objective: Objective,
    average: MovingAverage | None,
    path: str | Path,
) -> None:
    """Load the state of a run, or leave the model as it is if something does not fit."""
    before, run = copy.deepcopy(model.state_dict()), checkpoint.run
    try:
        for weights in (checkpoint.weights, run["weights"]):
            load_weights(model, weights, source=path)
        optimizer.load_state_dict(run["optimizer"])
        for parameter, state in optimizer.state.items():
            shapes = {value.shape for value in state.values() if value.dim()}
            if shapes - {parameter.shape}:
                raise ValueError("the optimiser's state belongs to parameters of other shapes")
        if run["state"] is not None:
            objective.load_state_dict(run["state"])
        if average is not None:
            average.load_state_dict(run["average"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        model.load_state_dict(before)
        reason = "; ".join(line.strip() for line in str(error).splitlines()[:3])
        raise ValueError(
            f"{path} does not fit this model and its training ({reason}); build the model as it "
            "was built for that run, or choose another checkpoint file"
        ) from error


def _check_same_start(epoch: int, accelerator: Accelerator) -> None:
    """Require all processes to resume from the same epoch (otherwise they deadlock)."""
    epochs = accelerator.gather(torch.tensor([epoch], device=accelerator.device)).tolist()
    if len(set(epochs)) > 1:
        raise ValueError(
            f"the processes found checkpoints of different epochs, {epochs}; put the checkpoint "
            "into a folder that all of them share"
        )


def fit(
    model: HierarchicalVAE,
    data: DataSet,
    training: Training | None = None,
    *,
    objective: Objective | Callable[[Trace, Tensor], Tensor] = elbo,
    checkpoint: str | Path | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    after_epoch: AfterEpoch | None = None,
    **options: Any,  # noqa: ANN401
) -> History:
    """Train a model; afterwards it holds the weights of its best validation epoch.

    This also holds after an interruption or an error; before the first epoch ends the weights are
    unchanged.

    The random numbers of an epoch depend only on the seed, the epoch and the process, so a run
    that is resumed from its checkpoint gives the same weights as an uninterrupted one.

    Args:
        model: the model, changed in place.
        data: the data set; moved to the accelerator's device as bytes.
        training: how to train; by default made from the options.
        objective: what to maximise, an objective or a function of trace and data. Validation uses
            its final form; a state that it has is reset first.
        checkpoint: file to save to after every epoch, and to resume from if it exists. A
            checkpoint of more epochs is left unchanged. It belongs to one model, one objective
            and one content of the data, and is refused with others.
        accelerator: device, precision and processes; by default those of a new ``Accelerator()``,
            whatever accelerators were made before.
        progress: whether to show a progress bar.
        after_epoch: called as ``after_epoch(epoch, model, history)`` when an epoch has been saved,
            in the main process, for instance to log numbers or draw samples. The model has the
            weights that were validated and is in evaluation mode, without gradients; neither the
            weights nor random numbers drawn there change the run.
        **options: fields of `hvae_course.config.training.Training`, such as ``epochs=60``.

    Returns:
        Bound, reconstruction and information per level of every epoch.

    Raises:
        ValueError: if a setting is out of range, the model was built for other data, the
            objective does not return one value per example, or the checkpoint belongs to a run
            with other settings.
        TypeError: if there is no such option, or both an object and options are given.
        FloatingPointError: if the objective is no longer finite.
        RuntimeError: if ``after_epoch`` changes the model.

    Warns:
        ConstraintNeverMet: if a constrained objective never met its constraint.
        BoundFalls: if the ELBO falls while the objective rises.
        CannotResume: if the objective cannot be identified, or changes without saving its state.
        NoSteps: if every gradient of an epoch was longer than ``skip_norm``.
        FewExamples: if the training split is smaller than a batch.
    """
    if training is not None and options:
        raise TypeError(f"give options or a Training object, got both: {', '.join(options)}")
    training = named_options(Training, options, of="fit") if training is None else training
    if not isinstance(training, Training):
        raise TypeError(
            f"training is a hvae_course.config.Training object, got {training!r}; or give options "
            "such as epochs=60"
        )
    if after_epoch is not None and not callable(after_epoch):
        raise TypeError(f"after_epoch is a function (epoch, model, history), got {after_epoch!r}")
    check_kinds(model, data)
    check_objective(objective := as_objective(objective), training.num_samples)
    with torch.inference_mode(False), torch.enable_grad(), using(accelerator) as accelerator:
        return _run(
            model,
            data,
            training,
            objective=objective,
            checkpoint=checkpoint,
            accelerator=accelerator,
            progress=progress and accelerator.is_main_process,
            after_epoch=after_epoch if accelerator.is_main_process else None,
        )


def _run(
    model: HierarchicalVAE,
    data: DataSet,
    training: Training,
    *,
    objective: Objective,
    checkpoint: str | Path | None,
    accelerator: Accelerator,
    progress: bool,
    after_epoch: AfterEpoch | None,
) -> History:
    """Train with an accelerator that is in use."""
    device, seed, epochs = accelerator.device, training.seed, training.epochs
    resumed, settings = None, {}
    if checkpoint is not None:
        settings = _settings(training, model, data, objective=objective, accelerator=accelerator)
        checkpoint = as_path(checkpoint)
        resumed = load_checkpoint(checkpoint) if checkpoint.exists() else None
    forward = compile_step(device) if training.compiled else step
    data = data.to(device)
    with isolated_random(device):
        check_data(model, data, data.train, data.validation)
    check_sizes(training, len(data.train), accelerator.num_processes)
    if resumed is not None:
        check_same_run(resumed, settings, model.config, path=checkpoint)
    elif checkpoint is not None and settings["objective_content"] is None:
        warn_that_it_cannot_resume(checkpoint, settings["objective"])
    history = History()
    best, best_objective, start = copy.deepcopy(model.state_dict()), -float("inf"), 0

    model.to(device)
    optimizer = make_optimiser(model, training)
    chosen_rates = functools.partial(
        set_rates,
        num_steps=len(data.train) // _batch_size(len(data.train), training, accelerator),
        optimizer=optimizer,
        rates=[group["lr"] for group in optimizer.param_groups],
        training=training,
    )
    average = MovingAverage(model, training.averaging) if training.averaging else None
    skipping = Skipping(training)
    objective.begin(device)
    if resumed is not None:
        _restore(resumed, model, optimizer, objective=objective, average=average, path=checkpoint)
        skipping.load_state_dict(resumed.run.get("skipping", skipping.state_dict()))
        run, best = resumed.run, resumed.weights
        history = History([tuple(row) for row in run["history"]], run["best_epoch"])
        best_objective, start = run["best_objective"], run["epoch"]
    saved = checkpoint is None or objective.state_dict() is not None
    begun = None if saved else identity_in(objective, start + 2)

    _check_same_start(start, accelerator)
    ended = start >= epochs or _out_of_patience(start + 1, training, history, objective.duration)
    if resumed is not None and accelerator.is_main_process and (ended or progress):
        _say_what_was_loaded(checkpoint, epochs, history, start, ended=ended)
    bar = tqdm(
        range(start + 1, epochs + 1),
        initial=start,
        total=epochs,
        unit="epoch",
        disable=ended or not progress,
    )
    prepared = _prepared(accelerator, model, optimizer)
    holding_back = objective.holding_back(optimizer, list(model.prior.parameters()))
    try:
        if checkpoint is not None and not ended:
            kept = {"config": model.config, "settings": settings, "state": objective.state_dict()}
            checkpoint_file(checkpoint, best, kept)
        with isolated_random(device), prepared as (network, optimizer), holding_back:
            for epoch in bar:
                if _out_of_patience(epoch, training, history, objective.duration):
                    break
                warm_up = functools.partial(chosen_rates, epoch=epoch)
                warm_up(1)
                seed_all(seed, epoch)  # one order for all processes
                order = torch.randperm(len(data.train), device=device)
                seed_all(seed, epoch, 1 + accelerator.process_index)  # different noise in each
                goal = objective.for_epoch(epoch)
                train = _train_epoch(
                    network,
                    optimizer,
                    data.train,
                    order,
                    objective=goal.on(device) if training.compiled else goal,
                    training=training,
                    accelerator=accelerator,
                    average=average,
                    skipping=skipping,
                    warm_up=warm_up if training.rate_warm_up else None,
                    step=forward,
                    first=epoch == start + 1,
                )
                validated = network if average is None else average.model
                seed_all(seed, 0)  # the same noise in every validation
                validation = _validate(
                    validated,
                    data.validation,
                    objective=objective,
                    num_samples=training.num_samples,
                    bare=model,
                )
                # running statistics are each process's own, and all must stop at the same epoch
                validation = broadcast(validation).tolist()
                history.record(epoch, "train", _check_finite(train, epoch))
                history.record(epoch, "validation", _check_finite(validation, epoch))
                history.note(epoch, objective.report())
                if validation[0] > best_objective:
                    best_objective, history.best_epoch = validation[0], epoch
                    best = copy.deepcopy(accelerator.unwrap_model(validated).state_dict())
                bar.set_postfix(_describe(validation))
                if checkpoint is not None and accelerator.is_main_process:
                    run = {
                        "epoch": epoch,
                        "best_epoch": history.best_epoch,
                        "best_objective": best_objective,
                        "weights": accelerator.unwrap_model(network).state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "history": history.rows,
                        "settings": settings,
                        "state": objective.state_dict(),
                        "average": average and average.state_dict(),
                        "skipping": skipping.state_dict(),
                    }
                    save_checkpoint(Checkpoint(model.config, best, run), checkpoint)
                if epoch == min(3, epochs):
                    warn_if_bound_falls(history, epoch, objective)
                if after_epoch is not None:
                    shown = model if average is None else average.model
                    with (
                        unchanged(model, shown),
                        isolated_random(device),
                        torch.no_grad(),
                        _unwrapped(model),
                    ):
                        after_epoch(epoch, shown, History([*history.rows], history.best_epoch))
                if begun and epoch == start + 1 and identity_in(objective, epoch + 1) != begun:
                    warn_that_its_state_is_lost(checkpoint, settings["objective"])
    finally:
        model.load_state_dict(best)
        model.eval()
        objective.train(False)
    objective.finish()
    return history


def _say_what_was_loaded(
    path: str | Path, epochs: int, history: History, after: int, *, ended: bool
) -> None:
    """Say in one line that a run is resumed, or that nothing is left to train."""
    run = f"{after} epochs" if epochs == after else f"{after} epochs ({epochs} were asked for)"
    if after < epochs:
        run += ", out of patience"
    done = (
        f"{path} holds the finished run of {run}; its best weights (epoch {history.best_epoch}) "
        "were loaded, nothing was trained"
    )
    tqdm.write(done if ended else f"resuming {path} after epoch {after}", file=sys.stderr)
