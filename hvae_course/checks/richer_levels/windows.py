"""Check of the filters through which DRAW reads and writes a part of an image."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, checked, compare_cases

_SHAPES = ((3, 4, 7), (1, 2, 5), (4, 5, 12), (2, 3, 3))
"""Batch size, filters and pixels of every case."""


@checked
def filterbank(answer: Answer) -> str:
    r"""Gaussian filters along one axis of an image.

    Write ``filterbank(center, stride, std, num_filters, size) -> (B, N, A)``. Filter i = 1, ..., N
    has its centre at :math:`g + (i - N/2 - 1/2)\, \delta` and the weight :math:`F[i, a] \propto
    \exp(-(a - \mu_i)^2 / 2 \sigma^2)` at pixel a = 1, ..., A; its weights sum to 1. ``center``,
    ``stride`` and ``std``, each ``(B,)``, are :math:`g`, :math:`\delta` and :math:`\sigma` in
    pixels.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = []
    for batch, num_filters, size in _SHAPES:
        center = size * (0.2 + 0.6 * torch.rand(batch))
        stride = size / num_filters * (0.6 + 0.6 * torch.rand(batch))
        std = 0.6 + 1.5 * torch.rand(batch)
        cases.append((center, stride, std, num_filters, size))
    known = filterbank.mistakes
    compare_cases(answer, _filters(), cases, name="a weight", mistakes=known)
    sizes = ", ".join(f"{n} filters on {a} pixels" for _, n, a in _SHAPES)
    return f"right for {sizes}"


def _filters(
    first: int = 1,
    pixel: int = 1,
    place: Callable[[Tensor, int], Tensor] = lambda i, n: i - n / 2 - 0.5,
    exponent: Callable[[Tensor, Tensor], Tensor] = lambda d, std: -(d**2) / (2 * std**2),
    norm: Callable[[Tensor, Tensor], Tensor] = lambda f, std: f / f.sum(dim=2, keepdim=True),
    moved: Callable[[Tensor, Tensor], Tensor] = lambda place, stride: place * stride,
) -> Answer:
    """The filters, or a mistake in a part of them."""

    def answer(center: Tensor, stride: Tensor, std: Tensor, num_filters: int, size: int) -> Tensor:
        center, stride, std = (part[:, None, None] for part in (center, stride, std))
        i = torch.arange(first, first + num_filters).to(center)[:, None]
        a = torch.arange(pixel, pixel + size).to(center)
        means = center + moved(place(i, num_filters), stride)  # (B, N, 1)
        return norm(exponent(a - means, std).exp(), std)

    return answer


for _hint, _wrong in {
    "filters are counted from 0 in a formula that counts from 1: the window is shifted by a whole "
    "stride": _filters(first=0),
    "pixels are counted from 0; the centre is counted from 1, so the window is one pixel beside "
    "it": _filters(pixel=0),
    "filters and pixels are both counted from 0; the formula counts both from 1": _filters(0, 0),
    "the centres lack the 1/2: the window is shifted by half a stride": _filters(
        place=lambda i, n: i - n / 2
    ),
    "the centres are shifted by a stride: it is i - N/2 - 1/2": _filters(
        place=lambda i, n: i - n / 2 + 0.5
    ),
    "the first filter lies at the centre; the window lies around it": _filters(
        place=lambda i, n: i - 1
    ),
    "the window is mirrored: the centres rise with i": _filters(
        place=lambda i, n: n / 2 + 0.5 - i
    ),
    "N / 2 is rounded; divide as numbers": _filters(place=lambda i, n: i - n // 2 - 0.5),
    "the stride is missing; it multiplies i - N/2 - 1/2": _filters(
        moved=lambda place, stride: place
    ),
    "the exponent is the square of (a - mu) / (2 sigma^2); square the distance alone": _filters(
        exponent=lambda d, std: -((d / (2 * std**2)) ** 2)
    ),
    "the exponent has (2 sigma)^2; it is 2 sigma^2": _filters(
        exponent=lambda d, std: -((d / (2 * std)) ** 2)
    ),
    "the 2 is missing in the exponent, 2 sigma^2": _filters(
        exponent=lambda d, std: -((d / std) ** 2)
    ),
    "std is taken for a variance": _filters(exponent=lambda d, std: -(d**2) / (2 * std)),
    "the distance is not squared": _filters(exponent=lambda d, std: -d.abs() / (2 * std**2)),
    "the weights of a filter do not sum to 1; divide by their sum": _filters(
        norm=lambda f, std: f
    ),
    "this is the density of a Gaussian; on few pixels its values do not sum to 1": _filters(
        norm=lambda f, std: f / (2.5066283 * std)
    ),
    "the weights of a pixel sum to 1; those of a filter should": _filters(
        norm=lambda f, std: f / f.sum(dim=1, keepdim=True)
    ),
    "all weights together sum to 1; those of each filter should": _filters(
        norm=lambda f, std: f / f.sum(dim=(1, 2), keepdim=True)
    ),
    "the largest weight of a filter is 1; their sum should be": _filters(
        norm=lambda f, std: f / f.amax(dim=2, keepdim=True)
    ),
    "the axes are pixels and filters; the filters are axis 1": _filters(
        norm=lambda f, std: (f / f.sum(dim=2, keepdim=True)).mT
    ),
}.items():
    filterbank.mistake(_hint, _wrong)
