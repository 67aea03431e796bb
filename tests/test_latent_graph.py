"""Graphs of latent points and paths through them, against brute force and networkx's Dijkstra."""

import math
import re

import networkx
import numpy as np
import pytest
import torch
from torch import Tensor

from hvae_course.analysis import (
    LatentGraph,
    NoPathError,
    Path,
    latent_graph,
    prune_sparse,
    resample,
)

D = torch.float64
shapes = pytest.mark.parametrize(
    ("number", "size", "k"), [(60, 2, 4), (200, 2, 15), (150, 5, 6), (40, 1, 5), (12, 3, 11)]
)


def brute_force(points: Tensor, k: int, *ends: Tensor) -> networkx.Graph:
    """Link every point, then every end, to its k nearest points; ends are named "0" and "1"."""
    graph = networkx.Graph()
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    for i in range(len(points)):
        nearest = [j for j in distance[i].argsort().tolist() if j != i][:k]
        graph.add_weighted_edges_from((i, j, distance[i, j].item()) for j in nearest)
    for name, end in enumerate(ends):
        to_end = (points - end).norm(dim=1)
        nearest = to_end.argsort()[:k].tolist()
        graph.add_weighted_edges_from((str(name), j, to_end[j].item()) for j in nearest)
    return graph


def edges(graph: networkx.Graph) -> dict[frozenset, float]:
    return {frozenset((u, v)): weight for u, v, weight in graph.edges(data="weight")}


def clusters(*sizes: int, apart: float = 100.0) -> Tensor:
    """Gaussian clouds along a line, far apart."""
    centre = torch.arange(len(sizes), dtype=D).repeat_interleave(torch.tensor(sizes)) * apart
    return torch.randn(sum(sizes), 2, dtype=D) + torch.stack([centre, 0 * centre], dim=1)


# The graph


@shapes
def test_the_graph_links_whatever_is_among_the_nearest_of_the_other(number, size, k):
    points = torch.randn(number, size, dtype=D)
    ours, expected = edges(latent_graph(points, k=k).graph), edges(brute_force(points, k))
    assert ours.keys() == expected.keys()
    assert all(ours[edge] == pytest.approx(expected[edge], rel=1e-12) for edge in expected)


@shapes
def test_adjacency_is_symmetric_and_weights_are_distances(number, size, k):
    points = torch.randn(number, size, dtype=D)
    graph = latent_graph(points, k=k).graph
    adjacency = networkx.to_numpy_array(graph, nodelist=range(number), nonedge=np.inf)
    assert (adjacency == adjacency.T).all()
    linked = np.isfinite(adjacency)
    assert not linked.diagonal().any()
    assert (linked.sum(axis=1) >= k).all()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.testing.assert_allclose(adjacency[linked], distance[linked], rtol=1e-12)


def test_equal_points_are_linked_by_edges_of_length_zero():
    points = torch.arange(20, dtype=D).repeat_interleave(3)[:, None]  # each place three times
    latent = latent_graph(points, k=4)
    assert sum(weight == 0 for weight in edges(latent.graph).values()) == 3 * 20
    path = latent.path(points[0], points[-1])
    assert path.length == pytest.approx(19.0)
    assert path.longest_edge == pytest.approx(1.0)


def test_the_graph_keeps_its_own_points():
    points = torch.randn(50, 2, dtype=D)
    latent = latent_graph(points, k=5)
    start, end = points[0].clone(), points[1].clone()
    before = latent.path(start, end).nodes
    points.zero_()
    assert torch.equal(latent.path(start, end).nodes, before)


# Paths


@shapes
def test_a_star_finds_paths_as_short_as_dijkstra_does(number, size, k):
    points = torch.randn(number, size, dtype=D)
    latent, joined = latent_graph(points, k=k), 0
    for start, end in 1.5 * torch.randn(40, 2, size, dtype=D):
        graph = brute_force(points, k, start, end)
        if not networkx.has_path(graph, "0", "1"):
            continue
        joined += 1
        path = latent.path(start, end)
        expected = networkx.dijkstra_path_length(graph, "0", "1")
        assert path.length == pytest.approx(expected, rel=1e-12)
        assert torch.equal(path.nodes[0], start) and torch.equal(path.nodes[-1], end)
        node_of = {tuple(point.tolist()): i for i, point in enumerate(points)}
        route = ["0", *(node_of[tuple(node.tolist())] for node in path.nodes[1:-1]), "1"]
        assert networkx.is_path(graph, route)
    assert joined >= 20


@pytest.mark.equation("eq-heuristic")
def test_the_heuristic_is_admissible_and_consistent(monkeypatch):
    astar, checked = networkx.astar_path, []

    def spy(graph, source, target, heuristic, *rest):
        distance = networkx.single_source_dijkstra_path_length(graph, target)
        assert heuristic(target, target) == 0
        assert all(heuristic(u, target) <= distance[u] + 1e-12 for u in distance)
        for u, v, weight in graph.edges(data="weight"):
            assert abs(heuristic(u, target) - heuristic(v, target)) <= weight + 1e-12
        # It is the straight line itself and not something smaller, such as zero.
        straight = max(heuristic(u, target) / distance[u] for u in distance if distance[u])
        assert straight == pytest.approx(1.0)
        checked.append(target)
        return astar(graph, source, target, heuristic, *rest)

    monkeypatch.setattr(networkx, "astar_path", spy)
    latent = latent_graph(torch.randn(150, 2, dtype=D), k=10, grow=True)
    for start, end in torch.randn(10, 2, 2, dtype=D):
        latent.path(start, end)
    assert len(checked) == 10


def test_a_path_goes_around_a_hole():
    angle = torch.linspace(0, 2 * math.pi, 1001, dtype=D)[:-1]
    ring = torch.stack([angle.cos(), angle.sin()], dim=1)
    path = latent_graph(ring).path(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]))
    assert path.length == pytest.approx(math.pi, rel=1e-3)
    assert path.nodes.norm(dim=1).min() > 0.999
    assert path.longest_edge <= 2 * math.sin(8 * math.pi / 1000) + 1e-9  # 15 neighbours, 8 a side


def test_length_and_longest_edge_of_a_path_are_those_of_its_nodes():
    path = Path(torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [3.0, 5.0]]))
    assert path.edge_lengths.tolist() == [5.0, 0.0, 1.0]
    assert (path.length, path.longest_edge) == (6.0, 5.0)


def test_a_path_keeps_the_dtype_of_the_points():
    points = torch.randn(30, 2)
    path = latent_graph(points, k=5, grow=True).path(torch.zeros(2, dtype=D), points[3])
    assert path.nodes.dtype == torch.float32


def test_a_search_leaves_the_graph_as_it_was(monkeypatch):
    latent = latent_graph(clusters(30, 20), k=5)
    before, nodes = edges(latent.graph), set(latent.graph)
    latent.path(latent.points[0], latent.points[1])
    assert (edges(latent.graph), set(latent.graph)) == (before, nodes)
    with pytest.raises(NoPathError, match="different parts"):
        latent.path(latent.points[0], latent.points[-1])
    assert (edges(latent.graph), set(latent.graph)) == (before, nodes)

    def fail(graph, *rest):
        assert len(graph) == 52
        raise RuntimeError("stopped in the middle")

    monkeypatch.setattr(networkx, "astar_path", fail)
    with pytest.raises(RuntimeError, match="stopped"):
        latent.path(latent.points[0], latent.points[1])
    assert (edges(latent.graph), set(latent.graph)) == (before, nodes)


# Graphs in several parts


def test_endpoints_in_different_components_are_refused_with_the_sizes():
    latent = latent_graph(clusters(40, 60, 20), k=15)
    assert latent.component_sizes == [60, 40, 20]
    match = "3 connected components with 60, 40, 20 points at k=15; raise k or use grow=True"
    with pytest.raises(ValueError, match=match):
        latent.path(latent.points[0], latent.points[-1])


def test_of_many_components_the_largest_five_are_named():
    latent = latent_graph(clusters(*range(4, 11)), k=3)
    with pytest.raises(ValueError, match=re.escape("7 connected components with 10, 9, 8, 7, 6")):
        latent.path(latent.points[0], latent.points[-1])


def test_growing_doubles_k_until_the_graph_is_connected():
    points = clusters(40, 60)
    latent = latent_graph(points, k=6, grow=True)
    assert latent.k == 48  # 24 finds all neighbours among the 40, 48 cannot
    assert latent.component_sizes == [100]
    assert latent.path(points[0], points[-1]).longest_edge > 80
    assert latent_graph(points, k=6).k == 6


def test_growing_leaves_a_connected_graph_alone_and_stops_at_the_complete_one():
    assert latent_graph(torch.randn(100, 2, dtype=D), k=20, grow=True).k == 20
    assert latent_graph(clusters(5, 5), k=3, grow=True).k == 6
    assert latent_graph(torch.zeros(7, 2), k=1, grow=True).component_sizes == [7]
    pairs = torch.tensor([0.0, 0.1, 9.0, 9.1, 9.2])[:, None]
    assert latent_graph(pairs, k=1, grow=True).k == 2


# Pruning


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_pruning_drops_exactly_the_planted_outliers(dtype):
    crowd = torch.rand(190, 2, dtype=dtype)
    lonely = 20 + 10 * torch.arange(10, dtype=dtype)[:, None] * torch.ones(2, dtype=dtype)
    order = torch.randperm(200)
    points = torch.cat([crowd, lonely])[order]
    assert torch.equal(prune_sparse(points), points[order < 190])


def test_a_pair_of_outliers_is_sparse_by_its_tenth_neighbour_and_not_by_its_first():
    grid = torch.cartesian_prod(torch.arange(7.0), torch.arange(14.0))  # neighbours at distance 1
    points = torch.cat([torch.tensor([[50.0, 0.0], [50.0, 0.1]]), grid])
    assert torch.equal(prune_sparse(points, share=0.02), grid)
    assert prune_sparse(points, share=0.02, neighbour=1)[:2].tolist() == points[:2].tolist()


def test_pruning_no_share_keeps_every_point():
    points = torch.randn(30, 3)
    assert torch.equal(prune_sparse(points, share=0.0), points)


# Equal steps


def test_resampled_points_lie_at_equal_arc_length():
    corners = torch.randn(12, 3, dtype=D).cumsum(dim=0)
    edge = corners.diff(dim=0).norm(dim=1)
    points = resample(corners, 50)
    assert torch.equal(points[0], corners[0]) and torch.equal(points[-1], corners[-1])
    reached = []  # the way along the polyline to the edge that a point lies on, and on to it
    for point in points:
        to_start, to_end = (point - corners[:-1]).norm(dim=1), (point - corners[1:]).norm(dim=1)
        on = (to_start + to_end - edge).argmin()
        assert to_start[on] + to_end[on] == pytest.approx(edge[on].item(), rel=1e-9)
        reached.append((edge[:on].sum() + to_start[on]).item())
    expected = torch.linspace(0, edge.sum().item(), 50, dtype=D)
    torch.testing.assert_close(torch.tensor(reached, dtype=D), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_a_resampled_straight_line_has_equal_steps(dtype):
    ends = torch.tensor([[1.0, 2.0], [4.0, -2.0]], dtype=dtype)
    weight = torch.linspace(0, 1, 7, dtype=dtype)[:, None]
    points = resample(ends, 7)
    assert points.dtype == dtype
    torch.testing.assert_close(points, ends[0] + weight * (ends[1] - ends[0]))


def test_repeated_corners_do_not_change_the_points():
    corners = torch.randn(6, 2, dtype=D)
    repeated = corners.repeat_interleave(torch.tensor([3, 1, 2, 1, 1, 2]), dim=0)
    torch.testing.assert_close(resample(repeated, 20), resample(corners, 20))
    assert torch.equal(resample(corners[:1].repeat(3, 1), 4), corners[:1].repeat(4, 1))


# Errors


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda p: latent_graph(p, k=20), "k must be between 1 and N - 1, got k=20 with N=20"),
        (lambda p: LatentGraph(p, k=0), "k must be between 1 and N - 1, got k=0"),
        (lambda p: latent_graph(p[0]), r"shape \(N, Z\), got shape \(2,\)"),
        (lambda p: latent_graph(p.log()), r"got shape \(20, 2\) with NaN or infinity"),
        (lambda p: latent_graph(p).path(p, p[0]), r"start must be .* shape \(2,\) .* \(20, 2\)"),
        (lambda p: latent_graph(p).path(p[0], p[0] / 0), "end must be finite"),
        (lambda p: prune_sparse(p, share=1.0), r"share must be in \[0, 1\), got 1.0"),
        (lambda p: prune_sparse(p, neighbour=20), "neighbour must be between 1 and N - 1"),
        (lambda p: resample(p[:1], 5), r"at least two corners .* shape \(1, 2\)"),
        (lambda p: resample(p, 1), "two points to set, .* num_points=1"),
    ],
    ids=lambda value: None if isinstance(value, str) else "call",
)
def test_what_has_no_graph_or_path_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(torch.randn(20, 2))
