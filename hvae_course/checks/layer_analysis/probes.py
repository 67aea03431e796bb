"""The score of a probe, on codes from which every sensible probe makes the same predictions.

The codes lie in small clusters, and within the training part a cluster has one value of the
factor. So linear and other probes have the same score, with and without a mistake.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_course.checks.verdict import (
    Mistake,
    alike,
    as_tensor,
    checked,
    compare_values,
    hint_for,
)

_CORNERS = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])
"""Centres of the clusters; a linear function can fit three values, but not four numbers."""
_Case = tuple[Tensor, Tensor, Tensor, Tensor]
"""The arguments of `probe_score`."""
_Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A score of the factor in the test part, its predictions, and the factor in the training part."""
_SEEN = "the probe has seen the test part; fit it on the training part alone"


def _part(
    counts: Sequence[int],
    factor: Callable[[Tensor, Tensor], Tensor],
    scales: Sequence[float] = (1, 1),
) -> tuple[Tensor, Tensor]:
    """Codes and factor of one part; the factor follows from cluster and rank within it, [0, 1)."""
    cluster = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    rank = torch.cat([torch.arange(n) / max(n, 1) for n in counts])
    order = torch.randperm(len(cluster))
    cluster, rank = cluster[order], rank[order]
    codes = _CORNERS[cluster].double() + 0.05 * torch.randn(len(cluster), 2).double()
    noise = torch.randn(len(cluster), len(scales) - 2).double()  # further codes say nothing
    return torch.cat([codes, noise], dim=1) * torch.tensor(scales), factor(cluster, rank)


def _category(
    train: Sequence[int], test: Sequence[int], *, kept: float, scales: Sequence[float] = (1, 1)
) -> _Case:
    """A category for each cluster; in the test part a share of each cluster keeps it."""
    unseen = _part(test, lambda cluster, rank: (cluster + (rank >= kept)) % 4, scales)
    return *_part(train, lambda cluster, rank: cluster, scales), *unseen


def _real(train: Sequence[int], test: Sequence[int], *, offset: float) -> _Case:
    """A value for each of three clusters; the test part has an offset and noise."""
    values = torch.tensor([-1.3, 0.45, 2.4]).double()
    unseen = _part(
        test, lambda cluster, rank: values[cluster] + offset + 2.4 * (rank >= 0.5) - 1.2
    )
    return *_part(train, lambda cluster, rank: values[cluster]), *unseen


def _category_cases() -> list[_Case]:
    """One whose test part resembles the training part, and one whose test part does not."""
    return [
        _category([50, 100, 60, 40], [300, 20, 60, 20], kept=0.85),
        _category([40, 40, 60, 40], [300, 160, 200, 160], kept=0.1),
    ]


def _real_cases() -> list[_Case]:
    """The same for a real factor."""
    return [
        _real([100, 80, 120], [60, 60, 80], offset=0.0),
        _real([60, 90, 50], [200, 300, 100], offset=2.2),
    ]


def _predict(train_codes: Tensor, train_factor: Tensor, test_codes: Tensor) -> Tensor:
    """Predict the mean, or the most frequent category, of the training part's cluster."""
    train, test = train_codes[:, :2] > 0, test_codes[:, :2] > 0
    guess = train_factor.new_zeros(len(test))
    for corner in test.unique(dim=0):
        group = train_factor[(train == corner).all(1)]
        real = group.is_floating_point()
        guess[(test == corner).all(1)] = group.mean() if real else group.mode().values
    return guess


def _predict_linearly(train: Tensor, factor: Tensor, test: Tensor) -> Tensor:
    train, test = (torch.nn.functional.pad(codes, (0, 1), value=1) for codes in (train, test))
    return test @ torch.linalg.lstsq(train, factor.to(train)[:, None]).solution[:, 0]


def _predict_unscaled(train: Tensor, factor: Tensor, test: Tensor) -> Tensor:
    """Predict with ten neighbours, without regard to the scales of the codes."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    probe = KNeighborsRegressor(10) if factor.is_floating_point() else KNeighborsClassifier(10)
    return torch.as_tensor(probe.fit(train, factor).predict(test))


def _accuracy(truth: Tensor, guess: Tensor, trained: Tensor) -> Tensor:
    return (truth == guess).double().mean()


def _recall(truth: Tensor, guess: Tensor, trained: Tensor) -> Tensor:
    return torch.stack([(guess[truth == k] == k).double().mean() for k in range(4)]).mean()


def _share(truth: Tensor, among: Tensor | None = None) -> Tensor:
    """Share of the category that is most frequent here, or among other examples."""
    return (truth == (truth if among is None else among).mode().values).double().mean()


def _above(base: _Score) -> _Score:
    """Accuracy above a base, relative to the possible gain."""
    return lambda *of: (_accuracy(*of) - base(*of)) / (1 - base(*of))


_skill = _above(lambda truth, guess, trained: _share(truth))


def _r2(truth: Tensor, guess: Tensor, trained: Tensor, about: Tensor | None = None) -> Tensor:
    mean = truth.mean() if about is None else about
    return 1 - ((truth - guess) ** 2).mean() / ((truth - mean) ** 2).mean()


def _correlation(truth: Tensor, guess: Tensor, trained: Tensor) -> Tensor:
    return torch.corrcoef(torch.stack([truth, guess]))[0, 1]


def _factors(change: Callable[[Tensor], Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Change both factors before anything else."""
    return lambda train, factor, test, truth: (train, change(factor), test, change(truth))


def _standard(codes: Tensor) -> Tensor:
    return (codes - codes.mean(0)) / codes.std(0)


def _probe(
    category: _Score = _skill,
    real: _Score = _r2,
    *,
    given: Callable[..., Sequence[Tensor]] = lambda *case: case,
    predict: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Callable[..., Tensor]:
    """An answer to `probe_score`, with changed scores or arguments; by default the right one."""

    def answer(*case: Tensor) -> Tensor:
        train_codes, train_factor, test_codes, test_factor = given(*case)
        guess = (predict or _predict)(train_codes, train_factor, test_codes)
        score = real if train_factor.is_floating_point() else category
        return score(test_factor, guess, train_factor)

    return answer


def _scores(answer: Callable[..., float], cases: Sequence[_Case], name: str) -> Tensor:
    """Score each case, the first in single precision and the second in double."""
    scores = []
    for case, dtype in zip(cases, (torch.float32, torch.float64), strict=False):
        inputs = [t.to(dtype if t.is_floating_point() else t.dtype, copy=True) for t in case]
        scores.append(as_tensor(answer(*inputs), (), name=name))
    return torch.stack(scores)


def _check_scores(
    answer: Callable[..., float], cases: Sequence[_Case], name: str, tolerance: float
) -> None:
    """Accept the scores of two cases, or name the mistake."""
    own, right = _scores(answer, cases, name), _scores(_probe(), cases, name)
    if alike(own, right, tolerance):
        return
    hint_for(
        probe_score.mistakes, lambda known: alike(own, _scores(known, cases, name), tolerance)
    )
    if own[0] > right[0] - 0.1 and own[1] > right[1] + 0.1:  # an honest probe is bad at the second
        raise Mistake(_SEEN)
    compare_values(own, right, name=name, tolerance=tolerance)


@checked
def probe_score(answer: Callable[..., float]) -> str:
    r"""How well a probe reads a factor off the codes of unseen examples.

    Write ``probe_score(train_codes, train_factor, test_codes, test_factor) -> float``. Codes are
    ``(N, Z)``, a factor is ``(N,)``: integers for a category, floating point for a real factor.
    Fit any probe from scikit-learn on the training part and score it on the test part. The score
    of a real factor is R^2, one minus the mean squared error over the variance of the factor. The
    score of a category is (accuracy - base) / (1 - base), where base is the share of the most
    frequent category in the test part. So 1 is perfect, guessing has 0, and a probe that is worse
    than guessing has a negative score. Codes may have very different scales.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    _check_scores(answer, _category_cases(), "the score of a category", 0.02)
    _check_scores(answer, _real_cases(), "the score of a real factor", 0.05)
    for case, hint in (
        (
            _category([60, 60, 60, 60], [0, 150, 50, 0], kept=1.0),
            "this scales the test codes by their own mean and spread; use the mean and spread of "
            "the training codes",
        ),
        (
            _category([80, 80, 80, 80], [60, 50, 50, 40], kept=0.9, scales=(1e-3, 1e-3, 1e3)),
            "this is right only where all codes have one scale; standardise them before the "
            "probe, or a large uninformative code hides a small informative one",
        ),
    ):
        own, right = (_scores(function, [case], "the score") for function in (answer, _probe()))
        if not alike(own, right, 0.05):
            raise Mistake(hint)
    return (
        "agrees in 6 cases, for categories and real factors, on the test part, with codes of any "
        "scale"
    )


@probe_score.mistake("your code raised ValueError: Unknown label type")
def _(train_codes, train_factor, test_codes, test_factor):
    from sklearn.neighbors import KNeighborsClassifier

    probe = KNeighborsClassifier(10).fit(train_codes, train_factor)
    accuracy = probe.score(test_codes, test_factor)
    base = (test_factor == test_factor.mode().values).double().mean()
    return (accuracy - base) / (1 - base)


for _hint, _base in {
    "the base is one over the number of categories; take the share of the most frequent": (
        lambda truth, guess, trained: 1 / len(truth.unique())
    ),
    "the base is that of the training part; take the share in the test part": (
        lambda truth, guess, trained: _share(trained)
    ),
    "the base is the share of the category that is most frequent in training": (
        lambda truth, guess, trained: _share(truth, trained)
    ),
    "this is Cohen's kappa; the base is the largest share, not chance": (
        lambda truth, guess, trained: (
            truth.bincount(minlength=4) @ guess.bincount(minlength=4) / len(truth) ** 2
        )
    ),
}.items():
    probe_score.mistake(_hint)(_probe(_above(_base)))
for _hint, _score in {
    "this is the raw accuracy; rescale it so that guessing has 0": _accuracy,
    "the difference is not divided by 1 - base": lambda *of: _accuracy(*of) - _share(of[0]),
    "the difference is divided by the base; divide it by 1 - base": lambda *of: (
        _accuracy(*of) / _share(of[0]) - 1
    ),
}.items():
    probe_score.mistake(_hint)(_probe(_score))
for _least in (0, 0.25):
    probe_score.mistake("this averages over categories; take the accuracy over examples")(
        _probe(lambda *of, least=_least: (_recall(*of) - least) / (1 - least))
    )
for _fit in (None, _predict_linearly):
    probe_score.mistake(
        "this is R^2 of the categories' numbers, which have no order; use a classifier"
    )(_probe(predict=_fit, given=_factors(Tensor.double)))
for _error in (
    lambda truth, guess, trained: (truth - guess).square().mean(),
    lambda truth, guess, trained: -(truth - guess).square().mean(),
    lambda truth, guess, trained: (truth - guess).square().mean().sqrt(),
    lambda truth, guess, trained: (truth - guess).abs().mean(),
):
    probe_score.mistake("this is an error; return R^2, one minus the error over the variance")(
        _probe(real=_error)
    )
probe_score.mistake("this is the correlation; return R^2")(_probe(real=_correlation))
for _score in (
    lambda *of: _correlation(*of) ** 2,
    lambda truth, guess, trained: 1 - (truth - guess).var() / truth.var(),
):
    probe_score.mistake(
        "this ignores a constant offset of the predictions, as a squared correlation or the "
        "explained variance does; R^2 counts it as error"
    )(_probe(real=_score))
for _round in (torch.trunc, torch.round):
    for _answer in (
        _probe(given=_factors(_round)),
        _probe(given=_factors(_round), real=_accuracy),
        _probe(given=_factors(lambda factor, rounded=_round: rounded(factor).long())),
    ):
        probe_score.mistake(
            "the real factor is rounded to whole numbers; fit a regression to the unrounded factor"
        )(_answer)
for _hint, _given in {
    "this is the score on the training part; score the probe on the test part": (
        lambda train, factor, test, truth: (train, factor, train, factor)
    ),
    "the parts are swapped: fit on the training part, score on the test part": (
        lambda train, factor, test, truth: (test, truth, train, factor)
    ),
    "this scales the test codes by their own mean and spread": (
        lambda train, factor, test, truth: (_standard(train), factor, _standard(test), truth)
    ),
}.items():
    probe_score.mistake(_hint)(_probe(given=_given))
for _given in (
    lambda train, factor, *unseen: (*unseen, *unseen),
    lambda *case: (torch.cat(case[::2]), torch.cat(case[1::2]), *case[2:]),
):
    probe_score.mistake(_SEEN)(_probe(given=_given))
for _hint, _answer in {
    "the variance is about the mean of the training part; take that of the test part": _probe(
        real=lambda truth, guess, trained: _r2(truth, guess, trained, about=trained.mean())
    ),
    "the score is cut off at 0; it may be negative": lambda *case: _probe()(*case).clamp(min=0),
    "this is one minus the score; 1 is perfect and 0 is guessing": lambda *case: (
        1 - _probe()(*case)
    ),
    "should have shape ()": _probe(real=lambda truth, guess, trained: guess),
    "right only where all codes have one scale": _probe(predict=_predict_unscaled),
}.items():
    probe_score.mistake(_hint)(_answer)
