"""Checks of what a training run is given, and warnings about what it does with it.

What can be seen from shapes and types is an error in the first step. What only the numbers show is
a warning.
"""

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from hvae_course.config import IWAE_OF_ONE, Training, cut
from hvae_course.hierarchy.trace import Trace
from hvae_course.objectives import Objective, importance_weighted
from hvae_course.training.history import History


class BoundFalls(UserWarning):
    """The ELBO becomes worse while the objective improves: a sign of the objective is wrong."""


class NoSteps(UserWarning):
    """Every gradient of an epoch was longer than ``skip_norm``."""


class CannotResume(UserWarning):
    """A run cannot be resumed as it was: its objective is not identified, or not saved."""


class FewExamples(UserWarning):
    """The training split is smaller than a batch."""


def check_value(value: Tensor, trace: Trace, x: Tensor) -> Tensor:
    """Check what an objective returns by its shape and type, without waiting for the device.

    Args:
        value: what the objective returned.
        trace: the trace it was given.
        x: the batch it was given, ``(B, D)``.

    Returns:
        The value.

    Raises:
        TypeError: if it is not a tensor of floating-point numbers.
        ValueError: if it does not have the shape ``(B,)``, or no gradients in training.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        given = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            "an objective returns a tensor of floating-point numbers of shape (B,), one value in "
            f"nats per example, to be maximised; got {given}"
        )
    size, draws = len(x), trace.num_samples
    if value.shape != (size,):
        if value.dim() == 0:
            hint = "do not take the mean over the batch"
        elif value.shape == (size * draws,):
            hint = f"average over the {draws} draws, value.unflatten(0, (-1, {draws})).mean(1)"
        else:
            hint = "sum over all axes but the first"
        raise ValueError(
            f"an objective returns one value per example, shape ({size},), got the shape "
            f"{tuple(value.shape)}; {hint}"
        )
    if torch.is_grad_enabled() and not value.requires_grad:
        raise ValueError(
            "the objective has no gradient with respect to the weights; compute it from the trace "
            "without detach() or no_grad(), and leave some parameters trainable"
        )
    return value


def check_objective(objective: Objective, num_samples: int) -> None:
    """Refuse the importance-weighted bound with one draw.

    Args:
        objective: the objective.
        num_samples: K, draws per example.

    Raises:
        ValueError: if it would be the ELBO.
    """
    if num_samples == 1 and getattr(objective, "function", None) is importance_weighted:
        raise ValueError(IWAE_OF_ONE)


def check_first(value: Tensor, model: nn.Module) -> None:
    """Check the first value of an objective, and what it depends on; waits for the device.

    Args:
        value: mean over the batch, ``()``.
        model: the model.

    Raises:
        FloatingPointError: if the value is not finite.
        ValueError: if it has gradients for parameters that are not the model's, which no optimiser
            would move.
    """
    trained, seen, waiting = {id(p) for p in model.parameters()}, set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in trained:
            raise ValueError(
                f"the objective has parameters of its own, one of the shape {tuple(leaf.shape)}, "
                "and fit trains those of the model; make them part of the model, or call "
                "requires_grad_(False)"
            )
        waiting += [following for following, _ in node.next_functions]
    if not math.isfinite(number := value.item()):
        raise FloatingPointError(
            f"the objective is {number} in the first step, before any weight has changed; check "
            "the objective and the scale of the data"
        )


def check_sizes(training: Training, size: int, processes: int) -> None:
    """Compare the batch size with the training split and with the number of processes.

    Args:
        training: with the batch size.
        size: number of training examples.
        processes: number of processes.

    Raises:
        ValueError: if the processes cannot share a batch, or there are more of them than examples.
    """
    if training.batch_size % processes:
        raise ValueError(
            f"batch_size={training.batch_size} cannot be shared equally by {processes} processes; "
            "choose a multiple of their number"
        )
    if size < processes:
        raise ValueError(
            f"{size} training examples cannot be shared by {processes} processes; start fewer"
        )
    if size < training.batch_size:
        warnings.warn(
            f"batch_size={training.batch_size} is more than the {size} training examples, so that "
            f"every epoch is one step with all of them; choose batch_size={size} or less",
            FewExamples,
            stacklevel=4,
        )


def warn_that_it_cannot_resume(path: str | Path, objective: str) -> None:
    """Warn that the checkpoints of a run will not be resumed.

    Args:
        path: the checkpoint file.
        objective: description of the objective, whose code cannot be read.
    """
    warnings.warn(
        f"{path} will hold a run that cannot be resumed, because nothing identifies the objective "
        f"{cut(objective)}; define it with def in a file or a notebook cell, or as a subclass of "
        "hvae_course.objectives.Objective with its settings as attributes",
        CannotResume,
        stacklevel=4,
    )


def identity_in(objective: Objective, epoch: int) -> str | None:
    """Give what identifies an objective in an epoch, without changing it.

    Args:
        objective: the objective.
        epoch: counted from 1.

    Returns:
        The text; None if it cannot be copied or identified.
    """
    try:
        objective = copy.deepcopy(objective)
        objective.for_epoch(epoch)
    except Exception:  # of an objective that holds a part of a graph, or has no such epoch
        return None
    return objective.identity


def warn_that_its_state_is_lost(path: str | Path, objective: str) -> None:
    """Warn that a resumed run will differ from an uninterrupted one.

    Args:
        path: the checkpoint file.
        objective: description of the objective, which changes.
    """
    warnings.warn(
        f"the objective {objective.partition('(')[0]} changes during training and does not save "
        f"its state, so that to resume from {path} is refused, or differs from a run without "
        "interruption: let for_epoch set what changes, or define state_dict and load_state_dict "
        "in a subclass of hvae_course.objectives.Objective; keep logs outside, or reset them in "
        "begin()",
        CannotResume,
        stacklevel=4,
    )


def warn_if_idle(norms: Sequence[Tensor], skipped: int, training: Training) -> None:
    """Warn if no gradient of an epoch was short enough.

    Args:
        norms: norms of the gradients of the epoch; none if they are not limited.
        skipped: number of steps that were skipped.
        training: with the largest norm.
    """
    if not norms or (lengths := torch.stack([*norms])).le(training.skip_norm).any():
        return
    taken = len(norms) - skipped
    what = f"skipped {skipped} steps of an epoch and scaled the gradients of {taken} down"
    if not taken:
        what = f"skipped all {skipped} steps of an epoch, so that no weight changed"
    finite = lengths[lengths.isfinite()]
    found = "none of the gradients is finite; lower learning_rate, or check the data for outliers"
    if len(finite):
        found = (
            f"the smallest gradient has the norm {finite.min().item():.4g}, the median is "
            f"{finite.median().item():.4g}; choose a skip_norm far above them"
        )
    warnings.warn(f"skip_norm={training.skip_norm:g} {what}: {found}", NoSteps, stacklevel=5)


def warn_if_bound_falls(history: History, epochs: int, objective: Objective) -> None:
    """Warn if the first epochs look as if a sign of the objective were wrong.

    Whatever weights an objective gives to the information of the levels, as long as they are not
    negative: while the information rises, it cannot gain more than the reconstruction does. And
    while the information hardly changes, it does not gain what the reconstruction loses. The
    objectives of the package, whose weights change during training, are not looked at.

    Args:
        history: after the last of these epochs.
        epochs: how many, at least two for a comparison.
        objective: what was maximised.
    """
    function = getattr(objective, "function", objective)
    if str(getattr(function, "__module__", None)).startswith("hvae_course.objectives"):
        return
    values = {name: [0.0] * epochs for name in ("objective", "elbo", "reconstruction")}
    for epoch, split, quantity, _, value in history.rows:
        if split == "train" and epoch <= epochs and quantity in values:
            values[quantity][epoch - 1] = value
    gain, bound, reconstruction = (series[-1] - series[0] for series in values.values())
    more = reconstruction > bound and gain - reconstruction > (gain - bound) / 4
    mirrored = max(abs(gain + reconstruction), abs(reconstruction - bound)) < -reconstruction / 3
    if bound < 0 < gain and (more or mirrored):
        elbo, gains = values["elbo"], values["objective"]
        warnings.warn(
            f"in the first {epochs} epochs the ELBO fell from {elbo[0]:.4g} to {elbo[-1]:.4g} "
            f"while the objective rose from {gains[0]:.4g} to {gains[-1]:.4g}. fit maximises the "
            "objective: return the bound and not the loss, or check the signs of its terms",
            BoundFalls,
            stacklevel=4,
        )


def evaluate_frozen(part: nn.Module) -> None:
    """Switch parts whose parameters are all frozen to evaluation mode.

    In training mode batch normalisation would change their running statistics.

    Args:
        part: the model, or a part of it.
    """
    flags = {p.requires_grad for p in part.parameters()}
    if flags == {False}:
        part.eval()
    elif False in flags:
        for child in part.children():
            evaluate_frozen(child)


@contextlib.contextmanager
def unchanged(*models: nn.Module) -> Iterator[None]:
    """Require a block to leave the weights of models, and which of them are trained, alone.

    Args:
        *models: the models.

    Yields:
        None: nothing.

    Raises:
        RuntimeError: if they differ at the end.
    """
    both = nn.ModuleList(dict.fromkeys(models))

    def state() -> dict[str, Tensor]:
        return {name: value.clone() for name, value in both.state_dict().items()}

    def trained() -> list[tuple[str, bool]]:
        return [(name, p.requires_grad) for name, p in both.named_parameters()]

    before, flags = state(), trained()
    yield
    after = state()
    changed = [n for n in before if n not in after or not _same(before[n], after[n])]
    changed += [name for name, flag in flags if (name, flag) not in trained()]
    if changed:
        names = ", ".join(name.partition(".")[2] for name in changed[:3])
        raise RuntimeError(
            f"after_epoch has changed the model ({names}), so that the run could not be resumed "
            "from its checkpoint; work on copy.deepcopy(model)"
        )


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree, NaN included."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
