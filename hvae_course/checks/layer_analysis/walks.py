"""Traversals and reconstructions, on a model whose images show its latents.

The mean of p(x | z) holds all latents side by side. So the images show the value of every level,
and the noise of a level can be computed from the values above it.
"""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from hvae_course.checks.verdict import Mistake, alike, as_tensor, checked, compare_cases
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import (
    BottomUp,
    Choose,
    HierarchicalVAE,
    Level,
    SkipUpdate,
    TopDown,
    Trace,
    draw_noise,
    from_prior,
    hold,
    prior_mean,
)
from hvae_course.likelihoods import IsotropicGaussian
from hvae_course.posteriors import Direct, TopDownPosterior
from hvae_course.priors import StandardNormal

_SIZES = (2, 2, 2), (1, 3, 2)
"""Z_1, Z_2 and Z_3 of the models."""
_WIDTH = 6
_PIXEL_STD, _PRIOR_STD = 0.02, 0.4


class _Linear(nn.Module):
    """A Gaussian whose mean is linear in what it is given."""

    def __init__(self, weight: Tensor, offset: float, std: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.offset, self.log_std = offset, math.log(std)

    def forward(self, h: Tensor) -> Independent:
        """Give the distribution, in the precision of h."""
        return diag_normal(h @ self.weight.to(h) + self.offset, h.new_tensor(self.log_std))


def _visible_model(*sizes: int) -> HierarchicalVAE:
    """A model in evaluation mode whose mean images are its latents, the top level first."""
    # every prior depends on all levels above; the mean of q(z_l | x) is what x shows of z_l
    levels = [(sum(sizes[l + 1 :]), size) for l, size in enumerate(sizes)]  # above, and own
    pixels = torch.eye(_WIDTH)
    heads = [_Linear(pixels[:, n : n + size], 0.0, 0.6) for n, size in levels]
    conditionals = [_Linear(0.8 * torch.randn(*shape), 0.5, _PRIOR_STD) for shape in levels[:-1]]
    likelihood = IsotropicGaussian(nn.Identity(), std=_PIXEL_STD)
    return HierarchicalVAE(
        StandardNormal(sizes[-1]),
        BottomUp([nn.Identity() for _ in sizes]),
        posterior=TopDownPosterior([Direct(head) for head in heads]),
        top_down=TopDown([SkipUpdate() for _ in sizes], conditionals, likelihood),
    ).eval()


def _shown(model: HierarchicalVAE, images: Tensor, trace: Trace) -> tuple[Level, ...]:
    """The levels that mean images show, with their values and their priors."""
    sizes = [level.z.shape[1] for level in trace.levels]
    latents = images.split(sizes[::-1], dim=1)[::-1]
    return model.generate(len(images), hold(dict(enumerate(latents, start=1)))).levels


def _as_images(value: object, rows: int) -> Tensor:
    """Convert an answer to images, or say what it is instead."""
    if isinstance(value, Trace):
        raise Mistake("this is the trace; return its mean images, trace.px.mean")
    if isinstance(value, Distribution):
        raise Mistake("this is the distribution p(x | z); return its mean, the images")
    return as_tensor(value, (rows, _WIDTH), name="the images")


def _same(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors agree, if need be the one row of the second with every row."""
    return alike(a, b.expand(len(a), -1), tolerance)


def _checked_noise(
    model: HierarchicalVAE, images: Tensor, trace: Trace, *, level: int, values: Tensor
) -> list[Tensor]:
    """Check the values of all levels; give the noise of those below, ``(Z_l,)`` each."""
    shown, kept = _shown(model, images, trace), trace.levels
    own = shown[level - 1].z
    if not _same(own, values):
        for l, other in enumerate(shown, start=1):
            if l != level and _same(other.z, values):
                raise Mistake(
                    f"the values for z_{level} go to z_{l}; levels count from 1, next to the data"
                )
        if _same(own, kept[level - 1].z):
            raise Mistake(f"z_{level} keeps the value of the trace; it takes the rows of values")
        if (own - values).abs().max() < 6 * _PIXEL_STD:
            raise Mistake("these are drawn pixels; return the mean images, px.mean")
        raise Mistake(f"z_{level} does not take the rows of values")
    for l in range(level + 1, len(shown) + 1):
        z, of_trace, above = shown[l - 1].z, kept[l - 1], f"z_{l}, above z_{level},"
        if _same(z, of_trace.z):
            continue
        if _same(z, values):
            raise Mistake(f"{above} takes the values as well; keep its value of the trace")
        if _same(z, of_trace.q.mean):
            raise Mistake(
                f"{above} is at the mean of its posterior; keep its value of the trace, "
                "levels[...].z"
            )
        raise Mistake(f"{above} comes from its prior; keep its value of the trace")
    noise = []
    for l in range(level - 1, 0, -1):
        z, p, below = shown[l - 1].z, shown[l - 1].p, f"z_{l}, below z_{level},"
        if _same(z, kept[l - 1].z):
            raise Mistake(
                f"{below} keeps the value of the trace; draw it from its prior, given the levels "
                "above"
            )
        e = (z - p.mean) / p.stddev
        if _same(e, torch.zeros_like(e), 1e-3):
            raise Mistake(f"{below} is at the mean of its prior; add the noise")
        if _same(z, z[:1]):
            raise Mistake(
                f"{below} is the same in every row; only its noise should be, since its prior "
                "depends on the levels above"
            )
        if not _same(e, e[:1], 2e-3):
            raise Mistake(f"{below} has different noise in every row; draw it once for all rows")
        noise.append(e[0])
    return noise


def _check_moments(e: Tensor) -> None:
    """Check that noise is standard normal, to five standard errors."""
    error = 5 / math.sqrt(len(e))

    def standard(noise: Tensor) -> bool:
        square = (noise**2).mean() - 1
        return bool(noise.mean().abs() < error and square.abs() < math.sqrt(2) * error)

    if standard(e * _PRIOR_STD):
        raise Mistake("the noise is not scaled; multiply it by the prior's standard deviation")
    if standard(e / _PRIOR_STD):
        raise Mistake("the noise is scaled by the variance; use the standard deviation")
    if not standard(e):
        raise Mistake("the noise of the levels below is not standard normal")


def _check_traversals(answer: Callable[..., Tensor], model: HierarchicalVAE) -> None:
    """Accept the traversals of every level of one model, or name the mistake."""
    with torch.no_grad():
        trace = model(torch.randn(1, _WIDTH))

    def images(level: int, values: Tensor, seed: int) -> Tensor:
        return _as_images(answer(model, trace, level, values.clone(), seed), len(values))

    for level in (2, 3, 1):
        values = 1.5 * torch.randn(5, trace.levels[level - 1].z.shape[1])
        shown = images(level, values, 3)
        noise = _checked_noise(model, shown, trace, level=level, values=values)
        if not _same(shown, images(level, values, 3)):
            raise Mistake(
                "two calls with one seed give different images; draw the noise with a generator "
                "of that seed"
            )
        if level > 1 and _same(shown, images(level, values, 4)):
            raise Mistake("two seeds give the same images; the seed is not used")
        if level == 3 and alike(*noise, 2e-3):
            raise Mistake("z_1 and z_2 have the same noise; draw it separately for each level")
    values = torch.randn(2, trace.levels[2].z.shape[1])
    noise = []
    for seed in range(10, 50):
        noise += _checked_noise(model, images(3, values, seed), trace, level=3, values=values)
    _check_moments(torch.cat(noise))


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
    for sizes in _SIZES:
        _check_traversals(answer, _visible_model(*sizes))
    return (
        "the level takes the values, the levels above keep theirs, the levels below have standard "
        "normal noise, common to all rows and fixed by the seed; for 2 models and 3 levels"
    )


@traverse.mistake("has different noise in every row; draw it once for all rows")
def _(model, trace, level, values, seed):
    n = len(values)
    z = [values if l == level else trace.levels[l - 1].z.expand(n, -1) for l in (1, 2, 3)]
    walk = model.generate(n, lambda l, h, p: (p, z[l] if l >= level - 1 else p.sample()))
    return walk.px.mean


def _scaled(p: Distribution, e: Tensor, kept: Level) -> Tensor:
    return p.mean + p.stddev * e


def _draw(sizes: Sequence[int], seed: int) -> list[Tensor]:
    return draw_noise(sizes, seed=seed, like=torch.zeros(()))


def _traversal(
    below: Callable[[Distribution, Tensor, Level], Tensor] = _scaled,
    *,
    draw: Callable[[Sequence[int], int], Sequence[Tensor]] = _draw,
    own: int = 0,
    above: int = 1,
    keep: Callable[[Level, Tensor], Tensor] = lambda kept, values: kept.z,
    result: Callable[[Trace], object] = attrgetter("px.mean"),
) -> Callable[..., object]:
    """An answer to `traverse`; by default a right one."""
    # own and above: where the values go and from which level on the trace is kept, relative to it

    def answer(
        model: HierarchicalVAE, trace: Trace, level: int, values: Tensor, seed: int
    ) -> object:
        noise = draw([kept.z.shape[1] for kept in trace.levels], seed)
        held = {level + own: values}
        for l in range(max(level + above, 1), model.num_levels + 1):
            held[l] = keep(trace.levels[l - 1], values).expand(len(values), -1)
        choose = hold(held, lambda l, h, p: (p, below(p, noise[l], trace.levels[l])))
        return result(model.generate(len(values), choose))

    return answer


for _hint, _below in {
    "is at the mean of its prior; add the noise": lambda p, e, kept: p.mean,
    "below z_2, keeps the value of the trace": lambda p, e, kept: kept.z.expand_as(p.mean),
    "is the same in every row": lambda p, e, kept: e.expand_as(p.mean),
    "the noise is not scaled": lambda p, e, kept: p.mean + e,
    "the noise is scaled by the variance": lambda p, e, kept: p.mean + p.variance * e,
    "is not standard normal": lambda p, e, kept: p.mean + p.stddev * e**2,
}.items():
    traverse.mistake(_hint)(_traversal(_below))
for _hint, _draws in {
    "z_1 and z_2 have the same noise": lambda sizes, seed: _draw(sizes, seed)[1:2] * 3,
    "two calls with one seed give different images": lambda sizes, seed: (
        [torch.randn(1, size) for size in sizes]
    ),
    "the seed is not used": lambda sizes, seed: _draw(sizes, 0),
    "your code raised ValueError": lambda sizes, seed: _draw((2, 2, 2), seed),
}.items():
    traverse.mistake(_hint)(_traversal(draw=_draws))
for _hint, _answer in {
    "the values for z_2 go to z_3": _traversal(own=1, above=2),
    "the values for z_2 go to z_1": _traversal(own=-1, above=0),
    "z_2 keeps the value of the trace": _traversal(above=0),
    "it takes the rows of values": _traversal(above=-1),
    "above z_2, comes from its prior": _traversal(above=2),
    "is at the mean of its posterior": _traversal(keep=lambda kept, values: kept.q.mean),
    "takes the values as well": _traversal(keep=lambda kept, values: values),
    "these are drawn pixels": _traversal(result=lambda walk: walk.px.sample()),
    "this is the distribution p(x | z)": _traversal(result=lambda walk: walk.px),
    "this is the trace": _traversal(result=lambda walk: walk),
}.items():
    traverse.mistake(_hint)(_answer)


def _reconstruction(
    kept: Callable[[int], range] = lambda level: range(level, 4),
    *,
    value: str = "z",
    below: Choose = prior_mean,
    result: Callable[[Trace], object] = attrgetter("px.mean"),
) -> Callable[[HierarchicalVAE, Trace, int], object]:
    """An answer to `images_from`, by the levels that it keeps; by default the right one."""

    def answer(model: HierarchicalVAE, trace: Trace, level: int) -> object:
        held = {l: attrgetter(value)(trace.levels[l - 1]) for l in kept(level)}
        return result(model.generate(len(trace.levels[0].z), hold(held, below)))

    return answer


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
    cases = []
    for sizes in _SIZES:
        model = _visible_model(*sizes)
        with torch.no_grad():
            trace = model(torch.randn(6, _WIDTH))
        cases += [(model, trace, level) for level in (1, 2, 3)]

    def images(*case: object) -> Tensor:
        return _as_images(answer(*case), 6)

    for case in cases:
        once, again = images(*case), images(*case)
        if not alike(once, again):
            if (once - again).abs().max() < 10 * _PIXEL_STD:
                raise Mistake("these are drawn pixels; return the mean images, px.mean")
            raise Mistake("some latents are drawn; the levels below take the mean of their prior")
    mistakes = images_from.mistakes
    compare_cases(images, _reconstruction(), cases, name="a pixel", mistakes=mistakes)
    return "keeps each level and those above, with those below at their prior mean; for 2 models"


@images_from.mistake("only this level keeps its value; keep the levels above as well")
def _(model, trace, level):
    z = trace.levels[level - 1].z
    walk = model.generate(len(z), lambda l, h, p: (p, z if l == level - 1 else p.mean))
    return walk.px.mean


for _hint, _kept in {
    "this level and those below are kept; keep this level and those above": lambda level: (
        range(1, level + 1)
    ),
    "only the levels below are kept; keep this level and those above": lambda level: (
        range(1, level)
    ),
    "this starts one level too high; z_level, which is trace.levels[level - 1], is kept too": (
        lambda level: range(level + 1, 4)
    ),
    "one level too many is kept; the lowest is z_level": lambda level: range(max(level - 1, 1), 4),
    "every level keeps its value; the levels below must not": lambda level: range(1, 4),
    "no level keeps its value; keep this level and those above": lambda level: range(0),
}.items():
    images_from.mistake(_hint)(_reconstruction(_kept))
for _hint, _answer in {
    "the levels below are zero; take the mean of their prior given the levels above": (
        _reconstruction(below=lambda l, h, p: (p, torch.zeros_like(p.mean)))
    ),
    "the means of the posterior are kept; keep the values of the trace, z": _reconstruction(
        value="q.mean"
    ),
    "some latents are drawn": _reconstruction(below=from_prior),
    "these are drawn pixels": _reconstruction(result=lambda walk: walk.px.sample()),
    "this is the trace": _reconstruction(result=lambda walk: walk),
    "this is the distribution p(x | z)": _reconstruction(result=lambda walk: walk.px),
    "should have shape (6, 6)": _reconstruction(result=lambda walk: walk.px.mean[0]),
}.items():
    images_from.mistake(_hint)(_answer)
