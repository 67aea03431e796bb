"""Exercises of chapter 2: a warm-up with a price per level, free bits, active units.

All three are easily written so that they look right on one example. So each is judged on several,
in which levels, examples and units differ, and a mistake is named if it explains all of them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_course.checks.verdict import Mistake, as_tensor, checked, compare, compare_gradients


def _prices(
    price: Callable[[int, int], float], cases: Sequence[tuple[int, Sequence[int]]]
) -> Tensor:
    """The prices of all cases in one row, for a price that looks at one level at a time."""
    return torch.tensor(
        [price(epoch, t) for epoch, epochs in cases for t in epochs], dtype=torch.float64
    )


@checked
def level_prices(answer: Callable[..., Sequence[float]]) -> str:
    r"""Warm-up with a price per level, :eq:`eq-warm-up`.

    Asked is ``level_prices(epoch, epochs) -> list``: the price of every level in an epoch, which
    is counted from 1. ``epochs`` holds T_l, the epochs until the full price, one per level from
    z_1 upward, and the prices come in the same order. With T_l = 0 a level has its full price from
    the start. An answer may take one number for all levels as well, and is then held to it: it
    gives that one price, as a number or as a list of one.

    Args:
        answer: the function that is asked.

    Returns:
        What was verified.
    """
    cases: list[tuple[int, Sequence[int]]] = [
        *((epoch, [10, 30]) for epoch in (1, 3, 10, 20, 30, 45)),
        *((epoch, [8, 4, 16]) for epoch in (1, 5, 12)),
        (2, [5]),
    ]
    rows = [
        as_tensor(
            answer(epoch, list(epochs)), (len(epochs),), name=f"level_prices({epoch}, {epochs})"
        )
        for epoch, epochs in cases
    ]
    turned = [(epoch, epochs[::-1]) for epoch, epochs in cases]
    longest = [(epoch, [max(epochs)] * len(epochs)) for epoch, epochs in cases]
    first = [(epoch, [epochs[0]] * len(epochs)) for epoch, epochs in cases]
    same = "this uses one T for all levels; each level has its own"

    def right(epoch: int, t: int) -> float:
        return min(1.0, epoch / t)

    mistakes = [
        (
            _prices(right, turned),
            "the levels are in the wrong order; the first price is that of z_1, the last of z_L",
        ),
        (
            _prices(lambda epoch, t: min(1.0, (epoch - 1) / t), cases),
            "this is one epoch late; epochs are counted from 1, and the first has the price 1 / T",
        ),
        (
            _prices(lambda epoch, t: min(1.0, (epoch + 1) / t), cases),
            "this is one epoch early; epochs are counted from 1, with the price 1 / T",
        ),
        (_prices(lambda epoch, t: epoch / t, cases), "the price goes on rising; it stops at 1"),
        (
            _prices(lambda epoch, t: max(0.0, 1 - epoch / t), cases),
            "the price falls; it starts near nothing and rises to 1",
        ),
        (_prices(lambda epoch, t: 1.0, cases), "this charges the full price from the start"),
        (
            _prices(lambda epoch, t: float(epoch >= t), cases),
            "the price jumps from 0 to 1; it rises linearly (is this a whole-number division?)",
        ),
        (_prices(right, longest), same),
        (_prices(right, first), same),
    ]
    compare(torch.cat(rows), _prices(right, cases), name="the price", mistakes=mistakes)
    try:
        value = answer(2, [0, 4, 0])
    except ZeroDivisionError:
        raise Mistake(
            "T = 0 divides by zero; a level without warm-up has its full price at once"
        ) from None
    compare(
        value,
        torch.tensor([1.0, 0.5, 1.0]),
        name="the price with T = [0, 4, 0]",
        mistakes=[
            (
                torch.tensor([0.0, 0.5, 0.0]),
                "T = 0 gives the price 0; a level without warm-up has its full price at once",
            )
        ],
    )
    understood = "T = 0 and one T for all levels are understood"
    for epoch, expected in ((7, 0.35), (30, 1.0)):
        try:
            value = answer(epoch, 20)
        except Exception:  # takes lists only, as is asked
            understood = "T = 0 is understood"
            break
        one = (1,) if isinstance(value, list | tuple) or getattr(value, "shape", ()) else ()
        compare(value, torch.full(one, expected), name=f"level_prices({epoch}, 20)")
    return (
        f"rises in {len(cases)} cases as it should, bottom to top, from 1 / T to 1; {understood}"
    )


@checked
def free_bits(answer: Callable[..., Tensor]) -> str:
    r"""What free bits charge for, the last term of :eq:`eq-free-bits`.

    Asked is ``free_bits(information, floor) -> ()`` from the information ``(B, L)`` of every
    example and level, in nats, and one floor for every level: each level is charged the mean over
    the batch, but at least the floor, and the charges are added up. Gradients must pass where a
    level is above its floor, and only there.

    Args:
        answer: the function that is asked.

    Returns:
        What was verified.
    """
    noise = torch.randn(3, 8, 4)
    noise = noise - noise.mean(dim=1, keepdim=True)
    means = torch.tensor([[2.0, 0.3, 0.9, 0.1], [0.4, -0.6, 0.3, -0.2], [3.0, 2.2, 4.0, 5.0]])
    information = (means[:, None] + noise).requires_grad_()
    cases = list(zip(information, (0.5, 0.0, 1.0), strict=True))
    wide = [(level.double(), floor) for level, floor in cases]

    def row(charge: Callable[[Tensor, float], Tensor]) -> Tensor:
        return torch.stack([charge(level, floor) for level, floor in wide])

    first, floor = wide[0]
    levels = "this is one number per level; add up the levels"
    examples = "this is one number per example; average over the batch, before the floor"
    shapes = [
        (first.mean(0).clamp(min=floor), levels),
        (first.clamp(min=floor).mean(0), levels),
        (first.clamp(min=floor).sum(1), examples),
        (first.sum(1).clamp(min=floor), examples),
    ]
    values = [answer(level.clone(), floor) for level, floor in cases]
    for wrong, hint in shapes:
        if isinstance(values[0], Tensor) and values[0].shape == wrong.shape:
            compare(values[0], first.new_zeros(()), name="the charge", mistakes=[(wrong, hint)])
    row_of_values = torch.stack([as_tensor(value, (), name="the charge") for value in values])
    expected = row(lambda level, floor: level.mean(0).clamp(min=floor).sum())
    excess = "the floor is subtracted; a level above its floor is charged all that it uses"
    whole = "the floor is under the sum of the levels; every level has its own"
    mistakes = [
        (
            row(lambda level, floor: level.clamp(min=floor).mean(0).sum()),
            "the floor is under every example, inside the mean; average over the batch first",
        ),
        (row(lambda level, floor: level.mean(0).sum().clamp(min=floor)), whole),
        (row(lambda level, floor: level.mean(0).sum().clamp(min=4 * floor)), whole),
        (row(lambda level, floor: level.sum(1).clamp(min=floor).mean()), whole),
        (
            row(lambda level, floor: level.mean(0).clamp(max=floor).sum()),
            "this takes the smaller of floor and information; a level is charged at least its "
            "floor, so take the larger",
        ),
        (
            row(lambda level, floor: level.mean(0).clamp(min=floor).mean()),
            "this averages over the levels; their charges add up",
        ),
        (row(lambda level, floor: (level.mean(0) - floor).clamp(min=0).sum()), excess),
        (row(lambda level, floor: (level.mean(0) - floor).sum()), excess),
        (row(lambda level, floor: level.mean(0).sum()), "the floor is missing"),
        (
            row(lambda level, floor: level.sum(0).clamp(min=floor).sum()),
            "this sums over the batch; the floor is compared with the mean",
        ),
        (
            row(lambda level, floor: level.mean(1).clamp(min=floor).sum()),
            "the axes are mixed up: the batch is axis 0, the levels are axis 1",
        ),
        (
            row(lambda level, floor: level.mean(0).clamp(min=floor / 4).sum()),
            "the floor is divided by the number of levels; every level has all of it",
        ),
        (-expected, "the sign is turned round; asked is the charge, which the bound subtracts"),
    ]
    compare(row_of_values, expected, name="the charge", mistakes=mistakes)
    for value, (level, floor) in zip(values, cases, strict=True):
        right = level.double().mean(0).clamp(min=floor).sum()
        compare_gradients(value, right, [information], names=["the information"])
    return (
        "agrees for levels above, below and on both sides of the floor; no gradient reaches a "
        "level below it"
    )


@checked
def active_units(answer: Callable[..., int]) -> str:
    r"""Number of active units, :eq:`eq-active-unit`.

    Asked is ``active_units(means, threshold=0.01) -> int`` from the posterior means ``(N, Z)`` of
    N examples: how many of the Z dimensions have a mean whose variance over the examples exceeds
    the threshold.

    Args:
        answer: the function that is asked.

    Returns:
        What was verified.
    """
    scales = (
        (0.0, 0.05, 0.2, 1.0, 0.03, 0.5),
        (0.3, 0.02, 0.004, 0.02, 0.02, 0.05, 0.06),
        (0.2, 0.2, 0.7, 0.4, 2.0),
        (0.01, 0.02, 0.05),
    )
    offsets = ((3.0, 0.0, 0.0, 1.0, 2.0, 0.0), (0.4,) * 7, (0.0, 2.0, 1.0, 0.0, 2.0), (0.6,) * 3)
    cases: list[tuple[Tensor, float]] = []
    for scale, offset, threshold in zip(scales, offsets, (0.01, 0.01, 0.1, 0.001), strict=True):
        noise = torch.randn(200, len(scale))
        noise = (noise - noise.mean(0)) / noise.std(0)
        cases.append((noise * torch.tensor(scale) + torch.tensor(offset), threshold))
    values = [
        answer(means.clone(), threshold) if case else answer(means.clone())
        for case, (means, threshold) in enumerate(cases)
    ]

    def row(count: Callable[[Tensor, float], Tensor]) -> Tensor:
        return torch.stack([count(means.double(), t).double() for means, t in cases])

    moving = cases[0][0].var(0)
    if isinstance(values[0], Tensor) and values[0].shape == moving.shape:
        hint = "this gives one value per dimension; asked is how many of them are active"
        raise Mistake(hint)
    counts = torch.stack([as_tensor(value, (), name="the number of units") for value in values])
    pooled = "this is one variance for all dimensions together; each has its own"
    mistakes = [
        (
            row(lambda means, t: (means.std(0) > t).sum()),
            "the standard deviation is compared with the threshold; compare the variance",
        ),
        (
            row(lambda means, t: (means.amax(0) - means.amin(0) > t).sum()),
            "the range of the means is compared with the threshold; compare their variance",
        ),
        (
            row(lambda means, t: (means.var(1) > t).sum()),
            "this is the variance over the dimensions; take it over the examples, axis 0",
        ),
        (
            row(lambda means, t: ((means**2).mean(0) > t).sum()),
            "this is the mean square, which a constant mean raises as well; take the variance",
        ),
        (
            row(lambda means, t: (means.mean(0).abs() > t).sum()),
            "this looks at how large a mean is, not at how much it varies over the examples",
        ),
        (row(lambda means, t: (means.var(0) <= t).sum()), "this counts the inactive units"),
        (row(lambda means, t: (means.var(0) > t).double().mean()), "this is a share; count them"),
        (row(lambda means, t: means.var(0).mean()), "this is the mean of the variances; count"),
        (row(lambda means, t: means.var(0).mean() > t), pooled),
        (row(lambda means, t: means.var() > t), pooled),
        (row(lambda means, t: (means.var(0) > 0.01).sum()), "the threshold is not used"),
        (row(lambda means, t: (means.var(0) >= 0).sum()), "this counts every dimension"),
    ]
    expected = row(lambda means, t: (means.var(0) > t).sum())
    compare(counts, expected, name="the number of units", mistakes=mistakes)
    return f"counts right in {len(cases)} cases, constant means and other thresholds among them"
