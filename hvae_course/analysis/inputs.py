"""Examples and labels as a model takes them, from what a user has at hand."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvae_course.data import DataSpec
from hvae_course.data.splits import shorten
from hvae_course.data.values import as_tensor, is_frame
from hvae_course.hierarchy import HierarchicalVAE

Examples = Tensor | np.ndarray | Sequence[float]
"""Rows ``(B, D)``, also as a pandas frame, images ``(B, H, W)``, or one of them."""
Labels = int | Sequence[int] | Tensor | np.ndarray
"""One label for all rows, or one for each."""


def _tensor(values: Examples | Labels, name: str, wanted: str) -> Tensor:
    if isinstance(values, np.ndarray) or hasattr(values, "to_numpy"):  # pandas
        return as_tensor(values, name)
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{wanted}, got {type(values).__name__}") from error


def check_whole(**numbers: int) -> None:
    """Require whole numbers.

    Args:
        **numbers: numbers by name.

    Raises:
        TypeError: if one is not a whole number.
    """
    for name, number in numbers.items():
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"{name} must be a whole number, got {number!r}")


def check_positive(**numbers: int) -> None:
    """Require whole numbers of at least 1.

    Args:
        **numbers: numbers by name.

    Raises:
        TypeError: if one is not a whole number.
        ValueError: if one is not positive.
    """
    check_whole(**numbers)
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be positive, got {number}")


def as_real(values: Tensor | np.ndarray | Sequence[Any], name: str) -> Tensor:
    """Turn numbers into a tensor of real ones.

    Args:
        values: a tensor, an array or nested lists; whole numbers become real ones.
        name: what they are, for the message.

    Returns:
        The tensor, on its device and in its floating-point type.

    Raises:
        TypeError: if they are no real numbers.
    """
    wanted = f"{name} must be a tensor or an array of real numbers"
    numbers = _tensor(values, name, wanted)
    if numbers.is_complex():
        raise TypeError(f"{wanted}, got {numbers.dtype}")
    return numbers if numbers.is_floating_point() else numbers.to(torch.get_default_dtype())


def as_rows(model: HierarchicalVAE, x: Examples) -> Tensor:
    """Turn examples into rows on the device and in the type of a model.

    Args:
        model: the model. One that does not know its data takes x in the shape it comes in.
        x: ``(B, D)``, or in the shape of the data, ``(B, H, W)``; a single example may come
            without the batch axis. Real numbers as in training, standardised if those were, in
            [0, 1] for grey values; masked values of an array are NaN.

    Returns:
        ``(B, D)``.

    Raises:
        TypeError: if x holds whole numbers, whose scale is not known, or is no array.
        ValueError: if x does not have the shape or the columns of the model's data, has no
            example, or holds values that the likelihood gives no probability to.
    """
    rows = _tensor(
        x, "x", "x must be a tensor or an array (B, D), such as data.test.batch(slice(0, 5))"
    )
    names = tuple(model.config.get("feature_names", ()))
    if is_frame(x) and names and tuple(map(str, x.columns)) != names:
        raise ValueError(
            f"the columns of x are {shorten(x.columns)}, and those of the model's data are "
            f"{shorten(names)}; give them in this order, or give x.to_numpy()"
        )
    counts = model.config.get("counts", False)
    if not (rows.is_floating_point() or rows.dtype == torch.bool or counts):
        hint = "for instance x / 255 for bytes"
        if (num_values := model.config.get("num_values", 256)) is None:
            hint = "real numbers, x.astype(float), standardised if those of training were"
        elif num_values != 256:
            hint = f"for instance x / {num_values - 1} for the numbers 0 to {num_values - 1}"
        raise TypeError(
            f"x holds whole numbers ({rows.dtype}), whose scale a model cannot know; give values "
            f"as data.test.batch(slice(0, 5)) does, {hint}"
        )
    shape = model.config.get("shape", model.num_features)
    if shape is not None:
        rows = _flatten(rows, DataSpec(shape, None).shape)
    if rows.dim() < 2 or len(rows) == 0:
        raise ValueError(
            f"x must hold at least one example, (B, D), got shape {tuple(rows.shape)}"
        )
    rows = rows.to(model.device, model.dtype)
    if hasattr(model.top_down.likelihood, "check"):  # one built by hand may have none
        model.top_down.likelihood.check(rows)
    return rows


def _flatten(x: Tensor, example: tuple[int, ...]) -> Tensor:
    """One example, or several, of a known shape as rows; axes of size 1 may be left out."""

    def long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(size for size in shape if size != 1)

    known, shape = {long_axes(example), long_axes((math.prod(example),))}, tuple(x.shape)
    if shape and long_axes(shape[1:]) in known:
        return x.reshape(len(x), math.prod(example))
    if shape and long_axes(shape) in known:
        return x.reshape(1, -1)
    shapes = dict.fromkeys([("B", math.prod(example)), ("B", *example)])
    taken = " or ".join(f"({', '.join(map(str, one))})" for one in shapes)
    raise ValueError(f"the model takes examples {taken}, got x of shape {shape}")


def as_labels(model: HierarchicalVAE, y: Labels | None, n: int, *, name: str) -> Tensor | None:
    """Turn labels into one per row, as a conditional model takes them.

    Args:
        model: the model.
        y: one label for all rows, or one for each; None for a model that is not conditional.
        n: number of rows.
        name: name of the argument, for the message.

    Returns:
        ``(n,)``, int64, on the model's device; None for a model that is not conditional.

    Raises:
        ValueError: if labels are missing, unknown, not one per row, or not wanted.
        TypeError: if they are not whole numbers.
    """
    if model.num_classes is None:
        if y is not None:
            raise ValueError(
                f"the model is not conditional and takes no {name}, got {y!r}; leave it out, or "
                "build the model with conditional=True"
            )
        return None
    known = f"0 to {model.num_classes - 1}"
    if y is None:
        raise ValueError(
            f"the model is conditional; give {name}=, one of {known}, or one for each of {n} rows"
        )
    labels = _tensor(y, name, f"{name} must hold whole numbers, {known}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must hold whole numbers, {known}, got {labels.dtype}")
    if labels.shape not in ((), (n,)):
        raise ValueError(
            f"{name} must be one label or one for each of {n} rows, got shape "
            f"{tuple(labels.shape)}"
        )
    if n and (labels.min() < 0 or labels.max() >= model.num_classes):
        raise ValueError(
            f"{name} must be one of {known}, got labels from {labels.min()} to {labels.max()}"
        )
    return labels.to(model.device, torch.int64).expand(n)
