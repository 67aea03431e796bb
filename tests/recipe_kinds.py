"""Recipes by the kind of their networks, for the tests that go through all of one kind."""

from hvae_course.config import DEEP_RECIPES
from hvae_course.recipes import RECIPES

DISCRETE = ["vq_vae", "downscaled_vae"]
"""Recipes with levels that are discrete."""
CONTINUOUS = [name for name in RECIPES if name not in DISCRETE]
"""All others."""
DEEP = [name for name in CONTINUOUS if name.removesuffix("_vae") in DEEP_RECIPES]
"""Recipes of continuous levels and convolutional networks alone."""
CONDITIONAL = [name for name in CONTINUOUS if name != "draw"]
"""Recipes of models of x given its label, with continuous levels."""
PERCEPTRONS = [name for name in CONDITIONAL if name not in DEEP]
"""Recipes that are made of multilayer perceptrons unless told otherwise."""
GAUSSIAN = [name for name in PERCEPTRONS if name != "flow_ladder"]
"""Recipes of perceptrons whose distributions over latents are diagonal Gaussians."""
OF_ANY_NETWORKS = [*PERCEPTRONS, "vdvae"]
"""Recipes that ask for nothing but the modules of every `Networks`."""
RECIPE_STATES = [
    *((name, state) for name in PERCEPTRONS for state in ("markov", "skip")),
    *((name, "markov") for name in DEEP),
]
"""Recipes with the states that their networks have."""
