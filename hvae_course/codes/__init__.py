"""Discrete levels: points without noise, codebooks, and categorical priors over their codes."""

from hvae_course.codes.autoregressive import AutoregressiveCodes, CodesBefore
from hvae_course.codes.codebook import Codebook
from hvae_course.codes.distributions import Codes, PointMass, nearest
from hvae_course.codes.downscaled import Downscale
from hvae_course.codes.priors import CodePrior, ConditionalCodes
from hvae_course.codes.quantiser import Quantiser
from hvae_course.codes.scalars import FiniteScalars

__all__ = [
    "AutoregressiveCodes",
    "CodePrior",
    "Codebook",
    "Codes",
    "CodesBefore",
    "ConditionalCodes",
    "Downscale",
    "FiniteScalars",
    "PointMass",
    "Quantiser",
    "nearest",
]
