"""Training: one loop, its history and its checkpoints."""

from hvae_course.objectives import ConstraintNeverMet
from hvae_course.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from hvae_course.training.history import History
from hvae_course.training.loop import fit

__all__ = [
    "Checkpoint",
    "ConstraintNeverMet",
    "History",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
]
