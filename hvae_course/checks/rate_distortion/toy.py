"""Check of the exact numbers of the toy: one bit behind all pixels."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, checked, compare_cases
from hvae_course.oracles import SharedBit

_CASES = ((8, 0.8), (3, 0.9), (1, 0.7), (5, 0.35))


@checked
def entropy_information(answer: Answer) -> str:
    r"""Entropy of the images and information of the bit, by enumeration (:eq:`eq-shared-bit`).

    Write ``entropy_information(num_pixels, agreement) -> (entropy, information)``, two numbers in
    nats: H(x) and I(z; x) for a fair bit z and pixels that equal it with probability
    ``agreement``, independently given z. There are at most ten pixels.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    names, known = ["the entropy", "the information"], entropy_information.mistakes
    compare_cases(answer, _by_oracle, _CASES, name=names, mistakes=known)
    toys = ", ".join(f"{n} pixels and {a}" for n, a in _CASES)
    return f"entropy and information of {toys}"


def _by_oracle(num_pixels: int, agreement: float) -> tuple[float, float]:
    bit = SharedBit(num_pixels, agreement)
    return bit.entropy(), bit.information()


def _enumerated(
    mix: Callable[[Tensor, Tensor], Tensor] = lambda one, zero: (one + zero) / 2,
    entropy: Callable[[Tensor], Tensor] = lambda p: -(p * p.log()).sum(),
    noise: Callable[[int, Tensor], Tensor] = lambda n, each: n * each,
    unit: float = 1.0,
    information: Callable[[Tensor, Tensor], Tensor] = lambda h, given: h - given,
) -> Answer:
    """Both numbers, or a mistake in a part of them."""

    def answer(num_pixels: int, agreement: float) -> tuple[Tensor, Tensor]:
        images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * num_pixels)
        ones = images.reshape(-1, num_pixels).sum(1)
        one = agreement**ones * (1 - agreement) ** (num_pixels - ones)
        zero = agreement ** (num_pixels - ones) * (1 - agreement) ** ones
        h = entropy(mix(one, zero)) / unit
        pixel = torch.tensor([agreement, 1 - agreement]).double()
        given = noise(num_pixels, -(pixel * pixel.log()).sum()) / unit
        return h, information(h, given)

    return answer


for _hint, _wrong in {
    "this is in bits; the course counts nats, so take natural logarithms": _enumerated(
        unit=math.log(2)
    ),
    "these images all come from z = 1; p(x) is the mean of p(x | z) over both values": _enumerated(
        lambda one, zero: one
    ),
    "p(x | z) is added over both values without p(z) = 1/2, so p(x) sums to 2": _enumerated(
        lambda one, zero: one + zero
    ),
    "the pixels are taken to be independent; they are so given z only": _enumerated(
        lambda one, zero: torch.full_like(one, 1 / len(one))
    ),
    "the noise of one pixel is subtracted; H(x | z) is the sum over all pixels": _enumerated(
        noise=lambda n, each: each
    ),
    "the information is that of the bit itself, log 2; the pixels do not show it exactly": (
        _enumerated(information=lambda h, given: torch.tensor(math.log(2)).double())
    ),
    "the second number is H(x | z); the information is H(x) - H(x | z)": _enumerated(
        information=lambda h, given: given
    ),
    "the information is negative: it is H(x) - H(x | z)": _enumerated(
        information=lambda h, given: given - h
    ),
    "an entropy is a mean under p(x); here every image weighs the same": _enumerated(
        entropy=lambda p: -p.log().mean()
    ),
}.items():
    entropy_information.mistake(_hint, _wrong)
