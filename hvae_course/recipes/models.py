"""Models by their usual names.

A recipe assembles a model from parts and records the configuration, so that `build` can rebuild it
from a checkpoint. All recipes share one generative model and differ in how they infer its latents.
No other module of the package knows the names.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch

from hvae_course.data import DataSet, DataSpec
from hvae_course.gaussians import GaussianHead
from hvae_course.hierarchy import BottomUp, HierarchicalVAE
from hvae_course.posteriors import (
    Chain,
    Concatenation,
    Delta,
    Direct,
    PrecisionWeighted,
    TopDownPosterior,
)
from hvae_course.recipes.architecture import Architecture, spec_of


def bottom_up_vae(
    data: DataSet | DataSpec,
    **architecture: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """Hierarchical VAE with bottom-up inference, any number of levels (chapter 1).

    Args:
        data: the data set or its specification.
        **architecture: fields of `hvae_course.recipes.architecture.Architecture`.

    Returns:
        The untrained model.

    Example:
        >>> from hvae_course import data
        >>> bottom_up_vae(data.load("digits"), latent_sizes=(16, 8, 4)).num_levels
        3
    """
    a = Architecture(**architecture)
    heads = [GaussianHead(a.feature_size(data), a.latent_sizes[0])]
    pairs = enumerate(pairwise(a.latent_sizes), start=1)
    heads += [a.gaussian(below, above, level=l) for l, (below, above) in pairs]
    bottom_up = BottomUp([a.body(spec_of(data).num_features, level=0)])
    return a.assemble("bottom_up_vae", data, bottom_up=bottom_up, posterior=Chain(heads))


def mean_field_vae(
    data: DataSet | DataSpec,
    **architecture: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """Hierarchical VAE with mean-field inference, each level from the data alone (chapter 1).

    Args:
        data: the data set or its specification.
        **architecture: fields of `hvae_course.recipes.architecture.Architecture`.

    Returns:
        The untrained model.
    """
    a = Architecture(**architecture)
    bottom_up = a.bottom_up(data)
    rules = [
        Direct(GaussianHead(a.feature_size(data, level=l), size))
        for l, size in enumerate(a.latent_sizes)
    ]
    return a.assemble(
        "mean_field_vae", data, bottom_up=bottom_up, posterior=TopDownPosterior(rules)
    )


def delta_vae(
    data: DataSet | DataSpec,
    *,
    reads_state: bool = True,
    **architecture: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """Top-down VAE whose posteriors are relative to the priors (chapter 3).

    Args:
        data: the data set or its specification.
        reads_state: whether the delta of a level depends on the levels above or on x alone.
        **architecture: fields of `hvae_course.recipes.architecture.Architecture`.

    Returns:
        The untrained model.
    """
    a = Architecture(**architecture)
    bottom_up = a.bottom_up(data)
    above = a.state_sizes if reads_state else [0] * len(a.state_sizes)
    widths = [a.feature_size(data, level=l) + h for l, h in enumerate(above)]
    rules = [
        Delta(a.network(width, 2 * size, level=l), reads_state=reads_state)
        for l, (width, size) in enumerate(zip(widths, a.latent_sizes, strict=True))
    ]
    return a.assemble(
        "delta_vae",
        data,
        bottom_up=bottom_up,
        posterior=TopDownPosterior(rules),
        reads_state=reads_state,
    )


def ladder_vae(
    data: DataSet | DataSpec,
    *,
    merge_top: bool = False,
    **architecture: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """Ladder VAE: the message of x about each level, merged with its prior (chapter 4).

    Args:
        data: the data set or its specification.
        merge_top: whether the top level is merged with N(0, I) as well; the original does not.
        **architecture: fields of `hvae_course.recipes.architecture.Architecture`.

    Returns:
        The untrained model.
    """
    a = Architecture(**architecture)
    bottom_up = a.bottom_up(data)
    kinds = [PrecisionWeighted] * len(a.latent_sizes)
    if not merge_top:
        kinds[-1] = Direct
    rules = [
        kind(GaussianHead(a.feature_size(data, level=l), size))
        for l, (kind, size) in enumerate(zip(kinds, a.latent_sizes, strict=True))
    ]
    return a.assemble(
        "ladder_vae",
        data,
        bottom_up=bottom_up,
        posterior=TopDownPosterior(rules),
        merge_top=merge_top,
    )


def bidirectional_vae(
    data: DataSet | DataSpec,
    **architecture: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """Top-down VAE that concatenates bottom-up feature and top-down state (chapter 5).

    Args:
        data: the data set or its specification.
        **architecture: fields of `hvae_course.recipes.architecture.Architecture`, except that the
            defaults here are layer normalisation and GELU.

    Returns:
        The untrained model.
    """
    a = Architecture(**({"normalisation": "layer", "activation": "gelu"} | architecture))
    bottom_up = a.bottom_up(data)
    widths = [a.feature_size(data, level=l) + h for l, h in enumerate(a.state_sizes)]
    rules = [
        Concatenation(a.gaussian(width, size, level=l))
        for l, (width, size) in enumerate(zip(widths, a.latent_sizes, strict=True))
    ]
    return a.assemble(
        "bidirectional_vae",
        data,
        bottom_up=bottom_up,
        posterior=TopDownPosterior(rules),
    )


def vae(
    data: DataSet | DataSpec,
    *,
    latent_size: int = 16,
    **architecture: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """The ordinary VAE, a hierarchy of one level.

    Args:
        data: the data set or its specification.
        latent_size: number of latent dimensions.
        **architecture: fields of `hvae_course.recipes.architecture.Architecture`.

    Returns:
        The untrained model.
    """
    return bottom_up_vae(data, latent_sizes=(latent_size,), **architecture)


def two_level_vae(
    data: DataSet | DataSpec,
    *,
    latent_sizes: tuple[int, int] = (16, 8),
    **architecture: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """The two-level VAE of chapter 1: z_2 -> z_1 -> x, inferred bottom-up.

    Args:
        data: the data set or its specification.
        latent_sizes: Z_1 and Z_2.
        **architecture: fields of `hvae_course.recipes.architecture.Architecture`.

    Returns:
        The untrained model.

    Raises:
        ValueError: if there are not two latent sizes.
    """
    if len(latent_sizes) != 2:
        raise ValueError(
            f"two_level_vae has two levels, got latent_sizes={tuple(latent_sizes)}; "
            "bottom_up_vae takes any number"
        )
    return bottom_up_vae(data, latent_sizes=latent_sizes, **architecture)


RECIPES: dict[str, Callable[..., HierarchicalVAE]] = {
    recipe.__name__: recipe
    for recipe in (bottom_up_vae, mean_field_vae, delta_vae, ladder_vae, bidirectional_vae)
}
"""Recipes that a checkpoint can name.

:meta hide-value:
"""


def build_seeded(
    recipe: str, data: DataSet | DataSpec, settings: Mapping[str, Any], *, seed: int
) -> HierarchicalVAE:
    """Build a model with seeded initial weights, leaving the global random state untouched.

    Args:
        recipe: a key of `RECIPES`.
        data: the data set or its specification.
        settings: arguments of the recipe.
        seed: seed of the weights.

    Returns:
        The untrained model.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reset the generators of other devices
        torch.default_generator.manual_seed(seed)
        return RECIPES[recipe](data, **settings)


def build(config: Mapping[str, Any]) -> HierarchicalVAE:
    """Rebuild a model from the configuration in a checkpoint.

    Args:
        config: ``model.config`` of a model built by a recipe.

    Returns:
        The same architecture, with fresh weights.

    Raises:
        ValueError: if the configuration does not name a known recipe.
    """
    settings = dict(config)
    recipe = settings.pop("recipe", None)
    if recipe not in RECIPES:
        raise ValueError(
            f"unknown recipe {recipe!r} in the configuration; known recipes are "
            f"{', '.join(RECIPES)}; build any other model by hand before loading its weights"
        )
    spec = DataSpec(settings.pop("num_features"), settings.pop("num_values"))
    return RECIPES[recipe](spec, **settings)
