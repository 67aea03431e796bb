"""Checks of chapter 9: rate and distortion, a toy, a masked layer, and what beta chooses."""

from hvae_course.checks.rate_distortion.decoders import masked_linear, worth
from hvae_course.checks.rate_distortion.plane import best_for_beta, rate_distortion
from hvae_course.checks.rate_distortion.toy import entropy_information

__all__ = ["best_for_beta", "entropy_information", "masked_linear", "rate_distortion", "worth"]
