"""Checks of chapter 10: flows before and behind a level, one noise for all steps, and windows."""

from hvae_course.checks.richer_levels.inverse import iaf_step
from hvae_course.checks.richer_levels.masked import flow_log_prob
from hvae_course.checks.richer_levels.tied import toy_bounds
from hvae_course.checks.richer_levels.windows import filterbank

__all__ = ["filterbank", "flow_log_prob", "iaf_step", "toy_bounds"]
