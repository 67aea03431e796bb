"""Checks of decoders that see a window: what a latent is worth to the best one, and a layer."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, checked, compare_cases

# What a latent is worth


@checked
def worth(answer: Answer) -> str:
    r"""What a latent is worth to the best decoder that sees a window (:eq:`eq-window-worth`).

    Write ``worth(p, window) -> ()``, nats. ``p``, of shape ``(2,) * D``, holds the probability of
    every image: ``p[1, 0, 1]`` that of the pixels 1, 0, 1. The best decoder without a latent gives
    every pixel its exact probability given the ``window`` pixels before it, or given all before it
    if there are fewer. Return by how many nats its mean cost exceeds H(x).

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    tables = [torch.rand((2,) * size).square() + 0.02 for size in (4, 3, 5)]
    tables = [p / p.sum() for p in tables]
    cases = [(p, window) for p in tables for window in range(p.dim() + 1)]
    compare_cases(answer, _cost(), cases, name="the worth", mistakes=worth.mistakes)
    return f"agrees with enumeration in {len(cases)} cases, from no window to all pixels"


def _entropy(p: Tensor, pixels: range) -> Tensor:
    """Entropy of some of the pixels."""
    others = [axis for axis in range(p.dim()) if axis not in pixels]
    marginal = p.sum(others) if others else p
    return -torch.special.xlogy(marginal, marginal).sum()


def _cost(
    first: Callable[[int, int], int] = lambda i, window: max(i - window, 0),
    start: Callable[[int], int] = lambda window: 0,
    rest: Callable[[Tensor, Tensor, int], Tensor] = lambda cost, whole, size: cost - whole,
) -> Answer:
    """The worth, or a mistake in the window or in what is subtracted."""

    def answer(p: Tensor, window: int) -> Tensor:
        size, p = p.dim(), p.double()
        cost = torch.zeros((), dtype=torch.double)
        for i in range(start(window), size):
            begin = first(i, window)
            cost = cost + _entropy(p, range(begin, i + 1)) - _entropy(p, range(begin, i))
        return rest(cost, _entropy(p, range(size)), size)

    return answer


for _hint, _wrong in {
    "this is the cost of the decoder; subtract H(x), which the exact latent would reach": _cost(
        rest=lambda cost, whole, size: cost
    ),
    "the sign is wrong: a decoder cannot cost less than H(x)": _cost(
        rest=lambda cost, whole, size: whole - cost
    ),
    "every pixel is given all pixels before it, whatever the window": _cost(lambda i, window: 0),
    "no pixel is given its window; these are the entropies of single pixels": _cost(
        lambda i, window: i
    ),
    "the window is one pixel too long": _cost(lambda i, window: max(i - window - 1, 0)),
    "the window is one pixel too short": _cost(lambda i, window: max(i - max(window - 1, 0), 0)),
    "the first pixels are left out: with fewer pixels before it, a pixel sees those": _cost(
        start=lambda window: window
    ),
    "this is per pixel; add the costs of all pixels": _cost(
        rest=lambda cost, whole, size: (cost - whole) / size
    ),
}.items():
    worth.mistake(_hint, _wrong)


# A masked layer


@checked
def masked_linear(answer: Answer) -> str:
    r"""A linear layer whose output i sees the w pixels before pixel i, and no other.

    Write ``masked_linear(v, weight, bias, window) -> (B, D)``. ``v`` is ``(B, D)``, ``weight``
    ``(D, D)`` with one row per output, and ``bias`` ``(D,)``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [
        (torch.randn(3, size), torch.randn(size, size), torch.randn(size), window)
        for size, windows in ((5, (0, 1, 2, 4, 9)), (1, (0, 3)), (7, (3,)))
        for window in windows
    ]
    known = masked_linear.mistakes
    compare_cases(answer, _layer(), cases, name="the output", mistakes=known)
    return f"{len(cases)} layers, whose outputs see the pixels of their windows and no others"


def _seen(size: int, window: int) -> Tensor:
    """Pairs (output, input) where the input is one of the window before the output."""
    back = torch.arange(size)[:, None] - torch.arange(size)
    return (back >= 1) & (back <= window)


def _layer(
    seen: Callable[[int, int], Tensor] = _seen,
    bias: Callable[[Tensor, Tensor], Tensor] = lambda bias, mask: bias,
) -> Answer:
    """The layer, or a mistake in the mask."""

    def answer(v: Tensor, weight: Tensor, b: Tensor, window: int) -> Tensor:
        mask = seen(len(b), window).to(weight)
        return v @ (weight * mask).T + bias(b, mask)

    return answer


def _band(low: int, high: Callable[[int], int], sign: int = 1) -> Callable[[int, int], Tensor]:
    def seen(size: int, window: int) -> Tensor:
        back = sign * (torch.arange(size)[:, None] - torch.arange(size))
        return (back >= low) & (back <= high(window))

    return seen


for _hint, _wrong in {
    "a pixel sees itself, so its probability could be 1 at no cost: mask the diagonal": _layer(
        _band(0, lambda window: window)
    ),
    "a pixel sees itself and one pixel less before it: the window ends right before the pixel": (
        _layer(_band(0, lambda window: window - 1))
    ),
    "the mask is transposed: these outputs see the pixels after their own": _layer(
        _band(1, lambda window: window, sign=-1)
    ),
    "all pixels before are seen; the window ends after w of them": _layer(
        _band(1, lambda window: 10**6)
    ),
    "the window is one pixel too short": _layer(_band(1, lambda window: window - 1)),
    "the window is one pixel too long": _layer(_band(1, lambda window: window + 1)),
    "nothing is masked": _layer(lambda size, window: torch.ones(size, size)),
    "the bias is masked as well; it sees no pixel": _layer(
        bias=lambda bias, mask: bias * mask.any(1)
    ),
}.items():
    masked_linear.mistake(_hint, _wrong)


@masked_linear.mistake("weight has one row per output: output i is v times row i")
def _(v: Tensor, weight: Tensor, bias: Tensor, window: int) -> Tensor:
    return v @ (weight.T * _seen(len(bias), window)).T + bias
