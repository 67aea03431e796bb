"""States of the walk down: where they start, and how each latent changes them.

The state carries :math:`z_{>l}` to level l. It is a tensor, or any record of tensors that updates,
conditional priors, rules and likelihood agree on.
"""

import torch
from torch import Tensor, nn

from hvae_course.hierarchy.trace import State


def join(*tensors: Tensor) -> Tensor:
    """Join tensors along axis 1, the latent dimensions or channels.

    Args:
        *tensors: ``(B, C_i, ...)``, equal in all axes but the second. An empty one, ``(B, 0)``,
            like the state above the top level, joins images too.

    Returns:
        ``(B, C_1 + C_2 + ..., ...)``.

    Raises:
        TypeError: if something is not a tensor.
        ValueError: if the tensors differ in another axis.
    """
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"only tensors can be joined, got {type(tensor).__name__}; write a rule or an "
                "update that picks the tensors it needs from the record"
            )
    axes = max(tensor.dim() for tensor in tensors)
    parts = [tensor for tensor in tensors if tensor.dim() == axes or tensor.shape[1] > 0]
    if any(part.shape[2:] != parts[0].shape[2:] or len(part) != len(parts[0]) for part in parts):
        raise ValueError(
            f"cannot join tensors of shapes {', '.join(str(tuple(p.shape)) for p in parts)} along "
            "axis 1; bring the state to the resolution of the level below in its update"
        )
    return torch.cat(parts, dim=1)


def with_label(h: State, y: Tensor | None) -> State:
    """Join a state, or a latent, with the label that a conditional model reads beside it.

    Args:
        h: ``(B, H)`` or ``(B, H, ...)``, or a record with a method ``with_label``.
        y: one-hot labels ``(B, C)``, repeated at every position of an image; None without labels.

    Returns:
        ``(B, H + C, ...)``, or h itself without labels.

    Raises:
        TypeError: if there are labels and the state is neither.
        ValueError: if the labels are numbers and not one-hot.
    """
    if y is None:
        return h
    if y.dim() != 2:
        raise ValueError(
            f"labels are read one-hot, (B, C), got the shape {tuple(y.shape)}; write them so with "
            "model.one_hot(y, len(y))"
        )
    if hasattr(h, "with_label"):
        return h.with_label(y)
    if isinstance(h, Tensor) and h.dim() > 2:
        y = y.reshape(*y.shape, *(1,) * (h.dim() - 2)).expand(-1, -1, *h.shape[2:])
    return join(h, y)


class LearnedState(nn.Module):
    """An initial state that is learned, one value for all examples; zero at the start.

    Args:
        *shape: shape of the state without the batch, for instance ``(C, H, W)``.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))

    def forward(self, n: int) -> Tensor:
        """Give the state of n rows, ``(n, *shape)``."""
        return self.value.expand(n, *self.value.shape)


class MarkovUpdate(nn.Module):
    """State of a Markov chain: the level below sees z_l alone, h = z_l."""

    def forward(self, h: State, z: Tensor) -> Tensor:
        """Replace the state by z_l."""
        return z


class SkipUpdate(nn.Module):
    """State that skips levels: all latents so far, h = (h, z_l), so that every level sees them."""

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """Append z_l to the state, which has Z_L + ... + Z_l+1 entries or channels before."""
        return join(h, z)
