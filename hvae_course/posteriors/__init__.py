"""Posterior families: how the latents are inferred from data, one file each."""

from hvae_course.posteriors.base import Posterior, PosteriorRule, TopDownPosterior
from hvae_course.posteriors.chain import Chain
from hvae_course.posteriors.direct import Direct

__all__ = ["Chain", "Direct", "Posterior", "PosteriorRule", "TopDownPosterior"]
