"""The mistakes that explained shares and a table of levels are known for."""

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


def shares_and_slips(cases: Sequence[Images]) -> tuple[Tensor, list[tuple[Tensor, str]]]:
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
        """One minus the error over another variance, then averaged over what is left."""
        return shares(lambda x, i: (1 - ((x - i) ** 2).sum(dims) / total(x).sum(dims)).mean())

    def centred(x: Tensor) -> Tensor:
        return (x - x.mean(0)) ** 2

    ratio = "this averages a ratio over {}; divide the sums over examples and pixels"
    own = "this is the variance of the images; asked is how much of x they explain"
    turned = "the differences are from the level below; take those from the level above"
    mistakes = [
        (100 * shares(_r2), "these are per cent; asked are shares, of which 1 is all"),
        (shares(_r2, lambda s: s), "these are R^2 from each level upward; take differences"),
        (shares(_r2, lambda s: _steps(s).flip(0)), "the order is top to bottom; z_1 comes first"),
        (shares(_r2, lambda s: -_steps(s)), "the sign is wrong; the level above is subtracted"),
        (shares(_r2, lambda s: s - torch.cat([s.new_zeros(1), s[:-1]])), turned),
        (shares(_r2, lambda s: torch.cat([s[:1], s[:-1] - s[1:]])), turned),
        (shares(_r2, lambda s: _steps(s) / s[0]), "the shares are made to sum to 1; do not"),
        (shares(_r2, lambda s: _steps(s).clamp(min=0)), "negative shares are cut off"),
        (
            unlike(lambda x: (x - x.mean()) ** 2),
            "the variance is about one number for all pixels; every pixel has its own mean",
        ),
        (unlike(lambda x: x**2), "the sum is of squares about zero; take off each pixel's mean"),
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
            "these are shares of the error; R^2 is one minus it",
        ),
        (
            shares(lambda x, i: -((x - i) ** 2).mean()),
            "these are differences of squared errors; divide by the variance of x",
        ),
    ]
    return shares(_r2), mistakes


def as_levels(value: object, scores: "pd.DataFrame") -> dict[str, int | None]:
    """The answer as a dictionary from every factor to a level or None.

    Args:
        value: what the student's function returned.
        scores: the table that it was given.

    Returns:
        The dictionary, its keys in the order of the table.

    Raises:
        Mistake: if it is something else.
    """
    if value is None:
        raise Mistake("the answer is None; does your function end with return?")
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise Mistake(f"asked is a dictionary from factor to level, your function gave {kind}")
    factors, levels = [str(f) for f in scores.index], list(scores.columns)
    if value and set(value) <= set(levels):
        raise Mistake("the keys are levels; asked is the level of each factor")
    missing = [factor for factor in factors if factor not in value]
    if missing or len(value) != len(factors):
        raise Mistake(
            f"the keys should be the {len(factors)} factors, yours are {sorted(map(str, value))}; "
            "a factor that no level holds has None"
        )
    for factor, level in value.items():
        if isinstance(level, list | tuple | set):
            raise Mistake(f"the level of {factor} is a collection; asked is the best level alone")
        if level is not None and level != level:
            raise Mistake(
                f"the level of {factor} is nan, which is no finite number; where no score exceeds "
                "the threshold, give None"
            )
    return {factor: value[factor] for factor in factors}


def levels_and_slips(cases: "Sequence[Table]") -> tuple[list[dict], list[tuple[list[dict], str]]]:
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
    exceed = "this is the first level above the threshold; asked is that with the highest score"
    mistakes = [
        (known(lambda row: row.argmax()), position),
        (
            known(lambda row: row.argmax() + 1),
            "this takes the columns to be in order; give the name of the column, not its position",
        ),
        (known(lambda row: row.idxmin()), "this is the level with the lowest score"),
        (
            pick(lambda row, t: row.idxmin() if row.min() > t else None),
            "this is the level with the lowest score",
        ),
        (pick(lambda row, t: row.idxmax()), "the threshold is not used"),
        (
            pick(lambda row, t: row.idxmax() if row.max() > 0.1 else None),
            "the threshold is a number of your own; use the one that is given",
        ),
        (
            pick(lambda row, t: row.idxmax() if row.max() < t else None),
            "this gives a level where no score exceeds the threshold; None belongs there",
        ),
        (
            pick(lambda row, t: row.idxmax() if row.min() > t else None),
            "this asks that every score exceeds the threshold; one is enough",
        ),
        (known(lambda row: row.abs().idxmax()), "this takes the size; a negative score is bad"),
        (
            pick(lambda row, t: row.abs().idxmax() if row.abs().max() > t else None),
            "this takes the size; a negative score is bad",
        ),
        (pick(first), exceed),
        (pick(lambda row, t: first(row.sort_index(), t)), exceed),
        (
            known(lambda row: row.max()),
            "these are the scores; asked is the level that has the highest",
        ),
        *(
            (
                pick(lambda row, t, no=no: row.idxmax() if row.max() > t else no),
                f"a factor that no level holds has {no!r}; give None",
            )
            for no in (0, -1, False, "")
        ),
    ]
    return known(lambda row: row.idxmax()), mistakes
