"""Checks of the sheet on depth: fair comparisons of models with different numbers of levels.

The checks cover a comparison from end to end: latent sizes and widths that make models of
different depths comparable, a run for every setting and seed, a consistent table of results, and
conclusions that take the spread over seeds into account.
"""

from hvae_course.checks.hierarchy_depth.experiments import experiment
from hvae_course.checks.hierarchy_depth.model_sizes import matching_width, split_latents
from hvae_course.checks.hierarchy_depth.result_tables import comparison
from hvae_course.checks.hierarchy_depth.seeded_runs import choose_depth, paired_difference
from hvae_course.checks.hierarchy_depth.used_levels import levels_in_use

__all__ = [
    "choose_depth",
    "comparison",
    "experiment",
    "levels_in_use",
    "matching_width",
    "paired_difference",
    "split_latents",
]
