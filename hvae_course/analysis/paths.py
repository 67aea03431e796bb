"""How smooth a decoded path is, as numbers instead of adjectives."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_course.analysis.inputs import as_real


@dataclass(frozen=True)
class Smoothness:
    """Two measures of a path of images; both are free of the path's length and of units."""

    jump_ratio: float
    """Largest step over mean step; 1 for equal steps."""
    second_difference: float
    """Mean squared second difference over squared mean step; 0 for a straight line in pixels."""


def smoothness(frames: Tensor) -> Smoothness:
    r"""Measure a path of images (:eq:`eq-smoothness`).

    .. math:: \text{jump} = \frac{\max_j \ell_j}{\bar\ell}, \qquad
              \text{bend} = \frac{1}{(n - 1)\,\bar\ell^{\,2}} \sum_{j=1}^{n-1}
              \lVert x_{j+1} - 2 x_j + x_{j-1} \rVert^2, \qquad
              \ell_j = \lVert x_j - x_{j-1} \rVert

    Args:
        frames: images x_0, ..., x_n in order, ``(n + 1, D)`` or ``(n + 1, H, W)``.

    Returns:
        Both measures.

    Raises:
        ValueError: if there are fewer than three frames, they do not move at all, or a value is
            not finite.
        TypeError: if the frames are no real numbers.

    Example:
        >>> import torch
        >>> smoothness(torch.arange(4.0)[:, None])
        Smoothness(jump_ratio=1.0, second_difference=0.0)
    """
    frames = as_real(frames, "frames")
    if frames.ndim < 2:
        raise ValueError(
            f"frames must be rows (n + 1, D), or images, got shape {tuple(frames.shape)}"
        )
    frames = frames.flatten(1)
    if len(frames) < 3:
        raise ValueError(f"a path needs at least three frames, got {len(frames)}")
    if not torch.isfinite(frames).all():
        raise ValueError("the frames hold NaN or infinite values, so the path has no smoothness")
    step = frames.diff(dim=0)  # (n, D)
    length = step.norm(dim=1)
    mean = length.mean()
    if mean == 0:
        raise ValueError("all frames are equal, so smoothness is not defined for this path")
    bend = step.diff(dim=0).square().sum(dim=1).mean() / mean**2
    return Smoothness((length.max() / mean).item(), bend.item())


def angle_steps(angles: Tensor) -> Tensor:
    r"""Steps between consecutive angles, each taken the short way round.

    For data whose true factor is an angle: the largest absolute step of a decoded path shows a
    jump that a mean over pixels hides, and the sum of the steps around a closed curve is
    :math:`2 \pi` times its winding number.

    Args:
        angles: radians, in order along the last axis, ``(..., T)``; any multiple of a full turn
            may be added to each.

    Returns:
        Signed steps in :math:`(-\pi, \pi]`, radians, ``(..., T - 1)``; half a turn counts as
        positive.

    Raises:
        ValueError: if there are fewer than two angles.
        TypeError: if the angles are no real numbers.

    Example:
        >>> import torch
        >>> angle_steps(torch.tensor([350.0, 10.0, 0.0]).deg2rad()).rad2deg().round()
        tensor([ 20., -10.])
    """
    angles = as_real(angles, "angles")
    if angles.ndim == 0 or angles.shape[-1] < 2:
        raise ValueError(
            f"steps need at least two angles along the last axis, got shape {tuple(angles.shape)}"
        )
    step = angles.diff(dim=-1)
    # Only whole turns are subtracted: a step that is already short is unchanged to the last bit.
    return step - 2 * math.pi * ((step - math.pi) / (2 * math.pi)).ceil()
