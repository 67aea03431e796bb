r"""Codes on which probes are checked, and the scores that known mistakes give.

The codes lie in small clusters, and within the training part a cluster has one value of the
factor. So every sensible probe makes the same predictions, linear or not, and its score is known,
as is the score of a probe that was fitted or scored on the wrong part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CORNERS = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])
"""Centres of the clusters; a linear function can fit three values, but not four numbers."""
VALUES = torch.tensor([-1.3, 0.45, 2.4])
"""A real factor in the training part, by cluster."""


@dataclass(frozen=True)
class Part:
    """Codes, their clusters, and the factor."""

    codes: Tensor
    """``(N, Z)``."""
    cluster: Tensor
    """``(N,)``."""
    factor: Tensor
    """``(N,)``."""

    def predict(self, clusters: Tensor) -> Tensor:
        """Predict as a probe fitted on this part does.

        Args:
            clusters: ``(M,)``.

        Returns:
            The mean of a real factor in each cluster, or the most frequent category; ``(M,)``.
        """
        groups = [self.factor[self.cluster == k] for k in range(4) if (self.cluster == k).any()]
        real = self.factor.is_floating_point()
        return torch.stack([g.mean() if real else g.mode().values for g in groups])[clusters]


@dataclass(frozen=True)
class ProbeCase:
    """The two parts that a probe is given."""

    train: Part
    test: Part

    @property
    def predictions(self) -> Tensor:
        """What a probe fitted on the training part predicts for the test part."""
        return self.train.predict(self.test.cluster)

    def copies(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Copy the arguments of ``probe_score``.

        Args:
            dtype: precision of the codes and of a real factor.

        Returns:
            Codes and factor of the training part, then of the test part.
        """
        parts = [self.train.codes, self.train.factor, self.test.codes, self.test.factor]
        return [p.to(dtype if p.is_floating_point() else p.dtype, copy=True) for p in parts]


def _part(
    counts: Sequence[int], factor: Callable[[Tensor, Tensor], Tensor], scales: Sequence[float]
) -> Part:
    """Clusters of the given sizes; the factor follows from cluster and rank within it, [0, 1)."""
    cluster = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    rank = torch.cat([torch.arange(n) / max(n, 1) for n in counts])
    order = torch.randperm(len(cluster))
    cluster, rank = cluster[order], rank[order]
    codes = CORNERS[cluster].double() + 0.05 * torch.randn(len(cluster), 2).double()
    noise = torch.randn(len(cluster), len(scales) - 2).double()
    codes = torch.cat([codes, noise], dim=1) * torch.tensor(scales).double()
    return Part(codes, cluster, factor(cluster, rank))


def category_case(
    train: Sequence[int], test: Sequence[int], *, kept: float, scales: Sequence[float] = (1, 1)
) -> ProbeCase:
    """Make four clusters, in the training part each with its own category.

    Args:
        train: examples per cluster in the training part.
        test: examples per cluster in the test part.
        kept: share of each cluster that keeps its category in the test part; the others have the
            next one.
        scales: scale of each code; from the third on, codes are noise.

    Returns:
        The case; a probe is right on the share ``kept`` of the test part.
    """
    return ProbeCase(
        _part(train, lambda cluster, rank: cluster, scales),
        _part(test, lambda cluster, rank: (cluster + (rank >= kept)) % 4, scales),
    )


def real_case(
    train: Sequence[int], test: Sequence[int], *, offset: float, scales: Sequence[float] = (1, 1)
) -> ProbeCase:
    """Make three clusters, in the training part each with one value of a real factor.

    Args:
        train: examples per cluster in the training part.
        test: examples per cluster in the test part, even numbers.
        offset: difference of the factor between test and training part; the test part is noisy.
        scales: scale of each code; from the third on, codes are noise.

    Returns:
        The case.
    """
    return ProbeCase(
        _part(train, lambda cluster, rank: VALUES[cluster].double(), scales),
        _part(
            test,
            lambda cluster, rank: VALUES[cluster].double() + offset + 2.4 * (rank >= 0.5) - 1.2,
            scales,
        ),
    )


Mistakes = list[tuple[Tensor, str]]
Score = Callable[[Tensor, Tensor], Tensor]


def skill(truth: Tensor, predicted: Tensor) -> Tensor:
    """Accuracy above the share of the most frequent category, relative to the possible gain.

    Args:
        truth: categories, ``(N,)``.
        predicted: categories, ``(N,)``.

    Returns:
        One number, 1 at best.
    """
    base = _most_frequent(truth)
    return (_accuracy(truth, predicted) - base) / (1 - base)


def _accuracy(truth: Tensor, predicted: Tensor) -> Tensor:
    return (truth == predicted).double().mean()


def _most_frequent(truth: Tensor, among: Tensor | None = None) -> Tensor:
    """Share of the most frequent category of these, or of other, examples."""
    return _accuracy(truth, (truth if among is None else among).mode().values)


def _r2(truth: Tensor, predicted: Tensor, about: Tensor | None = None) -> Tensor:
    truth = truth.double()
    mean = truth.mean() if about is None else about
    return 1 - ((truth - predicted) ** 2).mean() / ((truth - mean) ** 2).mean()


def _rows(cases: Sequence[ProbeCase], score: Callable[[ProbeCase], Tensor]) -> Tensor:
    return torch.stack([score(case).double() for case in cases])


def _common_mistakes(cases: Sequence[ProbeCase], score: Score) -> Mistakes:
    """The mistakes that are possible with every score."""
    right = _rows(cases, lambda c: score(c.test.factor, c.predictions))
    turned = _rows(cases, lambda c: score(c.train.factor, c.test.predict(c.train.cluster)))
    return [
        (right.clamp(min=0), "the score is cut off at 0; it may be negative"),
        (right**0, "this is the score on the training part; score the probe on the test part"),
        (turned, "the parts are swapped: fit on the training part, score on the test part"),
        (1 - right, "this is one minus the score; 1 is perfect and 0 is guessing"),
    ]


def seen(scores: Tensor, right: Tensor) -> Mistakes:
    """Detect that the probe has seen the test part, from a fair first case and an unfair second.

    Args:
        scores: what the student's function returned, one per case.
        right: the right scores; in the second case an honest probe can only do badly.

    Returns:
        The scores with a hint, if they are too good.
    """
    if scores[0] > right[0] - 0.1 and scores[1] > right[1] + 0.1:
        return [(scores, "the probe has seen the test part; fit it on the training part alone")]
    return []


def _line(case: ProbeCase) -> Tensor:
    """What a linear regression on the numbers of the categories predicts."""
    train, test = (
        torch.cat([part.codes, torch.ones(len(part.codes), 1)], dim=1).double()
        for part in (case.train, case.test)
    )
    return test @ torch.linalg.lstsq(train, case.train.factor.double()[:, None]).solution[:, 0]


def category_mistakes(cases: Sequence[ProbeCase]) -> tuple[Tensor, Mistakes]:
    """Score categories, right and wrong.

    Args:
        cases: with factors of whole numbers.

    Returns:
        One score per case, and the scores of known mistakes with their hints.
    """

    def above(base: Callable[[ProbeCase], Tensor | float]) -> Tensor:
        return _rows(cases, lambda c: (hits(c) - base(c)) / (1 - base(c)))

    def hits(c: ProbeCase) -> Tensor:
        return _accuracy(c.test.factor, c.predictions)

    def base(c: ProbeCase) -> Tensor:
        return _most_frequent(c.test.factor)

    def recalls(c: ProbeCase) -> Tensor:
        guess, truth = c.predictions, c.test.factor
        return torch.stack([_accuracy(truth[truth == k], guess[truth == k]) for k in range(4)])

    def chance(c: ProbeCase) -> Tensor:
        guess, truth = (f.bincount(minlength=4).double() for f in (c.predictions, c.test.factor))
        return (guess / guess.sum()) @ (truth / truth.sum())

    other = "the base is that of the training part; take the share in the test part"
    weighted = "this averages over categories; take the accuracy over examples"
    number = "this is R^2 of the categories' numbers, which have no order; use a classifier"
    mistakes = [
        (_rows(cases, hits), "this is the raw accuracy; rescale it so that guessing has 0"),
        (
            above(lambda c: 0.25),
            "the base is one over the number of categories; take the share of the most frequent",
        ),
        (above(lambda c: _most_frequent(c.train.factor)), other),
        (
            above(lambda c: _most_frequent(c.test.factor, c.train.factor)),
            "the base is the share of the category that is most frequent in training",
        ),
        (_rows(cases, lambda c: hits(c) - base(c)), "the difference is not divided by 1 - base"),
        (
            _rows(cases, lambda c: (hits(c) - base(c)) / base(c)),
            "the difference is divided by the base; divide it by 1 - base",
        ),
        (above(chance), "this is Cohen's kappa; the base is the largest share, not chance"),
        (_rows(cases, lambda c: recalls(c).mean()), weighted),
        (_rows(cases, lambda c: (recalls(c).mean() - 0.25) / 0.75), weighted),
        (_rows(cases, lambda c: _r2(c.test.factor, _line(c))), number),
        (_rows(cases, lambda c: _r2(c.test.factor, c.predictions)), number),
        *_common_mistakes(cases, skill),
    ]
    return _rows(cases, lambda c: skill(c.test.factor, c.predictions)), mistakes


def real_mistakes(cases: Sequence[ProbeCase]) -> tuple[Tensor, Mistakes]:
    """Score real factors, right and wrong.

    Args:
        cases: with real factors.

    Returns:
        One score per case, and the scores of known mistakes with their hints.
    """

    def row(score: Score) -> Tensor:
        return _rows(cases, lambda c: score(c.test.factor, c.predictions))

    def rounded(change: Callable[[Tensor], Tensor], score: Score) -> Tensor:
        return _rows(cases, lambda c: score(change(c.test.factor), change(VALUES)[c.test.cluster]))

    error = "this is an error; return R^2, one minus the error over the variance"
    forgives = (
        "this ignores a constant offset of the predictions, as a squared correlation or the "
        "explained variance does; R^2 counts it as error"
    )
    whole = "the real factor is rounded to whole numbers; fit a regression to the unrounded factor"
    correlation = row(lambda t, s: torch.corrcoef(torch.stack([t, s]))[0, 1])
    squared = row(lambda t, s: ((t - s) ** 2).mean())
    mistakes = [
        (correlation, "this is the correlation; return R^2"),
        (correlation**2, forgives),
        (squared, error),
        (-squared, error),
        (squared.sqrt(), error),
        (row(lambda t, s: (t - s).abs().mean()), error),
        *(
            (rounded(change, score), whole)
            for change in (torch.trunc, torch.round)
            for score in (skill, _r2, _accuracy)
        ),
        (
            _rows(cases, lambda c: _r2(c.test.factor, c.predictions, c.train.factor.mean())),
            "the variance is about the mean of the training part; take that of the test part",
        ),
        *_common_mistakes(cases, _r2),
    ]
    return row(_r2), mistakes
