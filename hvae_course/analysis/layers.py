"""What each level of a trained model does: reconstruct, vary and interpolate one level at a time.

Levels are counted as in the book, from 1 next to the data. Every function here walks down
`hvae_course.hierarchy.top_down.TopDown` with some levels held fixed.
"""

from numbers import Integral

import torch
from torch import Tensor
from torch.distributions import Distribution

from hvae_course.analysis.inputs import (
    Examples,
    Labels,
    as_labels,
    as_real,
    as_rows,
    check_positive,
)
from hvae_course.codes import PointMass
from hvae_course.hierarchy import (
    Choose,
    HierarchicalVAE,
    State,
    Trace,
    centre_of,
    common_noise,
    draw_noise,
    evaluating,
    from_prior,
    hold,
    prior_mean,
    tempered,
)
from hvae_course.seeding import isolated_random, seed_all


def latent_shapes(model: HierarchicalVAE) -> list[tuple[int, ...]]:
    """Shape of every level, without the batch.

    Args:
        model: the model.

    Returns:
        For instance ``(Z_1,)`` or ``(C, H, W)`` for each of z_1, ..., z_L.
    """
    y = None if model.num_classes is None else 0  # any
    label = model.one_hot(as_labels(model, y, 1, name="y"), 1)
    with evaluating(model), isolated_random(model.device):  # not every prior has a mean
        levels, _ = model.top_down.walk(model.top_prior(), from_prior, 1, label)
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
    if not isinstance(level, Integral) or not 1 <= level <= model.num_levels:
        raise ValueError(
            f"level must be between 1 (next to the data) and {model.num_levels}, got {level!r}"
        )


def infer(model: HierarchicalVAE, x: Examples, *, y: Labels | None = None) -> Trace:
    """Latents of x, in evaluation mode and without gradients.

    Draws from the caller's generator, as do `reconstruct` and `interpolate`: call
    ``torch.manual_seed`` first to get the same draw again.

    Args:
        model: the model.
        x: data ``(B, D)``, images ``(B, H, W)``, or one of them, as a tensor or an array; moved to
            the model's device.
        y: labels of x for a conditional model, one for each or one for all.

    Returns:
        The trace of one posterior draw per example.

    Raises:
        TypeError: if x or y have another type.
        ValueError: if x does not have the shape of the model's data, or labels are missing,
            unknown or not wanted.
    """
    x = as_rows(model, x)
    labels = as_labels(model, y, len(x), name="y")
    with evaluating(model):
        return model(x, y=labels)


def draw_order(model: HierarchicalVAE) -> list[int]:
    """Order in which the posterior draws the levels.

    Args:
        model: the model.

    Returns:
        Levels from 0 on, first those drawn on the way up, then those on the way down.
    """
    levels, upward = range(model.num_levels), model.posterior.draws_bottom_up
    return [l for l in levels if upward[l]] + [l for l in reversed(levels) if not upward[l]]


def _posterior_means(model: HierarchicalVAE, x: Tensor, y: Tensor | None) -> list[Tensor]:
    """Mean of every q, each given the means of the levels drawn before it; bottom to top."""
    with evaluating(model):
        features, label, prior = model.features(x, y), model.one_hot(y, len(x)), model.top_prior()
        means = [x.new_zeros(len(x), *shape) for shape in latent_shapes(model)]
        upward = model.posterior.draws_bottom_up
        for l in draw_order(model):
            if not upward[l]:
                break  # the walk down reaches those that are left in their order
            choose = model.posterior.score(features, means)  # q needs the means before it
            levels, _ = model.top_down.walk(prior, choose, len(x), label)
            means[l] = centre_of(levels[l].q)
        given = model.posterior.score(features, means)

        def take_mean(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            q, z = given(l, h, p)
            return q, z if upward[l] else centre_of(q)

        levels, _ = model.top_down.walk(prior, take_mean, len(x), label)
    return [level.z for level in levels]


def reconstruct(
    model: HierarchicalVAE,
    x: Examples,
    *,
    from_level: int = 1,
    below: Choose = prior_mean,
    deterministic: bool = False,
    y: Labels | None = None,
) -> Trace:
    """Reconstruct x from one level and those above it; the levels below come from their priors.

    Args:
        model: the model.
        x: data as for `infer`.
        from_level: lowest level that keeps its posterior draw; 1 keeps all.
        below: how to pick the levels below, by default the mean of their prior.
        deterministic: whether to take the mean of every posterior in place of a draw, each given
            the means of the levels that are drawn before it.
        y: labels of x for a conditional model, one for each or one for all.

    Returns:
        A trace; ``trace.px.mean`` are the images.

    Raises:
        ValueError: if there is no such level, or x or y do not fit the model.
        TypeError: if x or y have another type, or a posterior has no mean in closed form.
    """
    _check_level(model, from_level)
    x = as_rows(model, x)
    labels = as_labels(model, y, len(x), name="y")
    if deterministic:
        z = _posterior_means(model, x, labels)
    else:
        z = [level.z for level in infer(model, x, y=labels).levels]
    kept = {l: z[l - 1] for l in range(from_level, model.num_levels + 1)}
    with evaluating(model):
        return model.generate(len(x), hold(kept, below), labels)


def vary(
    model: HierarchicalVAE,
    values: Tensor,
    *,
    level: int,
    seed: int = 0,
    above: Trace | None = None,
    y: Labels | None = None,
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
        y: labels for a conditional model, one for each row or one for all.

    Returns:
        A trace; ``trace.px.mean`` are the images.

    Raises:
        ValueError: if there is no such level, the values do not have its shape, or labels are
            missing, unknown or not wanted.
    """
    _check_level(model, level)
    shapes = latent_shapes(model)
    values = as_real(values, "values").to(model.device, model.dtype)
    if tuple(values.shape[1:]) != shapes[level - 1] or len(values) == 0:
        wanted = ", ".join(map(str, ("B", *shapes[level - 1])))
        raise ValueError(
            f"values of z_{level} have the shape ({wanted}), one row each, got "
            f"{tuple(values.shape)}"
        )
    labels = as_labels(model, y, len(values), name="y")
    noise = draw_noise(shapes, seed=seed, like=values)
    held = {level: values}
    if above is not None:
        held |= _levels_above(above, level, len(values))
    with evaluating(model):
        return model.generate(len(values), hold(held, common_noise(noise)), labels)


def interpolate(
    model: HierarchicalVAE,
    x: Examples,
    *,
    level: int,
    steps: int = 11,
    below: Choose = prior_mean,
    y: Labels | None = None,
) -> Trace:
    """Move one level in a straight line between the codes of two examples.

    Args:
        model: the model.
        x: two examples, ``(2, D)``.
        level: level in which the line is drawn, between the means of its two posteriors.
        steps: number of points, ends included.
        below: how to pick the levels below, by default the mean of their prior.
        y: labels of the two for a conditional model; the path has that of the first example.

    Returns:
        A trace of ``steps`` rows; the levels above are those of the first example.

    Raises:
        ValueError: if there is no such level, x does not hold two examples, or x or y do not fit
            the model.
        TypeError: if x or y have another type, the level is discrete, or a distribution has no
            mean in closed form.
    """
    _check_level(model, level)
    x = as_rows(model, x)
    check_positive(steps=steps)
    if len(x) != 2 or steps < 2:
        raise ValueError(
            f"interpolation needs two examples and at least two steps, got {len(x)} and {steps}"
        )
    labels = as_labels(model, y, 2, name="y")
    trace = infer(model, x, y=labels)
    q = trace.levels[level - 1].q
    if isinstance(q, PointMass):
        raise TypeError(
            f"z_{level} is discrete, and a straight line between two of its values leaves them; "
            "interpolate in a continuous level, or give values of its own to vary"
        )
    start, end = centre_of(q)
    share = torch.linspace(0, 1, steps).to(start).reshape(steps, *[1] * start.dim())
    held = {level: torch.lerp(start, end, share)} | _levels_above(trace, level, steps)
    with evaluating(model):
        along = None if labels is None else labels[:1].expand(steps)
        return model.generate(steps, hold(held, below), along)


def sample(
    model: HierarchicalVAE,
    n: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    label: Labels | None = None,
) -> Trace:
    """Ancestral samples z_L -> ... -> z_1 -> p(x | z_1), in evaluation mode.

    Args:
        model: the model.
        n: number of samples.
        seed: seed of the draws; the caller's generators are not touched.
        temperature: what the standard deviation of every prior is multiplied by, see
            `hvae_course.hierarchy.choices.tempered`; 0 takes the mean of every prior. The
            likelihood, and so ``trace.px.sample()``, is not affected.
        label: label of the samples of a conditional model, one for all or one for each.

    Returns:
        A trace; ``trace.px.mean`` are the mean images, ``trace.px.sample()`` drawn ones.

    Raises:
        ValueError: if n is not positive, the temperature is negative, or labels are missing,
            unknown or not wanted.
        TypeError: if n is not a whole number, or the temperature not 1 and a prior not Gaussian.
    """
    check_positive(n=n)
    choose = tempered(temperature)
    labels = as_labels(model, label, n, name="label")
    with evaluating(model), isolated_random(model.device):
        seed_all(seed)
        return model.generate(n, choose, labels)
