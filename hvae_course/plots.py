"""Plots of images, latent graphs and bodies in motion; each takes arrays and returns its Axes."""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

COLOURS = {
    "prior": "#0064a4",
    "posterior": "#b54708",
    "data": "#5b6166",
    "path": "#087657",
    "third": "#7a4fa3",
    "fourth": "#b8860b",
}
"""Colours of the course, told apart by colour-blind readers too. The first four are those of the
book's graphical models and formulas: what a prior, a posterior, the data and a deterministic path
have to do with. Curves that stand for none of these take all six in this order."""
PAGE_WIDTH = 7.2
"""Width of a page in inches. A figure of this width shows its text as large as its caption."""


def use_style() -> None:
    """Draw all further figures in the style of the course.

    Text is as large as a caption where the figure is at most :data:`PAGE_WIDTH` wide, backgrounds
    are white in both themes of a page, and the resolution is twice that of the screen.
    """
    plt.rcParams |= {
        "figure.dpi": 100,
        "figure.figsize": (PAGE_WIDTH, 2.9),
        "figure.facecolor": "white",
        "figure.constrained_layout.use": True,
        "savefig.facecolor": "white",
        "savefig.dpi": 200,
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=list(COLOURS.values())),
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "image.cmap": "gray_r",
        "mathtext.fontset": "cm",
    }
    if "ipykernel" in sys.modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        # figures of a notebook keep their background and have twice the resolution
        set_matplotlib_formats("retina", facecolor="white", bbox_inches=None)


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


Images = Tensor | np.ndarray | Sequence[Any]


def _array(values: Images) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)


def _shaped(values: Images, shape: tuple[int, ...]) -> np.ndarray:
    """Images as ``(..., *shape)``, from rows of D numbers or from images."""
    array, size = _array(values), math.prod(shape)
    if array.shape[-len(shape) :] == shape:
        return array
    if array.shape[-1:] != (size,):
        raise ValueError(
            f"images of shape {shape} have {size} values each, got an array of shape {array.shape}"
        )
    return array.reshape(*array.shape[:-1], *shape)


def _rows(rows: Images, shape: tuple[int, ...]) -> list[np.ndarray]:
    """R arrays ``(C, *shape)``."""
    if isinstance(rows, Tensor | np.ndarray):
        array = _shaped(rows, shape)
        axes = array.ndim - len(shape)
        if axes > 2:
            raise ValueError(
                f"a grid has rows and columns, got an array of shape {array.shape} with {axes} "
                f"axes before the images of shape {shape}"
            )
        return list(array.reshape((1,) * (2 - axes) + array.shape))
    parts = [_shaped(row, shape) for row in rows]
    if parts and all(part.shape == shape for part in parts):  # a list of images is one row
        return [np.stack(parts)]
    if any(part.ndim != len(shape) + 1 for part in parts):
        raise ValueError(
            "rows must be rows of images, (C, D), or all single images, got the shapes "
            f"{[part.shape for part in parts]}"
        )
    return parts


def _in_unit_range(rows: list[np.ndarray], max_value: float | None) -> list[np.ndarray]:
    """Values of which 1 is the largest; noise a little outside is left to the plot to clip."""
    largest = max((np.nanmax(row, initial=0) for row in rows), default=0)
    smallest = min((np.nanmin(row, initial=0) for row in rows), default=0)
    if max_value is None:
        whole = any(row.dtype.kind in "iu" for row in rows)
        max_value = 255 if whole and 128 <= largest <= 255 else 1
        limit = max_value if whole else 3
        if not (-2 <= smallest and largest <= limit):
            raise ValueError(
                "image_grid shows values in [0, 1], or bytes up to 255, got values between "
                f"{smallest:g} and {largest:g}; give the largest possible value as max_value"
            )
    elif not max_value > 0:
        raise ValueError(f"max_value must be positive, got {max_value}")
    return rows if max_value == 1 else [row / max_value for row in rows]


def image_grid(
    rows: Images,
    image_shape: tuple[int, ...],
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    axes: Axes | None = None,
    max_value: float | None = None,
    white: Literal[0, 1] = 0,
) -> Axes:
    """Rows of images, grey or in colour.

    Args:
        rows: ``(R, C, D)``, or R tensors ``(C, D)``; or one row ``(C, D)``, a list of images, or
            one image. Tensors or arrays, and images in their own shape in place of D numbers.
        image_shape: height and width of an image, ``(H, W)`` or ``(1, H, W)``, or ``(3, H, W)``
            in colour.
        labels: one per row.
        title: of the figure.
        axes: where to draw; by default new ones, sized to the grid.
        max_value: the value that is shown as 1; None for 255 if the values are bytes, otherwise
            1. Values outside [0, 1] are clipped, and NaN is left empty.
        white: the grey value that is shown as white, 0 for digits in ink, 1 for photographs.

    Returns:
        The axes.

    Raises:
        ValueError: if the rows differ in length, there is not one label per row, images are of
            another shape, or values lie far outside the range.
    """
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise ValueError(
            f"image_shape must be (H, W), (1, H, W) or (3, H, W), channels first, got {shape}"
        )
    rows = _rows(rows, shape)
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"rows must be equally long, got {[len(row) for row in rows]} images")
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"{len(rows)} rows need as many labels, got {len(labels)}")
    rows = _in_unit_range(rows, max_value)
    height, width = shape[-2:]
    colour = shape[:-2] == (3,)
    columns = len(rows[0])
    gap = max(1, height // 8)
    size = (len(rows) * (height + gap) - gap, columns * (width + gap) - gap)
    canvas = np.full((*size, 3) if colour else size, np.nan, dtype=float)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            picture = np.moveaxis(image, 0, -1) if colour else image.reshape(height, width)
            canvas[top : top + height, left : left + width] = picture
    if colour:
        canvas = np.nan_to_num(canvas, nan=1.0).clip(0, 1)
    axes = axes or new_axes(0.75 * columns + (1.6 if labels else 0.2), 0.78 * len(rows) + 0.4)
    axes.imshow(
        canvas, cmap="gray" if white else "gray_r", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set_xticks([])
    middle = [r * (height + gap) + height / 2 - 0.5 for r in range(len(rows))]
    axes.set_yticks(middle if labels else [], labels or [])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title)
    return axes


def _plane(values: Images, name: str) -> np.ndarray:
    array = _array(values)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(
            f"{name} must have the shape (N, 2), got {array.shape}; choose two dimensions to draw"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity; leave these rows out")
    return array


def latent_graph(
    points: Images,
    edges: Iterable[tuple[int, int]],
    paths: Sequence[Images] = (),
    *,
    axes: Axes | None = None,
) -> Axes:
    """A graph of latent points, its edges darker the longer they are, with paths over it.

    Long edges are drawn last, so that one that crosses an empty region is seen. Their collection
    is ``axes.collections[0]``, for a colour bar.

    Args:
        points: ``(N, 2)``.
        edges: pairs of numbers of points, such as ``graph.graph.edges`` of a `LatentGraph`.
        paths: the corners of each path, ``(T, 2)``.
        axes: where to draw; by default new ones.

    Returns:
        The axes, with the same scale in both directions.

    Raises:
        ValueError: if points or corners are not in a plane or not finite, or an edge has not two
            ends that are numbers of points.
    """
    points = _plane(points, "points")
    pairs = np.array(list(edges) or np.empty((0, 2), dtype=np.int64))
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            f"edges must be pairs of numbers of points, got {pairs.dtype} of shape {pairs.shape}"
        )
    if ((pairs < 0) | (pairs >= len(points))).any():
        raise ValueError(
            f"the ends of edges must be numbers of the {len(points)} points, got numbers from "
            f"{pairs.min()} to {pairs.max()}"
        )
    segments = points[pairs]  # (E, 2, 2)
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    order = np.argsort(length, kind="stable")
    axes = axes or new_axes(5.0, 4.5)
    greys = ListedColormap(plt.get_cmap("Greys")(np.linspace(0.2, 1, 256)))
    lines = LineCollection(segments[order], cmap=greys, linewidths=0.5, zorder=1)
    lines.set_array(length[order])
    lines.set_clim(0, np.quantile(length, 0.995) if len(length) else 1)
    axes.add_collection(lines)
    for path in paths:
        corners = _plane(path, "corners of a path")
        if not len(corners):
            raise ValueError("a path has one corner or more, got none; leave the path out")
        axes.plot(*corners.T, color="white", lw=3.5)
        (line,) = axes.plot(*corners.T, lw=2)
        axes.plot(*corners[[0, -1]].T, "o", color=line.get_color(), mec="white", ms=6)
    axes.autoscale_view()
    axes.set(xlabel="$z^{(1)}$", ylabel="$z^{(2)}$", aspect="equal")
    axes.set_adjustable("datalim")
    return axes


VIEW = (55.0, 8.0)
"""Degrees from their front towards their right, and degrees above, from which bodies are seen."""
LIMB_COLOURS = {"left": "#e66101", "middle": "0.25", "right": "#5e3c99"}
"""Orange and purple, which differ for every kind of colour vision; in drawing order."""
MARK_COLOUR = "#0072b2"


def body_sides(names: Sequence[str]) -> list[str]:
    """The side of the body to which every joint belongs.

    Args:
        names: of the joints; ``"lfemur"`` is on the left if there is also ``"rfemur"``.

    Returns:
        ``"left"``, ``"middle"`` or ``"right"`` for every joint.
    """
    known = set(names)

    def side(name: str) -> str:
        if name[:1] == "l" and f"r{name[1:]}" in known:
            return "left"
        return "right" if name[:1] == "r" and f"l{name[1:]}" in known else "middle"

    return [side(name) for name in names]


def standing(poses: Images) -> np.ndarray:
    """Bodies seen obliquely from their front right, standing on the ground.

    Args:
        poses: joint positions in the body's frame, ``(..., J, 3)``: x to its left, y up, z
            forward; the root is joint 0.

    Returns:
        Positions in the picture, ``(..., J, 2)``, x to the right and y up: the root is at x = 0,
        the lowest joint of every pose at y = 0. Lengths keep their unit.

    Raises:
        ValueError: if these are not positions, or if one of them is not finite.
    """
    poses = _array(poses).astype(float)
    if poses.ndim < 2 or poses.shape[-1] != 3 or 0 in poses.shape:
        raise ValueError(
            f"poses are positions (..., J, 3) of J joints, got an array of shape {poses.shape}"
        )
    if not np.isfinite(poses).all():
        raise ValueError("poses must be finite, got NaN or infinity; leave these frames out")
    turn, rise = np.radians(VIEW)
    right = np.array([np.cos(turn), 0, np.sin(turn)])
    up = np.array([np.sin(rise) * np.sin(turn), np.cos(rise), -np.sin(rise) * np.cos(turn)])
    seen = (poses - poses[..., :1, :]) @ np.stack([right, up], axis=-1)  # (..., J, 2)
    seen[..., 1] -= seen[..., 1].min(axis=-1, keepdims=True)
    return seen


def _check_parents(parents: Sequence[int], joints: int) -> None:
    if len(parents) != joints:
        raise ValueError(f"{joints} joints need as many parents, got {len(parents)}")
    wrong = [p for p in parents[1:] if p not in range(joints)]
    if wrong:
        raise ValueError(
            f"the parent of every joint but the root, joint 0, is one of the {joints} joints, "
            f"got {wrong[0]}"
        )


def stick_figures(
    poses: Images,
    parents: Sequence[int],
    *,
    names: Sequence[str] | None = None,
    marked: Images | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Bodies side by side, one for every frame of a motion.

    All have the same scale and are seen from their front right (:func:`standing`). Ten to twelve
    frames in a row suit a page.

    Args:
        poses: joint positions in the body's frame, ``(T, J, 3)`` or rows of them
            ``(R, T, J, 3)``: x to its left, y up, z forward; the root is joint 0.
        parents: number of the parent of every joint; that of the root is not read.
        names: of the joints, to draw left limbs orange, right limbs purple (:func:`body_sides`)
            and the joint ``"head"`` as a disc; None for lines of one colour.
        marked: whether to draw a box around a frame, such as the first after a jump, ``(T,)`` or
            ``(R, T)``.
        labels: one per row, above it.
        title: of the figure.
        axes: where to draw; by default new ones, sized to the rows.

    Returns:
        The axes.

    Raises:
        ValueError: if poses, parents, names, marks and labels do not belong together, or if a
            position is not finite.
    """
    seen = standing(poses)
    if seen.ndim not in (3, 4):
        raise ValueError(
            f"poses must be (T, J, 3) or (R, T, J, 3), got an array of shape {_array(poses).shape}"
        )
    marks = np.zeros(seen.shape[:-2], bool) if marked is None else _array(marked)
    if marks.shape != seen.shape[:-2] or marks.dtype != bool:
        raise ValueError(
            f"marked needs true or false per frame, {seen.shape[:-2]}, got {marks.dtype} of shape "
            f"{marks.shape}; compare steps with a threshold first"
        )
    seen, marks = seen.reshape(-1, *seen.shape[-3:]), marks.reshape(-1, seen.shape[-3])
    rows, columns, joints, _ = seen.shape
    _check_parents(parents, joints)
    if names is not None and len(names) != joints:
        raise ValueError(f"{joints} joints need as many names, got {len(names)}")
    if labels is not None and len(labels) != rows:
        raise ValueError(f"{rows} rows need as many labels, got {len(labels)}")

    left, right = seen[..., 0].min(), seen[..., 0].max()
    tall = seen[..., 1].max() or 1.0
    width = max(1.1 * (right - left), 0.4 * tall)
    height = (1.4 if labels else 1.15) * tall
    axes = axes or new_axes(
        0.5 * columns + 0.1, 0.5 * rows * height / width + (0.4 if title else 0.1)
    )
    seen[..., 0] += np.arange(columns)[:, None] * width - (left + right) / 2
    seen[..., 1] -= np.arange(rows)[:, None, None] * height
    sides = body_sides(names) if names is not None else ["middle"] * joints
    for order, (side, colour) in enumerate(LIMB_COLOURS.items()):
        bones = [[j, parents[j]] for j in range(1, joints) if sides[j] == side]
        lines = seen[:, :, bones].reshape(-1, 2, 2) if bones else []
        axes.add_collection(
            LineCollection(
                lines, colors=colour, linewidths=1.6, capstyle="round", zorder=2 + order
            )
        )
    for r in range(rows):
        ground = -r * height
        axes.hlines(
            ground, -width / 2, (columns - 0.5) * width, colors="0.75", linewidth=0.8, zorder=1
        )
        if labels:
            axes.text(-width / 2, ground + 1.08 * tall, labels[r], va="bottom")
        for c in np.flatnonzero(marks[r]):
            corner = ((c - 0.48) * width, ground - 0.04 * tall)
            axes.add_patch(
                Rectangle(
                    corner,
                    0.96 * width,
                    1.1 * tall,
                    fill=False,
                    edgecolor=MARK_COLOUR,
                    linewidth=1.4,
                )
            )
    if names is not None and "head" in names:
        head = list(names).index("head")
        radius = 0.055 * tall
        for centre in seen[:, :, head].reshape(-1, 2):
            axes.add_patch(Circle(centre, radius, color=LIMB_COLOURS["middle"], zorder=3))
    axes.set(
        xlim=(-0.52 * width, (columns - 0.48) * width),
        ylim=(-(rows - 1) * height - 0.06 * tall, height),
        aspect="equal",
    )
    axes.axis("off")
    if title:
        axes.set_title(title)
    return axes
