"""Objectives: functions ``(trace, x) -> (B,)`` in nats per example, to be maximised."""

from hvae_course.objectives.elbo import elbo
from hvae_course.objectives.free_bits import FreeBits
from hvae_course.objectives.iwae import importance_weighted
from hvae_course.objectives.warm_up import WarmUp
from hvae_course.objectives.weighted import Weighted

__all__ = ["FreeBits", "WarmUp", "Weighted", "elbo", "importance_weighted"]
