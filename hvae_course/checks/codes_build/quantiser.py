"""Check of a quantiser whose codebook is trained by gradient."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_course.checks.building import make, used
from hvae_course.checks.verdict import Answer, Mistake, as_sequence, checked, compare_cases
from hvae_course.codes import nearest

NAMES = ("z", "the index", "the penalty")
"""What a quantiser gives."""


def encodings(*shape: int) -> Tensor:
    """Encodings, or rows, further apart than rounding in single precision.

    Args:
        *shape: their shape.

    Returns:
        Multiples of a fixed small number, in single precision.
    """
    return (torch.randn(shape) * 64).round().float() / 64


def slopes(value: object, variables: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a weighted sum of a value; zero where none arrives.

    Args:
        value: a tensor, with or without a graph.
        variables: what to differentiate with respect to.

    Returns:
        One gradient per variable.
    """
    if not isinstance(value, Tensor) or not value.requires_grad:
        return [torch.zeros_like(variable) for variable in variables]
    total = (torch.linspace(1, 2, value.numel()).to(value) * value.flatten()).sum()
    return list(
        torch.autograd.grad(
            total, variables, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )


def results_of(quantiser: nn.Module, z_e: Tensor) -> list[Tensor]:
    """What a quantiser gives, three tensors.

    Args:
        quantiser: the student's module.
        z_e: encodings.

    Returns:
        z, index and penalty.

    Raises:
        Mistake: if it does not give three tensors.
    """
    values = as_sequence(quantiser(z_e), 3, name="the result")
    for name, value in zip(NAMES, values, strict=True):
        if not isinstance(value, Tensor):
            raise Mistake(f"{name} should be a tensor, got {type(value).__name__}")
    return list(values)


@checked
def Quantiser(answer: Answer) -> str:  # noqa: N802
    r"""Nearest code, straight-through gradient and penalty (:eq:`eq-vq-penalty`).

    Write ``class Quantiser(nn.Module)`` with ``__init__(self, codes, commitment)``, which makes a
    parameter of a copy of ``codes``, ``(n_e, D)``, and ``forward(self, z_e) -> (z, index,
    penalty)``. The encodings are ``(B, D, H, W)``, and every position is quantised alone:
    ``index``, ``(B, H, W)``, is the number of the row with the smallest squared distance; z, ``(B,
    D, H, W)``, has the values of these rows and hands its gradient to ``z_e``, unchanged; the
    penalty, ``(B,)``, is :math:`\lVert \mathrm{sg}\, \hat z - e \rVert^2 + \beta_e \lVert \hat z -
    \mathrm{sg}\, e \rVert^2`, added up over positions.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    cases = [
        (encodings(7, 3), 0.25, encodings(4, 3, 2, 3)),
        (encodings(5, 4), 0.6, encodings(1, 4, 3, 2)),
        (3 * encodings(6, 2), 1.5, encodings(3, 2, 2, 2)),
    ]
    names = (
        *NAMES,
        "the gradient that z gives to the encodings",
        "the gradient that z gives to the codes",
        "the gradient of the penalty with respect to the encodings",
        "the gradient of the penalty with respect to the codes",
    )
    known = used(_measured, Quantiser.mistakes)
    compare_cases(_measured(answer), _measured(_quantiser()), cases, name=names, mistakes=known)
    return "codes, penalties and both kinds of gradients are right, for three sizes and weights"


def _measured(answer: Answer) -> Answer:
    """What a quantiser gives, and four gradients."""

    def run(codes: Tensor, commitment: float, z_e: Tensor) -> list[Tensor]:
        quantiser = make(answer, codes.clone(), commitment)
        rows = [p for p in quantiser.parameters() if p.numel() == codes.numel()]
        if len(rows) != 1:
            raise Mistake(
                f"{len(rows)} parameters of the module have the size of the codebook where one "
                "is right: make an nn.Parameter of codes.clone(), so that an optimiser moves it"
            )
        z_e = z_e.to(rows[0].dtype).requires_grad_()
        values = results_of(quantiser, z_e)
        gradients = []
        for value in (values[0], values[2]):
            own = slopes(value, [z_e, rows[0]])
            if own[1].shape == codes.T.shape != codes.shape:
                own[1] = own[1].T
            gradients += [own[0], own[1].reshape(codes.shape)]
        return [*values, *gradients]

    return run


def nearest_code(z_e: Tensor, codes: Tensor) -> Tensor:
    """Number of the nearest code at every position.

    Args:
        z_e: encodings ``(B, D, H, W)``.
        codes: rows ``(n_e, D)``.

    Returns:
        ``(B, H, W)``.
    """
    return nearest(z_e.movedim(1, -1), codes)


def rows_at(codes: Tensor, index: Tensor) -> Tensor:
    """Map of the rows with given numbers.

    Args:
        codes: rows ``(n_e, D)``.
        index: numbers ``(B, H, W)``.

    Returns:
        ``(B, D, H, W)``.
    """
    return F.embedding(index, codes).movedim(-1, 1)


def straight_through(z_e: Tensor, e: Tensor) -> Tensor:
    """The value of e with the gradient of z_e.

    Args:
        z_e: encodings ``(B, D, H, W)``.
        e: their codes, of the same shape.

    Returns:
        z, of the same shape.
    """
    return e.detach() + (z_e - z_e.detach())


def squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of every example.

    Args:
        a: ``(B, D, H, W)``.
        b: of the same shape.

    Returns:
        ``(B,)``.
    """
    return (a - b).square().sum(dim=(1, 2, 3))


def _penalty(z_e: Tensor, e: Tensor, weight: float) -> Tensor:
    return squares(z_e.detach(), e) + weight * squares(z_e, e.detach())


def _quantiser(
    penalty: Callable[[Tensor, Tensor, float], Tensor] = _penalty,
    point: Callable[[Tensor, Tensor], Tensor] = straight_through,
    choose: Callable[[Tensor, Tensor], Tensor] = nearest_code,
    result: Callable[..., object] = lambda z, index, penalty: (z, index, penalty),
    keep: Callable[[Tensor], object] = lambda codes: nn.Parameter(codes.clone()),
) -> Answer:
    """The quantiser, or a mistake in it."""

    class Answered(nn.Module):
        def __init__(self, codes: Tensor, commitment: float) -> None:
            super().__init__()
            self.codes, self.commitment = keep(codes), commitment

        def forward(self, z_e: Tensor) -> object:
            index = choose(z_e, self.codes)
            e = rows_at(self.codes, index)
            return result(point(z_e, e), index, penalty(z_e, e, self.commitment))

    return Answered


def _after_straight_through(z_e: Tensor, e: Tensor, weight: float) -> Tensor:
    return _penalty(z_e, z_e + (e - z_e).detach(), weight)


_WEIGHT = (
    "the commitment weight is on the wrong term, or both detaches are on the wrong side: it "
    "belongs to the term whose gradient reaches the encodings"
)
_MEAN = (
    "the squares are averaged, which changes both weights with the size of the grid; add them up"
)

for _hint, _wrong in {
    _WEIGHT: lambda z_e, e, weight: weight * squares(z_e.detach(), e) + squares(z_e, e.detach()),
    "the commitment weight is on both terms; the one that moves the codes has weight 1": (
        lambda z_e, e, weight: weight * (squares(z_e.detach(), e) + squares(z_e, e.detach()))
    ),
    "the commitment weight is missing": lambda z_e, e, weight: squares(z_e.detach(), e)
    + squares(z_e, e.detach()),
    "both terms detach the code, so that the codebook never moves": (
        lambda z_e, e, weight: (1 + weight) * squares(z_e, e.detach())
    ),
    "both terms detach the encodings, so that nothing keeps them near their codes": (
        lambda z_e, e, weight: (1 + weight) * squares(z_e.detach(), e)
    ),
    "nothing is detached: each term has one side without gradients": (
        lambda z_e, e, weight: (1 + weight) * squares(z_e, e)
    ),
    "everything is detached: each term has one side with gradients": (
        lambda z_e, e, weight: ((1 + weight) * squares(z_e, e)).detach()
    ),
    "the penalty is computed after the straight-through step, where the code is no longer that of "
    "the codebook; use the row itself": _after_straight_through,
    "the term that keeps the encodings near their codes is missing": (
        lambda z_e, e, weight: squares(z_e.detach(), e)
    ),
    "the term that moves the codes is missing": (
        lambda z_e, e, weight: weight * squares(z_e, e.detach())
    ),
    "the sign of the penalty is reversed": lambda z_e, e, weight: -_penalty(z_e, e, weight),
    "the penalty has distances; square them": (
        lambda z_e, e, weight: (
            (z_e.detach() - e).norm(dim=1).sum((1, 2))
            + weight * (z_e - e.detach()).norm(dim=1).sum((1, 2))
        )
    ),
    "this sums the penalty over the batch; return one number per example, (B,)": (
        lambda z_e, e, weight: _penalty(z_e, e, weight).sum()
    ),
    "this averages the penalty over the batch; return one number per example, (B,)": (
        lambda z_e, e, weight: _penalty(z_e, e, weight).mean()
    ),
}.items():
    Quantiser.mistake(_hint, _quantiser(_wrong))
Quantiser.mistake(
    _MEAN,
    _quantiser(lambda z_e, e, weight: _penalty(z_e, e, weight) / e[0].numel()),
    _quantiser(lambda z_e, e, weight: _penalty(z_e, e, weight) / e[0, 0].numel()),
    _quantiser(lambda z_e, e, weight: _penalty(z_e, e, weight) / e.shape[1]),
    _quantiser(lambda z_e, e, weight: (_penalty(z_e, e, weight) / e[0].numel()).mean()),
)

for _hint, _wrong in {
    "z has no gradient at all; it hands its gradient to the encodings": lambda z_e, e: e.detach(),
    "z hands its gradient to the encodings and to the codebook; detach the row": (
        lambda z_e, e: e + (z_e - z_e.detach())
    ),
    "z has the values of the encodings; it has those of the codes": lambda z_e, e: z_e,
    "z has the values of the encodings and the gradient of the codes; it is the other way round": (
        lambda z_e, e: e + (z_e - e).detach()
    ),
}.items():
    Quantiser.mistake(_hint, _quantiser(point=_wrong))

Quantiser.mistake(
    "the gradient of z goes to the codebook, and none to the encodings: detach the difference in "
    "z = z_e + (e - z_e), or the row",
    _quantiser(point=lambda z_e, e: e),
    _quantiser(point=lambda z_e, e: z_e + (e - z_e)),
)


def _in_memory(z_e: Tensor, codes: Tensor) -> Tensor:
    """Vectors of neighbours in memory, which belong to different positions."""
    b, d, h, w = z_e.shape
    return nearest(z_e.detach().reshape(-1, d), codes).view(b, h, w)


for _hint, _wrong in {
    "this is the furthest code; take the smallest distance": lambda z_e, codes: (
        torch.cdist(z_e.movedim(1, -1).flatten(0, 2), codes).argmax(1).view(z_e[:, 0].shape)
    ),
    "this is the code with the largest inner product; a long row has large ones although it is "
    "far away: compare distances": (
        lambda z_e, codes: (z_e.movedim(1, -1) @ codes.T).argmax(dim=-1)
    ),
    "the vectors are taken across positions: move axis 1 to the end before you flatten": (
        _in_memory
    ),
    "the squared length of the codes is missing in the distance, or has the wrong factor": (
        lambda z_e, codes: (
            codes.square().sum(1) - z_e.movedim(1, -1) @ codes.T  # the product counts twice
        ).argmin(dim=-1)
    ),
    "height and width of the index are exchanged": (
        lambda z_e, codes: nearest_code(z_e.mT, codes).view(z_e[:, 0].shape)
    ),
}.items():
    Quantiser.mistake(_hint, _quantiser(choose=_wrong))

for _hint, _wrong in {
    "the index should have shape (4, 2, 3), yours has (24,)": (
        lambda z, index, penalty: (z, index.flatten(), penalty)
    ),
    "z should have shape (4, 3, 2, 3), yours has (4, 2, 3, 3)": (
        lambda z, index, penalty: (z.movedim(1, -1), index, penalty)
    ),
    "index and penalty are in the wrong order; return (z, index, penalty)": (
        lambda z, index, penalty: (z, penalty, index)
    ),
    "should be 3 values": lambda z, index, penalty: z,
}.items():
    Quantiser.mistake(_hint, _quantiser(result=_wrong))
Quantiser.mistake("make an nn.Parameter of codes.clone()", _quantiser(keep=lambda codes: codes))
