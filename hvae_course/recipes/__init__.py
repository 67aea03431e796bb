"""Models by name, and the settings that they share."""

from hvae_course.recipes.architecture import LIKELIHOODS, STATES, Architecture
from hvae_course.recipes.models import (
    RECIPES,
    bidirectional_vae,
    bottom_up_vae,
    build,
    delta_vae,
    ladder_vae,
    mean_field_vae,
    two_level_vae,
    vae,
)

__all__ = [
    "Architecture",
    "LIKELIHOODS",
    "RECIPES",
    "STATES",
    "bidirectional_vae",
    "bottom_up_vae",
    "build",
    "delta_vae",
    "ladder_vae",
    "mean_field_vae",
    "two_level_vae",
    "vae",
]
