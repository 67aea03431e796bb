"""Explained shares and tables of levels, right and with the usual mistakes."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvae_course.checks.verdict import Mistake

if TYPE_CHECKING:
    import pandas as pd

    Table = tuple[pd.DataFrame, float]

Images = tuple[Tensor, Sequence[Tensor]]


def _shares(
    cases: Sequence[tuple[Tensor, Sequence[Tensor]]], score: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """A score of x and images, for every level of every case."""
    return [torch.stack([score(x, image) for image in images]) for x, images in cases]


def _steps(scores: Tensor) -> Tensor:
    """What each level adds to the levels above it."""
    return scores - torch.cat([scores[1:], scores.new_zeros(1)])


def _r2(x: Tensor, image: Tensor) -> Tensor:
    return 1 - ((x - image) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()


def shares_and_mistakes(cases: Sequence[Images]) -> tuple[Tensor, list[tuple[Tensor, str]]]:
    """Explained shares, right and wrong.

    Args:
        cases: data with the images from every level upward.

    Returns:
        The shares of all cases in one row, and those of known mistakes with their hints.
    """
    wide = [(x.double(), [image.double() for image in images]) for x, images in cases]

    def shares(score: Callable[[Tensor, Tensor], Tensor], steps: Callable = _steps) -> Tensor:
        return torch.cat([steps(scores) for scores in _shares(wide, score)])

    def unlike(total: Callable[[Tensor], Tensor], dims: tuple[int, ...] = (0, 1)) -> Tensor:
        """One minus the error over another variance, averaged over the remaining axes."""
        return shares(lambda x, i: (1 - ((x - i) ** 2).sum(dims) / total(x).sum(dims)).mean())

    def centred(x: Tensor) -> Tensor:
        return (x - x.mean(0)) ** 2

    ratio = "this averages a ratio over {}; divide the sums over examples and pixels"
    own = "this is the variance of the images; return how much of the variance of x they explain"
    turned = "the differences are from the level below; subtract R^2 of the level above"
    mistakes = [
        (100 * shares(_r2), "these are percentages; return fractions between 0 and 1"),
        (shares(_r2, lambda s: s), "these are R^2 from each level upward; take differences"),
        (shares(_r2, lambda s: _steps(s).flip(0)), "the order is top to bottom; return z_1 first"),
        (
            shares(_r2, lambda s: -_steps(s)),
            "the level below is subtracted from the level above; reverse the sign",
        ),
        (shares(_r2, lambda s: s - torch.cat([s.new_zeros(1), s[:-1]])), turned),
        (shares(_r2, lambda s: torch.cat([s[:1], s[:-1] - s[1:]])), turned),
        (
            shares(_r2, lambda s: _steps(s) / s[0]),
            "the shares are rescaled to sum to 1; return them without rescaling",
        ),
        (
            shares(_r2, lambda s: _steps(s).clamp(min=0)),
            "negative shares are cut off at 0; keep them",
        ),
        (
            unlike(lambda x: (x - x.mean()) ** 2),
            "the variance is about one number for all pixels; every pixel has its own mean",
        ),
        (unlike(lambda x: x**2), "this sums squares about zero; subtract the mean of each pixel"),
        (
            unlike(lambda x: (x - x.mean(1, keepdim=True)) ** 2),
            "the mean is that of each example; take the mean over examples, axis 0",
        ),
        (unlike(centred, (0,)), ratio.format("pixels")),
        (unlike(centred, (1,)), ratio.format("examples")),
        (shares(lambda x, i: centred(i).sum() / centred(x).sum()), own),
        (shares(lambda x, i: centred(i).sum() / centred(x).sum(), lambda s: s), own),
        (
            shares(lambda x, i: ((x - i) ** 2).sum() / centred(x).sum()),
            "these are differences of the relative error; R^2 is one minus it",
        ),
        (
            shares(lambda x, i: -((x - i) ** 2).mean()),
            "these are differences of squared errors; divide by the variance of x",
        ),
    ]
    return shares(_r2), mistakes


def as_levels(value: object, scores: "pd.DataFrame") -> dict[str, int | None]:
    """Convert an answer to a dictionary from every factor to a level or None.

    Args:
        value: what the student's function returned.
        scores: the table that the function received.

    Returns:
        The dictionary, its keys in the order of the table.

    Raises:
        Mistake: if it is something else.
    """
    if value is None:
        raise Mistake("the answer is None; does your function end with return?")
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise Mistake(f"your function returned a {kind}; return a dict from factor to level")
    factors, levels = [str(f) for f in scores.index], list(scores.columns)
    if value and set(value) <= set(levels):
        raise Mistake("the keys are levels; return a dict from factor to level")
    missing = [factor for factor in factors if factor not in value]
    if missing or len(value) != len(factors):
        raise Mistake(
            f"the keys should be the {len(factors)} factors, yours are {sorted(map(str, value))}; "
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
    return {factor: value[factor] for factor in factors}


def levels_and_mistakes(
    cases: "Sequence[Table]",
) -> tuple[list[dict], list[tuple[list[dict], str]]]:
    """The level of every factor, right and wrong.

    Args:
        cases: tables of scores, each with a threshold.

    Returns:
        One dictionary per case, and those of known mistakes with their hints.
    """

    def pick(choose: Callable[["pd.Series", float], object]) -> list[dict]:
        return [{f: choose(row, t) for f, row in s.iterrows()} for s, t in cases]

    def known(choose: Callable[["pd.Series"], object]) -> list[dict]:
        return pick(lambda row, t: choose(row) if row.max() > t else None)

    def first(row: "pd.Series", t: float) -> object:
        return next((level for level in row.index if row[level] > t), None)

    position = "these are positions, counted from 0; give the name of the column"
    exceed = "this is the first level above the threshold; return the one with the highest score"
    mistakes = [
        (known(lambda row: row.argmax()), position),
        (
            known(lambda row: row.argmax() + 1),
            "this assumes ordered columns; give the name of the column, not its position",
        ),
        (
            known(lambda row: row.idxmin()),
            "this is the level with the lowest score; take the highest",
        ),
        (
            pick(lambda row, t: row.idxmin() if row.min() > t else None),
            "this is the level with the lowest score; take the highest",
        ),
        (
            pick(lambda row, t: row.idxmax()),
            "this always gives a level; give None where no score exceeds the threshold",
        ),
        (
            pick(lambda row, t: row.idxmax() if row.max() > 0.1 else None),
            "the threshold is fixed at 0.1; use the argument",
        ),
        (
            pick(lambda row, t: row.idxmax() if row.max() < t else None),
            "this gives None where a score exceeds the threshold, and a level where none does",
        ),
        (
            pick(lambda row, t: row.idxmax() if row.min() > t else None),
            "this requires every score to exceed the threshold; one is enough",
        ),
        (
            known(lambda row: row.abs().idxmax()),
            "this compares absolute values; a negative score is worse than guessing",
        ),
        (
            pick(lambda row, t: row.abs().idxmax() if row.abs().max() > t else None),
            "this compares absolute values; a negative score is worse than guessing",
        ),
        (pick(first), exceed),
        (pick(lambda row, t: first(row.sort_index(), t)), exceed),
        (
            known(lambda row: row.max()),
            "these are the scores; return the level that has the highest",
        ),
        *(
            (
                pick(lambda row, t, no=no: row.idxmax() if row.max() > t else no),
                f"a factor without a level has {no!r}; give None",
            )
            for no in (0, -1, False, "")
        ),
    ]
    return known(lambda row: row.idxmax()), mistakes
