"""Models by the names that people know them by.

The only place that does. A recipe assembles the parts and records how, so that `build` can do it
again from a checkpoint's configuration.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from hvae_course.data import DataSet, DataSpec
from hvae_course.gaussians import GaussianHead
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown
from hvae_course.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    Gaussian,
    Likelihood,
)
from hvae_course.nets import mlp
from hvae_course.posteriors import Chain, Direct, Posterior, TopDownPosterior
from hvae_course.priors import StandardNormal

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "discretized_logistic": DiscretizedLogistic,
    "gaussian": Gaussian,
}
"""Likelihoods by name.

:meta hide-value:
"""


def conditional_gaussian(
    size_in: int, size_out: int, *, hidden: Sequence[int], normalisation: str
) -> nn.Sequential:
    """A multilayer perceptron that ends in a Gaussian.

    Args:
        size_in: width of the input.
        size_out: number of latent dimensions.
        hidden: widths of the hidden layers.
        normalisation: a key of `hvae_course.nets.NORMALISATIONS`.

    Returns:
        A module from ``(B, size_in)`` to a distribution over ``(size_out,)``.
    """
    body = mlp(size_in, *hidden, normalisation=normalisation)
    return nn.Sequential(body, GaussianHead((size_in, *hidden)[-1], size_out))


def make_likelihood(
    name: str | None, spec: DataSpec, size_in: int, *, hidden: Sequence[int], normalisation: str
) -> Likelihood:
    """A multilayer perceptron that ends in a likelihood.

    Args:
        name: a key of `hvae_course.recipes.LIKELIHOODS`, or None for the usual one: Bernoulli for
            binary pixels, categorical up to 32 grey values, discretised logistic above.
        spec: what the model must know of its data.
        size_in: width of the top-down state.
        hidden: widths of the hidden layers.
        normalisation: a key of `hvae_course.nets.NORMALISATIONS`.

    Returns:
        The likelihood p(x | z).

    Raises:
        ValueError: if the name is unknown.
    """
    if name is None:
        few = "categorical" if spec.num_values <= 32 else "discretized_logistic"
        name = "bernoulli" if spec.num_values == 2 else few
    if name not in LIKELIHOODS:
        raise ValueError(f"unknown likelihood {name!r}; choose one of {', '.join(LIKELIHOODS)}")
    kind = LIKELIHOODS[name]
    outputs = spec.num_features * kind.outputs_per_pixel
    grey = kind in (Categorical, DiscretizedLogistic)
    if kind is Categorical:
        outputs *= spec.num_values
    body = mlp(size_in, *hidden, normalisation=normalisation)
    net = nn.Sequential(body, nn.Linear((size_in, *hidden)[-1], outputs))
    return kind(net, spec.num_values) if grey else kind(net)


def _spec(data: DataSet | DataSpec) -> DataSpec:
    return data if isinstance(data, DataSpec) else data.spec


def _assemble(
    recipe: str,
    spec: DataSpec,
    latent_sizes: Sequence[int],
    likelihood: str | None,
    *,
    bottom_up: BottomUp,
    posterior: Posterior,
    **net: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """Join an inference part to the generative chain p(z_L) ... p(z_1 | z_2) p(x | z_1)."""
    top_down = TopDown(
        updates=[MarkovUpdate() for _ in latent_sizes],
        conditionals=[
            conditional_gaussian(above, below, **net) for below, above in pairwise(latent_sizes)
        ],
        likelihood=make_likelihood(likelihood, spec, latent_sizes[0], **net),
    )
    config = {
        "recipe": recipe,
        "num_features": spec.num_features,
        "num_values": spec.num_values,
        "latent_sizes": list(latent_sizes),
        "likelihood": likelihood,
        "hidden": list(net["hidden"]),
        "normalisation": net["normalisation"],
    }
    prior = StandardNormal(latent_sizes[-1])
    return HierarchicalVAE(prior, bottom_up, posterior=posterior, top_down=top_down, config=config)


def _check_sizes(latent_sizes: Sequence[int], hidden: Sequence[int]) -> None:
    if len(latent_sizes) == 0 or min(*latent_sizes, *hidden, 1) < 1:
        raise ValueError(
            "every level and every hidden layer needs a positive size, bottom to top, got "
            f"latent_sizes={tuple(latent_sizes)} and hidden={tuple(hidden)}"
        )


def bottom_up_vae(
    data: DataSet | DataSpec,
    *,
    latent_sizes: Sequence[int] = (16, 8),
    hidden: Sequence[int] = (256,),
    normalisation: str = "batch",
    likelihood: str | None = None,
) -> HierarchicalVAE:
    """Hierarchical VAE with bottom-up inference, any number of levels (chapter 1).

    Args:
        data: the data set, or what a model must know of it.
        latent_sizes: Z_1, ..., Z_L, bottom to top.
        hidden: widths of the hidden layers of every network.
        normalisation: a key of `hvae_course.nets.NORMALISATIONS`.
        likelihood: a key of `hvae_course.recipes.LIKELIHOODS`, or None for the usual one.

    Returns:
        The untrained model.

    Example:
        >>> from hvae_course import data
        >>> bottom_up_vae(data.load("digits"), latent_sizes=(16, 8, 4)).num_levels
        3
    """
    _check_sizes(latent_sizes, hidden)
    spec, net = _spec(data), {"hidden": tuple(hidden), "normalisation": normalisation}
    heads = [GaussianHead((spec.num_features, *hidden)[-1], latent_sizes[0])]
    heads += [conditional_gaussian(below, above, **net) for below, above in pairwise(latent_sizes)]
    return _assemble(
        "bottom_up_vae",
        spec,
        latent_sizes,
        likelihood,
        bottom_up=BottomUp([mlp(spec.num_features, *hidden, normalisation=normalisation)]),
        posterior=Chain(heads),
        **net,
    )


def mean_field_vae(
    data: DataSet | DataSpec,
    *,
    latent_sizes: Sequence[int] = (16, 8),
    hidden: Sequence[int] = (256,),
    normalisation: str = "batch",
    likelihood: str | None = None,
) -> HierarchicalVAE:
    """Hierarchical VAE whose levels are inferred from the data independently (chapter 1).

    Args:
        data: the data set, or what a model must know of it.
        latent_sizes: Z_1, ..., Z_L, bottom to top.
        hidden: widths of the hidden layers of every network.
        normalisation: a key of `hvae_course.nets.NORMALISATIONS`.
        likelihood: a key of `hvae_course.recipes.LIKELIHOODS`, or None for the usual one.

    Returns:
        The untrained model.
    """
    _check_sizes(latent_sizes, hidden)
    spec, net = _spec(data), {"hidden": tuple(hidden), "normalisation": normalisation}
    width = (spec.num_features, *hidden)[-1]
    widths = [spec.num_features] + [width] * (len(latent_sizes) - 1)
    return _assemble(
        "mean_field_vae",
        spec,
        latent_sizes,
        likelihood,
        bottom_up=BottomUp([mlp(size, *hidden, normalisation=normalisation) for size in widths]),
        posterior=TopDownPosterior([Direct(GaussianHead(width, size)) for size in latent_sizes]),
        **net,
    )


def vae(data: DataSet | DataSpec, *, latent_size: int = 16, **settings: Any) -> HierarchicalVAE:  # noqa: ANN401
    """The ordinary VAE: a hierarchy of one level.

    Args:
        data: the data set, or what a model must know of it.
        latent_size: number of latent dimensions.
        **settings: as for `bottom_up_vae`.

    Returns:
        The untrained model.
    """
    return bottom_up_vae(data, latent_sizes=(latent_size,), **settings)


def two_level_vae(
    data: DataSet | DataSpec,
    *,
    latent_sizes: tuple[int, int] = (16, 8),
    **settings: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """The two-level VAE of chapter 1: z_2 -> z_1 -> x, inferred bottom-up.

    Args:
        data: the data set, or what a model must know of it.
        latent_sizes: Z_1 and Z_2.
        **settings: as for `bottom_up_vae`.

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
    return bottom_up_vae(data, latent_sizes=latent_sizes, **settings)


RECIPES: dict[str, Callable[..., HierarchicalVAE]] = {
    recipe.__name__: recipe for recipe in (bottom_up_vae, mean_field_vae)
}
"""Recipes that a checkpoint can name.

:meta hide-value:
"""


def build(config: Mapping[str, Any]) -> HierarchicalVAE:
    """Build a model again from the configuration in a checkpoint.

    Args:
        config: ``model.config`` of a model that a recipe made.

    Returns:
        The same architecture, with fresh weights.

    Raises:
        ValueError: if the configuration names no known recipe.
    """
    settings = dict(config)
    recipe = settings.pop("recipe", None)
    if recipe not in RECIPES:
        raise ValueError(
            f"the configuration names recipe {recipe!r}, known are {', '.join(RECIPES)}; a model "
            "that no recipe made must be built by hand before its weights are loaded"
        )
    spec = DataSpec(settings.pop("num_features"), settings.pop("num_values"))
    return RECIPES[recipe](spec, **settings)
