"""Models by their usual names, and how every model is built.

A recipe assembles a model from the parts that `hvae_course.recipes.networks.Networks` hands out.
The recipes here are those of the first chapters, which share one generative model and differ in
how they infer its latents.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from hvae_course.config import Model, named_options, plain, take
from hvae_course.data import DataSet, DataSpec, Standardisation
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes.convolutional import Convolutions
from hvae_course.recipes.inference import INFERENCE
from hvae_course.recipes.networks import MLPs, Networks
from hvae_course.recipes.priors import make_prior
from hvae_course.recipes.recurrent import LSTMs

NETWORKS: dict[str, type[Networks]] = {"mlp": MLPs, "convolutional": Convolutions}
"""Kinds of networks by name.

:meta hide-value:
"""


def build(
    model: Model | Mapping[str, Any],
    data: DataSet | DataSpec | None = None,
    *,
    networks: type[Networks] | None = None,
    seed: int | None = None,
) -> HierarchicalVAE:
    """Build an untrained model.

    Args:
        model: its configuration, or ``config`` of a model or checkpoint, which holds the
            specification of the data too.
        data: the data set or its specification.
        networks: what the networks are made of; None for what the configuration names.
        seed: seed of the initial weights, which leaves the global random state untouched; None to
            draw them from it.

    Returns:
        The untrained model.

    Raises:
        ValueError: if a configuration does not name a known recipe, or a conditional model is to
            be built for data without labels, or of one class.
        TypeError: if there are no data, or the posterior cannot be combined with the prior.

    Example:
        >>> ladder = Model(recipe="ladder", latent_sizes=(8, 4, 2))
        >>> build(ladder, DataSpec((8, 8), 17)).num_levels
        3

        A conditional model is one of x given its label. ``fit`` and `evaluate` hand it the labels
        of the data, and ``generate`` is told which to draw.

        >>> import torch
        >>> from hvae_course import data, fit
        >>> digits = data.load("digits")
        >>> model = build(Model(recipe="ladder", hidden=(16,), conditional=True), digits)
        >>> history = fit(model, digits, epochs=1, progress=False)
        >>> model.generate(2, y=torch.tensor([3, 8])).px.mean.shape
        torch.Size([2, 64])
    """
    if isinstance(model, Mapping):
        model, spec = read_config(model)
        data = spec if data is None else data
    if not isinstance(model, Model) or not isinstance(data, DataSet | DataSpec):
        raise TypeError(
            "a model is built from a hvae_course.config.Model and a data set or its DataSpec, got "
            f"{type(model).__name__} and {type(data).__name__}"
        )
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also reset the generators of other devices
            torch.default_generator.manual_seed(seed)
            return build(model, data, networks=networks)
    spec = data if isinstance(data, DataSpec) else data.spec
    if model.conditional and spec.num_classes is None:
        raise ValueError(
            "a conditional model needs the number of classes, and the data have no labels; give "
            "the data labels, DataSpec(..., num_classes=10), or leave conditional out"
        )
    if model.conditional and spec.num_classes == 1:
        raise ValueError(
            "the data have one class, so a label says nothing about x; leave conditional out"
        )
    usual = LSTMs if model.recipe == "draw" else NETWORKS[model.networks]
    parts = (networks or usual)(model, spec)
    bottom_up, posterior = INFERENCE[model.recipe](parts)
    if model.prior not in ("standard", "normal") and posterior.reads_top_prior:
        raise TypeError(
            f"the top level's posterior of {model.recipe} is relative to a diagonal Gaussian "
            f"prior, and the prior {model.prior!r} is not one; choose a recipe whose top level is "
            "inferred from the data alone, such as bidirectional, or ladder without merge_top"
        )
    of_codes = model.recipe == "vq"
    shape = parts.latent_shape(model.num_levels - 1)
    built = HierarchicalVAE(
        parts.code_prior() if of_codes else make_prior(model, shape, data),
        bottom_up,
        posterior=posterior,
        top_down=parts.top_down(),
        config=_recorded(spec, model) if networks is None else None,
        num_features=spec.num_features,
        num_classes=spec.num_classes if model.conditional else None,
    )
    if of_codes:  # uniform until they are fitted
        built.prior.requires_grad_(False)
        built.top_down.conditionals.requires_grad_(False)
    if model.prior == "vamp":
        with torch.no_grad():
            built.eval().top_prior()  # fails here if the posterior has no q(z_L | x)
    if isinstance(parts, Convolutions):
        built = built.to(memory_format=torch.channels_last)
    return built.train()


def _recorded(spec: DataSpec, model: Model) -> dict[str, Any]:
    """Specification and configuration in plain types; of the newer entries what is not usual."""
    entries = {entry.name: entry for entry in fields(spec)}
    if not model.conditional:
        del entries["num_classes"]
    known = {
        name: plain(getattr(spec, name))
        for name, entry in entries.items()
        if name in ("shape", "num_values") or getattr(spec, name) != entry.default
    }
    return known | plain(model)


def read_config(config: Mapping[str, Any]) -> tuple[Model, DataSpec]:
    """Read ``config`` of a model or checkpoint, also of earlier versions.

    Args:
        config: what `build` recorded; an earlier version knew the number of features only.

    Returns:
        The configuration, and the specification of the data.

    Raises:
        ValueError: if it does not name a known recipe, or has options that are not known.
    """
    if not config:
        raise ValueError(
            "the configuration is empty, because no recipe built the model: build it by hand as "
            "before, then load_weights(model, load_checkpoint(path).weights, source=path)"
        )
    if str(config.get("recipe")).removesuffix("_vae") not in INFERENCE:
        raise ValueError(
            f"unknown recipe {config.get('recipe')!r} in the configuration; known recipes are "
            f"{', '.join(INFERENCE)}; build any other model by hand before loading its weights"
        )
    described = {entry.name for entry in fields(DataSpec)}
    known = {"num_features", *described, *(entry.name for entry in fields(Model))}
    if unknown := config.keys() - known:
        raise ValueError(
            f"the configuration has unknown options {', '.join(sorted(unknown))}; read it with "
            "the version of hvae_course that wrote it"
        )
    if not {"shape", "num_features"} & config.keys() or "num_values" not in config:
        raise ValueError(
            "the configuration does not name shape and num_values of the data; build a new model "
            "from a hvae_course.config.Model and its data"
        )
    spec = {name: config[name] for name in described & config.keys()}
    spec.setdefault("shape", config.get("num_features"))
    if scale := spec.get("standardisation"):
        spec["standardisation"] = Standardisation(**scale)
    return take(Model, config), DataSpec(**spec)


def named_model(
    recipe: str, data: DataSet | DataSpec, options: Mapping[str, Any], *, of: str | None = None
) -> HierarchicalVAE:
    """Build a model from the options of the function of its name.

    Args:
        recipe: a key of `hvae_course.recipes.inference.INFERENCE`.
        data: the data set or its specification.
        options: fields of `hvae_course.config.model.Model`.
        of: name of the function, for messages; None for the recipe's with ``_vae``.

    Returns:
        The untrained model.

    Raises:
        TypeError: if there is no such option.
    """
    of = of or f"{recipe}_vae"
    if "seed" in options:
        raise TypeError(
            f"{of} has no option 'seed'; set the initial weights with torch.manual_seed, or with "
            f"build(Model(recipe={recipe!r}), data, seed={options['seed']})"
        )
    return build(named_options(Model, {"recipe": recipe, **options}, of=of), data)


def bottom_up_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Hierarchical VAE with bottom-up inference, any number of levels (chapter 1).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.

    Example:
        >>> from hvae_course import data
        >>> bottom_up_vae(data.load("digits"), latent_sizes=(16, 8, 4)).num_levels
        3
    """
    return named_model("bottom_up", data, options)


def mean_field_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Hierarchical VAE with mean-field inference, each level from the data alone (chapter 1).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.
    """
    return named_model("mean_field", data, options)


def delta_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Top-down VAE whose posteriors are relative to the priors (chapter 3).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.
    """
    return named_model("delta", data, options)


def ladder_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Ladder VAE: the message of x about each level, merged with its prior (chapter 4).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.
    """
    return named_model("ladder", data, options)


def bidirectional_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Top-down VAE that concatenates bottom-up feature and top-down state (chapter 5).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`; the defaults here are layer
            normalisation and GELU.

    Returns:
        The untrained model.
    """
    return named_model("bidirectional", data, options)


def vae(
    data: DataSet | DataSpec,
    *,
    latent_size: int = 16,
    **options: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """The ordinary VAE, a hierarchy of one level.

    Args:
        data: the data set or its specification.
        latent_size: number of latent dimensions.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.
    """
    return bottom_up_vae(data, latent_sizes=(latent_size,), **options)


def two_level_vae(
    data: DataSet | DataSpec,
    *,
    latent_sizes: tuple[int, int] = (16, 8),
    **options: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """The two-level VAE of chapter 1: z_2 -> z_1 -> x, inferred bottom-up.

    Args:
        data: the data set or its specification.
        latent_sizes: Z_1 and Z_2.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.

    Raises:
        ValueError: if there are not two latent sizes.
    """
    if not hasattr(latent_sizes, "__len__") or len(latent_sizes) != 2:
        raise ValueError(
            f"two_level_vae has two levels, got latent_sizes={latent_sizes!r}; bottom_up_vae "
            "takes any number"
        )
    return bottom_up_vae(data, latent_sizes=latent_sizes, **options)
