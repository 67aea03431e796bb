"""A path against the straight line between its ends: lengths in z and in x, and largest steps."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import (
    Answer,
    Known,
    Mistake,
    as_sequence,
    checked,
    compare_cases,
    copies,
)

_Decode = Callable[[Tensor], Tensor]
_QUANTITIES = ("the length in z", "the length in x", "the largest step in x")
_NAMES = [f"{quantity} of the {line}" for line in ("path", "line") for quantity in _QUANTITIES]


@checked
def compare_with_line(answer: Answer) -> str:
    """A path through a latent graph against the straight line between its ends.

    Write ``compare_with_line(corners, decode, num_frames)``, which returns three numbers for the
    path and the same three for the straight line between its first and last corner: ``(path,
    line)``, each ``(length in z, length in x, largest step in x)``. ``corners``, ``(P, Z)``, are
    those of the path; two that follow each other may be equal. ``decode`` maps codes ``(T, Z)`` to
    frames ``(T, D)``. The length in z is that of the polyline. For the other two, set
    ``num_frames`` codes at equal distances along it, both ends included, and decode them: a step
    is the Euclidean distance between two frames that follow each other, and the length in x is the
    sum of the steps.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = _cases()
    own, right = _numbers_of(answer), _numbers_of(_compared())
    known = [Known(_numbers_of(k.answer), k.hint) for k in compare_with_line.mistakes]
    *apart, together = cases
    compare_cases(own, right, apart, name=_NAMES, mistakes=known)
    if not all(math.isfinite(number) for number in own(*copies(together))):
        raise Mistake(
            "right as long as corners differ; where two are equal, an edge of length zero divides "
            "by zero"
        )
    compare_cases(own, right, [together], name=_NAMES, mistakes=known)
    return f"all six numbers are right for {len(cases)} paths, one of them with repeated corners"


def _numbers_of(answer: Answer) -> Answer:
    """The same answer with its six numbers in one list."""

    def flat(*inputs: object) -> list[object]:
        value = answer(*inputs)
        if hasattr(value, "shape"):
            value = torch.as_tensor(value)
        lines = as_sequence(value, 2, name="the result, (path, line),")
        rows = [torch.as_tensor(row) if hasattr(row, "shape") else row for row in lines]
        return [number for row in rows for number in as_sequence(row, 3, name="path or line")]

    return flat


def _cases() -> list[tuple[Tensor, _Decode, int]]:
    """Paths with edges of different lengths, and decoders that are not linear."""
    weights, more = torch.randn(3, 6), torch.randn(2, 5)

    def hill(z: Tensor) -> Tensor:
        return torch.cat([z, 4 * (1 - z.square().sum(dim=1, keepdim=True))], dim=1)

    def layer(z: Tensor) -> Tensor:
        return torch.tanh(z @ weights.to(z))

    def waves(z: Tensor) -> Tensor:
        return torch.sin(2 * z @ more.to(z))

    angle = torch.tensor([0.0, 0.1, 0.3, 0.9, 1.0, 1.8, 2.2, 2.9])
    arc = torch.stack([angle.cos(), angle.sin()], dim=1)
    twice = torch.randn(5, 2)[[0, 0, 1, 2, 2, 3, 4, 4]]
    return [
        (arc, hill, 21),
        (torch.randn(6, 3), layer, 15),
        (torch.randn(2, 2), waves, 8),
        (torch.randn(9, 2), waves, 40),
        (twice, waves, 12),
    ]


def _places(
    corners: Tensor,
    num_frames: int,
    *,
    each_edge: bool = False,  # the same number of codes on each edge
    part: Callable[[int], Tensor] = lambda n: torch.linspace(0, 1, n, dtype=torch.float64),
) -> Tensor:
    """Codes along a polyline, at equal distances."""
    corners = corners.double()
    edge = corners.diff(dim=0).norm(dim=1)
    if each_edge:
        edge = torch.ones_like(edge)
    reached = torch.cat([edge.new_zeros(1), edge.cumsum(0)])
    wanted = part(num_frames) * reached[-1]
    on = torch.searchsorted(reached[1:-1].contiguous(), wanted)
    share = (wanted - reached[on]) / edge[on].where(edge[on] > 0, 1)
    return torch.lerp(corners[on], corners[on + 1], share[:, None])


def _length(points: Tensor) -> float:
    return points.double().diff(dim=0).norm(dim=1).sum().item()


def _measured(
    *,
    places: Callable[[Tensor, int], Tensor] = _places,
    latent: Callable[[Tensor, Tensor], float] = lambda corners, codes: _length(corners),
    frames: Callable[[_Decode, Tensor], Tensor] = lambda decode, codes: decode(codes),
    size: Callable[[Tensor], Tensor] = lambda difference: difference.norm(dim=1),
    length: Callable[[Tensor, Tensor], Tensor] = lambda steps, frames: steps.sum(),
    largest: Callable[[Tensor], Tensor] = torch.amax,
    row: Callable[..., object] = lambda *numbers: numbers,
) -> Answer:
    """The three numbers of one polyline, right or with one part exchanged."""

    def numbers(corners: Tensor, decode: _Decode, num_frames: int) -> object:
        codes = places(corners, num_frames)
        shown = frames(decode, codes)
        steps = size(shown.diff(dim=0))
        return row(latent(corners, codes), length(steps, shown), largest(steps))

    return numbers


def _compared(
    path: Answer | None = None,
    line: Answer | None = None,
    ends: Callable[[Tensor], Tensor] = lambda corners: corners[[0, -1]],
    result: Callable[[object, object], object] = lambda path, line: (path, line),
) -> Answer:
    """Path and line, each measured in one way; the line as the path if nothing else is said."""
    path = path or _measured()
    line = line or path

    def answer(corners: Tensor, decode: _Decode, num_frames: int) -> object:
        straight = ends(corners)
        return result(path(corners, decode, num_frames), line(straight, decode, num_frames))

    return answer


def _at_corners(corners: Tensor, num_frames: int) -> Tensor:
    return corners.double()


def _divided(corners: Tensor, num_frames: int) -> Tensor:
    """Codes along a polyline, dividing by the length of each edge, also where it is zero."""
    corners = corners.double()
    edge = corners.diff(dim=0).norm(dim=1)
    reached = torch.cat([edge.new_zeros(1), edge.cumsum(0)])
    wanted = torch.linspace(0, 1, num_frames, dtype=torch.float64) * reached[-1]
    on = (torch.searchsorted(reached, wanted, right=True) - 1).clamp(max=len(edge) - 1)
    share = (wanted - reached[on]) / edge[on]
    return torch.lerp(corners[on], corners[on + 1], share[:, None])


def _with_frames(number: int) -> Answer:
    return lambda corners, decode, num_frames: _measured()(corners, decode, number)


def _blended(decode: _Decode, codes: Tensor) -> Tensor:
    first, last = decode(codes[:1]), decode(codes[-1:])
    return torch.lerp(first, last, torch.linspace(0, 1, len(codes)).to(first)[:, None])


@compare_with_line.mistake("the frames of the path are its corners; set them at equal distances")
def _(corners, decode, num_frames):
    return _compared(_measured(places=_at_corners), _measured())(corners, decode, num_frames)


for _hint, _variant in {
    "the line has as many frames as the path has corners; give both num_frames": (
        lambda corners, decode, n: _compared(line=_with_frames(len(corners)))(corners, decode, n)
    ),
    "the line has two frames, its ends; give it num_frames": _compared(line=_with_frames(2)),
    "path and line have as many frames as the path has corners; give both num_frames": (
        lambda corners, decode, n: _compared()(corners, decode, len(corners))
    ),
    "the path is decoded at its corners, the line in as many frames; set num_frames on both": (
        lambda corners, decode, n: _compared(_measured(places=_at_corners), _measured())(
            corners, decode, len(corners)
        )
    ),
    "each edge of the path has the same number of codes; set them at equal distances": (
        _compared(_measured(places=lambda corners, n: _places(corners, n, each_edge=True)))
    ),
    "these are num_frames + 1 frames; both ends are among the num_frames": (
        _compared(_measured(places=lambda corners, n: _places(corners, n + 1)))
    ),
    "these are num_frames codes beside the ends; both ends are among the num_frames": (
        _compared(_measured(places=lambda corners, n: _places(corners, n + 2)))
    ),
    "the last frame is not the end; put both ends among the frames": _compared(
        _measured(
            places=lambda corners, n: _places(corners, n, part=lambda n: torch.arange(n) / n)
        )
    ),
    "the length in z is that of the codes, which cut corners; add up the edges of the path": (
        _compared(_measured(latent=lambda corners, codes: _length(codes)))
    ),
    "the length in z is the distance between the ends; add up the edges of the path": _compared(
        _measured(latent=lambda corners, codes: (corners[-1] - corners[0]).norm())
    ),
    "the length in z is a sum of squares; take the root for each edge": _compared(
        _measured(latent=lambda corners, codes: corners.diff(dim=0).square().sum())
    ),
    "length and step in x are those of the codes; decode the codes first": (
        _compared(_measured(frames=lambda decode, codes: codes))
    ),
    "the length in x is the distance between the first and the last frame; add up the steps": (
        _compared(_measured(length=lambda steps, frames: (frames[-1] - frames[0]).norm()))
    ),
    "the length in x is the mean step; add up the steps": (
        _compared(_measured(length=lambda steps, frames: steps.mean()))
    ),
    "the largest step is the mean step": _compared(_measured(largest=torch.mean)),
    "the largest step is the smallest": _compared(_measured(largest=torch.amin)),
    "the largest step is the largest over the mean; return it in the units of x": (
        _compared(_measured(largest=lambda steps: steps.amax() / steps.mean()))
    ),
    "the steps are squared; take the root": (
        _compared(_measured(size=lambda difference: difference.square().sum(dim=1)))
    ),
    "this is one norm of all steps together; take one per step, along axis 1": _compared(
        _measured(
            size=lambda difference: difference.norm(),
            latent=lambda corners, codes: corners.diff(dim=0).norm(),
        )
    ),
    "a step is the root of the mean over the pixels; take the root of the sum": (
        _compared(_measured(size=lambda difference: difference.square().mean(dim=1).sqrt()))
    ),
    "a step is the mean over the pixels; take the root of the sum of squares": (
        _compared(_measured(size=lambda difference: difference.square().mean(dim=1)))
    ),
    "a step is the sum of the differences of the pixels; take the root of the sum of squares": (
        _compared(_measured(size=lambda difference: difference.abs().sum(dim=1)))
    ),
    "a step is the largest difference of one pixel; take the root of the sum of squares": (
        _compared(_measured(size=lambda difference: difference.abs().amax(dim=1)))
    ),
    "the frames of the line blend the two decoded ends; decode codes on the line": (
        _compared(line=_measured(frames=_blended))
    ),
    "the line comes first; return the path first": (
        _compared(result=lambda path, line: (line, path))
    ),
    "path and line are the same; the line joins the first corner and the last": (
        _compared(ends=lambda corners: corners)
    ),
    "length in x comes first; return length in z, length in x, largest step": (
        _compared(_measured(row=lambda z, x, step: (x, z, step)))
    ),
    "the step comes before the length in x; return length in z, length in x, largest step": (
        _compared(_measured(row=lambda z, x, step: (z, step, x)))
    ),
    "an edge of length zero": _compared(_measured(places=_divided)),
    "the result, (path, line), should be 2 values": _compared(result=lambda path, line: path),
}.items():
    compare_with_line.mistake(_hint)(_variant)
