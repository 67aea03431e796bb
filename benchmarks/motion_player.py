"""Motions as the animation of chapter 7 takes them (``book/_static/motion_player.js``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from operator import index
from typing import Any

import numpy as np
from torch import Tensor

from hvae_course import plots

TALLEST = 500
"""Height of the tallest figure in the data's units, which are integers."""


@dataclass(frozen=True, eq=False)
class PlayedPath:
    """A path between two motions, decoded by a model."""

    model: str
    path: str
    """How the path was found."""
    start: str
    end: str
    positions: Tensor
    """Joints in the body's frame, ``(T, J, 3)``: x to its left, y up, z forward."""
    steps: Tensor
    """Largest turn of a joint from each frame to the next, ``(T - 1,)``, degrees."""


def player_data(
    paths: Sequence[PlayedPath],
    names: Sequence[str],
    parents: Sequence[int],
    *,
    jump: float,
    fps: int = 10,
) -> dict[str, Any]:
    """Project the bodies and round them to integers.

    Args:
        paths: of equal length, those of a model one after the other.
        names: of the joints.
        parents: number of the parent of every joint, -1 for the root.
        jump: degrees; a larger step is marked.
        fps: frames per second.

    Returns:
        What ``json.dumps`` writes and the player reads; the format stands at its top.

    Raises:
        ValueError: if there are no paths, they differ in length, joints, names, parents and
            steps do not belong together, or a position or a step is not finite.
    """
    shapes = [tuple(path.positions.shape) for path in paths]
    if len(set(shapes)) != 1 or len(shapes[0]) != 3:
        raise ValueError(f"paths must have one shape (T, J, 3), got {shapes}")
    seen = np.stack([plots.standing(path.positions) for path in paths])  # (P, T, J, 2)
    _, length, joints, _ = seen.shape
    parents = list(map(index, parents))
    if len(names) != joints or len(parents) != joints:
        raise ValueError(
            f"{joints} joints need as many names and parents, got {len(names)} and {len(parents)}"
        )
    if wrong := [parent for parent in parents[1:] if parent not in range(joints)]:
        raise ValueError(f"the parent of a joint is one of the {joints} joints, got {wrong[0]}")
    for path in paths:
        if path.steps.shape != (length - 1,):
            raise ValueError(
                f"{length} frames have {length - 1} steps, got steps of shape "
                f"{tuple(path.steps.shape)} for {path.model}, {path.path}"
            )
        if not all(map(isfinite, path.steps)):
            raise ValueError(f"steps must be finite, got NaN or infinity for {path.model}")
    seen[..., 0] -= seen[..., 0].min()
    whole = np.rint(seen * (TALLEST / (seen[..., 1].max() or 1.0))).astype(int)
    width, height = whole.max(axis=(0, 1, 2)).tolist()
    return {
        "parents": parents,
        "sides": plots.body_sides(names),
        "head": list(names).index("head") if "head" in names else -1,
        "width": width,
        "height": height,
        "fps": fps,
        "jump": jump,
        "paths": [
            {
                "model": path.model,
                "path": path.path,
                "start": path.start,
                "end": path.end,
                "steps": [0.0, *(round(float(step), 1) for step in path.steps)],
                "frames": frames.reshape(length, -1).tolist(),
            }
            for path, frames in zip(paths, whole, strict=True)
        ],
    }
