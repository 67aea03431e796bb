"""Models by their usual names.

A recipe assembles a model from the parts that `hvae_course.recipes.networks.Networks` hands out.
Recipes share one generative model and differ in how they infer its latents, except `flow_ladder`
and `draw`, whose generative models are their own. No other module of the package knows which model
is the ladder VAE.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from hvae_course.config import Model, named_options, plain, take
from hvae_course.data import DataSet, DataSpec, Standardisation
from hvae_course.hierarchy import BottomUp, HierarchicalVAE
from hvae_course.posteriors import (
    BIVA,
    Additive,
    Chain,
    Concatenation,
    Delta,
    Direct,
    Posterior,
    PosteriorRule,
    PrecisionWeighted,
    Recurrent,
    ResidualNormal,
    TopDownPosterior,
)
from hvae_course.recipes.convolutional import Convolutions
from hvae_course.recipes.networks import MLPs, Networks
from hvae_course.recipes.priors import make_prior
from hvae_course.recipes.recurrent import LSTMs


def _chain(networks: Networks) -> tuple[BottomUp, Posterior]:
    heads = [networks.message(0), *(networks.upward(l) for l in networks.levels[1:])]
    return networks.features(1), Chain(heads, reads_label=networks.model.conditional)


def _top_down(
    rule: Callable[[Any, int], PosteriorRule],
) -> Callable[[Networks], tuple[BottomUp, Posterior]]:
    """Inference on the way down, with one rule per level."""

    def make(networks: Networks) -> tuple[BottomUp, Posterior]:
        bottom_up = networks.features()
        rules = [networks.adapt(rule(networks, l)) for l in networks.levels]
        return bottom_up, TopDownPosterior(rules, reads=networks.reads)

    return make


def _direct(networks: Networks, l: int) -> PosteriorRule:
    return Direct(networks.message(l))


def _delta(networks: Networks, l: int) -> PosteriorRule:
    reads_state = networks.model.reads_state
    return Delta(networks.delta(l, reads_state=reads_state), reads_state=reads_state)


def _merge(networks: Networks, l: int) -> PosteriorRule:
    merges = l < networks.levels[-1] or networks.model.merge_top
    return (PrecisionWeighted if merges else Direct)(networks.message(l))


def _concatenation(networks: Networks, l: int) -> PosteriorRule:
    return Concatenation(networks.head(l))


def _residual(networks: Networks, l: int) -> PosteriorRule:
    if l == networks.levels[-1]:
        return Direct(networks.message(l))
    return ResidualNormal(networks.delta(l, reads_state=True))


def _biva(networks: Convolutions) -> tuple[BottomUp, Posterior]:
    *pairs, top = networks.levels[::2]
    posterior = BIVA(
        [networks.path_of_draws(l) for l in (*pairs, top)],
        [networks.path_of_features(l) for l in (*pairs, top)],
        heads=[networks.message(l) for l in pairs],
        rules=[networks.adapt(_concatenation(networks, l + 1)) for l in pairs],
        top=networks.paths_message(top),
    )
    return networks.features(1), posterior


def _additive(networks: Convolutions, l: int) -> PosteriorRule:
    context = networks.stage(l).channels if networks.model.iaf else 0
    return Additive(
        networks.addend(l, reads_state=False, context=context),
        networks.addend(l, reads_state=True, context=context),
        flow=networks.flow(l, context=context) if context else None,
        context=context,
    )


def _recurrent(networks: LSTMs) -> tuple[BottomUp, Posterior]:
    bottom_up = BottomUp([nn.Identity()])
    return bottom_up, Recurrent(networks.per_step(networks.step), networks.likelihood())


def _downscaled(networks: Convolutions) -> tuple[BottomUp, Posterior]:
    features = networks.features()
    bottom_up = BottomUp([nn.Identity(), *features.blocks], read=features.read)
    rules = [
        _concatenation(networks, 0),
        Direct(networks.downscale()),
        Direct(networks.message(2)),
    ]
    rules = [networks.adapt(rule) for rule in rules]
    low, _, top = networks.reads
    return bottom_up, TopDownPosterior(rules, reads=(low + 1, 1, top + 1))


def _codes(networks: Networks, l: int) -> PosteriorRule:
    return (_direct if l == networks.levels[-1] else _concatenation)(networks, l)


INFERENCE: dict[str, Callable[[Any], tuple[BottomUp, Posterior]]] = {
    "bottom_up": _chain,
    "mean_field": _top_down(_direct),
    "delta": _top_down(_delta),
    "ladder": _top_down(_merge),
    "bidirectional": _top_down(_concatenation),
    "vdvae": _top_down(_concatenation),
    "nvae": _top_down(_residual),
    "biva": _biva,
    "resnet": _top_down(_additive),
    "draw": _recurrent,
    "flow_ladder": _top_down(_concatenation),
    "vq": _top_down(_codes),
    "downscaled": _downscaled,
}
"""Bottom-up path and posterior of every recipe.

:meta hide-value:
"""


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


def _named(recipe: str, data: DataSet | DataSpec, options: Mapping[str, Any]) -> HierarchicalVAE:
    """Build a model from the options of the function of its name."""
    of = recipe if recipe in RECIPES else f"{recipe}_vae"
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
    return _named("bottom_up", data, options)


def mean_field_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Hierarchical VAE with mean-field inference, each level from the data alone (chapter 1).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.
    """
    return _named("mean_field", data, options)


def vdvae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Very deep VAE: convolutional, one state from the top to the data (chapter 8).

    The network of a prior gives the state a feature too, all levels of a resolution read one
    bottom-up feature, the posterior reads it beside the state, and the top prior is learned.

    Args:
        data: the data set or its specification, of images.
        **options: fields of `hvae_course.config.model.Model`; ``networks_options`` are those of
            `hvae_course.config.networks.Convolutional`.

    Returns:
        The untrained model.

    Source:
        Child (2021), arXiv:2011.10650.

    Example:
        >>> from hvae_course import data
        >>> options = {"stages": ((4, 3, 16), (2, 2, 16))}
        >>> model = vdvae(data.load("digits"), latent_sizes=(2,) * 5, networks_options=options)
        >>> model.num_levels
        5
    """
    return _named("vdvae", data, options)


def nvae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    r"""NVAE: convolutional, posteriors relative to the raw parameters of their priors (chapter 8).

    Every Gaussian of a network is squashed, see `hvae_course.posteriors.residual`; with one level
    below the top, :math:`q(z_1 \mid x, z_2) = N(c(m + \Delta m), \dots)`. The top level is
    inferred from the data alone, and its prior is N(0, I); in the published code a floor on all
    scales makes it N(0, 1.01^2 I).

    Blocks are plain on the way up and depthwise, with six times the channels inside, on the way
    down, with batch normalisation and SiLU; each level reads a feature of its own. A latent enters
    the state by :math:`h + W z_l`, which is the :math:`1\times1` convolution of h and z_l joined
    whose part for h is the identity. Squeeze and excitation, spectral regularisation and the
    optional flow of the published model are left out.

    Args:
        data: the data set or its specification, of images.
        **options: fields of `hvae_course.config.model.Model`; ``networks_options`` are those of
            `hvae_course.config.networks.Convolutional`.

    Returns:
        The untrained model.

    Source:
        Vahdat and Kautz (2020), arXiv:2007.03898.

    Example:
        >>> from hvae_course import data
        >>> options = {"stages": ((4, 2, 16), (2, 1, 16)), "blocks": 2}
        >>> model = nvae(data.load("digits"), latent_sizes=(2, 2, 4), networks_options=options)
        >>> [tuple(level.z.shape[1:]) for level in model.generate(1).levels]
        [(2, 4, 4), (2, 4, 4), (4, 2, 2)]
    """
    return _named("nvae", data, options)


def conv_ladder_vae(
    data: DataSet | DataSpec,
    *,
    merge: str = "precision",
    **options: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """Ladder VAE of convolutional networks, any number of levels (chapter 8).

    It is `ladder_vae`, or `bidirectional_vae`, with ``networks="convolutional"``, and each level
    reads a bottom-up feature of its own. The two differ in the posterior alone. The public
    convolutional code that is known as a ladder VAE concatenates feature and state; it multiplies
    no Gaussians.

    Args:
        data: the data set or its specification, of images.
        merge: ``"precision"`` for the precision-weighted merge of chapter 4, ``"concatenation"``
            for the posterior of chapter 5.
        **options: fields of `hvae_course.config.model.Model`; the defaults of both merges are
            batch normalisation and SiLU, and ``networks_options`` are those of
            `hvae_course.config.networks.Convolutional`.

    Returns:
        The untrained model.

    Raises:
        ValueError: if the merge is another one, or the networks are not convolutional.

    Source:
        Sønderby et al. (2016), arXiv:1602.02282, for the merge.

    Example:
        >>> from hvae_course import data
        >>> ladder = conv_ladder_vae(data.load("digits"), latent_sizes=(2, 2, 2))
        >>> [type(rule).__name__ for rule in ladder.posterior.rules]
        ['PrecisionWeighted', 'PrecisionWeighted', 'Direct']
    """
    recipes = {"precision": "ladder", "concatenation": "bidirectional"}
    if merge not in recipes:
        raise ValueError(f"merge is one of {', '.join(recipes)}, got {merge!r}")
    if options.get("networks", "convolutional") != "convolutional":
        raise ValueError(
            "conv_ladder_vae is the ladder of convolutional networks, got "
            f"networks={options['networks']!r}; leave networks out, or call ladder_vae or "
            "bidirectional_vae"
        )
    usual = {"networks": "convolutional", "normalisation": "batch", "activation": "silu"}
    own = {"shared_features": False, **options.pop("networks_options", {})}
    return _named(recipes[merge], data, {**usual, **options, "networks_options": own})


def biva(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Bidirectional-inference VAE: two latents per level, one drawn up, one down (chapter 8).

    ``latent_sizes`` are those of B_1, T_1, B_2, T_2, ..., z_L, and every one is a level of the
    model. In the published code no scale but that of the top prior can be below 1; here they can.

    Args:
        data: the data set or its specification, of images.
        **options: fields of `hvae_course.config.model.Model`; ``networks_options`` are those of
            `hvae_course.config.networks.Convolutional`, of which group and shared_features are
            refused here.

    Returns:
        The untrained model.

    Source:
        Maaløe et al. (2019), arXiv:1902.02102.

    Example:
        >>> from hvae_course import data
        >>> model = biva(data.load("digits"), latent_sizes=(2, 2, 2, 2, 4))
        >>> model.posterior.draws_bottom_up
        (True, False, True, False, False)
    """
    return _named("biva", data, options)


def resnet_vae(
    data: DataSet | DataSpec,
    *,
    iaf: bool = False,
    **options: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """ResNet-VAE: posterior parameters are sums of one network up and one down (chapter 8).

    Args:
        data: the data set or its specification, of images.
        iaf: whether an inverse autoregressive flow follows the posterior of every level.
        **options: fields of `hvae_course.config.model.Model`; ``networks_options`` are those of
            `hvae_course.config.networks.Convolutional`. In the published model every level reads a
            feature of its own, ``shared_features=False``.

    Returns:
        The untrained model.

    Source:
        Kingma et al. (2016), arXiv:1606.04934.

    Example:
        >>> from hvae_course import data
        >>> resnet_vae(data.load("digits"), iaf=True, latent_sizes=(2, 2, 2)).num_levels
        3
    """
    return _named("resnet", data, {"iaf": iaf, **options})


def draw(
    data: DataSet | DataSpec,
    *,
    steps: int | None = None,
    **options: Any,  # noqa: ANN401
) -> HierarchicalVAE:
    """DRAW: T steps, each with a latent of its own, add to one canvas.

    Every step has the same weights, unless ``tied=False``, and reads the whole image, unless
    ``attention=N`` gives it a window of N x N filters. The first step is the top level.

    Args:
        data: the data set or its specification, of complete rows that are no counts.
        steps: T, how often the one latent size is repeated; None if ``latent_sizes`` has one
            entry per step.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.

    Raises:
        ValueError: if there are several latent sizes to be repeated.

    Source:
        Gregor et al. (2015), DRAW: a recurrent neural network for image generation,
        arXiv:1502.04623.

    Example:
        >>> from hvae_course import data
        >>> one, eight = (draw(data.load("digits"), steps=steps) for steps in (1, 8))
        >>> eight.num_levels
        8
        >>> len([*one.parameters()]) == len([*eight.parameters()])
        True
    """
    if steps is not None:
        size = options.get("latent_sizes", (16,))
        size = tuple(size) if isinstance(size, Sequence) else (size,)
        if len(size) != 1:
            raise ValueError(
                f"steps repeats one latent size, got steps={steps} and latent_sizes={size}; give "
                "one size, or leave steps out"
            )
        options["latent_sizes"] = size * steps
    return _named("draw", data, options)


def flow_ladder(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    r"""Top-down VAE whose conditional priors are masked autoregressive flows.

    Inference is that of `bidirectional_vae`, so that the two differ in :math:`p(z_l \mid z_{>l})`
    alone; ``iaf=True`` makes the posteriors inverse autoregressive flows, here as there. The prior
    over the top level is a flow with ``prior="flow"``.

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`; ``flow_options`` are those of
            `hvae_course.config.flows.Flow`.

    Returns:
        The untrained model.

    Source:
        Chen et al. (2017), Variational lossy autoencoder, arXiv:1611.02731, for autoregressive
        flows as priors.

    Example:
        >>> from hvae_course import data
        >>> model = flow_ladder(data.load("digits"), latent_sizes=(8, 4), prior="flow")
        >>> type(model.generate(2).levels[0].p).__name__
        'MaskedAutoregressive'
    """
    return _named("flow_ladder", data, options)


def vq_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """VQ-VAE of any number of grids: codes of a codebook at every level, inferred top-down.

    With two levels it is VQ-VAE-2: p(z_2) p(z_1 | z_2) p(x | z_1, z_2), where the posterior of the
    lower codes reads the decoded upper ones. The priors are uniform, and frozen, until
    `hvae_course.training.stages.fit_prior` fits them.

    Args:
        data: the data set or its specification, of images.
        **options: fields of `hvae_course.config.model.Model`; ``codes_options`` are those of
            `hvae_course.config.codes.Codebook`, and with ``codes="scalars"`` those of
            `hvae_course.config.codes.Scalars`.

    Returns:
        The untrained model.

    Source:
        van den Oord et al. (2017), arXiv:1711.00937; Razavi et al. (2019), arXiv:1906.00446.

    Example:
        >>> from hvae_course import data
        >>> model = vq_vae(data.load("digits"), codes_options={"num_codes": 8})
        >>> [tuple(level.z.shape[1:]) for level in model.generate(1).levels]
        [(16, 8, 8), (16, 4, 4)]
    """
    return _named("vq", data, options)


def downscaled_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Self-supervised VAE (srVAE): the downscaled image is the level between two latents.

    p(u) p(y | u) p(z | y, u) p(x | z, y, u), with y the image at a lower resolution. Its posterior
    is a point mass, and p(y | u) a categorical or discretised distribution of its grey values.

    Args:
        data: the data set or its specification, of images of grey values.
        **options: fields of `hvae_course.config.model.Model`; ``latent_sizes`` are those of z, of
            y, which is the number of colours, and of u.

    Returns:
        The untrained model.

    Source:
        Gatopoulos and Tomczak (2021), arXiv:2010.02014.

    Example:
        >>> from hvae_course import data
        >>> model = downscaled_vae(data.load("digits"))
        >>> [tuple(level.z.shape[1:]) for level in model.generate(1).levels]
        [(16, 4, 4), (1, 4, 4), (8, 4, 4)]
    """
    return _named("downscaled", data, options)


def delta_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Top-down VAE whose posteriors are relative to the priors (chapter 3).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.
    """
    return _named("delta", data, options)


def ladder_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Ladder VAE: the message of x about each level, merged with its prior (chapter 4).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`.

    Returns:
        The untrained model.
    """
    return _named("ladder", data, options)


def bidirectional_vae(data: DataSet | DataSpec, **options: Any) -> HierarchicalVAE:  # noqa: ANN401
    """Top-down VAE that concatenates bottom-up feature and top-down state (chapter 5).

    Args:
        data: the data set or its specification.
        **options: fields of `hvae_course.config.model.Model`; the defaults here are layer
            normalisation and GELU.

    Returns:
        The untrained model.
    """
    return _named("bidirectional", data, options)


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


RECIPES: dict[str, Callable[..., HierarchicalVAE]] = {
    recipe.__name__: recipe
    for recipe in (
        bottom_up_vae,
        mean_field_vae,
        delta_vae,
        ladder_vae,
        bidirectional_vae,
        vdvae,
        nvae,
        biva,
        resnet_vae,
        draw,
        flow_ladder,
        vq_vae,
        downscaled_vae,
    )
}
"""Recipes by name.

:meta hide-value:
"""
