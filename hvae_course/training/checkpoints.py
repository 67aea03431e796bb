"""Checkpoints: weights and configuration in one file that is always complete.

A checkpoint is written to a temporary file beside its target and renamed, so an interruption
leaves either the old file or the new one. It holds only tensors, numbers and strings and is read
with ``weights_only=True``, so opening a file from an unknown source runs no code.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hvae_course.config import Model, Training, cut, differences, plain, take
from hvae_course.files import (
    check_writable,
    existing_file,
    read_tensors,
    storable,
    write_tensors,
)

FORMAT = 1
CONTENTS = {
    "data_content": "the data differ in content, although name and sizes agree",
    "objective_content": "the objective differs in its code or its settings, although its name "
    "is the same",
    "model_content": "the model has another architecture",
}
"""Settings that identify a content, and how to say that it differs.

:meta hide-value:
"""


class NotCompared(UserWarning):
    """A checkpoint of an earlier version does not say what its data contained."""


@dataclass
class Checkpoint:
    """State of a run after a whole number of epochs."""

    config: dict[str, Any]
    """What `hvae_course.recipes.models.build` needs to build the model."""
    weights: dict[str, torch.Tensor]
    """Weights with the best validation objective so far."""
    run: dict[str, Any] = field(default_factory=dict)
    """What `hvae_course.training.loop.fit` needs to resume; empty if only weights are kept."""
    format: int = FORMAT
    """Version of this layout."""


def save_checkpoint(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint atomically.

    Args:
        checkpoint: what to write.
        path: the file; its folder is created if needed.

    Raises:
        TypeError: if it holds something that cannot be read again; the message names its place.
        OSError: if the machine refuses it; the message names the file and what to do.
    """
    content = {entry.name: getattr(checkpoint, entry.name) for entry in fields(checkpoint)}
    write_tensors(content, path)


def checkpoint_file(
    path: str | Path, weights: Mapping[str, torch.Tensor], content: Mapping[str, Any]
) -> Path:
    """Require, before training, that checkpoints can be written, and read again.

    Args:
        path: the file.
        weights: weights of the model, whose size tells that of the file.
        content: what a checkpoint is to hold besides tensors.

    Returns:
        The file, with ``~`` as the home folder.

    Raises:
        TypeError: if something cannot be read again; the message names its place.
        OSError: if the file cannot be written; the message says why, and what to do.
    """
    storable(content)
    size = sum(values.nbytes for values in weights.values())
    return check_writable(path, size=4 * size)  # weights, the best ones, two moments of Adam


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, without running code from it.

    Args:
        path: a file that `save_checkpoint` wrote.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: if there is no such file.
        IsADirectoryError: if it is a folder.
        ValueError: if the file is not a checkpoint of this format.
    """
    path = existing_file(path, kind="checkpoint", hint="fit(..., checkpoint=path) writes one")
    content = read_tensors(path, kind="checkpoint")
    if not isinstance(content, dict) or "format" not in content:
        names = [*map(repr, content)] if isinstance(content, dict) else [type(content).__name__]
        names = names[:3] + ["..."] * (len(names) > 3)
        raise ValueError(
            f"{path} is not a checkpoint: it holds {', '.join(names) or 'nothing'}. "
            "fit(..., checkpoint=path) writes checkpoints; weights alone are read with "
            "model.load_state_dict(torch.load(path, weights_only=True))"
        )
    if content["format"] != FORMAT:
        raise ValueError(
            f"{path} has checkpoint format {content['format']!r}, this version reads {FORMAT}; "
            "train again, or use the version of hvae_course that wrote it"
        )
    expected = {entry.name for entry in fields(Checkpoint)}
    if set(content) != expected:
        raise ValueError(
            f"{path} holds {sorted(content)}, a checkpoint holds {sorted(expected)}; train again"
        )
    for name in ("config", "weights", "run"):
        if not isinstance(content[name], dict):
            kind = type(content[name]).__name__
            raise ValueError(f"{path} is damaged: {name} is a {kind}, not a mapping; train again")
    return Checkpoint(**content)


def load_weights(
    model: nn.Module, weights: Mapping[str, torch.Tensor], *, source: str | Path
) -> None:
    """Load weights into a model, or leave it as it is and say which of them do not fit.

    Args:
        model: the model, changed in place.
        weights: such as those of a checkpoint.
        source: where they are from, for the message.

    Raises:
        ValueError: if names or shapes differ; the message names the first three.
    """
    shapes = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    given = {name: tuple(getattr(values, "shape", ())) for name, values in weights.items()}
    wrong = [
        f"{name} is {given.get(name, 'missing')} and not {shapes.get(name, 'a part of the model')}"
        for name in (*shapes, *(given.keys() - shapes.keys()))
        if given.get(name) != shapes.get(name)
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"the weights of {source} do not fit the model: {', '.join(wrong[:3])}{more}. Build "
            "the model with the options that they were trained with"
        )
    model.load_state_dict(weights)


def check_same_run(
    checkpoint: Checkpoint,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    path: str | Path,
) -> None:
    """Require that a checkpoint belongs to this model, these data and these settings.

    Args:
        checkpoint: the checkpoint.
        settings: settings of this run; `CONTENTS` lists those that identify a content.
        config: ``config`` of this model.
        path: its file, for the message.

    Raises:
        ValueError: if it holds only weights, or belongs to another run, or the objective cannot be
            identified.

    Warns:
        NotCompared: if an earlier version wrote the file, without the contents.
    """
    if "settings" not in checkpoint.run:
        raise ValueError(f"{path} holds only weights and cannot be resumed; choose another file")
    if settings["objective_content"] is None:
        raise ValueError(
            f"{path} cannot be resumed with the objective {cut(settings['objective'])}, because "
            "its code cannot be read and compared; define it with def in a file or a notebook "
            "cell, or as a subclass of hvae_course.objectives.Objective with its settings as "
            "attributes"
        )
    recorded = checkpoint.run["settings"]
    # an option newer than the file has its default
    before = asdict(Training()) | recorded | as_recorded(checkpoint.config)
    kinds = [str(w.dtype) for w in checkpoint.weights.values() if w.is_floating_point()]
    before["weights"] = kinds[0] if kinds else None
    wanted = {**settings, **as_recorded(config)}
    if recorded.get("objective_content") == settings["objective_content"]:
        before["objective"] = settings["objective"]
    earlier = "data_content" not in recorded
    missing = [name for name in CONTENTS if earlier and name in settings]
    if missing and before["objective"] == settings["objective"].partition("(")[0]:
        before["objective"] = settings["objective"]  # only names were recorded
    compared = [name for name in wanted if name not in CONTENTS]
    now = {name: wanted[name] for name in compared}
    if bool(checkpoint.config) != bool(config):
        by = {True: "by a recipe", False: "by hand"}
        was, is_ = by[bool(checkpoint.config)], by[bool(config)]
        changed = f"the model was built {was} and is built {is_}"
    else:
        changed = differences({name: before.get(name) for name in compared}, now)
    for name, text in CONTENTS.items():
        if name not in missing and recorded.get(name) != settings.get(name) and not changed:
            changed = text
    if changed:
        advice = "Resume with the same settings, or choose another checkpoint file"
        content = recorded.get("objective_content") != settings["objective_content"]
        names = {text.partition("(")[0] for text in (before["objective"], settings["objective"])}
        if content and len(names) == 1:
            advice += (
                ". If the objective itself changed during training: keep logs outside, or reset "
                "it in begin()"
            )
        raise ValueError(f"{path} belongs to a run with other settings: {changed}. {advice}")
    if missing:
        what = " and ".join(name.removesuffix("_content") for name in missing)
        warnings.warn(
            f"{path} was written by an earlier version, which recorded no more than the names of "
            f"{what}; whether they are the same as before could not be checked",
            NotCompared,
            stacklevel=4,
        )


def as_recorded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give ``config`` of a model in one form, whatever version recorded it.

    Args:
        config: as in a checkpoint; empty for a model that no recipe built.

    Returns:
        Options of the model, also unknown ones, with the number of features and grey values.
    """
    if "recipe" not in config:
        return dict(config)
    size = math.prod(config["shape"]) if "shape" in config else config["num_features"]
    others = {name: value for name, value in config.items() if name != "shape"}
    return others | plain(take(Model, config)) | {"num_features": size}
