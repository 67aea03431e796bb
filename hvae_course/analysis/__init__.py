"""What one does with a trained model."""

from hvae_course.analysis.evaluation import Estimate, Evaluation, bits_per_dim, evaluate
from hvae_course.analysis.layers import infer, interpolate, latent_sizes, reconstruct, sample, vary
from hvae_course.analysis.paths import Smoothness, smoothness

__all__ = [
    "Estimate",
    "Evaluation",
    "Smoothness",
    "bits_per_dim",
    "evaluate",
    "infer",
    "interpolate",
    "latent_sizes",
    "reconstruct",
    "sample",
    "smoothness",
    "vary",
]
