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
    "one row of noise is used for all codes; every row has its own": _codes(
        lambda m, s, noise: m + s.exp() * noise[:1]
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
    cases = [(_ring(), 0.1, 5), (_ring(30), 0.05, 3), (_normal(40, 3), 0.2, 2)]

    def right(points: Tensor, share: float, neighbour: int) -> Tensor:
        return prune_sparse(points, share=share, neighbour=neighbour)

    try:
        compare_cases(answer, right, cases, name="what stays", mistakes=prune.mistakes)
    except Mistake:
        if all(_same_rows(answer(case[0].clone(), *case[1:]), right(*case)) for case in cases):
            raise Mistake("these points are right; leave them in their order") from None
        raise
    return "the points that stay are those of the package, in 3 cases"


def _same_rows(points: object, others: Tensor) -> bool:
    """Whether the rows are the same in another order."""
    if not isinstance(points, Tensor) or points.shape != others.shape:
        return False
    first, second = (p[p[:, 0].argsort()] for p in (points.to(others), others))
    return torch.allclose(first, second)


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
    "these points are right; leave them in their order": _prune(in_order=False),
    "the number of points to drop is rounded down; use round": _prune(
        dropped=lambda share, n: int(share * n)
    ),
    "the number of points to drop is rounded up; use round": _prune(
        dropped=lambda share, n: math.ceil(share * n)
    ),
    "the distance is that to the nearest point; use that to the neighbour asked for": _prune(
        lambda d, n: d.kthvalue(2, dim=1).values
    ),
    "the neighbour after the one asked for is used; the diagonal is the point itself": _prune(
        lambda d, n: d.kthvalue(n + 2, dim=1).values
    ),
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
    "no point is dropped; round(share * N) of them go": lambda points, share, neighbour: points,
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
            if isinstance(lengths, Tensor) and lengths.is_floating_point():
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
    both_ways: Callable[[Tensor], Tensor] = lambda linked: linked,
    diagonal: float = math.inf,
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
        linked[:n, n:] = both_ways(linked[n:, :n]).T
        if join_ends:
            linked[n, n + 1] = linked[n + 1, n] = True
        empty = torch.full_like(distance, elsewhere).fill_diagonal_(diagonal)
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
    "the links of start and end go one way only": _link(both_ways=torch.zeros_like),
    "the diagonal is zero; a point is not linked to itself, so it is infinite": _link(
        diagonal=0.0
    ),
    "start and end are linked to one point; link each to k": _link(
        ends=lambda d, k: _nearest(d, 1)
    ),
    "start and end are linked to every point; link each to its k nearest": _link(
        ends=lambda d, k: torch.ones_like(d, dtype=torch.bool)
    ),
    "the lengths are squared; take the root": _link(weight=torch.square),
    "every link has the length 1; it has the distance of its ends": _link(weight=torch.ones_like),
    "missing links have the length 0; they are infinite": _link(elsewhere=0.0, diagonal=0.0),
    "end comes before start": _link(order=(1, 0)),
}.items():
    link.mistake(_hint)(_wrong)


def _all_alike(k_more: int = 0, others: int = 0, both: Callable = torch.logical_or) -> Answer:
    """The graph with every place treated as a point, as one matrix of distances suggests."""

    def answer(points: Tensor, start: Tensor, end: Tensor, k: int) -> tuple[Tensor, Tensor]:
        places = torch.cat([points, start[None], end[None]])
        distance = _distances(places)
        far = distance.clone().fill_diagonal_(math.inf)
        near = torch.zeros_like(distance, dtype=torch.bool)
        near[:, : len(points) + others] = _nearest(far[:, : len(points) + others], k + k_more)
        return places, torch.where(both(near, near.T), distance, math.inf)

    return answer


link.mistake("the graph is not symmetric; one direction is enough for a link")(
    _all_alike(both=lambda near, _: near)
)
link.mistake("links need both directions here; one is enough")(_all_alike(both=torch.logical_and))
link.mistake(
    "start and end are among the neighbours that are counted; the k nearest are points only"
)(_all_alike(others=2))
link.mistake("every place has one link too many; the point itself does not count")(
    _all_alike(k_more=1)
)
link.mistake("every place has one link too few; leave the point itself out before you take k")(
    _all_alike(k_more=-1)
)


@link.mistake("all pairs have a length; only linked ones do")
def _(points, start, end, k):
    places = torch.cat([points, start[None], end[None]])
    return places, _distances(places).fill_diagonal_(math.inf)


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
            if not isinstance(nodes, list | tuple | Tensor) or torch.as_tensor(nodes).dim() != 1:
                raise Mistake("nodes should be a list of node numbers, from start to end")
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
    first_only: bool = False,
    so_far: Callable[[float, float], float] = lambda cost, taken: cost,
    count: Callable[..., int] = lambda visited, taken, reached: visited,
) -> Answer:
    """A*, or a mistake in it."""

    def answer(places: Tensor, lengths: Tensor) -> object:
        n, ahead = len(places), ahead_of(places).tolist()
        start, end, rows = n - 2, n - 1, lengths.tolist()
        cost, came, visited, queue = {start: 0.0}, {}, set(), [(0.0, start)]
        taken = 0
        while queue and not (early and end in came):
            at, u = heapq.heappop(queue)
            taken += 1
            if u in visited:
                continue
            visited.add(u)
            if u == end:
                break
            for v, length in enumerate(rows[u]):
                new, old = so_far(cost[u], at) + edge(length), cost.get(v, math.inf)
                if length < math.inf and (v not in cost if first_only else new < old):
                    cost[v], came[v] = new, u
                    heapq.heappush(queue, (priority(cost[v], ahead[v]), v))
        nodes = [end]
        while nodes[-1] != start:
            nodes.append(came[nodes[-1]])
        return result(nodes[::-1], count(len(visited), taken, len(cost)))

    return answer


for _hint, _wrong in {
    "this is Dijkstra's algorithm, which visits more; add the distance to the end": _search(
        lambda cost, ahead: cost
    ),
    "the queue is ordered by the distance to the end alone; add the length so far": _search(
        lambda cost, ahead: ahead
    ),
    "the sum with the heuristic is carried on; keep the length so far apart from the sum": _search(
        so_far=lambda cost, taken: taken
    ),
    "a place keeps the first way that reaches it; replace it when a shorter one is found": _search(
        first_only=True
    ),
    "visited counts a node again when it is taken out again; count different nodes": _search(
        count=lambda visited, taken, reached: taken
    ),
    "visited counts the nodes that were reached; count those taken out of the queue": _search(
        count=lambda visited, taken, reached: reached
    ),
    "the heuristic is the sum of coordinate differences, so it is not admissible": _search(
        ahead_of=lambda places: (places - places[-1]).abs().sum(dim=1)
    ),
    "the path lacks both ends; include them": _search(
        result=lambda nodes, visited: (nodes[1:-1], visited)
    ),
    "nodes should be a list of node numbers": _search(
        result=lambda nodes, visited: (visited, nodes)
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

    cases = [(_normal(corners, _SIZE), decode, n) for corners, n in ((5, 12), (2, 7), (9, 6))]
    names = ("the frames", "jump", "bend")
    compare_cases(answer, _package_follow, cases, name=names, mistakes=follow.mistakes)
    return "frames, jump and bend of three paths are those of the package"


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
    result: Callable[..., tuple] = lambda frames, jump, bend, z: (frames, jump, bend),
) -> Answer:
    """Frames and smoothness, or a mistake in one of them."""

    def answer(corners: Tensor, decode: Callable[[Tensor], Tensor], num_frames: int) -> tuple:
        z = place(corners, num_frames)
        frames = decode(z)
        step = of(frames, z).diff(dim=0)
        return result(frames, jump(step), bend(step), z)

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
    "bend adds up the second differences; divide by their number, n - 1": _follow(
        bend=lambda step: step.diff(dim=0).square().sum() / _mean(step) ** 2
    ),
    "bend is divided by n; there are n - 1 second differences": _follow(
        bend=lambda step: step.diff(dim=0).square().sum() / len(step) / _mean(step) ** 2
    ),
    "bend has the norms of the second differences; square them": _follow(
        bend=lambda step: step.diff(dim=0).norm(dim=1).mean() / _mean(step)
    ),
    "bend comes before jump; return frames, jump and bend": _follow(
        result=lambda frames, jump, bend, z: (frames, bend, jump)
    ),
    "the start is missing; include both ends": _follow(
        lambda corners, n: resample(corners, n + 1)[1:]
    ),
    "the decoded corners are joined by lines; place the frames in z, then decode them": (
        lambda corners, decode, n: _follow()(decode(corners), lambda frames: frames, n)
    ),
    "jump and bend are measured in z; measure the decoded frames": _follow(of=lambda frames, z: z),
}.items():
    follow.mistake(_hint)(_wrong)
