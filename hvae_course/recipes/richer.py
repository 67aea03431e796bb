"""Models by name whose levels are richer than diagonal Gaussians.

Priors that are flows, codes, steps with shared weights, and an image at a lower resolution.
"""

from collections.abc import Sequence
from typing import Any

from hvae_course.data import DataSet, DataSpec
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes.models import named_model


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
    return named_model("draw", data, options, of="draw")


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
    return named_model("flow_ladder", data, options, of="flow_ladder")


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
    return named_model("vq", data, options)


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
    return named_model("downscaled", data, options)
