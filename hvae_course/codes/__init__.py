"""Discrete levels: points without noise, codebooks, and categorical priors over their codes."""

from hvae_course.codes.codebook import Codebook, Quantiser
from hvae_course.codes.distributions import Codes, PointMass, nearest
from hvae_course.codes.downscaled import Downscale
from hvae_course.codes.priors import CodePrior, ConditionalCodes
from hvae_course.codes.scalars import FiniteScalars

__all__ = [
    "CodePrior",
    "Codebook",
    "Codes",
    "ConditionalCodes",
    "Downscale",
    "FiniteScalars",
    "PointMass",
    "Quantiser",
    "nearest",
]
