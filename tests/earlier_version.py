"""Checkpoints and run folders as version 0.1.0 wrote them, with fewer options and longer names."""

import json
import math
from pathlib import Path

from hvae_course.training import load_checkpoint, save_checkpoint

LATER_MODEL = ("shape", "reads_state", "merge_top")
LATER_TRAINING = ("optimiser", "clip_norm", "skip_norm", "skip_limit")
LATER_TRAINING += ("betas", "epsilon", "rate_warm_up", "kl_balancing")


def rewrite_checkpoint(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    config, settings = checkpoint.config, checkpoint.run["settings"]
    before = {"recipe": f"{config['recipe']}_vae", "num_features": math.prod(config["shape"])}
    kept = {name: value for name, value in config.items() if name not in LATER_MODEL}
    checkpoint.config = kept | before
    checkpoint.run["settings"] = {n: v for n, v in settings.items() if n not in LATER_TRAINING}
    save_checkpoint(checkpoint, path)


def rewrite_folder(folder: Path) -> Path:
    """Also the settings of the command line, which held no names that were left to the recipe."""
    rewrite_checkpoint(folder / "checkpoint.pt")
    path, later = folder / "config.json", (*LATER_MODEL, *LATER_TRAINING)
    settings = json.loads(path.read_text())["settings"]
    settings = {name: value for name, value in settings.items() if name not in later}
    settings |= {"recipe": f"{settings['recipe']}_vae", "recipe_options": {}, "activation": None}
    path.write_text(json.dumps({"settings": settings}))
    return folder
