r"""Checks of the build of chapter 7: from samples of a prior to a smooth path of images.

The reference is the package's own graph, path, spacing and smoothness. Positions are in double
precision, so that two ways of computing a distance agree on which point is nearest.
"""

import heapq
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hvae_course.analysis import latent_graph, prune_sparse, resample, smoothness
from hvae_course.checks.building import used
from hvae_course.checks.nested import split_gaussian
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    as_sequence,
    checked,
    compare,
    compare_cases,
)

_SIZE = 2


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _ring(n: int = 60) -> Tensor:
    """Points around a hole, and some stray ones inside."""
    angle = 2 * math.pi * torch.rand(n, dtype=torch.float64)
    around = torch.stack([angle.cos(), angle.sin()], dim=1) * (1 + 0.08 * _normal(n, 1))
    return torch.cat([around, 0.35 * _normal(max(2, n // 12), _SIZE)])


@checked
def sample_codes(answer: Answer) -> str:
    r"""Codes from a VHP prior, the nodes of the graph (:eq:`eq-vhp`).

    Write ``sample_codes(generative, zeta, noise) -> (N, Z)``: draws of :math:`z \sim p(z \mid
    \zeta)`. ``generative`` maps ``(N, Z_zeta)`` to means and raw log-scales, joined along axis 1;
    the log standard deviation is :math:`7 \tanh(\xi / 7)`.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    generative = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4)).float()
    for parameter in generative.parameters():
        parameter.data *= 2
    inputs = (generative, _normal(20, 3).float(), _normal(20, _SIZE).float())
    compare(answer, _codes(), inputs, name="the codes", mistakes=sample_codes.mistakes)
    return "20 codes are right"


def _codes(
    draw: Callable[..., Tensor] = lambda m, s, noise: m + s.exp() * noise,
    split: Callable[[Tensor], tuple[Tensor, Tensor]] = split_gaussian,
) -> Answer:
    """The draws, or a mistake."""
    return lambda generative, zeta, noise: draw(*split(generative(zeta)), noise)


for _hint, _wrong in {
    "these are the means of p(z | zeta); the noise is missing": _codes(lambda m, s, noise: m),
    "the noise is multiplied by log_std; multiply it by the standard deviation": _codes(
        lambda m, s, noise: m + s * noise
    ),
    "the noise is multiplied by the variance; multiply it by the standard deviation": _codes(
        lambda m, s, noise: m + (2 * s).exp() * noise
    ),
    "log_std is halved, as if it were a log-variance": _codes(
        lambda m, s, noise: m + (s / 2).exp() * noise
    ),
    "the noise is not scaled; multiply it by the standard deviation": _codes(
        lambda m, s, noise: m + noise
    ),
    "the log-scale is not bounded; use the function gaussian": _codes(
        split=lambda outputs: outputs.chunk(2, dim=1)
    ),
    "mean and log-scale are swapped; the means come first": _codes(
        split=lambda outputs: split_gaussian(torch.cat(outputs.chunk(2, dim=1)[::-1], dim=1))
    ),
}.items():
    sample_codes.mistake(_hint)(_wrong)


@checked
def prune(answer: Answer) -> str:
    """Points without those in the sparsest places.

    Write ``prune(points, share, neighbour) -> (kept, Z)``: the points in their order, without
    ``round(share * N)`` of them, those with the largest distance to their ``neighbour``-th nearest
    other point.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [(_ring(), 0.1, 5), (_ring(30), 0.05, 3), (_normal(40, 3), 0.2, 1)]

    def right(points: Tensor, share: float, neighbour: int) -> Tensor:
        return prune_sparse(points, share=share, neighbour=neighbour)

    compare_cases(answer, right, cases, name="what stays", mistakes=prune.mistakes)
    return "the points that stay are those of the package, in 3 cases"


def _distances(points: Tensor) -> Tensor:
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _prune(
    reach: Callable[[Tensor, int], Tensor] = lambda d, n: d.kthvalue(n + 1, dim=1).values,
    sign: float = 1.0,
    in_order: bool = True,
    dropped: Callable[[float, int], int] = lambda share, n: round(share * n),
) -> Answer:
    """The points that stay, or a mistake."""

    def answer(points: Tensor, share: float, neighbour: int) -> Tensor:
        kept = len(points) - dropped(share, len(points))
        stay = (sign * reach(_distances(points), neighbour)).argsort(stable=True)[:kept]
        return points[stay.sort().values if in_order else stay]

    return answer


for _hint, _wrong in {
    "a point is not its own neighbour; the nearest distance is zero": _prune(
        lambda d, n: d.kthvalue(n, dim=1).values
    ),
    "the densest points are dropped; drop those with the largest distance": _prune(sign=-1.0),
    "the points are sorted by density; leave them in their order": _prune(in_order=False),
    "this uses the mean distance to the nearest points; use that to one neighbour": _prune(
        lambda d, n: d.sort(dim=1).values[:, 1 : n + 1].mean(dim=1)
    ),
    "this uses all points, or their centre; sparse means far from the neighbour asked for": _prune(
        lambda d, n: d.mean(dim=1)
    ),
    "these are the points that are dropped; return those that stay": (
        lambda points, share, neighbour: points[
            _distances(points)
            .kthvalue(neighbour + 1, dim=1)
            .values.argsort()[len(points) - round(share * len(points)) :]
            .sort()
            .values
        ]
    ),
    "should have shape": lambda points, share, neighbour: points,
}.items():
    prune.mistake(_hint)(_wrong)


@checked
def link(answer: Answer) -> str:
    """The graph of neighbours, with the two ends of a path.

    Write ``link(points, start, end, k) -> places, lengths``. ``places``, ``(N + 2, Z)``, holds the
    points, then start, then end. ``lengths``, ``(N + 2, N + 2)``, holds the distance of every pair
    that is linked, and infinity elsewhere, also on the diagonal. Two points are linked if one of
    them is among the k nearest other points of the other. Start and end are linked to their k
    nearest points each, and not to each other.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [(_ring(), *_normal(2, _SIZE), 4), (_normal(25, 3), *_normal(2, 3), 2)]
    names = ("places", "lengths (-1 where there is no link)")

    def finite(function: Answer) -> Answer:
        def run(*inputs: object) -> list[object]:
            places, lengths = as_sequence(function(*inputs), 2, name="the result")
            if isinstance(lengths, Tensor):
                lengths = torch.where(lengths.isposinf(), -torch.ones_like(lengths), lengths)
            return [places, lengths]

        return run

    hints = used(finite, link.mistakes)
    compare_cases(finite(answer), finite(_link()), cases, name=names, mistakes=hints)
    points, start, end, k = cases[0]
    graph, (_, lengths) = latent_graph(points, k=k), _link()(*cases[0])
    edges = int(lengths[: len(points), : len(points)].isfinite().sum()) // 2
    assert edges == graph.graph.number_of_edges()
    return f"both graphs are right; the first has the {edges} links of the package's graph"


def _link(
    among: Callable[[Tensor, int], Tensor] = lambda d, k: _nearest(d.fill_diagonal_(math.inf), k),
    either: Callable[[Tensor], Tensor] = lambda linked: linked | linked.T,
    weight: Callable[[Tensor], Tensor] = lambda d: d,
    ends: Callable[[Tensor, int], Tensor] = lambda d, k: _nearest(d, k),
    join_ends: bool = False,
    both_ways: bool = True,
    order: tuple[int, int] = (0, 1),
    elsewhere: float = math.inf,
) -> Answer:
    """The graph, or a mistake in it."""

    def answer(points: Tensor, start: Tensor, end: Tensor, k: int) -> tuple[Tensor, Tensor]:
        pair = torch.stack([start, end])[list(order)]
        places, n = torch.cat([points, pair]), len(points)
        distance = _distances(places)
        linked = torch.zeros_like(distance, dtype=torch.bool)
        linked[:n, :n] = either(among(distance[:n, :n].clone(), k))
        linked[n:, :n] = ends(distance[n:, :n], k)
        if both_ways:
            linked[:n, n:] = linked[n:, :n].T
        if join_ends:
            linked[n, n + 1] = linked[n + 1, n] = True
        empty = torch.full_like(distance, elsewhere)
        return places, torch.where(linked, weight(distance), empty)

    return answer


def _nearest(distance: Tensor, k: int) -> Tensor:
    """Which columns are among the k smallest of their row."""
    near = distance.topk(k, dim=1, largest=False).indices
    return torch.zeros_like(distance, dtype=torch.bool).scatter_(1, near, True)


for _hint, _wrong in {
    "a point counts as its own neighbour; take the k nearest other points": _link(
        lambda d, k: _nearest(d, k) & ~torch.eye(len(d), dtype=torch.bool)
    ),
    "the points are linked to themselves; the diagonal is infinite": _link(
        lambda d, k: _nearest(d, k)
    ),
    "the graph is not symmetric; one direction is enough for a link": _link(
        either=lambda linked: linked
    ),
    "links need both directions here; one is enough": _link(
        either=lambda linked: linked & linked.T
    ),
    "start and end are linked to each other; the path would be the straight line": _link(
        join_ends=True
    ),
    "the links of start and end go one way only": _link(both_ways=False),
    "start and end are linked to one point; link each to k": _link(
        ends=lambda d, k: _nearest(d, 1)
    ),
    "start and end are linked to every point; link each to its k nearest": _link(
        ends=lambda d, k: torch.ones_like(d, dtype=torch.bool)
    ),
    "the lengths are squared; take the root": _link(weight=torch.square),
    "every link has the length 1; it has the distance of its ends": _link(weight=torch.ones_like),
    "missing links have the length 0; they are infinite": _link(elsewhere=0.0),
    "end comes before start": _link(order=(1, 0)),
}.items():
    link.mistake(_hint)(_wrong)


@checked
def search(answer: Answer) -> str:
    r"""A* from the start to the end (:eq:`eq-heuristic`).

    Write ``search(places, lengths) -> nodes, visited``. The start is the last node but one, the
    end is the last. ``nodes`` lists the nodes of the shortest path, both included. ``visited`` is
    the number of different nodes that were taken out of the queue, the end included; the queue is
    ordered by the length so far plus the straight distance to the end. A path exists.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = []
    for n, size, k in ((60, 2, 5), (40, 2, 4), (50, 3, 6)):
        points = _ring(n) if size == 2 else _normal(n, size)
        ends = points[0] + 0.01, points[n // 2] - 0.01
        points = latent_graph(points, k=k, grow=True)
        cases.append((points.points, *ends, points.k))
    graphs = [_link()(*case) for case in cases]
    longest = max(map(len, (lengths for _, lengths in graphs)))

    def listed(function: Answer) -> Answer:
        def run(places: Tensor, lengths: Tensor) -> list[object]:
            value = function(places, lengths)
            nodes, visited = as_sequence(value, 2, name="the result")
            nodes = as_sequence(nodes, len(nodes), name="nodes")
            if len(nodes) > longest:
                raise Mistake("the path has more nodes than the graph; it goes in a circle")
            padded = [*(float(node) for node in nodes), *[-1.0] * (longest - len(nodes))]
            return [torch.tensor(padded), float(visited)]

        return run

    names = ("the node numbers (-1 after the end)", "visited")
    hints = used(listed, search.mistakes)
    compare_cases(listed(answer), listed(_search()), graphs, name=names, mistakes=hints)
    for (points, start, end, k), (places, lengths) in zip(cases, graphs, strict=True):
        nodes, _ = _search()(places, lengths)
        path = latent_graph(points, k=k).path(start, end)
        torch.testing.assert_close(places[nodes], path.nodes)
    return "paths and numbers of visited nodes are right in 3 graphs; the paths are the package's"


def _search(
    priority: Callable[[float, float], float] = lambda cost, ahead: cost + ahead,
    edge: Callable[[float], float] = float,
    ahead_of: Callable[[Tensor], Tensor] = lambda places: (places - places[-1]).norm(dim=1),
    early: bool = False,
    result: Callable[[list[int], int], object] = lambda nodes, visited: (nodes, visited),
) -> Answer:
    """A*, or a mistake in it."""

    def answer(places: Tensor, lengths: Tensor) -> object:
        n, ahead = len(places), ahead_of(places).tolist()
        start, end, rows = n - 2, n - 1, lengths.tolist()
        cost, came, visited, queue = {start: 0.0}, {}, set(), [(0.0, start)]
        while queue and not (early and end in came):
            _, u = heapq.heappop(queue)
            if u in visited:
                continue
            visited.add(u)
            if u == end:
                break
            for v, length in enumerate(rows[u]):
                if length < math.inf and cost[u] + edge(length) < cost.get(v, math.inf):
                    cost[v], came[v] = cost[u] + edge(length), u
                    heapq.heappush(queue, (priority(cost[v], ahead[v]), v))
        nodes = [end]
        while nodes[-1] != start:
            nodes.append(came[nodes[-1]])
        return result(nodes[::-1], len(visited))

    return answer


for _hint, _wrong in {
    "this is Dijkstra's algorithm, which visits more; add the distance to the end": _search(
        lambda cost, ahead: cost
    ),
    "the queue is ordered by the distance to the end alone; add the length so far": _search(
        lambda cost, ahead: ahead
    ),
    "the heuristic is doubled, so it is not admissible": _search(
        lambda cost, ahead: cost + 2 * ahead
    ),
    "the heuristic is squared, so it is not admissible": _search(
        lambda cost, ahead: cost + ahead**2
    ),
    "the heuristic is subtracted; add it": _search(lambda cost, ahead: cost - ahead),
    "the heuristic is the distance from the start; use that to the end": _search(
        ahead_of=lambda places: (places - places[-2]).norm(dim=1)
    ),
    "this path has the fewest edges; use their lengths": _search(
        lambda cost, ahead: cost, edge=lambda length: 1.0
    ),
    "visited lacks the end; stop when it leaves the queue, not when it is first seen": _search(
        early=True
    ),
    "the path runs from the end to the start; reverse it": _search(
        result=lambda nodes, visited: (nodes[::-1], visited)
    ),
    "the path lacks the start; include both ends": _search(
        result=lambda nodes, visited: (nodes[1:], visited)
    ),
    "visited is the number of nodes of the path; count those taken out of the queue": _search(
        result=lambda nodes, visited: (nodes, len(nodes))
    ),
}.items():
    search.mistake(_hint)(_wrong)


@checked
def follow(answer: Answer) -> str:
    r"""Frames along a path, and how smooth they are (:eq:`eq-smoothness`).

    Write ``follow(corners, decode, num_frames) -> frames, jump, bend``. ``corners``, ``(P, Z)``,
    are the places of a path; set ``num_frames`` points at equal distances along its edges, both
    ends included, and decode them. With the steps :math:`\ell_j` between neighbouring frames,
    ``jump`` is the largest over the mean, and ``bend`` the mean squared norm of the second
    differences over the squared mean step.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    weights, more = _normal(_SIZE, 4), _normal(_SIZE, 4)

    def decode(z: Tensor) -> Tensor:
        return torch.tanh(z @ weights.to(z)) + 0.3 * torch.sin(3 * z @ more.to(z))

    cases = [(_normal(5, _SIZE), decode, 12), (_normal(2, _SIZE), decode, 7)]
    names = ("the frames", "jump", "bend")
    compare_cases(answer, _package_follow, cases, name=names, mistakes=follow.mistakes)
    return "frames, jump and bend of two paths are those of the package"


def _package_follow(
    corners: Tensor, decode: Callable[[Tensor], Tensor], num_frames: int
) -> tuple[Tensor, float, float]:
    frames = decode(resample(corners, num_frames))
    measured = smoothness(frames)
    return frames, measured.jump_ratio, measured.second_difference


def _follow(
    place: Callable[[Tensor, int], Tensor] = resample,
    jump: Callable[[Tensor], Tensor] = lambda step: step.norm(dim=1).max() / _mean(step),
    bend: Callable[[Tensor], Tensor] = (
        lambda step: step.diff(dim=0).square().sum(dim=1).mean() / _mean(step) ** 2
    ),
    of: Callable[[Tensor, Tensor], Tensor] = lambda frames, z: frames,
) -> Answer:
    """Frames and smoothness, or a mistake in one of them."""

    def answer(corners: Tensor, decode: Callable[[Tensor], Tensor], num_frames: int) -> tuple:
        z = place(corners, num_frames)
        frames = decode(z)
        step = of(frames, z).diff(dim=0)
        return frames, jump(step), bend(step)

    return answer


def _mean(step: Tensor) -> Tensor:
    return step.norm(dim=1).mean()


def _by_number(corners: Tensor, num_frames: int) -> Tensor:
    """The same number of frames on every edge."""
    at = torch.linspace(0, len(corners) - 1, num_frames, dtype=corners.dtype)
    on = at.long().clamp(max=len(corners) - 2)
    return torch.lerp(corners[on], corners[on + 1], (at - on)[:, None])


for _hint, _wrong in {
    "the frames are spread evenly over the corners; set them at equal distances": _follow(
        _by_number
    ),
    "the frames lie on the straight line between the ends; follow the edges": _follow(
        lambda corners, n: resample(corners[[0, -1]], n)
    ),
    "the end is missing; include both ends": _follow(
        lambda corners, n: resample(corners, n + 1)[:-1]
    ),
    "the path runs from the end to the start": _follow(
        lambda corners, n: resample(corners, n).flip(0)
    ),
    "jump is the largest over the smallest step; divide by the mean": _follow(
        jump=lambda step: step.norm(dim=1).max() / step.norm(dim=1).min()
    ),
    "jump is the largest step; divide it by the mean": _follow(
        jump=lambda step: step.norm(dim=1).max()
    ),
    "bend is not divided by the squared mean step": _follow(
        bend=lambda step: step.diff(dim=0).square().sum(dim=1).mean()
    ),
    "bend is divided by the mean step; divide by its square": _follow(
        bend=lambda step: step.diff(dim=0).square().sum(dim=1).mean() / _mean(step)
    ),
    "bend averages over the pixels; sum over them": _follow(
        bend=lambda step: step.diff(dim=0).square().mean() / _mean(step) ** 2
    ),
    "bend has first differences; take the differences of the steps": _follow(
        bend=lambda step: step.square().sum(dim=1).mean() / _mean(step) ** 2
    ),
    "jump and bend are measured in z; measure the decoded frames": _follow(of=lambda frames, z: z),
}.items():
    follow.mistake(_hint)(_wrong)
