"""Checks of chapter 2: a warm-up with a KL weight per level, free bits, active units.

Many wrong answers look right on one example. So each answer is checked on several, in which
levels, examples and units differ, and a mistake is named only if it explains all of them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_course.checks.verdict import Mistake, as_tensor, checked, compare, compare_gradients


def _weights(
    weight: Callable[[int, int], float], cases: Sequence[tuple[int, Sequence[int]]]
) -> Tensor:
    """The KL weights of all cases in one row, for a rule that treats each level alone."""
    return torch.tensor(
        [weight(epoch, t) for epoch, epochs in cases for t in epochs], dtype=torch.float64
    )


@checked
def kl_weights(answer: Callable[..., Sequence[float]]) -> str:
    r"""Warm-up with a KL weight per level, :eq:`eq-warm-up`.

    Write ``kl_weights(epoch, epochs) -> list``: the KL weight of every level in an epoch, counted
    from 1. ``epochs`` holds T_l, the epochs of warm-up, one per level from z_1 upward; the weights
    come in the same order. With T_l = 0 a level has weight 1 from the start. An answer may also
    accept one number for all levels. If it does, it must return that one weight, as a number or as
    a list of one.

    Args:
        answer: the student's function.

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
            answer(epoch, list(epochs)), (len(epochs),), name=f"kl_weights({epoch}, {epochs})"
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
            _weights(right, turned),
            "the levels are in the wrong order; the first weight belongs to z_1, the last to z_L",
        ),
        (
            _weights(lambda epoch, t: min(1.0, (epoch - 1) / t), cases),
            "this is one epoch late; epochs count from 1, and the first has the weight 1 / T",
        ),
        (
            _weights(lambda epoch, t: min(1.0, (epoch + 1) / t), cases),
            "this is one epoch early; epochs count from 1, and the first has the weight 1 / T",
        ),
        (_weights(lambda epoch, t: epoch / t, cases), "the weight keeps rising; cap it at 1"),
        (
            _weights(lambda epoch, t: max(0.0, 1 - epoch / t), cases),
            "the weight falls; it should start near 0 and rise to 1",
        ),
        (
            _weights(lambda epoch, t: 1.0, cases),
            "the weight is 1 from the start; it should rise from 1 / T",
        ),
        (
            _weights(lambda epoch, t: float(epoch >= t), cases),
            "the weight jumps from 0 to 1; it should rise linearly (is the division integer?)",
        ),
        (_weights(right, longest), same),
        (_weights(right, first), same),
    ]
    compare(torch.cat(rows), _weights(right, cases), name="the weight", mistakes=mistakes)
    try:
        value = answer(2, [0, 4, 0])
    except ZeroDivisionError:
        raise Mistake(
            "T = 0 divides by zero; a level without warm-up has weight 1 from the start"
        ) from None
    compare(
        value,
        torch.tensor([1.0, 0.5, 1.0]),
        name="the weight with T = [0, 4, 0]",
        mistakes=[
            (
                torch.tensor([0.0, 0.5, 0.0]),
                "T = 0 gives the weight 0; a level without warm-up has weight 1 from the start",
            )
        ],
    )
    accepts = "also right for T = 0 and for one T for all levels"
    for epoch, expected in ((7, 0.35), (30, 1.0)):
        try:
            value = answer(epoch, 20)
        except Exception:  # takes lists only, as the exercise says
            accepts = "also right for T = 0"
            break
        one = (1,) if isinstance(value, list | tuple) or getattr(value, "shape", ()) else ()
        compare(value, torch.full(one, expected), name=f"kl_weights({epoch}, 20)")
    return f"rises from 1 / T to 1, level by level, in {len(cases)} cases; {accepts}"


@checked
def free_bits(answer: Callable[..., Tensor]) -> str:
    r"""The KL term under free bits, the last term of :eq:`eq-free-bits`.

    Write ``free_bits(information, floor) -> ()`` for the information ``(B, L)`` of every example
    and level, in nats, and one floor for every level. Each level contributes its mean over the
    batch, but at least the floor; the result is the sum over levels. Gradients must pass where a
    level is above its floor, and only there.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    noise = torch.randn(3, 8, 4)
    noise = noise - noise.mean(dim=1, keepdim=True)
    means = torch.tensor([[2.0, 0.3, 0.9, 0.1], [0.4, -0.6, 0.3, -0.2], [3.0, 2.2, 4.0, 5.0]])
    information = (means[:, None] + noise).requires_grad_()
    cases = list(zip(information, (0.5, 0.0, 1.0), strict=True))
    wide = [(level.double(), floor) for level, floor in cases]

    def row(term: Callable[[Tensor, float], Tensor]) -> Tensor:
        return torch.stack([term(level, floor) for level, floor in wide])

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
            compare(values[0], first.new_zeros(()), name="the KL term", mistakes=[(wrong, hint)])
    row_of_values = torch.stack([as_tensor(value, (), name="the KL term") for value in values])
    expected = row(lambda level, floor: level.mean(0).clamp(min=floor).sum())
    excess = "the floor is subtracted; a level above its floor contributes all of its information"
    whole = "the floor is under the sum of the levels; put one under every level"
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
            "this takes the smaller of floor and information; a level contributes at least its "
            "floor, so take the larger",
        ),
        (
            row(lambda level, floor: level.mean(0).clamp(min=floor).mean()),
            "this averages over the levels; sum over them",
        ),
        (row(lambda level, floor: (level.mean(0) - floor).clamp(min=0).sum()), excess),
        (row(lambda level, floor: (level.mean(0) - floor).sum()), excess),
        (
            row(lambda level, floor: level.mean(0).sum()),
            "this is the sum of the means without a floor; put the floor under each",
        ),
        (
            row(lambda level, floor: level.sum(0).clamp(min=floor).sum()),
            "this sums over the batch; compare the floor with the mean over the batch",
        ),
        (
            row(lambda level, floor: level.mean(1).clamp(min=floor).sum()),
            "this averages over the levels, axis 1; the batch is axis 0",
        ),
        (
            row(lambda level, floor: level.mean(0).clamp(min=floor / 4).sum()),
            "the floor is divided by the number of levels; every level has the whole floor",
        ),
        (
            -expected,
            "the sign is reversed; return the positive KL term, which the objective subtracts",
        ),
    ]
    compare(row_of_values, expected, name="the KL term", mistakes=mistakes)
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

    Write ``active_units(means, threshold=0.01) -> int`` for the posterior means ``(N, Z)`` of N
    examples: the number of the Z dimensions whose mean has a variance over the examples above the
    threshold.

    Args:
        answer: the student's function.

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
        hint = "this returns one value per dimension; return how many of them are active"
        raise Mistake(hint)
    counts = torch.stack([as_tensor(value, (), name="the number of units") for value in values])
    pooled = "this is one variance for all dimensions together; compute one per dimension"
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
            "this is the mean square, which a constant mean can make large; take the variance",
        ),
        (
            row(lambda means, t: (means.mean(0).abs() > t).sum()),
            "this compares the size of a mean, not its variance over the examples",
        ),
        (row(lambda means, t: (means.var(0) <= t).sum()), "this counts the inactive units"),
        (
            row(lambda means, t: (means.var(0) > t).double().mean()),
            "this is the fraction of active units; return their number",
        ),
        (
            row(lambda means, t: means.var(0).mean()),
            "this is the mean of the variances; count those above the threshold",
        ),
        (row(lambda means, t: means.var(0).mean() > t), pooled),
        (row(lambda means, t: means.var() > t), pooled),
        (
            row(lambda means, t: (means.var(0) > 0.01).sum()),
            "the threshold is fixed at 0.01; use the argument",
        ),
        (
            row(lambda means, t: (means.var(0) >= 0).sum()),
            "this counts every dimension, active or not",
        ),
    ]
    expected = row(lambda means, t: (means.var(0) > t).sum())
    compare(counts, expected, name="the number of units", mistakes=mistakes)
    return f"right in {len(cases)} cases, with constant means and other thresholds among them"
