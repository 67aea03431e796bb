"""Priors over the top level of a hierarchy."""

from hvae_course.priors.base import Encode, Prior
from hvae_course.priors.flow import FlowPrior
from hvae_course.priors.mixture import MixtureOfGaussians
from hvae_course.priors.standard import LearnedNormal, StandardNormal
from hvae_course.priors.vamp import VampPrior
from hvae_course.priors.vhp import VHP, VHPDistribution

__all__ = [
    "Encode",
    "FlowPrior",
    "LearnedNormal",
    "MixtureOfGaussians",
    "Prior",
    "StandardNormal",
    "VHP",
    "VHPDistribution",
    "VampPrior",
]
