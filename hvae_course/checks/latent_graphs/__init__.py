"""Checks of chapter 7: neighbours, shortest paths, frames along them, and distances of poses."""

from hvae_course.checks.latent_graphs.frames import compare_with_line
from hvae_course.checks.latent_graphs.neighbours import knn_graph, prune_sparse
from hvae_course.checks.latent_graphs.paths import shortest_path
from hvae_course.checks.latent_graphs.poses import pose_distance

__all__ = ["compare_with_line", "knn_graph", "pose_distance", "prune_sparse", "shortest_path"]
