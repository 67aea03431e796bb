r"""Rotation vectors of joints, and where they put the body: forward kinematics.

A **rotation vector** (exponential map) points along the axis of a rotation and is as long as its
angle in radians; seen against its direction, the turn is counter-clockwise. That of a joint says
how its bone has turned in the frame of the bone that it hangs on. At rest all frames are aligned
with the body: y is up, z is forward, x is to the left, and every vector is 0. With the rotation
matrices :math:`R_j` of the bones, the offset :math:`o_j` from a bone's beginning to its end at
rest, and :math:`\pi(j)` the bone that bone j hangs on,

.. math:: G_j = G_{\pi(j)} R_j, \qquad p_j = p_{\pi(j)} + G_j o_j .

All functions take any number of leading axes and are differentiable.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path

import torch
from torch import Tensor

from hvae_course.data.asf_amc import Skeleton, read_skeleton

INCH = 0.0254
"""Metres. Lengths of the CMU database are inches after division by the unit in their file."""


@dataclass(frozen=True, eq=False)
class Body:
    """Lengths and hierarchy of the bones of a body at rest.

    Raises:
        TypeError: if a parent is not a whole number.
        ValueError: if the sizes differ, or a bone comes before the one that it hangs on.
    """

    names: tuple[str, ...]
    """``"root"``, and the J bones; a point of the body is the end of the bone of that name."""
    parents: tuple[int, ...]
    """The bone that each bone hangs on, by its place in ``names``; -1 for the root."""
    offsets: Tensor
    """From the beginning of each bone to its end, at rest, ``(J + 1, 3)``; 0 for the root."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "parents", tuple(map(index, self.parents)))
        object.__setattr__(self, "offsets", torch.as_tensor(self.offsets))
        size = len(self.names)
        if len(self.parents) != size or self.offsets.shape != (size, 3):
            raise ValueError(
                f"a body of {size} points needs {size} parents and offsets ({size}, 3), got "
                f"{len(self.parents)} parents and offsets {tuple(self.offsets.shape)}"
            )
        others = enumerate(self.parents[1:])
        if self.parents[:1] != (-1,) or not all(0 <= parent <= i for i, parent in others):
            raise ValueError(
                "every bone follows the one that it hangs on, and point 0 is the root, got the "
                f"parents {self.parents}; sort the bones"
            )


def read_body(path: str | Path) -> Body:
    """Read the lengths and the hierarchy of the bones of a skeleton.

    Args:
        path: an ``.asf`` file.

    Returns:
        The body, in metres, float64.

    Raises:
        ValueError: if the file is not a skeleton or is incomplete; the message gives file and
            line.
    """
    return body_of(read_skeleton(path))


def body_of(skeleton: Skeleton) -> Body:
    """Take the lengths and the hierarchy of a skeleton that has been read.

    Args:
        skeleton: what `read_skeleton` gives.

    Returns:
        The body, in metres, float64.
    """
    names = ("root", *skeleton.bones)
    parents = (-1, *(names.index(skeleton.parents[bone]) for bone in skeleton.bones))
    offsets = [(0.0, 0.0, 0.0), *(skeleton.offsets[bone] for bone in skeleton.bones)]
    return Body(names, parents, torch.tensor(offsets, dtype=torch.float64) * INCH)


def rotations_of(skeleton: Skeleton, angles: Tensor) -> Tensor:
    r"""Turn the angles of a motion into rotation vectors of its joints.

    An angle of the file turns about an axis of the bone's own frame, which is tilted by C at
    rest, so a joint with the angles a, b, c about x, y, z turns by
    :math:`C R_z(c) R_y(b) R_x(a) C^\top`; the file may name the axes in another order.

    Args:
        skeleton: the skeleton of the motion.
        angles: ``(..., C)``, degrees, as `read_motion` gives them.

    Returns:
        ``(..., J, 3)``, radians; 0 for a bone that cannot turn.

    Raises:
        ValueError: if there is not one angle for each of the C channels.
    """
    channels = skeleton.channels
    angles = torch.as_tensor(angles)
    if angles.shape[-1:] != (len(channels),):
        raise ValueError(
            f"the skeleton has {len(channels)} channels, got angles {tuple(angles.shape)}"
        )
    radians = dict(zip(channels, angles.deg2rad().unbind(-1), strict=True))
    vectors = []
    for bone, freedom in skeleton.bones.items():
        tilt = _turns("xyz", [angles.new_tensor(value) for value in skeleton.axes[bone]])
        axes = [axis[1] for axis in freedom if f"{bone}.{axis}" in radians]
        turn = _turns(axes, [radians[f"{bone}.r{axis}"] for axis in axes])
        zero = angles.new_zeros(*angles.shape[:-1], 3)
        vectors.append(rotation_vector(tilt @ turn @ tilt.T) if axes else zero)
    return torch.stack(vectors, dim=-2)


def _turns(axes: Sequence[str], radians: Sequence[Tensor]) -> Tensor:
    """Turn about fixed axes one after the other."""
    matrix = torch.eye(3, dtype=radians[0].dtype) if len(radians) else torch.eye(3)
    for axis, angle in zip(axes, radians, strict=True):
        unit = torch.eye(3, dtype=angle.dtype)["xyz".index(axis)]
        matrix = rotation_matrix(angle[..., None] * unit) @ matrix
    return matrix


def _check_numbers(values: Tensor, name: str) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")


def _check_vectors(vectors: Tensor, name: str = "rotation vectors") -> None:
    _check_numbers(vectors, name)
    if vectors.shape[-1:] != (3,):
        raise ValueError(f"{name} have 3 coordinates, got the shape {tuple(vectors.shape)}")


def _length(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Length of every vector, and whether it is above 0; of others, a number without gradient."""
    above = torch.linalg.vector_norm(vectors, dim=-1) > 0
    safe = torch.where(above[..., None], vectors, 1.0)  # the second derivative at 0 is NaN
    return torch.linalg.vector_norm(safe, dim=-1), above


def rotation_matrix(vectors: Tensor) -> Tensor:
    r"""Turn rotation vectors into rotation matrices (formula of Rodrigues).

    .. math:: R = 1 + \frac{\sin\theta}{\theta} K + \frac{1 - \cos\theta}{\theta^2} K^2,
              \qquad \theta = |v|, \qquad K u = v \times u

    Args:
        vectors: ``(..., 3)``, radians.

    Returns:
        ``(..., 3, 3)``; the unit matrix for a vector of length 0.

    Raises:
        TypeError: if it is not a floating-point tensor.
        ValueError: if the vectors do not have 3 coordinates.
    """
    _check_vectors(vectors)
    angle, turned = (value[..., None, None] for value in _length(vectors))
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    cross = torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
    # (1 - cos a) / a^2 = sinc(a / 2)^2 / 2 loses no digits near 0
    first = torch.where(turned, torch.sinc(angle / math.pi), 1.0)
    second = torch.where(turned, torch.sinc(angle / (2 * math.pi)).square(), 1.0) / 2
    unit = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return unit + first * cross + second * cross @ cross


def rotation_vector(matrices: Tensor) -> Tensor:
    """Turn rotation matrices into rotation vectors.

    The way leads over the unit quaternion with its largest component as divisor, which keeps all
    digits near 0 and near half a turn, where the trace of the matrix loses half of them.

    Args:
        matrices: ``(..., 3, 3)``, rotations.

    Returns:
        ``(..., 3)``, radians, of length at most pi; of two opposite vectors of length pi, which
        are the same rotation, one.

    Raises:
        TypeError: if it is not a floating-point tensor.
        ValueError: if the matrices are not 3 x 3.
    """
    _check_vectors(matrices, "rotation matrices")
    if matrices.shape[-2:] != (3, 3):
        raise ValueError(
            f"rotation matrices are (..., 3, 3), got the shape {tuple(matrices.shape)}"
        )
    a, b, c, d, e, f, g, h, i = matrices.flatten(-2).unbind(-1)
    rows = [  # 4 q q^T of the quaternion q = (w, x, y, z)
        [1 + a + e + i, h - f, c - g, d - b],
        [h - f, 1 + a - e - i, b + d, c + g],
        [c - g, b + d, 1 - a + e - i, f + h],
        [d - b, c + g, f + h, 1 - a - e + i],
    ]
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    row = products.take_along_dim(largest[..., None, None], dim=-2).squeeze(-2)
    row = torch.where(row[..., :1] < 0, -row, row)  # q and -q are the same rotation
    real, imaginary = row[..., 0], row[..., 1:]
    safe, turned = _length(imaginary)
    # the angle is 2 atan(|imaginary| / real); without a turn, its ratio to the length is 2 / real
    ratio = torch.where(turned, torch.atan2(safe, real) / safe, 1 / torch.where(turned, 1.0, real))
    return 2 * ratio[..., None] * imaginary


def joint_positions(body: Body, rotations: Tensor, root: Tensor | None = None) -> Tensor:
    """Place the joints of a body: forward kinematics.

    Args:
        body: J bones.
        rotations: rotation vectors of the bones, ``(..., J, 3)``, radians, in the order of
            ``body.names`` without the root.
        root: position of the root and rotation vector of the whole body, ``(..., 6)``; None for a
            body that stands upright with its root at the origin.

    Returns:
        ``(..., J + 1, 3)``: the root, and the end of every bone, in the units of the body, of the
        dtype of ``rotations``.

    Raises:
        TypeError: if ``rotations`` or ``root`` is not a floating-point tensor.
        ValueError: if their shapes do not fit the body.
    """
    _check_vectors(rotations)
    size = len(body.names) - 1
    if rotations.shape[-2:-1] != (size,):
        raise ValueError(
            f"the body has {size} bones, so rotations are (..., {size}, 3), got "
            f"{tuple(rotations.shape)}; leave out the rotation of the root, and the end sites"
        )
    matrices = rotation_matrix(rotations)
    start = rotations.new_zeros(*rotations.shape[:-2], 6) if root is None else root
    _check_numbers(start, "root")
    if start.shape != (*rotations.shape[:-2], 6):
        raise ValueError(
            f"root is (..., 6), a position and a rotation vector for each of the poses "
            f"{tuple(rotations.shape[:-2])}, got {tuple(start.shape)}"
        )
    start = start.to(rotations)
    positions, turned = [start[..., :3]], [rotation_matrix(start[..., 3:])]
    for j, parent in enumerate(body.parents[1:], start=1):
        turned.append(turned[parent] @ matrices[..., j - 1, :, :])
        offset = body.offsets[j].to(rotations)
        positions.append(positions[parent] + turned[j] @ offset)
    return torch.stack(positions, dim=-2)


def joint_steps(rotations: Tensor) -> Tensor:
    r"""Measure how far every joint turns from one pose to the next.

    The step is the angle of :math:`R_t^\top R_{t+1}`, the shortest turn between the two
    rotations. It does not depend on which of its vectors a rotation is written as.

    Args:
        rotations: rotation vectors along a path, ``(..., T, J, 3)``, radians.

    Returns:
        ``(..., T - 1, J)``, degrees.

    Raises:
        TypeError: if it is not a floating-point tensor.
        ValueError: if it has fewer axes.
    """
    _check_vectors(rotations)
    if rotations.dim() < 3:
        raise ValueError(
            f"a path of poses is (..., T, J, 3), got the shape {tuple(rotations.shape)}"
        )
    matrices = rotation_matrix(rotations)
    step = matrices[..., :-1, :, :, :].mT @ matrices[..., 1:, :, :, :]
    return torch.linalg.vector_norm(rotation_vector(step), dim=-1).rad2deg()
