"""Models by name, and the settings that all of them share."""

from hvae_course.recipes.architecture import STATES, Architecture
from hvae_course.recipes.likelihoods import LIKELIHOODS
from hvae_course.recipes.models import (
    RECIPES,
    bidirectional_vae,
    bottom_up_vae,
    build,
    build_seeded,
    delta_vae,
    ladder_vae,
    mean_field_vae,
    two_level_vae,
    vae,
)
from hvae_course.recipes.priors import PRIORS

__all__ = [
    "Architecture",
    "LIKELIHOODS",
    "PRIORS",
    "RECIPES",
    "STATES",
    "bidirectional_vae",
    "bottom_up_vae",
    "build",
    "build_seeded",
    "delta_vae",
    "ladder_vae",
    "mean_field_vae",
    "two_level_vae",
    "vae",
]
