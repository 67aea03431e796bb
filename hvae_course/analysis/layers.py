"""What each level of a trained model does: reconstruct, vary and interpolate one level at a time.

Levels are counted as in the book, from 1 next to the data. Every function here walks down
`hvae_course.hierarchy.top_down.TopDown` with some levels held fixed.
"""

import torch
from torch import Tensor

from hvae_course.analysis.evaluation import evaluating
from hvae_course.hierarchy import (
    Choose,
    HierarchicalVAE,
    Trace,
    common_noise,
    draw_noise,
    from_prior,
    hold,
    mean_of,
    prior_mean,
)
from hvae_course.seeding import isolated_random, seed_all


def latent_shapes(model: HierarchicalVAE) -> list[tuple[int, ...]]:
    """Shape of every level, without the batch.

    Args:
        model: the model.

    Returns:
        For instance ``(Z_1,)`` or ``(C, H, W)`` for each of z_1, ..., z_L.
    """
    with evaluating(model), isolated_random(model.device):  # not every prior has a mean
        levels, _ = model.top_down.walk(model.top_prior(), from_prior, 1)
    return [tuple(level.p.event_shape) for level in levels]


def latent_sizes(model: HierarchicalVAE) -> list[int]:
    """Number of latent dimensions of every level of a model whose latents are vectors.

    Args:
        model: the model.

    Returns:
        Z_1, ..., Z_L, bottom to top.

    Raises:
        ValueError: if the latents are not vectors.
    """
    shapes = latent_shapes(model)
    if any(len(shape) != 1 for shape in shapes):
        raise ValueError(
            f"a latent that is not a vector has a shape and not one size, got {shapes}; use "
            "latent_shapes"
        )
    return [size for (size,) in shapes]


def _levels_above(trace: Trace, level: int, n: int) -> dict[int, Tensor]:
    """Give the first row of every level above, n times, by the level's number."""
    firsts = {l: latent.z[0] for l, latent in enumerate(trace.levels, start=1) if l > level}
    return {l: z.expand(n, *z.shape) for l, z in firsts.items()}


def _check_level(model: HierarchicalVAE, level: int) -> None:
    if not 1 <= level <= model.num_levels:
        raise ValueError(
            f"level must be between 1 (next to the data) and {model.num_levels}, got {level}"
        )


def infer(model: HierarchicalVAE, x: Tensor) -> Trace:
    """Latents of x, in evaluation mode and without gradients.

    Draws from the caller's generator, as do `reconstruct` and `interpolate`: call
    ``torch.manual_seed`` first to get the same draw again.

    Args:
        model: the model.
        x: data ``(B, D)`` on the model's device.

    Returns:
        The trace of one posterior draw per example.
    """
    with evaluating(model):
        return model(x)


def reconstruct(
    model: HierarchicalVAE, x: Tensor, *, from_level: int = 1, below: Choose = prior_mean
) -> Trace:
    """Reconstruct x from one level and those above it; the levels below come from their priors.

    Args:
        model: the model.
        x: data ``(B, D)`` on the model's device.
        from_level: lowest level that keeps its posterior draw; 1 keeps all.
        below: how to pick the levels below, by default the mean of their prior.

    Returns:
        A trace; ``trace.px.mean`` are the images.

    Raises:
        ValueError: if there is no such level.
    """
    _check_level(model, from_level)
    trace = infer(model, x)
    kept = {l: trace.levels[l - 1].z for l in range(from_level, model.num_levels + 1)}
    with evaluating(model):
        return model.generate(len(x), hold(kept, below))


def vary(
    model: HierarchicalVAE,
    values: Tensor,
    *,
    level: int,
    seed: int = 0,
    above: Trace | None = None,
) -> Trace:
    """Give one level a value per row, with the same noise for the levels below in every row.

    The rows differ only in the level that varies, so any change between them is its effect.

    Args:
        model: the model.
        values: ``(B, Z_l)`` or ``(B, C, H, W)``, one value of z_l per row.
        level: which level varies.
        seed: seed of the noise.
        above: a trace whose first row gives the levels above; by default they too are drawn with
            the same noise in every row.

    Returns:
        A trace; ``trace.px.mean`` are the images.

    Raises:
        ValueError: if there is no such level.
    """
    _check_level(model, level)
    noise = draw_noise(latent_shapes(model), seed=seed, like=values)
    held = {level: values}
    if above is not None:
        held |= _levels_above(above, level, len(values))
    with evaluating(model):
        return model.generate(len(values), hold(held, common_noise(noise)))


def interpolate(
    model: HierarchicalVAE, x: Tensor, *, level: int, steps: int = 11, below: Choose = prior_mean
) -> Trace:
    """Move one level in a straight line between the codes of two examples.

    Args:
        model: the model.
        x: two examples, ``(2, D)``.
        level: level in which the line is drawn, between the means of its two posteriors.
        steps: number of points, ends included.
        below: how to pick the levels below, by default the mean of their prior.

    Returns:
        A trace of ``steps`` rows; the levels above are those of the first example.

    Raises:
        ValueError: if there is no such level, or x does not hold two examples.
        TypeError: if the posterior has no mean in closed form.
    """
    _check_level(model, level)
    if len(x) != 2 or steps < 2:
        raise ValueError(
            f"interpolation needs two examples and at least two steps, got {len(x)} and {steps}"
        )
    trace = infer(model, x)
    start, end = mean_of(trace.levels[level - 1].q)
    share = torch.linspace(0, 1, steps).to(start).reshape(steps, *[1] * start.dim())
    held = {level: torch.lerp(start, end, share)} | _levels_above(trace, level, steps)
    with evaluating(model):
        return model.generate(steps, hold(held, below))


def sample(model: HierarchicalVAE, n: int, *, seed: int = 0) -> Trace:
    """Ancestral samples z_L -> ... -> z_1 -> p(x | z_1), in evaluation mode.

    Args:
        model: the model.
        n: number of samples.
        seed: seed of the draws; the caller's generators are not touched.

    Returns:
        A trace; ``trace.px.mean`` are the mean images, ``trace.px.sample()`` drawn ones.
    """
    with evaluating(model), isolated_random(model.device):
        seed_all(seed)
        return model.generate(n, from_prior)
