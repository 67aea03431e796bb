"""Evaluate, diagnose and use a trained model."""

from hvae_course.analysis.classification import Classification, classify
from hvae_course.analysis.diagnostics import aggregate_split, diagnose
from hvae_course.analysis.evaluation import Estimate, Evaluation, bits_per_dim, evaluate
from hvae_course.analysis.latent_graph import (
    LatentGraph,
    NoPathError,
    Path,
    latent_graph,
    prune_sparse,
    resample,
)
from hvae_course.analysis.layers import (
    infer,
    interpolate,
    latent_shapes,
    latent_sizes,
    reconstruct,
    sample,
    vary,
)
from hvae_course.analysis.paths import Smoothness, angle_steps, smoothness
from hvae_course.analysis.topology import RingTest, persistence, ring_test

__all__ = [
    "Classification",
    "Estimate",
    "Evaluation",
    "LatentGraph",
    "NoPathError",
    "Path",
    "RingTest",
    "Smoothness",
    "aggregate_split",
    "angle_steps",
    "bits_per_dim",
    "classify",
    "diagnose",
    "evaluate",
    "infer",
    "interpolate",
    "latent_graph",
    "latent_shapes",
    "latent_sizes",
    "persistence",
    "prune_sparse",
    "reconstruct",
    "resample",
    "ring_test",
    "sample",
    "smoothness",
    "vary",
]
