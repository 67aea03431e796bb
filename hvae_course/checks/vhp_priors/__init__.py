"""Checks of chapter 6: a KL weight under a constraint, densities of learned priors."""

from hvae_course.checks.vhp_priors.constraint import rewo_step
from hvae_course.checks.vhp_priors.densities import vamp_log_prob, vhp_bound

__all__ = ["rewo_step", "vamp_log_prob", "vhp_bound"]
