"""Check of a quantiser: the nearest row, its copied gradient, and its penalty."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.building import used
from hvae_course.checks.codes_build.quantiser import slopes
from hvae_course.checks.verdict import Answer, as_sequence, checked, compare_cases
from hvae_course.codes import nearest

_SHAPES = ((4, 12, 3, 7, 0.25), (2, 1, 2, 3, 1.5), (3, 6, 1, 5, 0.6))
"""Batch size, positions, dimensions, rows and beta of every case."""
_NAMES = (
    "z",
    "the penalty",
    "the gradient of z for the encodings",
    "the gradient of z for the codebook",
    "the gradient of the penalty for the encodings",
    "the gradient of the penalty for the codebook",
)


@checked
def quantise(answer: Answer) -> str:
    r"""The nearest row of a codebook with its gradient and penalty (:eq:`eq-vq-penalty`).

    Write ``quantise(encodings, rows, beta) -> (z, penalty)``, ``(B, N, D)`` and ``(B,)``. Each of
    the N encodings of an example, ``(B, N, D)``, is replaced by the nearest of the ``rows``, ``(K,
    D)``. The gradient of z goes to the encodings as if nothing had happened, and none of it to the
    rows. The penalty adds up, over positions and dimensions, the squared distance that moves the
    rows and ``beta`` times the one that moves the encodings.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [
        (torch.randn(batch, positions, size), torch.randn(num_rows, size), beta)
        for batch, positions, size, num_rows, beta in _SHAPES
    ]
    known = used(_with_gradients, quantise.mistakes)
    right = _with_gradients(_quantised())
    compare_cases(_with_gradients(answer), right, cases, name=_NAMES, mistakes=known)
    return f"values and all four gradients are right in {len(cases)} cases"


def _with_gradients(function: Answer) -> Answer:
    """Both results, and the gradients of both for both arguments."""

    def run(encodings: Tensor, rows: Tensor, beta: float) -> list[object]:
        leaves = [encodings.requires_grad_(), rows.requires_grad_()]
        given = [leaf.clone() for leaf in leaves]
        results = as_sequence(function(*given, beta), 2, name="the result")
        return [*results, *(slope for value in results for slope in slopes(value, leaves))]

    return run


def _copied(z_e: Tensor, e: Tensor) -> Tensor:
    return z_e + (e - z_e).detach()


def _summed(squares: Tensor) -> Tensor:
    return squares.flatten(1).sum(dim=1)


def _terms(z_e: Tensor, e: Tensor, z: Tensor, beta: float) -> Tensor:
    return (z_e.detach() - e).square() + beta * (z_e - e.detach()).square()


def _quantised(
    choose: Callable[[Tensor, Tensor], Tensor] = nearest,
    pass_on: Callable[[Tensor, Tensor], Tensor] = _copied,
    terms: Callable[[Tensor, Tensor, Tensor, float], Tensor] = _terms,
    reduce: Callable[[Tensor], Tensor] = _summed,
) -> Answer:
    """The quantiser, or a mistake in a part of it."""

    def answer(encodings: Tensor, rows: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        e = rows[choose(encodings, rows)]
        z = pass_on(encodings, e)
        return z, reduce(terms(encodings, e, z, beta))

    return answer


for _hint, _wrong in {
    # which row
    "this is the farthest row; take the nearest": _quantised(
        lambda z_e, rows: torch.cdist(z_e, rows.expand(len(z_e), -1, -1)).argmax(dim=-1)
    ),
    "this is the row with the largest inner product, which favours long rows; take the nearest": (
        _quantised(lambda z_e, rows: (z_e @ rows.T).argmax(dim=-1))
    ),
    "the distances are sums of absolute values; take squares": _quantised(
        lambda z_e, rows: (z_e[..., None, :] - rows).abs().sum(dim=-1).argmin(dim=-1)
    ),
    "one row serves all positions of an example; every position has its own": _quantised(
        lambda z_e, rows: nearest(z_e.mean(1, keepdim=True), rows).expand(z_e.shape[:2])
    ),
    # how the gradient passes
    "z is the encoding; replace it by its row": _quantised(pass_on=lambda z_e, e: z_e),
    "no gradient reaches the encodings from z: copy it past the choice of a row": _quantised(
        pass_on=lambda z_e, e: e.detach()
    ),
    "the gradient of z reaches the rows and not the encodings: the choice of a row has no "
    "gradient, so copy it, z = encoding + (row - encoding) without gradients": _quantised(
        pass_on=lambda z_e, e: e
    ),
    "the gradient of z reaches the rows as well; detach the row in z": _quantised(
        pass_on=lambda z_e, e: z_e + e - z_e.detach()
    ),
    "z has the gradient of the encodings with the wrong sign": _quantised(
        pass_on=lambda z_e, e: e.detach() - (z_e - z_e.detach())
    ),
    # the penalty
    "beta weights the term that moves the rows, or the two detaches are swapped: it belongs to "
    "the term that moves the encodings": _quantised(
        terms=lambda z_e, e, z, beta: (
            beta * (z_e.detach() - e).square() + (z_e - e.detach()).square()
        )
    ),
    "the distances are taken from z, behind the line that copies the gradient: there z stands for "
    "the encodings, and no gradient reaches the rows; take them from the row": _quantised(
        terms=lambda z_e, e, z, beta: _terms(z_e, z, z, beta)
    ),
    "both terms move both: detach the encodings in the first, the row in the second": (
        _quantised(terms=lambda z_e, e, z, beta: (1 + beta) * (z_e - e).square())
    ),
    "the first term moves encodings as well; detach them there": _quantised(
        terms=lambda z_e, e, z, beta: (z_e - e).square() + beta * (z_e - e.detach()).square()
    ),
    "the second term moves rows as well; detach the row there": _quantised(
        terms=lambda z_e, e, z, beta: (z_e.detach() - e).square() + beta * (z_e - e).square()
    ),
    "both terms move the rows; the second, with beta, moves the encodings": _quantised(
        terms=lambda z_e, e, z, beta: (1 + beta) * (z_e.detach() - e).square()
    ),
    "both terms move the encodings; the first moves the rows": _quantised(
        terms=lambda z_e, e, z, beta: (1 + beta) * (z_e - e.detach()).square()
    ),
    "the penalty has no gradient: detach one side of each term, not both": _quantised(
        terms=lambda z_e, e, z, beta: _terms(z_e, e, z, beta).detach()
    ),
    "the term that moves the rows is missing": _quantised(
        terms=lambda z_e, e, z, beta: beta * (z_e - e.detach()).square()
    ),
    "the term that moves the encodings is missing": _quantised(
        terms=lambda z_e, e, z, beta: (z_e.detach() - e).square()
    ),
    "beta is missing": _quantised(terms=lambda z_e, e, z, beta: _terms(z_e, e, z, 1.0)),
    "beta weights both terms; the one that moves the rows has the weight 1": _quantised(
        terms=lambda z_e, e, z, beta: beta * _terms(z_e, e, z, 1.0)
    ),
    "the distances are not squared": _quantised(
        terms=lambda z_e, e, z, beta: (z_e.detach() - e).abs() + beta * (z_e - e.detach()).abs()
    ),
    "the penalty has the wrong sign: it is a cost, which training keeps small": _quantised(
        terms=lambda z_e, e, z, beta: -_terms(z_e, e, z, beta)
    ),
    # what is summed
    "the penalty is averaged over positions and dimensions; that rescales beta, so sum": (
        _quantised(reduce=lambda squares: squares.flatten(1).mean(dim=1))
    ),
    "the penalty is averaged over the dimensions; that rescales beta, so sum": _quantised(
        reduce=lambda squares: squares.mean(dim=2).sum(dim=1)
    ),
    "the penalty is averaged over the positions; that rescales beta, so sum": _quantised(
        reduce=lambda squares: squares.sum(dim=2).mean(dim=1)
    ),
    "this is one penalty per position; sum over them": _quantised(
        reduce=lambda squares: squares.sum(dim=2)
    ),
    "this sums over the batch; return one penalty per example, (B,)": _quantised(reduce=torch.sum),
    "this averages over everything; return one sum per example, (B,)": _quantised(
        reduce=torch.mean
    ),
}.items():
    quantise.mistake(_hint, _wrong)


@quantise.mistake("the choice of a row has no gradient, so copy it")
def _(encodings, rows, beta):
    e = rows[nearest(encodings, rows)]
    return encodings + (e - encodings), _quantised()(encodings, rows, beta)[1]


@quantise.mistake("the distance is a root")
def _(encodings, rows, beta):
    e = rows[nearest(encodings, rows)]
    moving = [(encodings.detach() - e).norm(dim=2), (encodings - e.detach()).norm(dim=2)]
    return _copied(encodings, e), (moving[0] + beta * moving[1]).sum(dim=1)
