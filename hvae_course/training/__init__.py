"""Training: one loop, its history and its checkpoints."""

from hvae_course.objectives import ConstraintNeverMet
from hvae_course.training.checkpoints import (
    Checkpoint,
    NotCompared,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from hvae_course.training.guards import BoundFalls, CannotResume, FewExamples, NoSteps
from hvae_course.training.history import History
from hvae_course.training.loop import fit
from hvae_course.training.reestimation import reestimate_batch_statistics
from hvae_course.training.stages import fit_prior, training_only
from hvae_course.training.step import NotCompiled

__all__ = [
    "BoundFalls",
    "CannotResume",
    "Checkpoint",
    "ConstraintNeverMet",
    "FewExamples",
    "History",
    "NoSteps",
    "NotCompared",
    "NotCompiled",
    "fit",
    "fit_prior",
    "load_checkpoint",
    "load_weights",
    "reestimate_batch_statistics",
    "save_checkpoint",
    "training_only",
]
