"""Checks of the sheet on what each level encodes: probes, traversals, explained shares.

Probes are checked on codes from which every sensible probe makes the same predictions, and
traversals on a model whose images show its latents. So mistakes are recognised without training.
"""

from hvae_course.checks.layer_analysis.probes import probe_score
from hvae_course.checks.layer_analysis.tables import explained_shares, levels_of
from hvae_course.checks.layer_analysis.walks import images_from, traverse

__all__ = ["explained_shares", "images_from", "levels_of", "probe_score", "traverse"]
