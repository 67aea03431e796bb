"""Plots of images; each takes arrays and returns its Axes."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor


def new_axes(width: float = 6.0, height: float = 3.5) -> Axes:
    """An empty, opaque pair of axes.

    Args:
        width: inches.
        height: inches.

    Returns:
        The axes of a new figure.
    """
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained", facecolor="white")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def image_grid(
    rows: Sequence[Tensor] | Tensor,
    image_shape: tuple[int, int],
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Rows of images, black on white.

    Args:
        rows: ``(R, C, D)``, or R tensors ``(C, D)``, values in [0, 1].
        image_shape: height and width of an image.
        labels: one per row.
        title: of the figure.
        axes: where to draw; by default new ones, sized to the grid.

    Returns:
        The axes.

    Raises:
        ValueError: if the rows differ in length, or there is not one label per row.
    """
    rows = [row.detach().cpu().numpy() for row in rows]
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"rows must be equally long, got {[len(row) for row in rows]} images")
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"{len(rows)} rows need as many labels, got {len(labels)}")
    height, width = image_shape
    columns = len(rows[0])
    gap = max(1, height // 8)
    canvas = np.full(
        (len(rows) * (height + gap) - gap, columns * (width + gap) - gap), np.nan, dtype=float
    )
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            canvas[top : top + height, left : left + width] = image.reshape(image_shape)
    axes = axes or new_axes(0.75 * columns + (1.6 if labels else 0.2), 0.78 * len(rows) + 0.4)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    middle = [r * (height + gap) + height / 2 - 0.5 for r in range(len(rows))]
    axes.set_yticks(middle if labels else [], labels or [])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title)
    return axes
