"""Names of the recipes, and what groups of them have in common."""

from typing import Literal

Recipe = Literal[
    "bottom_up",
    "mean_field",
    "delta",
    "ladder",
    "bidirectional",
    "vdvae",
    "nvae",
    "biva",
    "resnet",
    "draw",
    "flow_ladder",
    "vq",
    "downscaled",
]
DEEP_RECIPES = ("vdvae", "nvae", "biva", "resnet", "vq", "downscaled")
"""Recipes of convolutional networks alone."""
PLAIN_RECIPES = ("vdvae", "biva", "resnet", "vq", "downscaled")
"""Recipes whose usual networks have no normalisation."""
VECTOR_RECIPES = ("flow_ladder",)
"""Recipes of multilayer perceptrons alone."""
FLOW_RECIPES = ("bidirectional", "flow_ladder")
"""Recipes whose latent vectors may have flows."""
