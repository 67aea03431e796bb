"""One plain training loop, for every model and objective of the course.

Read ``_train_epoch`` first: take a batch, walk the hierarchy, maximise the objective. Then `fit`,
which orders the data, validates, keeps the best weights and saves. Accelerate moves both to any
device, precision and number of processes; within an epoch nothing waits for the device.
"""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives import elbo
from hvae_course.seeding import isolated_random, seed_all
from hvae_course.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from hvae_course.training.history import History, batch_statistics

Objective = Callable[[Trace, Tensor], Tensor]
"""A function ``(trace, x) -> (B,)`` in nats per example, to be maximised.

One that changes during training also has ``for_epoch(epoch)``, the objective of that epoch, and
``duration``, the epoch after which it stays the same. Calling it gives the final one.
"""


def _name(objective: Objective) -> str:
    """How a checkpoint recognises an objective: its name, or its settings where it has some."""
    if dataclasses.is_dataclass(objective):
        return repr(objective)
    return getattr(objective, "__name__", type(objective).__name__)


def _batches(order: Tensor, batch_size: int, accelerator: Accelerator) -> Iterator[Tensor]:
    """Cut an order into batches of one size and give each process its share of each."""
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
) -> list[float]:
    """One pass over the training data; what was logged, averaged over its steps."""
    model.train()
    total, steps = 0.0, 0
    for index in _batches(order, batch_size, accelerator):
        x = split.batch(index)
        trace = model(x, num_samples)
        value = objective(trace, x)
        optimizer.zero_grad()
        accelerator.backward(-value.mean())
        optimizer.step()
        total, steps = total + batch_statistics(trace, x, value), steps + 1
    return accelerator.reduce(total / steps, "mean").tolist()  # the only wait for the device


@torch.no_grad()
def _validate(
    model: nn.Module, split: Split, *, objective: Objective, num_samples: int
) -> list[float]:
    """The same quantities on a split, in evaluation mode."""
    model.eval()
    total, batch_size = 0.0, 500
    for start in range(0, len(split), batch_size):
        x = split.batch(slice(start, start + batch_size))
        trace = model(x, num_samples)
        total = total + len(x) * batch_statistics(trace, x, objective(trace, x))
    return (total / len(split)).tolist()


def _describe(statistics: list[float]) -> dict[str, str]:
    """The bound and the information per level, for the progress bar."""
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
        model.__dict__.pop("_is_accelerate_prepared", None)  # else the next fit would not wrap it


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
    patience: int | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> History:
    """Train a model; afterwards it holds the weights of its best validation epoch.

    So it does after an interruption or an error; before the first epoch these are its weights.

    The random numbers of an epoch follow from the seed, the epoch and the process alone, so a run
    that is interrupted and resumed from its checkpoint gives the same weights as one that is not.

    Args:
        model: the model, changed in place.
        data: the data set; moved to the accelerator's device as bytes.
        objective: what to maximise, a function of trace and data; a checkpoint knows it by name.
            One that changes with the epoch (`hvae_course.objectives.warm_up.WarmUp`) is validated
            as what it becomes in the end.
        num_samples: K, draws of the latents per example.
        epochs: number of epochs in all, those before a resumption included.
        batch_size: examples per step over all processes; a smaller last batch is left out of the
            epoch (another one each epoch, because the order is new).
        learning_rate: step size of Adam.
        patience: stop after so many epochs without a better validation objective, counted from
            the epoch in which the objective has become what it stays.
        seed: seed of the run.
        checkpoint: file to save to after every epoch, and to resume from if it is there.
        accelerator: device, precision and processes; by default what Accelerate finds.
        progress: whether to show a progress bar.

    Returns:
        Bound, reconstruction and information per level of every epoch.

    Raises:
        ValueError: if a setting is out of range, the data are outside the likelihood's support, or
            the checkpoint is of a run with other settings.
        FloatingPointError: if the objective is no longer finite.
    """
    accelerator = accelerator or Accelerator()
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "num_samples": num_samples,
        "seed": seed,
        "data": str(data),
        "objective": _name(objective),
        "num_processes": accelerator.num_processes,
    }
    _check_settings(settings, epochs=epochs, patience=patience)
    data = data.to(accelerator.device)
    with isolated_random(accelerator.device):
        model.top_down.likelihood.check(data.train.batch(slice(0, batch_size)))
    history = History()
    resumed = load_checkpoint(checkpoint) if checkpoint and Path(checkpoint).exists() else None
    best, best_objective, start = copy.deepcopy(model.state_dict()), -float("inf"), 0

    model.to(accelerator.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    if resumed is not None:
        _check_same_run(resumed, settings | model.config, path=checkpoint)
        run, best = resumed.run, resumed.weights
        model.load_state_dict(run["weights"])
        optimizer.load_state_dict(run["optimizer"])
        history = History([tuple(row) for row in run["history"]], run["best_epoch"])
        best_objective, start = run["best_objective"], run["epoch"]

    bar = tqdm(
        range(start + 1, epochs + 1),
        initial=start,
        total=epochs,
        unit="epoch",
        disable=not (progress and accelerator.is_main_process),
    )
    for_epoch = getattr(objective, "for_epoch", lambda _: objective)
    settled = getattr(objective, "duration", 0)  # patience counts from here
    prepared = _prepared(accelerator, model, optimizer)
    try:
        with isolated_random(accelerator.device), prepared as (network, optimizer):
            for epoch in bar:
                if (
                    patience is not None
                    and epoch - 1 - max(history.best_epoch, settled) >= patience
                ):
                    break
                seed_all(seed, epoch)  # one order for all processes
                order = torch.randperm(len(data.train), device=accelerator.device)
                seed_all(seed, epoch, 1 + accelerator.process_index)  # noise of its own in each
                train = _train_epoch(
                    network,
                    optimizer,
                    data.train,
                    order,
                    objective=for_epoch(epoch),
                    num_samples=num_samples,
                    batch_size=batch_size,
                    accelerator=accelerator,
                )
                seed_all(seed, 0)  # the same noise in every validation
                validation = _validate(
                    network, data.validation, objective=objective, num_samples=num_samples
                )
                history.record(epoch, "train", _check_finite(train, epoch))
                history.record(epoch, "validation", _check_finite(validation, epoch))
                if validation[0] > best_objective:
                    best_objective, history.best_epoch = validation[0], epoch
                    best = copy.deepcopy(accelerator.unwrap_model(network).state_dict())
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
                    }
                    save_checkpoint(Checkpoint(model.config, best, run), checkpoint)
    finally:
        model.load_state_dict(best)
        model.eval()
    return history


def _check_settings(settings: dict[str, Any], *, epochs: int, patience: int | None) -> None:
    """Refuse settings that cannot be right before any work starts."""
    counts = {name: settings[name] for name in ("batch_size", "num_samples")}
    counts |= {"epochs": epochs, "patience": 1 if patience is None else patience}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not settings["learning_rate"] > 0:
        raise ValueError(f"learning_rate must be positive, got {settings['learning_rate']}")
    if settings["batch_size"] % settings["num_processes"]:
        raise ValueError(
            f"batch_size={settings['batch_size']} cannot be shared equally by "
            f"{settings['num_processes']} processes; choose a multiple"
        )


def _check_same_run(checkpoint: Checkpoint, settings: dict[str, Any], *, path: str | Path) -> None:
    """Refuse to go on with a run of another model or with other settings."""
    if "settings" not in checkpoint.run:
        raise ValueError(f"{path} holds weights alone and cannot be resumed; choose another file")
    before = checkpoint.run["settings"] | checkpoint.config
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        listed = ", ".join(f"{n} was {before.get(n)!r} and is {settings[n]!r}" for n in changed)
        raise ValueError(
            f"{path} belongs to a run with other settings: {listed}. Resume with the same ones, "
            "or choose another checkpoint file"
        )
