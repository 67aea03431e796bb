"""Checks of the gradients of an answer whose values are right."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, Mistake, copies


def check_gradients(
    answer: Answer, right: Answer, inputs: Sequence[Tensor], *, names: Sequence[str]
) -> None:
    """Accept an answer if its gradients with respect to its arguments are right.

    Args:
        answer: the student's function, right as a value; returns a tensor or several.
        right: the reference, with the same arguments.
        inputs: the arguments; each function is given copies that require gradients.
        names: names of the arguments, for the hint.

    Raises:
        Mistake: if a gradient is missing or wrong.
    """
    leaves = [value.detach().clone().requires_grad_() for value in inputs]

    def flat(function: Answer) -> Tensor | None:
        given = function(*copies(leaves))
        parts = [*given] if isinstance(given, list | tuple) else [given]
        if not all(isinstance(part, Tensor) for part in parts):
            return None
        return torch.cat([part.cpu().double().flatten() for part in parts])

    value = flat(answer)
    if value is None or not value.requires_grad:
        raise Mistake(
            "the value is right, but no gradient passes through it; compute with tensors "
            "throughout, without item(), detach(), numpy or no_grad()"
        )
    pairs = []
    for result in (value, flat(right)):
        loss = (torch.linspace(1, 2, len(result)) * result).sum()
        pairs.append(torch.autograd.grad(loss, leaves, allow_unused=True))
    for name, own, expected in zip(names, *pairs, strict=True):
        own = torch.zeros_like(expected) if own is None else own
        if torch.allclose(own, expected, 1e-3, 1e-4):
            continue
        if not own.any():
            raise Mistake(f"the value is right, but no gradient reaches {name}; do not detach it")
        raise Mistake(f"the value is right, but the gradient with respect to {name} is not")
