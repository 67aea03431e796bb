"""Checks of the gradients of an answer whose values are right."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_course.checks.verdict import compare_gradients


def check_gradients(
    answer: Callable[..., object],
    reference: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    *,
    names: Sequence[str],
) -> None:
    """Accept an answer if its gradients with respect to its arguments are right.

    Args:
        answer: the student's function, right as a value; returns a tensor or several.
        reference: returns the right tensors for the same arguments.
        inputs: the arguments.
        names: names of the arguments, for the hint.

    Raises:
        Mistake: if a gradient is missing or wrong.
    """
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    given = answer(*(leaf.clone() for leaf in leaves))
    parts = [given] if isinstance(given, Tensor) else [*given]
    value = None
    if all(isinstance(part, Tensor) for part in parts):
        value = torch.cat([part.cpu().double().flatten() for part in parts])
    expected = torch.cat([part.double().flatten() for part in reference(*leaves)])
    compare_gradients(value, expected, leaves, names=names)
