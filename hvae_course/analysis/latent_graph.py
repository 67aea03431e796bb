r"""Paths that stay where a prior has mass: shortest paths in a graph of latent points.

A straight line between two codes may cross a region that no data come from. A graph whose nodes
are points of the latent space, each linked to its nearest neighbours, has edges only where points
are close together, so a shortest path in it goes around empty regions. The points are samples of
a prior, or codes of data. The graph shows no more than these points cover, and a single stray
point in an empty region can carry a path across it. `prune_sparse` removes such points.

The search is A*. It visits first the node whose distance from the start along the graph, plus the
straight line from it to the end, is smallest. `resample` then sets the frames of a path at equal
distances.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvae_course.analysis.inputs import as_real, check_whole


def _coordinates(points: Tensor) -> np.ndarray:
    if points.ndim != 2 or not torch.isfinite(points).all():
        raise ValueError(
            f"points must be finite and of shape (N, Z), got shape {tuple(points.shape)}"
            + (" with NaN or infinity" if points.ndim == 2 else "")
        )
    return points.detach().cpu().double().numpy()


def _check_neighbours(name: str, number: int, points: Tensor) -> None:
    check_whole(**{name: number})
    if not 1 <= number < len(points):
        raise ValueError(
            f"{name} must be between 1 and N - 1, got {name}={number} with N={len(points)} points"
        )


def prune_sparse(points: Tensor, *, share: float = 0.05, neighbour: int = 10) -> Tensor:
    """Drop the points that lie in the sparsest places.

    Sparse means far from the n-th nearest neighbour. A few samples of a prior that fall between
    its modes carry almost no mass, but are enough for a path to cross there.

    Args:
        points: ``(N, Z)``.
        share: share of the points to drop, rounded to whole points.
        neighbour: which neighbour's distance counts, n.

    Returns:
        The points that stay, in their order, ``(N - dropped, Z)``.

    Raises:
        ValueError: if the points are not finite or not ``(N, Z)``, the share is not in [0, 1),
            or there are not more points than ``neighbour``.
    """
    from sklearn.neighbors import NearestNeighbors  # a third of the package's time to import

    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    points = as_real(points, "points")
    coordinates = _coordinates(points)
    _check_neighbours("neighbour", neighbour, points)
    distance, _ = NearestNeighbors(n_neighbors=neighbour).fit(coordinates).kneighbors()
    kept = len(points) - round(share * len(points))
    stay = np.sort(np.argsort(distance[:, -1], kind="stable")[:kept])
    return points[torch.from_numpy(stay).to(points.device)]


class NoPathError(ValueError):
    """Two places that lie in different parts of a graph."""


@dataclass(frozen=True, eq=False)
class Path:
    """A path through a graph of latent points."""

    nodes: Tensor
    """Start, the points on the way, end, ``(T, Z)``."""

    @property
    def edge_lengths(self) -> Tensor:
        """Euclidean length of every edge, ``(T - 1,)``, double precision."""
        return self.nodes.double().diff(dim=0).norm(dim=1)

    @property
    def length(self) -> float:
        """Sum of the edges' lengths."""
        return self.edge_lengths.sum().item()

    @property
    def longest_edge(self) -> float:
        """Length of the longest edge; a large one crosses a gap between the points."""
        return self.edge_lengths.max().item()


class LatentGraph:
    """Points of a latent space, linked to their nearest neighbours.

    Two points are linked if one of them is among the k nearest of the other, so the graph is
    symmetric and a point may have more than k links. An edge weighs its Euclidean length, zero
    between equal points.

    Args:
        points: ``(N, Z)``; copied.
        k: number of nearest neighbours, the point itself not counted.

    Raises:
        ValueError: if the points are not finite or not ``(N, Z)``, or there are not more than k.

    Attributes:
        points: the points, ``(N, Z)``.
        k: number of nearest neighbours.
        graph: the NetworkX graph, nodes 0 to N - 1, edge attribute ``"weight"``.
    """

    def __init__(self, points: Tensor, *, k: int = 15) -> None:
        import networkx  # here for the same reason as in prune_sparse
        from sklearn.neighbors import NearestNeighbors

        points = as_real(points, "points")
        self._coordinates = _coordinates(points).copy()
        _check_neighbours("k", k, points)
        self.points, self.k = points.detach().clone(), k
        self.graph = networkx.Graph()
        self.graph.add_nodes_from(range(len(points)))
        self._search = NearestNeighbors(n_neighbors=k).fit(self._coordinates)
        # An edge list and not a sparse matrix, which may lose edges of length zero.
        self._link(np.arange(len(points)), self._coordinates, self._search.kneighbors()[1])

    def _link(self, nodes: np.ndarray, at: np.ndarray, neighbours: np.ndarray) -> None:
        """Link each of the nodes, which lie ``at`` some place, to its k neighbours."""
        for neighbour in neighbours.T:  # (n,), the next neighbour of every node
            length = np.linalg.norm(at - self._coordinates[neighbour], axis=1).tolist()
            edges = zip(nodes.tolist(), neighbour.tolist(), length, strict=True)
            self.graph.add_weighted_edges_from(edges)

    @property
    def component_sizes(self) -> list[int]:
        """Number of points in each connected component, largest first."""
        import networkx

        return sorted(map(len, networkx.connected_components(self.graph)), reverse=True)

    def path(self, start: Tensor, end: Tensor) -> Path:
        r"""Find the shortest path between two places by A*.

        Each endpoint is linked to its k nearest points during the search, and the links are
        removed afterwards; two searches must not share a graph at the same time. The endpoints are
        not linked to each other, so every path visits at least one point.

        The heuristic :math:`\hat\ell(z) = \lVert z - z_{\text{end}} \rVert` is admissible: every
        edge is as long as the straight line between its nodes, and no polyline from z to the end
        is shorter than the straight line. It is also consistent: for each edge from z to z' the
        triangle inequality reads :math:`\hat\ell(z) \le \lVert z - z' \rVert + \hat\ell(z')`. The
        first makes the path a shortest one; the second lets A* settle each node at its first
        visit.

        Args:
            start: ``(Z,)``.
            end: ``(Z,)``.

        Returns:
            The path, endpoints included, in the dtype and on the device of the points.

        Raises:
            ValueError: if an endpoint is not finite or not ``(Z,)``.
            NoPathError: if no path joins the two; a ``ValueError``, too.

        Source:
            Hart, Nilsson and Raphael (1968), A Formal Basis for the Heuristic Determination of
            Minimum Cost Paths; for interpolation in the latent space of a VAE, Klushyn et al.
            (2019), arXiv:1905.04982.
        """
        import networkx

        size = (self.points.shape[1],)
        start, end = as_real(start, "start"), as_real(end, "end")
        for name, place in (("start", start), ("end", end)):
            if place.shape != size or not torch.isfinite(place).all():
                raise ValueError(
                    f"{name} must be finite and of shape {size} as the points are, got shape "
                    f"{tuple(place.shape)}"
                )
        ends = torch.stack([place.detach().to(self.points) for place in (start, end)])  # (2, Z)
        at = _coordinates(ends)
        places = np.concatenate([self._coordinates, at])
        to_end = np.linalg.norm(places - at[1], axis=1).tolist()
        nodes = np.arange(len(self.points), len(places))
        neighbours = self._search.kneighbors(at, return_distance=False)
        try:
            self._link(nodes, at, neighbours)
            route = networkx.astar_path(self.graph, *nodes.tolist(), lambda u, _: to_end[u])
        except networkx.NetworkXNoPath:
            route = None
        finally:
            self.graph.remove_nodes_from(nodes.tolist())
        if route is None:
            raise NoPathError(self._describe_gap())
        return Path(torch.cat([self.points, ends])[route])

    def _describe_gap(self) -> str:
        sizes = self.component_sizes
        shown = ", ".join(map(str, sizes[:5])) + (", ..." if len(sizes) > 5 else "")
        return (
            f"start and end lie in different parts of the graph, which has {len(sizes)} connected "
            f"components with {shown} points at k={self.k}; raise k or use grow=True"
        )


def latent_graph(points: Tensor, *, k: int = 15, grow: bool = False) -> LatentGraph:
    """Link points of a latent space to their nearest neighbours.

    Args:
        points: ``(N, Z)``, samples of a prior or codes of data.
        k: number of nearest neighbours, the point itself not counted.
        grow: double k until the graph is connected. Clusters that lie far apart need a k as large
            as the smallest of them, which for thousands of points takes minutes and gigabytes. A
            path from one cluster to the next still crosses the gap, as its longest edge shows, and
            the paths through graphs of different k cannot be compared: report the k.

    Returns:
        The graph; its ``k`` is the one in use.

    Raises:
        ValueError: if the points are not finite or not ``(N, Z)``, or there are not more than k.

    Example:
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [9.0, 1.0]])
        >>> path = latent_graph(points, k=1).path(points[0], points[3])
        >>> path.nodes.tolist()
        [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [9.0, 1.0], [9.0, 1.0]]
        >>> path.length, path.longest_edge
        (10.0, 8.0)
    """
    graph = LatentGraph(points, k=k)
    while grow and len(graph.component_sizes) > 1:
        k = min(2 * k, len(points) - 1)
        del graph  # it can be large, and the next one is larger
        graph = LatentGraph(points, k=k)
    return graph


def resample(path_points: Tensor, num_points: int) -> Tensor:
    """Set points at equal distances along a polyline, including its two ends.

    Distances are measured along the polyline: across a corner the straight distance is shorter.

    Args:
        path_points: the corners in order, ``(P, Z)``; two for a straight line. Repeated corners
            are allowed.
        num_points: number of points, T.

    Returns:
        ``(T, Z)``, in the dtype of the corners.

    Raises:
        ValueError: if there are fewer than two corners or points, or a corner is not finite.
        TypeError: if the corners are no real numbers.

    Example:
        >>> resample(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]]), 5).tolist()
        [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]
    """
    path_points = as_real(path_points, "corners")
    check_whole(num_points=num_points)
    if path_points.ndim != 2 or len(path_points) < 2 or num_points < 2:
        raise ValueError(
            "a polyline (P, Z) needs at least two corners and two points to set, got shape "
            f"{tuple(path_points.shape)} and num_points={num_points}"
        )
    if not torch.isfinite(path_points).all():
        raise ValueError("the corners hold NaN or infinite values; remove them first")
    corners = path_points.double()
    edge = corners.diff(dim=0).norm(dim=1)  # (P - 1,)
    reached = torch.cat([edge.new_zeros(1), edge.cumsum(dim=0)])  # (P,), distance to each corner
    wanted = torch.linspace(0, 1, num_points, dtype=edge.dtype, device=edge.device) * reached[-1]
    # Searching the inner corners alone keeps both ends on an edge; an edge of length zero is
    # found only where its two corners agree, so what it is divided by does not matter.
    on = torch.searchsorted(reached[1:-1].contiguous(), wanted)  # (T,), index of the edge
    part = (wanted - reached[on]) / edge[on].where(edge[on] > 0, 1)
    points = torch.lerp(corners[on], corners[on + 1], part[:, None])  # (T, Z)
    return torch.cat([path_points[:1], points[1:-1].to(path_points), path_points[-1:]])
