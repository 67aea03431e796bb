"""Check of what two trained stages have to show."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hvae_course.checks.verdict import Mistake, alike, as_sequence, as_tensor, checked

SHARE = 0.1
"""Part of the uniform rate that a fitted prior saves at least."""


@checked
def works(results: Mapping[str, object] | None) -> str:
    r"""Check what the two stages gave; there is nothing to implement.

    ``results`` has, each for the bottom and the top: ``"num_codes"``, ``"positions"`` of the grid
    and ``"live"``, the number of codes that some image uses; and, each before and after the second
    stage: ``"distortion"``, -log p(x | z) of every image, ``(B,)``, and ``"rate"``, in nats per
    image. More than half of the codes of each grid must live, the distortion must be the same to
    the last digit, and the rate must start at that of the uniform prior and fall by a tenth.

    Args:
        results: the numbers, or None if they do not exist yet.

    Returns:
        What was verified.
    """
    if results is None:
        raise Mistake(
            "not written yet: the cell above trains once the exercises before it are right"
        )
    if not isinstance(results, Mapping):
        raise Mistake(f"this is a {type(results).__name__}; pass the dictionary of the cell above")
    names = ("num_codes", "positions", "live", "distortion", "rate")
    missing = [name for name in names if name not in results]
    if missing:
        raise Mistake(f"the results lack {', '.join(missing)}")
    pairs = {name: as_sequence(results[name], 2, name=name) for name in names}
    _check_live(pairs["live"], pairs["num_codes"])
    before, after = pairs["distortion"]
    for value in (before, after):
        as_tensor(value, torch.as_tensor(before).shape, name="the distortion")
    if not torch.equal(torch.as_tensor(before), torch.as_tensor(after)):
        raise Mistake(
            "the distortion has changed in the second stage, so something other than the prior "
            "has; or one of the two was measured in training mode"
        )
    saved = _share_saved(pairs["rate"], pairs["num_codes"], pairs["positions"])
    bottom, top = pairs["live"]
    return (
        f"{bottom} and {top} codes live, the fitted prior saves {100 * saved:.0f} % of the rate, "
        "and the distortion is the same to the last digit"
    )


def _check_live(live: Sequence[int], num_codes: Sequence[int]) -> None:
    for name, used, n in zip(("bottom", "top"), live, num_codes, strict=True):
        if used > n:
            raise Mistake(f"the {name} grid has {used} live codes of {n}; count different codes")
        if 2 * used <= n:
            raise Mistake(
                f"{used} of {n} codes of the {name} grid live, which is half or less; are dead "
                "codes revived, and has the first stage been trained?"
            )


def _share_saved(
    rate: Sequence[float | Tensor], num_codes: Sequence[int], positions: Sequence[int]
) -> float:
    uniform, fitted = as_tensor(list(rate), (2,), name="the rate").tolist()
    expected = sum(n * math.log(k) for n, k in zip(positions, num_codes, strict=True))
    if not alike(uniform, expected):
        raise Mistake(
            f"the first rate is {uniform:.2f} nats where the uniform prior has {expected:.2f}: "
            "log n of its codes for every position of a grid, summed over the grids"
        )
    saved = 1 - fitted / uniform
    if saved < SHARE:
        raise Mistake(
            f"the rate falls from {uniform:.1f} to {fitted:.1f} nats, by less than a tenth: has "
            "the prior been trained on the codes of this model?"
        )
    return saved
