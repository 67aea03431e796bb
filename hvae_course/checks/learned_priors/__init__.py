"""Checks of chapter 6: a KL weight under a constraint, densities of learned priors, paths."""

from hvae_course.checks.learned_priors.constraint import rewo_step
from hvae_course.checks.learned_priors.densities import vamp_log_prob, vhp_bound
from hvae_course.checks.learned_priors.paths import shortest_path

__all__ = ["rewo_step", "shortest_path", "vamp_log_prob", "vhp_bound"]
