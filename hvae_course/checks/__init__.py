"""Checks of the exercises: right, not written yet, or what the mistake probably is.

One module per sheet, one function per exercise. A check takes the student's function, prints one
line and returns its verdict. It needs no data and no training, and takes a second or two.
"""

from hvae_course.checks import (
    bidirectional_build,
    bidirectional_inference,
    chain_build,
    codes,
    codes_build,
    deep_build,
    deep_hierarchies,
    delta_build,
    graph_build,
    hierarchy_depth,
    ladder_build,
    ladder_merge,
    latent_graphs,
    layer_analysis,
    posterior_collapse,
    rate_distortion,
    richer_levels,
    top_down_deltas,
    two_level_vae,
    vhp_build,
    vhp_priors,
    warm_up_build,
)
from hvae_course.checks.verdict import Mistake, Verdict, ready

__all__ = [
    "Mistake",
    "Verdict",
    "bidirectional_build",
    "bidirectional_inference",
    "chain_build",
    "codes",
    "codes_build",
    "deep_build",
    "deep_hierarchies",
    "delta_build",
    "graph_build",
    "hierarchy_depth",
    "ladder_build",
    "ladder_merge",
    "latent_graphs",
    "layer_analysis",
    "posterior_collapse",
    "rate_distortion",
    "ready",
    "richer_levels",
    "top_down_deltas",
    "two_level_vae",
    "vhp_build",
    "vhp_priors",
    "warm_up_build",
]
