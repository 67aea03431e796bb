"""The shares of the variance that the levels explain, and the level that holds each factor."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvae_course.checks.verdict import (
    Mistake,
    checked,
    compare_cases,
    copies,
    hint_for,
)

if TYPE_CHECKING:
    import pandas as pd


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0)


def _r2(x: Tensor, image: Tensor) -> Tensor:
    return 1 - ((x - image) ** 2).sum() / (_centred(x) ** 2).sum()


def _averaged(
    centred: Callable[[Tensor], Tensor], dims: tuple[int, ...] = (0, 1)
) -> Callable[[Tensor, Tensor], Tensor]:
    """One minus the error over another variance, averaged over the axes that are not summed."""
    return lambda x, i: (1 - ((x - i) ** 2).sum(dims) / (centred(x) ** 2).sum(dims)).mean()


def _of_images(x: Tensor, image: Tensor) -> Tensor:
    return (_centred(image) ** 2).sum() / (_centred(x) ** 2).sum()


def _added(r2: Tensor) -> Tensor:
    """What each level adds to the levels above it."""
    return r2 - torch.cat([r2[1:], r2.new_zeros(1)])


def _shares(
    score: Callable[[Tensor, Tensor], Tensor] = _r2, steps: Callable[[Tensor], Tensor] = _added
) -> Callable[[Tensor, Sequence[Tensor]], Tensor]:
    """An answer to `explained_shares`, from the score of each level; by default the right one."""
    return lambda x, images: steps(torch.stack([score(x, image) for image in images]))


@checked
def explained_shares(answer: Callable[..., Sequence[float]]) -> str:
    r"""The share of the variance of the data that each level adds to a reconstruction.

    Write ``explained_shares(x, images) -> L shares``, bottom to top. Data x are ``(N, D)``;
    images is a list of L such tensors, the first from level 1 upward, and so on, the last from
    level L alone. With R^2_l = 1 - sum (x - images_l)^2 / sum (x - mean)^2, both sums over
    examples and pixels and the mean a pixel's mean over examples, the share of level l is
    R^2_l - R^2_l+1, and R^2_L+1 = 0. A share may be negative.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = []
    for levels, n, width in ((3, 40, 6), (2, 25, 9), (1, 30, 4), (3, 50, 5)):
        x = torch.randn(n, width) * torch.linspace(0.5, 2, width) + torch.linspace(1, -2, width)
        noise = [torch.randn(n, width) for _ in range(levels)]
        images = [x.lerp(x.mean(0), 0.25 * (l + 1)) + 0.2 * e for l, e in enumerate(noise)]
        cases.append((x, images))
    cases[-1][1][-1] += torch.linspace(-1, 2, 5)  # worse than the mean image
    mistakes = explained_shares.mistakes
    compare_cases(answer, _shares(), cases, name="the result", mistakes=mistakes)
    return f"agrees in {len(cases)} cases of one, two and three levels, with a negative share"


@explained_shares.mistake("these are R^2 from each level upward; take differences")
def _(x, images):
    total = ((x - x.mean(0)) ** 2).sum()
    return [1 - ((x - image) ** 2).sum() / total for image in images]


for _hint, _steps in {
    "these are percentages; return fractions between 0 and 1": lambda r2: 100 * _added(r2),
    "the order is top to bottom; return the share of z_1 first": lambda r2: _added(r2).flip(0),
    "the level below is subtracted from the level above; reverse the sign": lambda r2: -_added(r2),
    "the shares are rescaled to sum to 1; return them without rescaling": lambda r2: (
        _added(r2) / r2[0]
    ),
    "negative shares are cut off at 0; keep them": lambda r2: _added(r2).clamp(min=0),
    "the share of the top level is missing; it is R^2_L itself, as no level is above it": (
        lambda r2: r2[:-1] - r2[1:]
    ),
}.items():
    explained_shares.mistake(_hint)(_shares(steps=_steps))
for _sign in (1, -1):
    explained_shares.mistake(
        "the differences are from the level below; subtract R^2 of the level above"
    )(_shares(steps=lambda r2, sign=_sign: torch.cat([r2[:1], sign * r2.diff()])))
for _hint, _score in {
    "the variance is about one number for all pixels; every pixel has its own mean": _averaged(
        lambda x: x - x.mean()
    ),
    "this sums squares about zero; subtract the mean of each pixel": _averaged(lambda x: x),
    "the mean is that of each example; take the mean over examples, axis 0": _averaged(
        lambda x: x - x.mean(1, keepdim=True)
    ),
    "this averages a ratio over pixels; divide the sums over examples and pixels": _averaged(
        _centred, (0,)
    ),
    "this averages a ratio over examples; divide the sums over examples and pixels": _averaged(
        _centred, (1,)
    ),
    "these are differences of the relative error; R^2 is one minus it": lambda x, image: (
        1 - _r2(x, image)
    ),
    "these are differences of squared errors; divide by the variance of x": lambda x, image: (
        -((x - image) ** 2).mean()
    ),
}.items():
    explained_shares.mistake(_hint)(_shares(_score))
for _steps in (_added, lambda r2: r2):
    explained_shares.mistake(
        "this is the variance of the images; return how much of the variance of x they explain"
    )(_shares(_of_images, _steps))


def _as_levels(value: object, scores: "pd.DataFrame") -> dict[str, int | None]:
    """Convert an answer to a dictionary from every factor to a level or None."""
    if value is None:
        raise Mistake("the answer is None; does your function end with return?")
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise Mistake(f"your function returned a {kind}; return a dict from factor to level")
    if value and set(value) <= set(scores.columns):
        raise Mistake("the keys are levels; return a dict from factor to level")
    if set(value) != set(scores.index):
        raise Mistake(
            f"the keys should be the {len(scores)} factors, yours are {sorted(map(str, value))}; "
            "give None for a factor without a level"
        )
    for factor, level in value.items():
        if isinstance(level, list | tuple | set):
            raise Mistake(f"the level of {factor} is a collection; return the best level alone")
        if level is not None and level != level:
            raise Mistake(
                f"the level of {factor} is nan, which is not a finite number; give None where no "
                "score exceeds the threshold"
            )
    return {factor: value[factor] for factor in scores.index}


def _levels(
    pick: Callable[["pd.Series", float], object] = lambda row, t: row.idxmax(),
    where: Callable[["pd.Series", float], bool] = lambda row, t: row.max() > t,
    otherwise: object = None,
) -> Callable[["pd.DataFrame", float], dict]:
    """An answer to `levels_of`, from what it picks where; by default the right one."""
    return lambda scores, t: {
        factor: pick(row, t) if where(row, t) else otherwise for factor, row in scores.iterrows()
    }


@checked
def levels_of(answer: Callable[..., dict]) -> str:
    r"""The level that holds each factor.

    Write ``levels_of(scores, threshold) -> dict`` for a table of probe scores, a pandas
    DataFrame with one row per factor and one column per level. The columns are named by the
    level, 1 next to the data, and may come in any order. The dictionary maps every factor to the
    level with the highest score, or to None where no score exceeds the threshold.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    import pandas as pd

    rows = {
        "object": [0.12, 0.45, 0.93],
        "size": [0.55, 0.81, 0.30],
        "phase": [0.88, 0.05, 0.02],
        "noise": [0.04, 0.07, -0.95],
        "x": [-0.90, 0.24, 0.21],
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[1, 2, 3])
    cases = [
        (table, 0.1),
        (table[[3, 1, 2]], 0.1),
        (table.loc[["x", "size", "phase"], [2, 1]], 0.3),
        (table, 0.9),
    ]

    def levels(function: Callable[..., dict]) -> list[dict]:
        return [_as_levels(function(*copies(case)), case[0]) for case in cases]

    given = levels(answer)
    wrong = [
        (factor, own[factor], level, threshold)
        for own, right, (_, threshold) in zip(given, levels(_levels()), cases, strict=True)
        for factor, level in right.items()
        if own[factor] != level
    ]
    if not wrong:
        return f"right for every factor of {len(cases)} tables, with columns in any order"
    hint_for(levels_of.mistakes, lambda known: levels(known) == given)
    factor, own, level, threshold = wrong[0]
    raise Mistake(
        f"the level of {factor} should be {level}, yours is {own!r}, at the threshold {threshold}"
    )


@levels_of.mistake("this always gives a level; give None where no score exceeds the threshold")
def _(scores, threshold):
    return scores.idxmax(axis=1).to_dict()


for _hint, _pick in {
    "these are positions, counted from 0; give the name of the column": lambda row, t: (
        row.argmax()
    ),
    "this assumes ordered columns; give the name of the column, not its position": (
        lambda row, t: row.argmax() + 1
    ),
    "this is the level with the lowest score; take the highest": lambda row, t: row.idxmin(),
    "these are the scores; return the level that has the highest": lambda row, t: row.max(),
    "is a collection; return the best level alone": lambda row, t: [*row[row > t].index],
    "the level of object should be 3, yours is 'z_2'": lambda row, t: "z_2",
}.items():
    levels_of.mistake(_hint)(_levels(_pick))
for _hint, _where in {
    "the threshold is fixed at 0.1; use the argument": lambda row, t: row.max() > 0.1,
    "this gives None where a score exceeds the threshold, and a level where none does": (
        lambda row, t: row.max() < t
    ),
    "this requires every score to exceed the threshold; one is enough": lambda row, t: (
        row.min() > t
    ),
}.items():
    levels_of.mistake(_hint)(_levels(where=_where))
levels_of.mistake("this is the level with the lowest score; take the highest")(
    _levels(lambda row, t: row.idxmin(), lambda row, t: row.min() > t)
)
for _size in (lambda row: row.max(), lambda row: row.abs().max()):
    levels_of.mistake("this compares absolute values; a negative score is worse than guessing")(
        _levels(lambda row, t: row.abs().idxmax(), lambda row, t, size=_size: size(row) > t)
    )
for _first in (lambda levels: levels[0], lambda levels: levels.min()):
    levels_of.mistake(
        "this is the first level above the threshold; return the one with the highest score"
    )(_levels(lambda row, t, first=_first: first(row[row > t].index)))
for _nothing in (0, -1, ""):
    levels_of.mistake(f"a factor without a level has {_nothing!r}; give None")(
        _levels(otherwise=_nothing)
    )
levels_of.mistake("is nan, which is not a finite number")(_levels(otherwise=float("nan")))
for _hint, _answer in {
    "returned a Series": lambda scores, t: scores.idxmax(axis=1).where(scores.max(axis=1) > t),
    "keys should be the 5": lambda scores, t: _levels()(scores[scores.max(axis=1) > t], t),
    "the keys are levels": lambda scores, t: scores.idxmax(axis=0).to_dict(),
    "are levels; return a dict from factor": lambda scores, t: {
        level: [*scores.index[scores.idxmax(axis=1) == level]] for level in scores
    },
}.items():
    levels_of.mistake(_hint)(_answer)
