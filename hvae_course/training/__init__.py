"""Training: one loop, its history and its checkpoints."""

from hvae_course.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from hvae_course.training.history import History
from hvae_course.training.loop import Objective, fit

__all__ = ["Checkpoint", "History", "Objective", "fit", "load_checkpoint", "save_checkpoint"]
