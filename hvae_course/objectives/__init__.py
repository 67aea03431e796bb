"""Objectives: functions ``(trace, x) -> (B,)`` in nats per example, to be maximised."""

from hvae_course.objectives.balancing import KLBalancing
from hvae_course.objectives.base import Objective, as_objective
from hvae_course.objectives.constrained import Constrained, ConstraintNeverMet
from hvae_course.objectives.elbo import elbo
from hvae_course.objectives.free_bits import FreeBits
from hvae_course.objectives.iwae import importance_weighted
from hvae_course.objectives.making import OBJECTIVES, make_objective
from hvae_course.objectives.multipliers import GECO, ReWO
from hvae_course.objectives.penalty import penalty
from hvae_course.objectives.warm_up import WarmUp
from hvae_course.objectives.weighted import Weighted

__all__ = [
    "Constrained",
    "ConstraintNeverMet",
    "FreeBits",
    "GECO",
    "KLBalancing",
    "OBJECTIVES",
    "Objective",
    "ReWO",
    "WarmUp",
    "Weighted",
    "as_objective",
    "elbo",
    "importance_weighted",
    "make_objective",
    "penalty",
]
