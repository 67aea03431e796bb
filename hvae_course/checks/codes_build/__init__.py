"""Checks of the build of chapter 10: a VQ-VAE with two grids, and a prior over its codes.

A student writes quantisers, a model that infers its grids top-down, the objective, the prior and
its training. Where an answer has networks of its own, a check asks what depends on what, by
gradients and by changes of the input; everything else is compared with the formulas.
"""

from hvae_course.checks.codes_build.bound import objective
from hvae_course.checks.codes_build.grids import TwoGrids
from hvae_course.checks.codes_build.moving import MovingQuantiser
from hvae_course.checks.codes_build.prior import CodePrior
from hvae_course.checks.codes_build.quantiser import Quantiser
from hvae_course.checks.codes_build.stage import fit_prior
from hvae_course.checks.codes_build.works import works

__all__ = [
    "CodePrior",
    "MovingQuantiser",
    "Quantiser",
    "TwoGrids",
    "fit_prior",
    "objective",
    "works",
]
