"""Training: one loop, its history and its checkpoints."""

from hvae_course.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from hvae_course.training.history import History
from hvae_course.training.loop import fit
from hvae_course.training.phases import ConstraintNeverMet
from hvae_course.training.settings import DECAY_SHAPES, Objective

__all__ = [
    "Checkpoint",
    "ConstraintNeverMet",
    "DECAY_SHAPES",
    "History",
    "Objective",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
]
