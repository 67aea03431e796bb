"""Check of codes without a codebook: every dimension is rounded to a few values."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.building import used
from hvae_course.checks.codes_build.quantiser import slopes
from hvae_course.checks.verdict import Answer, checked, compare_cases

_VALUES = ((5, 4, 2), (3, 2), (8, 7, 6, 5))


@checked
def finite_scalars(answer: Answer) -> str:
    r"""Rounding of every dimension to a few values, with the gradient of the tanh.

    Write ``finite_scalars(encodings, values) -> z``, ``(B, D)``. ``values``, ``(D,)``, holds how
    many values :math:`L` each dimension has, at least 2. They are equally spaced from -1 to 1:
    ``z`` is the one nearest to tanh of the encoding. Its gradient is that of the tanh, copied past
    the rounding.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [(1.5 * torch.randn(40, len(v)), torch.tensor(v)) for v in _VALUES]
    names = ("z", "the gradient of z")
    known = used(_with_gradient, finite_scalars.mistakes)
    right = _with_gradient(_rounded())
    compare_cases(_with_gradient(answer), right, cases, name=names, mistakes=known)
    grids = ", ".join(" x ".join(map(str, v)) for v in _VALUES)
    return f"grids of {grids} values, with the gradient of the tanh"


def _with_gradient(function: Answer) -> Answer:
    def run(encodings: Tensor, values: Tensor) -> list[object]:
        leaf = encodings.requires_grad_()
        z = function(leaf.clone(), values)
        return [z, *slopes(z, [leaf])]

    return run


def _offset(values: Tensor) -> Tensor:
    """1/2 for an even number of values, whose grid lies between whole numbers."""
    return (1 - values % 2) / 2


def _rounded(
    squash: Callable[[Tensor], Tensor] = torch.tanh,
    reach: Callable[[Tensor], Tensor] = lambda values: (values - 1) / 2,
    offset: Callable[[Tensor], Tensor] = _offset,
    back: Callable[[Tensor], Tensor] = _offset,
    norm: Callable[[Tensor], Tensor] = lambda values: (values - 1) / 2,
    copied: Callable[..., Tensor] = lambda z_e, bounded, z: bounded + (z - bounded).detach(),
    rounds: Callable[[Tensor], Tensor] = torch.round,
) -> Answer:
    """The rounding, or a mistake in a part of it."""

    def answer(encodings: Tensor, values: Tensor) -> Tensor:
        bounded = reach(values) * squash(encodings)
        z = rounds(bounded - offset(values)) + back(values)
        return copied(encodings, bounded / norm(values), z / norm(values))

    return answer


def _published(inverse: Callable[[Tensor], Tensor], margin: float) -> Answer:
    """The published form, whose tanh is shifted where the number of values is even."""

    def answer(encodings: Tensor, values: Tensor) -> Tensor:
        half, offset = (values - 1) * (1 + margin) / 2, _offset(values)
        bounded = torch.tanh(encodings + inverse(offset / half)) * half - offset
        return (bounded + (bounded.round() - bounded).detach()) / (values // 2)

    return answer


for _hint, _wrong in {
    "no gradient reaches the encodings: that of a rounding is 0, so copy it past the rounding": (
        _rounded(copied=lambda z_e, bounded, z: z)
    ),
    "the gradient is copied past the tanh as well; copy it past the rounding alone": _rounded(
        copied=lambda z_e, bounded, z: z_e + (z - z_e).detach()
    ),
    "nothing is rounded": _rounded(rounds=lambda u: u, back=_offset),
    "an even number of values lies between whole numbers: shift by 1/2, round, and shift back": (
        _rounded(offset=torch.zeros_like, back=torch.zeros_like)
    ),
    "the shift by 1/2 is not undone after rounding": _rounded(back=torch.zeros_like),
    "the grid is shifted where the number of values is odd; shift it where it is even": _rounded(
        offset=lambda values: 0.5 - _offset(values), back=lambda values: 0.5 - _offset(values)
    ),
    "z is not divided by (L - 1) / 2, so that it does not lie between -1 and 1": _rounded(
        norm=torch.ones_like
    ),
    "the values reach -1 and 1 with (L - 1) / 2; this divides by half of L, rounded down": (
        _rounded(norm=lambda values: values // 2)
    ),
    "L / 2 on both sides of 0 makes one value too many; the reach is (L - 1) / 2": _rounded(
        reach=lambda values: values / 2, norm=lambda values: values / 2
    ),
    "L // 2 steps on both sides of 0 make one value too many if L is even": _rounded(
        reach=lambda values: values // 2,
        offset=torch.zeros_like,
        back=torch.zeros_like,
        norm=lambda values: values // 2,
    ),
    "all dimensions have the values of the first; each has its own number": (
        lambda z_e, values: _rounded()(z_e, values[:1].expand(len(values)))
    ),
    "the encodings are cut off at -1 and 1; take their tanh": _rounded(
        lambda z_e: z_e.clamp(-1, 1)
    ),
    "nothing bounds the encodings; take their tanh": _rounded(lambda z_e: z_e),
    "sigmoid lies between 0 and 1; tanh lies between -1 and 1": _rounded(torch.sigmoid),
    "values are cut off downwards; round to the nearest": _rounded(rounds=torch.floor),
}.items():
    finite_scalars.mistake(_hint, _wrong)
finite_scalars.mistake(
    "this is the published form with tan in place of the inverse tanh; a symmetric grid needs "
    "no such shift",
    *(_published(torch.tan, margin) for margin in (0.0, 1e-3, -1e-3)),
)
finite_scalars.mistake(
    "this is the published form, whose tanh is shifted for an even number of values; a symmetric "
    "grid needs no such shift, which is infinite for two values",
    *(_published(torch.atanh, margin) for margin in (0.0, 1e-3)),
)
finite_scalars.mistake("not finite", _published(torch.atanh, -1e-3))
