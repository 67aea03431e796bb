"""Checks of the sheet on what each level encodes: probes, traversals, explained shares.

Probes are checked on codes from which every sensible probe makes the same predictions, and
traversals on a model whose images show its latents. So mistakes are recognised without training.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from hvae_course.checks.layer_probes import (
    ProbeCase,
    category_case,
    category_mistakes,
    real_case,
    real_mistakes,
    seen,
    skill,
)
from hvae_course.checks.layer_tables import as_levels, levels_and_mistakes, shares_and_mistakes
from hvae_course.checks.layer_walks import (
    PIXEL_STD,
    VisibleModel,
    as_images,
    check_traversals,
    same,
    visible_model,
)
from hvae_course.checks.verdict import Mistake, as_tensor, checked, compare
from hvae_course.hierarchy import Choose, hold, prior_mean


def _category_cases() -> list[ProbeCase]:
    """One whose test part resembles the training part, and one whose test part does not."""
    return [
        category_case([50, 100, 60, 40], [300, 20, 60, 20], kept=0.85),
        category_case([40, 40, 60, 40], [300, 160, 200, 160], kept=0.1),
    ]


def _real_cases() -> list[ProbeCase]:
    """The same for a real factor."""
    return [
        real_case([100, 80, 120], [60, 60, 80], offset=0.0),
        real_case([60, 90, 50], [200, 300, 100], offset=2.2),
    ]


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

    def scores(cases: Sequence[ProbeCase], name: str) -> Tensor:
        dtypes = (torch.float32, torch.float64)
        values = [answer(*c.copies(dtype)) for c, dtype in zip(cases, dtypes, strict=False)]
        return torch.stack([as_tensor(value, (), name=name) for value in values])

    for cases, table, name, tolerance in (
        (_category_cases(), category_mistakes, "the score of a category", 0.02),
        (_real_cases(), real_mistakes, "the score of a real factor", 0.05),
    ):
        value, (right, mistakes) = scores(cases, name), table(cases)
        mistakes += seen(value, right)
        compare(value, right, name=name, mistakes=mistakes, tolerance=tolerance)
    for case, hint in (
        (
            category_case([60, 60, 60, 60], [0, 150, 50, 0], kept=1.0),
            "this scales the test codes by their own mean and spread; use the mean and spread of "
            "the training codes",
        ),
        (
            category_case([80, 80, 80, 80], [60, 50, 50, 40], kept=0.9, scales=(1e-3, 1e-3, 1e3)),
            "this is right only where all codes have one scale; standardise them before the "
            "probe, or a large uninformative code hides a small informative one",
        ),
    ):
        (value,), expected = scores([case], "the score"), skill(case.test.factor, case.predictions)
        if abs(value - expected) > 0.05:
            raise Mistake(hint)
    return (
        "agrees in 6 cases, for categories and real factors, on the test part, with codes of any "
        "scale"
    )


@checked
def traverse(answer: Callable[..., Tensor]) -> str:
    r"""Vary one level of one example, with common noise below it.

    Write ``traverse(model, trace, level, values, seed) -> (N, D)``, mean images of a
    `hvae_course.hierarchy.model.HierarchicalVAE` in evaluation mode. The trace has one row, one
    example; level counts from 1, next to the data. z_level takes the N rows of values
    ``(N, Z_level)``, the levels above keep the value of the trace, and the levels below are drawn
    from their priors given all levels above them, with noise that is the same in every row and is
    determined by the seed.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for visible in (visible_model(2, 2, 2), visible_model(1, 3, 2)):
        check_traversals(answer, visible)
    return (
        "the level takes the values, the levels above keep theirs, the levels below have standard "
        "normal noise, common to all rows and fixed by the seed; for 2 models and 3 levels"
    )


def _check_images(answer: Callable[..., Tensor], visible: VisibleModel) -> None:
    """Accept the reconstructions from every level of one model, or name the mistake."""
    shape = 6, sum(visible.sizes)
    with torch.no_grad():
        trace = visible.model(torch.randn(*shape))
    once, again = (
        torch.stack([as_images(answer(visible.model, trace, level), shape) for level in (1, 2, 3)])
        for _ in range(2)
    )
    if not same(once, again):
        if (once - again).abs().max() < 10 * PIXEL_STD:
            raise Mistake("these are drawn pixels; return the mean images, px.mean")
        raise Mistake("some latents are drawn; the levels below take the mean of their prior")
    z, mean = [level.z for level in trace.levels], [level.q.mean for level in trace.levels]

    def images(
        kept: Callable[[int], range],
        values: Sequence[Tensor] = z,
        below: Choose = prior_mean,
    ) -> Tensor:
        held = [{l + 1: values[l] for l in kept(level) if 0 <= l < 3} for level in (1, 2, 3)]
        return torch.stack([visible.model.generate(6, hold(h, below)).px.mean for h in held])

    def zero(l: int, h: Tensor, p: Distribution) -> tuple[Distribution, Tensor]:
        return p, torch.zeros_like(p.mean)

    late = "this starts one level too high; z_level, which is trace.levels[level - 1], is kept too"
    mistakes = [
        (
            images(lambda level: range(level)),
            "this level and those below are kept; keep this level and those above",
        ),
        (
            images(lambda level: range(level - 1)),
            "only the levels below are kept; keep this level and those above",
        ),
        (images(lambda level: range(level, 3)), late),
        (
            images(lambda level: range(level - 2, 3)),
            "one level too many is kept",
        ),
        (
            images(lambda level: range(3)),
            "every level keeps its value; the levels below must not",
        ),
        (
            images(lambda level: range(0)),
            "no level keeps its value; keep this level and those above",
        ),
        (
            images(lambda level: range(level - 1, level)),
            "only this level keeps its value; keep the levels above as well",
        ),
        (
            images(lambda level: range(level - 1, 3), below=zero),
            "the levels below are zero; take the mean of their prior given the levels above",
        ),
        (
            images(lambda level: range(level - 1, 3), mean),
            "the means of the posterior are kept; keep the values of the trace, z",
        ),
    ]
    expected = images(lambda level: range(level - 1, 3))
    compare(once, expected, name="a pixel", mistakes=mistakes)


@checked
def images_from(answer: Callable[..., Tensor]) -> str:
    r"""Reconstruct from one level upward.

    Write ``images_from(model, trace, level) -> (B, D)``, mean images of a
    `hvae_course.hierarchy.model.HierarchicalVAE`. The trace holds posterior draws of B examples;
    level counts from 1, next to the data. This level and those above keep the values of the trace;
    those below take the mean of their prior, given the levels above.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for visible in (visible_model(2, 2, 2), visible_model(1, 3, 2)):
        _check_images(answer, visible)
    return "keeps each level and those above, with those below at their prior mean; for 2 models"


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
    rows = []
    for x, images in cases:
        given = answer(x.clone(), [image.clone() for image in images])
        levels = len(images)
        if levels > 1 and hasattr(given, "__len__") and len(given) == levels - 1:
            raise Mistake(
                f"there are {levels} levels and {levels - 1} shares; the share of the top level "
                "is R^2_L itself, as no level is above it"
            )
        rows.append(as_tensor(given, (levels,), name="the shares"))
    expected, mistakes = shares_and_mistakes(cases)
    compare(torch.cat(rows), expected, name="a share", mistakes=mistakes)
    return f"agrees in {len(cases)} cases of one, two and three levels, with a negative share"


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
    given = [as_levels(answer(scores.copy(), t), scores) for scores, t in cases]

    right, mistakes = levels_and_mistakes(cases)
    if given == right:
        return f"right for every factor of {len(cases)} tables, with columns in any order"
    for wrong, hint in mistakes:
        if given == wrong:
            raise Mistake(hint)
    for own, asked, (_, t) in zip(given, right, cases, strict=True):
        for factor in asked:
            if own[factor] != asked[factor]:
                mine = own[factor]
                mine = f"the text {mine!r}" if isinstance(mine, str) else mine
                raise Mistake(
                    f"the level of {factor} should be {asked[factor]}, yours is {mine}, at the "
                    f"threshold {t}"
                )
    raise Mistake("the levels are not those of the highest scores")
