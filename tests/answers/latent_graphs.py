"""Other right answers to the exercises of chapter 7."""

import math

import numpy
import torch
from scipy.spatial.transform import Rotation
from sklearn.neighbors import NearestNeighbors

from hvae_course import analysis
from hvae_course.data import kinematics


def bellman_and_ford(neighbours, positions, start, goal):
    """Relax all edges until nothing changes."""
    cost, before, changed = {start: 0.0}, {}, True
    while changed:
        changed = False
        for u in list(cost):
            for v in neighbours[u]:
                new = cost[u] + math.dist(positions[u].tolist(), positions[v].tolist())
                if new < cost.get(v, math.inf) - 1e-12:
                    cost[v], before[v], changed = new, u, True
    path = [goal]
    while path[0] != start:
        path.insert(0, before[path[0]])
    return torch.tensor(path)


def a_tuple(*graph):
    return tuple(bellman_and_ford(*graph).tolist())


def an_array(*graph):
    return numpy.array(a_tuple(*graph))


def sets_by_loops(points, k):
    rows, links = points.tolist(), {}
    for u, row in enumerate(rows):
        others = sorted((math.dist(row, rows[v]), v) for v in range(len(rows)) if v != u)
        for _, v in others[:k]:
            links.setdefault(u, set()).add(v)
            links.setdefault(v, set()).add(u)
    return links


def scikit_learn(points, k):
    near = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
    return {
        u: numpy.union1d(linked, numpy.nonzero((near == u).any(axis=1))[0])
        for u, linked in enumerate(near)
    }


def the_package(points, k):
    return analysis.latent_graph(points, k=k).graph


def a_list_of_lists(points, k):
    return [list(linked) for _, linked in sorted(sets_by_loops(points, k).items())]


def expanded_squares(points, k):
    """Less accurate distances, with a negative zero on the diagonal."""
    square = points.square().sum(dim=1)
    distance = square[:, None] + square - 2 * points @ points.T
    near = (distance + 1e9 * torch.eye(len(points))).argsort(dim=1)[:, :k]
    linked = torch.zeros(len(points), len(points), dtype=torch.bool).scatter(1, near, True)
    return {u: row.nonzero().flatten().tolist() for u, row in enumerate(linked | linked.T)}


def mask_of_the_largest(points, share, neighbour):
    distance = NearestNeighbors(n_neighbors=neighbour).fit(points).kneighbors()[0][:, -1]
    keep = numpy.ones(len(points), bool)
    keep[numpy.argsort(distance)[::-1][: round(share * len(points))]] = False
    return points.numpy()[keep]


def the_package_prunes(points, share, neighbour):
    return analysis.prune_sparse(points, share=share, neighbour=neighbour)


def one_list(points, share, neighbour):
    rows = points.tolist()
    reach = [sorted(math.dist(a, b) for b in rows)[neighbour] for a in rows]
    limit = sorted(reach)[len(rows) - round(share * len(rows)) - 1]
    return [row for row, distance in zip(rows, reach, strict=True) if distance <= limit]


def interpolated(corners, decode, num_frames):
    """NumPy, coordinate by coordinate, without corners that repeat the last one."""

    def measure(corners):
        edge = numpy.linalg.norm(numpy.diff(corners, axis=0), axis=1)
        corners = corners[numpy.concatenate([[True], edge > 0])]
        reached = numpy.concatenate([[0], numpy.cumsum(edge[edge > 0])])
        wanted = numpy.linspace(0, reached[-1], num_frames)
        codes = [numpy.interp(wanted, reached, column) for column in corners.T]
        frames = decode(torch.tensor(numpy.array(codes).T)).numpy()
        steps = numpy.linalg.norm(numpy.diff(frames, axis=0), axis=1)
        return [edge.sum(), steps.sum(), steps.max()]

    corners = corners.numpy()
    return numpy.array([measure(corners), measure(corners[[0, -1]])])


def walked(corners, decode, num_frames):
    """Loops over frames and edges; a tensor (2, 3)."""

    def at(corners, distance):
        for a, b in zip(corners[:-1], corners[1:], strict=True):
            edge = (b - a).norm()
            if distance <= edge and edge > 0:
                return a + distance / edge * (b - a)
            distance -= edge
        return corners[-1]

    rows = []
    for line in (corners, torch.stack([corners[0], corners[-1]])):
        length = sum((b - a).norm() for a, b in zip(line[:-1], line[1:], strict=True))
        codes = [at(line, i * length / (num_frames - 1)) for i in range(num_frames)]
        frames = [decode(z[None])[0] for z in codes]
        steps = [(b - a).norm() for a, b in zip(frames[:-1], frames[1:], strict=True)]
        rows.append(torch.stack([length, sum(steps), max(steps)]))
    return torch.stack(rows)


def scipy_rotations(a, b):
    first, second = (Rotation.from_rotvec(v.reshape(-1, 3).numpy()) for v in (a, b))
    angle = (first.inv() * second).magnitude().reshape(a.shape[:2])
    return numpy.median(numpy.degrees(angle), axis=1)


def quaternions(a, b):
    def quaternion(v):
        half = v.norm(dim=-1, keepdim=True) / 2
        return torch.cat([half.cos(), v / 2 * torch.sinc(half / math.pi)], dim=-1)

    p, q = quaternion(a), quaternion(b)
    q = torch.where((p * q).sum(dim=-1, keepdim=True) < 0, -q, q)
    angle = 4 * torch.atan2((p - q).norm(dim=-1), (p + q).norm(dim=-1))
    return torch.rad2deg(angle).quantile(0.5, dim=-1)


def arccosine_in_double_precision(a, b):
    first, second = (kinematics.rotation_matrix(v.double()) for v in (a, b))
    cosine = ((first * second).sum(dim=(-2, -1)) - 1) / 2
    angle = torch.rad2deg(cosine.clamp(-1, 1).acos())
    return angle.sort(dim=-1).values[:, angle.shape[-1] // 2]


def chord(a, b):
    first, second = (kinematics.rotation_matrix(v) for v in (a, b))
    chord = torch.linalg.matrix_norm(first - second)
    angle = 2 * torch.rad2deg((chord / 8**0.5).clamp(max=1).asin())
    return [row.median().item() for row in angle]


OTHERS = {
    "compare_with_line": [interpolated, walked],
    "knn_graph": [sets_by_loops, scikit_learn, the_package, a_list_of_lists, expanded_squares],
    "pose_distance": [scipy_rotations, quaternions, arccosine_in_double_precision, chord],
    "prune_sparse": [mask_of_the_largest, the_package_prunes, one_list],
    "shortest_path": [bellman_and_ford, a_tuple, an_array],
}
