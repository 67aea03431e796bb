"""Checks of the sheet on latent graphs: mistakes are named also as a student would write them."""

import math

import pytest
import torch
from answers.running import SHEETS, run_check, solution
from notebook_cells import code_cells, run
from scipy.spatial.transform import Rotation

from hvae_course.analysis import resample
from hvae_course.checks import latent_graphs as checks
from hvae_course.data.kinematics import rotation_matrix


def nearest_first(points, k):
    """Links both ways, and takes the point itself to come first."""
    links = {u: set() for u in range(len(points))}
    for u, near in enumerate(torch.cdist(points, points).argsort(dim=1, stable=True).tolist()):
        for v in near[1 : k + 1]:
            links[u].add(v)
            links[v].add(u)
    return links


def listed_twice(points, k):
    distance = torch.cdist(points, points).fill_diagonal_(math.inf)
    links = {u: [] for u in range(len(points))}
    for u, near in enumerate(distance.topk(k, largest=False).indices):
        for v in near.tolist():
            links[u].append(v)
            links[v].append(u)
    return links


def sets_of_tensors(points, k):
    return {u: {torch.tensor(v) for v in near} for u, near in nearest_first(points, k).items()}


def edge_list(points, k):
    return [(u, v) for u, near in nearest_first(points, k).items() for v in near]


def keys_as_text(points, k):
    return {str(u): near for u, near in nearest_first(points, k).items()}


def half_numbers(points, k):
    return {u: [v + 0.5 for v in near] for u, near in nearest_first(points, k).items()}


def nearest_with_itself(points, share, neighbour):
    distance = torch.cdist(points, points).topk(neighbour, largest=False).values[:, -1]
    return points[distance.argsort()[: len(points) - round(share * len(points))].sort().values]


def share_kept_as_a_whole_number(points, share, neighbour):
    distance = torch.cdist(points, points).topk(neighbour + 1, largest=False).values[:, -1]
    return points[distance.argsort()[: int((1 - share) * len(points))].sort().values]


def lengths(corners, codes, decode):
    step = decode(codes).diff(dim=0).norm(dim=1)
    return corners.diff(dim=0).norm(dim=1).sum(), step.sum(), step.max()


def line_at_its_ends(corners, decode, num_frames):
    line = corners[[0, -1]]
    path = lengths(corners, resample(corners, num_frames), decode)
    return path, lengths(line, line, decode)


def path_at_its_corners(corners, decode, num_frames):
    line = corners[[0, -1]]
    straight = lengths(line, resample(line, num_frames), decode)
    return lengths(corners, corners, decode), straight


def six_numbers(corners, decode, num_frames):
    path, line = solution("latent_graphs", "compare_with_line")(corners, decode, num_frames)
    return *path, *line


def arccosine(a, b):
    turn = rotation_matrix(a).mT @ rotation_matrix(b)
    cosine = (turn.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1) / 2
    return torch.rad2deg(cosine.acos()).median(dim=-1).values


def clamped_arccosine(a, b):
    cosine = ((rotation_matrix(a) * rotation_matrix(b)).sum(dim=(-2, -1)) - 1) / 2
    return torch.rad2deg(cosine.clamp(-1, 1).acos()).median(dim=-1).values


def mean_of_scipy(a, b):
    first, second = (Rotation.from_rotvec(v.reshape(-1, 3).numpy()) for v in (a, b))
    angle = (first.inv() * second).magnitude().reshape(a.shape[:2])
    return torch.from_numpy(angle).rad2deg().mean(dim=1)


def unit_quaternions(v):
    angle = v.norm(dim=-1, keepdim=True)
    return torch.cat([(angle / 2).cos(), v / angle * (angle / 2).sin()], dim=-1)


def two_signs(a, b):
    cosine = (unit_quaternions(a) * unit_quaternions(b)).sum(dim=-1)
    return torch.rad2deg(2 * cosine.clamp(-1, 1).acos()).median(dim=-1).values


def at_rest(a, b):
    cosine = (unit_quaternions(a.double()) * unit_quaternions(b.double())).sum(dim=-1).abs()
    return torch.rad2deg(2 * cosine.clamp(max=1).acos()).median(dim=-1).values


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        ("knn_graph", nearest_first, "the point itself need not come first"),
        ("knn_graph", listed_twice, "in its list twice"),
        ("knn_graph", sets_of_tensors, "are tensors, which a dict does not find"),
        ("knn_graph", edge_list, "there should be 12 lists, one for each point"),
        ("knn_graph", keys_as_text, "a list for each of the numbers 0 to 11"),
        ("knn_graph", half_numbers, "a list of node numbers"),
        ("prune_sparse", nearest_with_itself, "counted as its first neighbour"),
        ("prune_sparse", share_kept_as_a_whole_number, "too many points are dropped"),
        ("compare_with_line", line_at_its_ends, "the line has two frames"),
        ("compare_with_line", path_at_its_corners, "the frames of the path are its corners"),
        ("compare_with_line", six_numbers, "should be 2 values; your function returned 6"),
        ("pose_distance", arccosine, "clamp it, or use atan2"),
        ("pose_distance", clamped_arccosine, "the cosine hardly depends on the angle"),
        ("pose_distance", mean_of_scipy, "this is the mean over the joints"),
        ("pose_distance", two_signs, "q and -q are one rotation"),
        ("pose_distance", at_rest, "not finite where a joint is at rest"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_is_named_however_it_is_written(exercise, answer, hint, capsys):
    verdict = run_check(getattr(checks, exercise), answer, capsys)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.slow
def test_the_example_shows_what_its_solution_says():
    lines = run(code_cells(SHEETS["latent_graphs"]), {})
    rows = {line[:18].strip(): line[18:].split() for line in lines if ", " in line[:6]}
    rows = {name: [float(number) for number in row] for name, row in rows.items()}
    around, line, across = (rows[n] for n in ("path, pruned", "line, pruned", "path, all codes"))
    assert around[0] / line[0] == pytest.approx(math.pi / 2, rel=0.05)
    assert all(path[0] > line[0] for path in (around, across))
    assert around[1] < 0.5 * line[1] and around[2] < 0.5 * line[2]
    assert across[1] > line[1] > 2 * 3.9  # up to almost 4 and down again
