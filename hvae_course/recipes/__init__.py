"""Models by name, assembled from networks by level."""

from hvae_course.recipes.convolutional import Convolutions
from hvae_course.recipes.likelihoods import LIKELIHOODS
from hvae_course.recipes.models import (
    NETWORKS,
    RECIPES,
    bidirectional_vae,
    biva,
    bottom_up_vae,
    build,
    conv_ladder_vae,
    delta_vae,
    downscaled_vae,
    draw,
    flow_ladder,
    ladder_vae,
    mean_field_vae,
    nvae,
    read_config,
    resnet_vae,
    two_level_vae,
    vae,
    vdvae,
    vq_vae,
)
from hvae_course.recipes.networks import STATES, MLPs, Networks
from hvae_course.recipes.priors import PRIORS
from hvae_course.recipes.recurrent import LSTMs

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
