"""What one does with a trained model."""

from hvae_course.analysis.diagnostics import aggregate_split, diagnose
from hvae_course.analysis.evaluation import Estimate, Evaluation, bits_per_dim, evaluate
from hvae_course.analysis.layers import infer, interpolate, latent_sizes, reconstruct, sample, vary
from hvae_course.analysis.paths import Smoothness, smoothness

__all__ = [
    "Estimate",
    "Evaluation",
    "Smoothness",
    "aggregate_split",
    "bits_per_dim",
    "diagnose",
    "evaluate",
    "infer",
    "interpolate",
    "latent_sizes",
    "reconstruct",
    "sample",
    "smoothness",
    "vary",
]
