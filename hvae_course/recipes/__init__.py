"""Models by name, assembled from networks by level."""

from collections.abc import Callable

from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes.convolutional import Convolutions
from hvae_course.recipes.deep import biva, conv_ladder_vae, nvae, resnet_vae, vdvae
from hvae_course.recipes.likelihoods import LIKELIHOODS
from hvae_course.recipes.models import (
    NETWORKS,
    bidirectional_vae,
    bottom_up_vae,
    build,
    delta_vae,
    ladder_vae,
    mean_field_vae,
    read_config,
    two_level_vae,
    vae,
)
from hvae_course.recipes.networks import STATES, MLPs, Networks
from hvae_course.recipes.priors import PRIORS
from hvae_course.recipes.recurrent import LSTMs
from hvae_course.recipes.richer import downscaled_vae, draw, flow_ladder, vq_vae

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

__all__ = [
    "Convolutions",
    "LIKELIHOODS",
    "LSTMs",
    "MLPs",
    "NETWORKS",
    "Networks",
    "PRIORS",
    "RECIPES",
    "STATES",
    "bidirectional_vae",
    "biva",
    "bottom_up_vae",
    "build",
    "conv_ladder_vae",
    "delta_vae",
    "downscaled_vae",
    "draw",
    "flow_ladder",
    "ladder_vae",
    "mean_field_vae",
    "nvae",
    "read_config",
    "resnet_vae",
    "two_level_vae",
    "vae",
    "vdvae",
    "vq_vae",
]
