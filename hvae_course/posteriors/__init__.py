"""Posterior families, one file each: how the latents are inferred from the data."""

from hvae_course.posteriors.additive import Additive
from hvae_course.posteriors.base import Posterior, PosteriorRule, TopDownPosterior
from hvae_course.posteriors.biva import BIVA
from hvae_course.posteriors.chain import Chain
from hvae_course.posteriors.concat import Concatenation
from hvae_course.posteriors.delta import Delta, kl_delta
from hvae_course.posteriors.direct import Direct
from hvae_course.posteriors.precision import (
    PrecisionWeighted,
    merge_parameters,
    precision_weighted_merge,
)
from hvae_course.posteriors.recurrent import Recurrent, RecurrentStep
from hvae_course.posteriors.residual import ResidualNormal, SquashedNormal, squashed_normal

__all__ = [
    "Additive",
    "BIVA",
    "Chain",
    "Concatenation",
    "Delta",
    "Direct",
    "Posterior",
    "PosteriorRule",
    "PrecisionWeighted",
    "Recurrent",
    "RecurrentStep",
    "ResidualNormal",
    "SquashedNormal",
    "TopDownPosterior",
    "kl_delta",
    "merge_parameters",
    "precision_weighted_merge",
    "squashed_normal",
]
