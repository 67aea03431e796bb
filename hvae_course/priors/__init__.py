"""Priors over the top level of a hierarchy."""

from hvae_course.priors.base import Prior
from hvae_course.priors.standard import StandardNormal

__all__ = ["Prior", "StandardNormal"]
