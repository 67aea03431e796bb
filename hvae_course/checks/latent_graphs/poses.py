"""A distance between two poses of a body that does not see how a rotation is written.

The right angles come from quaternions in double precision. So they are exact for poses that hardly
differ, and for poses that differ by half a turn.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    as_tensor,
    checked,
    compare_cases,
    compare_values,
    copies,
)

_NOTHING = 0.2
"""Degrees that rounding in single precision may add to the distance of equal poses."""
_SMALL = 0.01
"""Degrees between two poses for which an answer must be accurate."""


@checked
def pose_distance(answer: Answer) -> str:
    """A distance between poses that one wrong joint does not move.

    Write ``pose_distance(a, b) -> (T,)`` for the rotation vectors of the joints in two sequences
    of T poses, ``(T, J, 3)``, in radians, J being odd: pose by pose the median over the joints of
    the angle, in degrees from 0 to 180, by which the joint of ``a`` has to turn further to become
    that of ``b``. Vectors that are longer than half a turn, and 0, are allowed. The result must be
    right to 3 % for poses that differ by a hundredth of a degree.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    beyond_one = (
        "not finite for poses that are equal or half a turn apart: rounding takes the cosine of "
        "the angle beyond 1 or -1; clamp it, or use atan2"
    )
    cases, right = _cases(), _distance()
    for case in cases:
        _refuse_nan(answer(*copies(case)), beyond_one)
    compare_cases(answer, right, cases, name="the distance", mistakes=pose_distance.mistakes)

    a, rest = 1.5 * torch.randn(20, 5, 3), torch.zeros(20, 5, 3)
    value = _refuse_nan(
        answer(*copies((rest, a))),
        "not finite where a joint is at rest: its vector is 0, and its length divides by zero",
    )
    compare_values(value, right(rest, a), name="the distance from a body at rest, all vectors 0,")
    value = _refuse_nan(answer(a.clone(), a.clone()), beyond_one)
    value = as_tensor(value, (20,), name="the distance")
    if value.abs().max() > _NOTHING:
        raise Mistake(f"equal poses have a distance of {value.abs().max():.2f} degrees, not 0")

    turn = torch.randn(20, 5, 3)
    turn = math.radians(_SMALL) * turn / turn.norm(dim=-1, keepdim=True)
    b = _vector(_product(_quaternion(a), _quaternion(turn))).to(a)
    value = as_tensor(answer(a.clone(), b.clone()), (20,), name="the distance")
    error = (value / right(a, b) - 1).abs().max()
    if error > 0.03:
        raise Mistake(
            f"poses that differ by {_SMALL} degrees are {100 * error:.0f} % off: near 1 the "
            "cosine hardly depends on the angle; use atan2, or double precision"
        )
    return (
        "the same for every way to write a rotation, blind to one wrong joint, right for angles "
        f"from {_SMALL} degrees to half a turn"
    )


def _refuse_nan(value: object, hint: str) -> object:
    """Pass on an answer unless it holds numbers that are not finite."""
    try:
        finite = torch.as_tensor(value).isfinite().all()
    except (TypeError, ValueError, RuntimeError):
        return value  # not numbers, which the comparison says
    if not finite:
        raise Mistake(hint)
    return value


def _cases() -> list[tuple[Tensor, Tensor]]:
    """Poses far apart, written in other ways, with a wrong joint, and half a turn apart."""
    far = 0.8 * torch.randn(2, 4, 5, 3)
    near = 0.9 * torch.randn(6, 7, 3)
    moved = near + 0.15 * torch.randn(6, 7, 3)
    wrapped = moved.clone()
    wrapped[:, ::2] *= 1 - 2 * math.pi / wrapped[:, ::2].norm(dim=-1, keepdim=True)
    flipped, start = moved.clone(), near.clone()
    axis = near[:, 2:5] / near[:, 2:5].norm(dim=-1, keepdim=True)
    start[:, 2:5], flipped[:, 2:5] = 0.5 * math.pi * axis, -0.5 * math.pi * axis
    opposite = torch.randn(5, 3, 3)
    turn = torch.randn(5, 3, 3)
    turn *= torch.linspace(1.8, 2.9, 5)[:, None, None] / turn.norm(dim=-1, keepdim=True)
    turned = _vector(_product(_quaternion(opposite), _quaternion(turn))).to(opposite)
    single = torch.randn(2, 3, 1, 3)
    return [
        (far[0], far[1]),
        (near, moved),
        (near, wrapped),
        (start, flipped),
        (opposite, turned),
        (single[0], single[1]),
    ]


def _quaternion(v: Tensor) -> Tensor:
    """Unit quaternions, scalar part first, ``(..., 4)``, double precision."""
    v = v.double()
    half = v.norm(dim=-1, keepdim=True) / 2
    return torch.cat([half.cos(), 0.5 * torch.sinc(half / math.pi) * v], dim=-1)


def _product(p: Tensor, q: Tensor) -> Tensor:
    scalar = p[..., :1] * q[..., :1] - (p[..., 1:] * q[..., 1:]).sum(dim=-1, keepdim=True)
    cross = torch.linalg.cross(p[..., 1:], q[..., 1:])
    return torch.cat([scalar, p[..., :1] * q[..., 1:] + q[..., :1] * p[..., 1:] + cross], dim=-1)


def _between(a: Tensor, b: Tensor) -> Tensor:
    """Quaternion of the rotation from one joint to the other, ``(..., 4)``."""
    back = _quaternion(-a)
    return _product(back, _quaternion(b))


def _vector(q: Tensor) -> Tensor:
    """The rotation vector of a quaternion, at most half a turn long."""
    q = torch.where(q[..., :1] < 0, -q, q)
    length = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, q[..., :1])
    return angle * q[..., 1:] / length.where(length > 0, 1)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """By how much each joint turns, ``(..., J)``, radians."""
    q = _between(a, b)
    return 2 * torch.atan2(q[..., 1:].norm(dim=-1), q[..., 0].abs())


def _median(angle: Tensor) -> Tensor:
    return angle.median(dim=-1).values


def _distance(
    angle: Callable[[Tensor, Tensor], Tensor] = _angle,
    over: Callable[[Tensor], Tensor] = _median,
    unit: float = 180 / math.pi,
) -> Answer:
    """The distance by one angle and one summary of the joints."""
    return lambda a, b: unit * over(angle(a, b))


def _matrix(v: Tensor, *, safe: bool = True) -> Tensor:
    """Rotation matrices by the formula of Rodrigues, ``(..., 3, 3)``."""
    angle = v.norm(dim=-1, keepdim=True)
    axis = v / (angle.where(angle > 0, 1) if safe else angle)
    x, y, z = axis.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    angle, identity = angle[..., None], torch.eye(3).to(v)
    return identity + angle.sin() * cross + (1 - angle.cos()) * cross @ cross


def _by_trace(
    *,
    clamp: bool = True,
    safe: bool = True,
    inverse: bool = True,
    cosine: Callable[[Tensor], Tensor] = lambda trace: (trace - 1) / 2,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The angle from the trace of the rotation between two joints, as one first writes it."""

    def angle(a: Tensor, b: Tensor) -> Tensor:
        first, second = _matrix(a, safe=safe), _matrix(b, safe=safe)
        between = (first.mT if inverse else first) @ second
        value = cosine(between.diagonal(dim1=-2, dim2=-1).sum(dim=-1))
        return (value.clamp(-1, 1) if clamp else value).acos()

    return angle


def _by_sine(a: Tensor, b: Tensor) -> Tensor:
    between = _matrix(a).mT @ _matrix(b)
    skew = (between - between.mT) / 2
    return (skew.square().sum(dim=(-2, -1)) / 2).sqrt().clamp(max=1).asin()


def _in_one_turn(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


_UNITS = 180 / math.pi, 1.0
_OVER = {
    "mean": lambda angle: angle.mean(dim=-1),
    "root mean square": lambda angle: angle.square().mean(dim=-1).sqrt(),
    "sum": lambda angle: angle.sum(dim=-1),
    "root of the sum of squares": lambda angle: angle.norm(dim=-1),
    "largest angle": lambda angle: angle.amax(dim=-1),
}
"""Summaries of the joints that one of them can move."""

pose_distance.mistake(
    "this is the difference of the vectors; the same rotation has several, so compare rotations",
    *(
        _distance(lambda a, b: (a - b).norm(dim=-1), over, unit)
        for over in (_median, *_OVER.values())
        for unit in _UNITS
    ),
)
for _hint, _wrong in {
    "this is the difference of the vectors, each wrapped to one turn by coordinate; compare "
    "rotations": lambda a, b: _in_one_turn(a - b).norm(dim=-1),
    "equal rotations are written alike, but the difference of two vectors is not the angle "
    "between them; multiply the rotations": (
        lambda a, b: (_vector(_quaternion(a)) - _vector(_quaternion(b))).norm(dim=-1)
    ),
    "this compares how far the joints are turned, but not about which axis": (
        lambda a, b: (a.norm(dim=-1) - b.norm(dim=-1)).abs()
    ),
    "this is the rotation by the difference of the vectors; rotations do not add like vectors": (
        lambda a, b: _vector(_quaternion(b - a)).norm(dim=-1)
    ),
    "v and -v are treated as one rotation, but they turn to opposite sides; compare rotations": (
        lambda a, b: torch.minimum((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    ),
    "this is the angle between the axes; compare the rotations": (
        lambda a, b: torch.cosine_similarity(a, b, dim=-1).clamp(-1, 1).acos()
    ),
    "the two rotations are put together; turn back by the first: R_a^T R_b": (
        _by_trace(inverse=False)
    ),
    "the trace of a rotation is 1 + 2 cos(angle); take arccos((trace - 1) / 2)": (
        _by_trace(cosine=lambda trace: trace / 3)
    ),
    "angles above 90 degrees are folded back, since the sine alone cannot tell them apart": (
        _by_sine
    ),
    "the tangent alone cannot tell angles above 90 degrees apart; use atan2": (
        lambda a, b: _angle(a, b).tan().atan()
    ),
    "q and -q are one rotation; take the absolute value of the scalar part": (
        lambda a, b: 2 * _between(a, b)[..., 0].clamp(-1, 1).acos()
    ),
    "this is half the angle; the scalar part of a quaternion is cos(angle / 2)": (
        lambda a, b: _angle(a, b) / 2
    ),
    "not finite where a joint is at rest": _by_trace(safe=False),
    "not finite for poses that are equal": _by_trace(clamp=False),
    "near 1 the cosine hardly depends on the angle": _by_trace(),
}.items():
    pose_distance.mistake(_hint)(_distance(_wrong))

for _name, _over in _OVER.items():
    pose_distance.mistake(
        f"this is the {_name} over the joints, which one wrong joint moves; take the median",
        *(_distance(over=_over, unit=unit) for unit in _UNITS),
    )
for _hint, _over in {
    "this is the smallest angle; take the median over the joints": lambda angle: angle.amin(-1),
    "this returns one angle per joint; take the median over the joints": lambda angle: angle,
    "this is the median over the poses; take it over the joints, axis 1": (
        lambda angle: angle.median(dim=0).values
    ),
    "this is one median of all poses and joints; return one per pose": torch.median,
}.items():
    pose_distance.mistake(_hint)(_distance(over=_over))

pose_distance.mistake("the distance is in radians; return degrees", _distance(unit=1.0))
pose_distance.mistake("these are values and indices; take .values of the median")(
    lambda a, b: _angle(a, b).rad2deg().median(dim=-1)
)
pose_distance.mistake(
    "this is the distance of two matrices, which is proportional to sin(angle / 2); return the "
    "angle",
    *(
        _distance(lambda a, b, scale=scale: scale * (2 * (_angle(a, b) / 2).sin()))
        for scale in (2**0.5, 1.0, 0.5, 2**-0.5)  # Frobenius norm of matrices first
    ),
)
