"""Evaluate, diagnose and use a trained model."""

from hvae_course.analysis.canvases import canvases
from hvae_course.analysis.classification import Classification, classify
from hvae_course.analysis.diagnostics import aggregate_split, diagnose
from hvae_course.analysis.evaluation import Estimate, Evaluation, bits_per_dim, evaluate
from hvae_course.analysis.held import bound_above, hold_top, ood_score, progressive
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
from hvae_course.analysis.probe import least_information, linear_probe
from hvae_course.analysis.resolutions import information_by_level, information_by_resolution
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
    "bound_above",
    "canvases",
    "classify",
    "diagnose",
    "evaluate",
    "hold_top",
    "infer",
    "information_by_level",
    "information_by_resolution",
    "interpolate",
    "latent_graph",
    "latent_shapes",
    "latent_sizes",
    "least_information",
    "linear_probe",
    "ood_score",
    "persistence",
    "progressive",
    "prune_sparse",
    "reconstruct",
    "resample",
    "ring_test",
    "sample",
    "smoothness",
    "vary",
]
