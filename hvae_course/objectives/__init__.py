"""Objectives: functions ``(trace, x) -> (B,)`` in nats per example, to be maximised."""

from hvae_course.objectives.elbo import elbo
from hvae_course.objectives.iwae import importance_weighted

__all__ = ["elbo", "importance_weighted"]
