"""Judge a latent space of pendulum images against the truth, which is a circle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from benchmarks.runs import Row
from hvae_course.analysis import (
    LatentGraph,
    Path,
    angle_steps,
    latent_graph,
    prune_sparse,
    resample,
    ring_test,
    smoothness,
)
from hvae_course.analysis.latent_graph import NoPathError
from hvae_course.data import Split, pendulum
from hvae_course.hierarchy import HierarchicalVAE

NODES = 5_000
"""Points of every graph."""
PRUNED = 0.05
"""Share of the sparsest points that is dropped."""
NEIGHBOURS = 15
"""k of every graph. It never grows: paths through graphs of another k cannot be compared."""
PAIRS = 100
"""Pairs of images of the judged split whose codes are joined."""
FRAMES = 50
"""Points of a path that are decoded."""
JUMP = 20.0
"""Degrees; a larger step between two frames counts as a jump."""
CLEAN = 720
"""Clean images around the circle, for the winding of the codes."""


@dataclass(frozen=True)
class Latents:
    """What a model says about its latent space."""

    prior: Tensor
    """Samples of the prior, ``(NODES, Z)``."""
    codes: Tensor
    """Draws of q(z | x) for training images, ``(NODES, Z)``."""
    judged: Tensor
    """Draws of q(z | x) for the judged split, ``(N, Z)``."""
    ends: Tensor
    """Posterior means of the pairs' images, ``(PAIRS, 2, Z)``."""
    circle: Tensor
    """Posterior means of clean images in the order of their angle, ``(CLEAN, Z)``."""


@torch.no_grad()
def latents(model: HierarchicalVAE, train: Split, judged: Split, *, seed: int = 0) -> Latents:
    """Draw everything that the measures need from a model of one level."""
    torch.manual_seed(seed)
    pairs = torch.randint(len(judged), (PAIRS, 2))
    angles = torch.arange(CLEAN) * (2 * math.pi / CLEAN)
    circle = pendulum.draw(angles, side=math.isqrt(judged.pixels.shape[1]))
    means = model.encode_top(judged.pixels).mean
    return Latents(
        prior=model.top_prior().sample((NODES,)),
        codes=model.encode_top(train.pixels[:NODES]).sample(),
        judged=model.encode_top(judged.pixels).sample(),
        ends=means[pairs],
        circle=model.encode_top(circle).mean,
    )


def find_paths(ends: Tensor, graph: LatentGraph | None) -> list[Path | None]:
    """Join pairs of codes.

    Args:
        ends: codes, ``(N, 2, Z)``.
        graph: where the paths run; None for straight lines.

    Returns:
        A path for each pair, None where the graph is in parts and joins the pair by none.
    """
    if graph is None:
        return [Path(pair) for pair in ends]
    paths: list[Path | None] = []
    for start, end in ends:
        try:
            paths.append(graph.path(start, end))
        except NoPathError:
            paths.append(None)
    return paths


@torch.no_grad()
def decode(model: HierarchicalVAE, nodes: Tensor) -> Tensor:
    """Decode a path with corners ``(T, Z)`` at points of equal distance: ``(FRAMES, D)``."""
    return model.top_down.likelihood(resample(nodes, num_points=FRAMES)).mean


def judge_paths(model: HierarchicalVAE, paths: Sequence[Path | None], *, name: str) -> Row:
    """Decode paths and measure them.

    Args:
        model: the model.
        paths: a path for each pair of codes, None for a pair that is not joined.
        name: start of the columns' names.

    Returns:
        Share of the pairs that a path joins, below 1 if the graph is in parts. Means over the
        joined pairs, NaN without one: the largest step of the decoded angle in degrees, the share
        of paths with a jump, the distance of the worst frame to the nearest clean image, bend and
        jump ratio.
    """
    rows = []
    for path in filter(None, paths):
        frames = decode(model, path.nodes)
        angle, distance = pendulum.read_angle(frames)
        step = math.degrees(angle_steps(angle).abs().max().item())
        smooth = smoothness(frames)
        bend = smooth.second_difference
        rows.append([step, step > JUMP, distance.max().item(), bend, smooth.jump_ratio])
    names = ("angle_step", "jumps", "off_manifold", "second_difference", "jump_ratio")
    means = np.mean(rows, axis=0).tolist() if rows else [math.nan] * len(names)
    row = {"joined": len(rows) / len(paths)} | dict(zip(names, means, strict=True))
    return {f"{name}_{column}": value for column, value in row.items()}


def two_sample_accuracy(a: Tensor, b: Tensor) -> float:
    """Share of points whose nearest neighbour is of the same set; 0.5 if two sets are alike.

    The sets are ``(N, Z)`` and ``(M, Z)``; the longer one is cut to the length of the other.
    """
    n = min(len(a), len(b))
    points = torch.cat([a[:n], b[:n]]).numpy()
    origin = np.repeat([0, 1], n)
    _, nearest = NearestNeighbors(n_neighbors=1).fit(points).kneighbors()
    return float((origin == origin[nearest[:, 0]]).mean())


def judge(model: HierarchicalVAE, train: Split, judged: Split) -> Row:
    """Every measure of a two-dimensional latent space, the same for every model.

    Ring test of the pruned prior samples, and of the pruned codes of training images; match of
    prior and codes; tears of the encoder; the paths' measures for graphs on pruned prior samples,
    on all of them and on the pruned codes, with their longest edges and k, and for straight
    lines.
    """
    found = latents(model, train, judged)
    pruned = prune_sparse(found.prior, share=PRUNED)
    codes = prune_sparse(found.codes, share=PRUNED)
    ring, of_codes = ring_test(pruned, found.circle), ring_test(codes, found.circle)
    steps = found.circle.diff(dim=0, append=found.circle[:1]).norm(dim=1)
    row: Row = {
        "ring": ring.passes,
        "hole_ratio": ring.hole_ratio,
        "second_hole": ring.second,
        "turns": ring.turns,
        "total_turns": ring.total_turns,
        "codes_ring": of_codes.passes,
        "codes_hole_ratio": of_codes.hole_ratio,
        "codes_turns": of_codes.turns,
        "codes_total_turns": of_codes.total_turns,
        "tear": (steps.max() / steps.median()).item(),
        "two_sample": two_sample_accuracy(found.prior, found.judged),
    }
    for name, points in {"pruned": pruned, "unpruned": found.prior, "codes": codes}.items():
        graph = latent_graph(points, k=NEIGHBOURS)
        paths = find_paths(found.ends, graph)
        row |= judge_paths(model, paths, name=name)
        longest = max((path.longest_edge for path in filter(None, paths)), default=0.0)
        row |= {f"{name}_longest_edge": longest, f"{name}_k": graph.k}
    return row | judge_paths(model, find_paths(found.ends, None), name="line")
