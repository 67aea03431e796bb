"""Checks of chapter 8: starts, steps, posteriors and pixels of deep models, and held levels."""

from hvae_course.checks.deep_hierarchies.held import held_top
from hvae_course.checks.deep_hierarchies.pixels import pixel_log_prob
from hvae_course.checks.deep_hierarchies.squashed import squashed_kl
from hvae_course.checks.deep_hierarchies.starts import scale_bodies
from hvae_course.checks.deep_hierarchies.steps import step_factors

__all__ = ["held_top", "pixel_log_prob", "scale_bodies", "squashed_kl", "step_factors"]
