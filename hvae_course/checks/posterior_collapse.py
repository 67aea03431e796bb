"""Checks of chapter 2: a warm-up with a KL weight per level, free bits, active units.

Many wrong answers look right on one example. So each answer is checked on several, in which
levels, examples and units differ, and a mistake is named only if it explains all of them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    checked,
    compare,
    compare_cases,
    compare_values,
)


def _weights(
    weight: Callable[[int, int], float] = lambda epoch, t: min(1.0, epoch / t), zero: float = 1.0
) -> Callable[[int, Sequence[int]], list[float]]:
    """KL weights by a rule that treats each level alone, and the weight where T = 0."""
    return lambda epoch, epochs: [weight(epoch, t) if t > 0 else zero for t in epochs]


@checked
def kl_weights(answer: Answer) -> str:
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
    cases = [
        *((epoch, [10, 30]) for epoch in (1, 3, 10, 20, 30, 45)),
        *((epoch, [8, 4, 16]) for epoch in (1, 5, 12)),
        (2, [5]),
    ]
    right, known = _weights(), kl_weights.mistakes
    compare_cases(answer, right, cases, name="the list of weights", mistakes=known)
    try:
        name = "the weight with T = [0, 4, 0]"
        compare(answer, right, (2, [0, 4, 0]), name=name, mistakes=known)
    except ZeroDivisionError:
        raise Mistake(
            "T = 0 divides by zero; a level without warm-up has weight 1 from the start"
        ) from None
    accepts = "also right for T = 0 and for one T for all levels"
    for epoch, expected in ((7, 0.35), (30, 1.0)):
        try:
            value = answer(epoch, 20)
        except Exception:  # takes lists only, as the exercise says
            accepts = "also right for T = 0"
            break
        one = isinstance(value, list | tuple) or getattr(value, "shape", ())
        name = f"kl_weights({epoch}, 20)"
        compare_values(value, [expected] if one else expected, name=name)
    return f"rises from 1 / T to 1, level by level, in {len(cases)} cases; {accepts}"


@kl_weights.mistake(
    "the weights are in the wrong order; the first belongs to z_1, the last to z_L"
)
def _(epoch, epochs):
    return [min(1.0, epoch / t) if t > 0 else 1.0 for t in epochs][::-1]


kl_weights.mistake(
    "this uses one T for all levels; each level has its own",
    lambda epoch, epochs: _weights()(epoch, [max(epochs)] * len(epochs)),
    lambda epoch, epochs: _weights()(epoch, epochs[:1] * len(epochs)),
)
for _hint, _wrong in {
    "this is one epoch late; epochs count from 1, and the first has the weight 1 / T": (
        _weights(lambda epoch, t: min(1.0, (epoch - 1) / t))
    ),
    "this is one epoch early; epochs count from 1, and the first has the weight 1 / T": (
        _weights(lambda epoch, t: min(1.0, (epoch + 1) / t))
    ),
    "the weight keeps rising; cap it at 1": _weights(lambda epoch, t: epoch / t),
    "the weight falls; it should start near 0 and rise to 1": (
        _weights(lambda epoch, t: max(0.0, 1 - epoch / t))
    ),
    "the weight is 1 from the start; it should rise from 1 / T": _weights(lambda epoch, t: 1.0),
    "the weight jumps from 0 to 1; it should rise linearly (is the division integer?)": (
        _weights(lambda epoch, t: min(1, epoch // t))
    ),
    "this is the weight of z_1 alone; return one weight per level": (
        lambda epoch, epochs: _weights()(epoch, epochs)[0]
    ),
    "T = 0 gives the weight 0; a level without warm-up has weight 1 from the start": (
        _weights(zero=0.0)
    ),
    "T = 0 divides by zero": lambda epoch, epochs: [min(1.0, epoch / t) for t in epochs],
    "kl_weights(7, 20)": (
        lambda epoch, epochs: _weights()(epoch, epochs)
        if isinstance(epochs, list | tuple)
        else [1.0]
    ),
}.items():
    kl_weights.mistake(_hint, _wrong)


def _with_floor(information: Tensor, floor: float) -> Tensor:
    return information.mean(0).clamp(min=floor).sum()


@checked
def free_bits(answer: Answer) -> str:
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
    cases = list(zip(means[:, None] + noise, (0.5, 0.0, 1.0), strict=True))
    compare_cases(answer, _with_floor, cases, name="the KL term", mistakes=free_bits.mistakes)
    for information, floor in cases:
        check_gradients(
            lambda values, floor=floor: answer(values, floor),
            lambda values, floor=floor: _with_floor(values, floor),
            [information],
            names=["the information"],
        )
    return (
        "agrees for levels above, below and on both sides of the floor; no gradient reaches a "
        "level below it"
    )


@free_bits.mistake(
    "the floor is under every example, inside the mean; average over the batch first"
)
def _(information, floor):
    return information.clamp(min=floor).mean(0).sum()


free_bits.mistake(
    "this is one number per level; add up the levels",
    lambda i, floor: i.mean(0).clamp(min=floor),
    lambda i, floor: i.clamp(min=floor).mean(0),
)
free_bits.mistake(
    "this is one number per example; average over the batch, before the floor",
    lambda i, floor: i.clamp(min=floor).sum(1),
    lambda i, floor: i.sum(1).clamp(min=floor),
)
free_bits.mistake(
    "the floor is under the sum of the levels; put one under every level",
    lambda i, floor: i.mean(0).sum().clamp(min=floor),
    lambda i, floor: i.mean(0).sum().clamp(min=4 * floor),
    lambda i, floor: i.sum(1).clamp(min=floor).mean(),
)
free_bits.mistake(
    "the floor is subtracted; a level above its floor contributes all of its information",
    lambda i, floor: (i.mean(0) - floor).clamp(min=0).sum(),
    lambda i, floor: (i.mean(0) - floor).sum(),
)
for _hint, _wrong in {
    "this takes the smaller of floor and information; a level contributes at least its floor, so "
    "take the larger": lambda i, floor: i.mean(0).clamp(max=floor).sum(),
    "this averages over the levels; sum over them": (
        lambda i, floor: i.mean(0).clamp(min=floor).mean()
    ),
    "this is the sum of the means without a floor; put the floor under each": (
        lambda i, floor: i.mean(0).sum()
    ),
    "this sums over the batch; compare the floor with the mean over the batch": (
        lambda i, floor: i.sum(0).clamp(min=floor).sum()
    ),
    "this averages over the levels, axis 1; the batch is axis 0": (
        lambda i, floor: i.mean(1).clamp(min=floor).sum()
    ),
    "the floor is divided by the number of levels; every level has the whole floor": (
        lambda i, floor: _with_floor(i, floor / 4)
    ),
    "the sign is reversed; return the positive KL term, which the objective subtracts": (
        lambda i, floor: -_with_floor(i, floor)
    ),
    "no gradient passes": lambda i, floor: _with_floor(i, floor).item(),
    "the gradient with respect to the information is not": (
        lambda i, floor: i.mean(0).sum() + (_with_floor(i, floor) - i.mean(0).sum()).detach()
    ),
}.items():
    free_bits.mistake(_hint, _wrong)


def _units(
    moves: Callable[[Tensor, float], Tensor] = lambda means, t: means.var(0) > t,
    count: Callable[[Tensor], object] = torch.sum,
) -> Callable[..., object]:
    """The number of units for which a condition holds, or another summary of the condition."""
    return lambda means, threshold=0.01: count(moves(means, threshold))


@checked
def active_units(answer: Answer) -> str:
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
    cases = []
    for scale, offset, given in zip(scales, offsets, ((), (0.01,), (0.1,), (0.001,)), strict=True):
        noise = torch.randn(200, len(scale))
        noise = (noise - noise.mean(0)) / noise.std(0)
        means = noise * torch.tensor(scale) + torch.tensor(offset)
        cases.append((means, *given))
    name = "the number of units"
    compare_cases(answer, _units(), cases, name=name, mistakes=active_units.mistakes)
    return f"right in {len(cases)} cases, with constant means and other thresholds among them"


@active_units.mistake(
    "the standard deviation is compared with the threshold; compare the variance"
)
def _(means, threshold=0.01):
    return int((means.std(0) > threshold).sum())


active_units.mistake(
    "this returns one value per dimension; return how many of them are active",
    _units(count=lambda moving: moving),
    lambda means, threshold=0.01: means.var(0),
)
active_units.mistake(
    "this is one variance for all dimensions together; compute one per dimension",
    _units(lambda means, t: means.var(0).mean() > t),
    _units(lambda means, t: means.var() > t),
)
for _hint, _wrong in {
    "the range of the means is compared with the threshold; compare their variance": (
        _units(lambda means, t: means.amax(0) - means.amin(0) > t)
    ),
    "this is the variance over the dimensions; take it over the examples, axis 0": (
        _units(lambda means, t: means.var(1) > t)
    ),
    "this is the mean square, which a constant mean can make large; take the variance": (
        _units(lambda means, t: (means**2).mean(0) > t)
    ),
    "this compares the size of a mean, not its variance over the examples": (
        _units(lambda means, t: means.mean(0).abs() > t)
    ),
    "this counts the inactive units": _units(lambda means, t: means.var(0) <= t),
    "this is the fraction of active units; return their number": (
        _units(count=lambda moving: moving.double().mean())
    ),
    "this is the mean of the variances; count those above the threshold": (
        lambda means, threshold=0.01: means.var(0).mean()
    ),
    "the threshold is fixed at 0.01; use the argument": (
        _units(lambda means, t: means.var(0) > 0.01)
    ),
    "this counts every dimension, active or not": lambda means, threshold=0.01: means.shape[1],
}.items():
    active_units.mistake(_hint, _wrong)
