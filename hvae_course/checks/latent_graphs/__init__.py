"""Checks of chapter 7: neighbours, shortest paths, and what a path shows."""

from hvae_course.checks.latent_graphs.paths import shortest_path

__all__ = ["shortest_path"]
