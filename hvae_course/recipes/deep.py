"""Deep models of convolutional networks by their names (chapter 8)."""

from typing import Any

from hvae_course.data import DataSet, DataSpec
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes.models import named_model


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
    return named_model("vdvae", data, options, of="vdvae")


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
    return named_model("nvae", data, options, of="nvae")


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
    return named_model(recipes[merge], data, {**usual, **options, "networks_options": own})


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
    return named_model("biva", data, options, of="biva")


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
    return named_model("resnet", data, {"iaf": iaf, **options})
