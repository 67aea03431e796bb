"""Neighbours of points: the graph that they span, and which points lie in sparse places.

The points are drawn again until no two distances that decide between them are close. So rounding
and the order of equal distances make no difference, except where two points lie in one place,
which the exercise names.
"""

import math
from collections.abc import Callable, Sequence
from operator import index

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, Mistake, checked, compare_cases, hint_for

_Links = list[set[int]]


@checked
def knn_graph(answer: Answer) -> str:
    """The graph of the nearest neighbours, linked both ways.

    Write ``knn_graph(points, k) -> dict`` from the number of each point to the list of those that
    it is linked to, each once and in any order. Two points of ``points``, ``(N, Z)``, are linked
    if one of them is among the k nearest of the other. No point is its own neighbour. Several
    points may lie in one place.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    apart = [
        _decided(lambda: torch.randn(12, 2), 3),
        _decided(lambda: torch.randn(25, 3), 4),
        _decided(lambda: torch.rand(9, 1), 1),
    ]
    ten, k = _decided(lambda: torch.randn(10, 2)[[*range(9), 4]], 2)  # 4 and 9 in one place
    for cases in (apart, [(ten, k)]):  # a mistake among points apart comes first
        _compare_links(answer, cases)
    return (
        f"links both ways in {len(apart) + 1} graphs of 9 to 25 points, also where two points lie "
        "in one place"
    )


def _decided(draw: Callable[[], Tensor], k: int) -> tuple[Tensor, int]:
    """Points for each of which it is clear what its k nearest others are."""
    while True:
        points = draw()
        ordered = torch.cdist(points.double(), points.double()).sort(dim=1).values
        if (ordered[:, k + 1] > 1.01 * ordered[:, k]).all():
            return points, k


def _compare_links(answer: Answer, cases: Sequence[tuple[Tensor, int]]) -> None:
    """Accept the right links, or name the known mistake that explains all cases."""

    def links(function: Answer) -> list[_Links]:
        return [_links(function(points.clone(), k), points, k) for points, k in cases]

    found, right = links(answer), links(_linked())
    if found == right:
        return
    hint_for(knn_graph.mistakes, lambda wrong: links(wrong) == found)
    wrong = next(
        f"of {len(expected)} points, number {u} should be linked to {sorted(expected[u])}, yours "
        f"to {sorted(linked[u])}"
        for linked, expected in zip(found, right, strict=True)
        for u in range(len(expected))
        if linked[u] != expected[u]
    )
    raise Mistake(wrong)


def _links(value: object, points: Tensor, k: int) -> _Links:
    """The neighbours of each point as sets, if the answer is a graph without loops."""
    number = len(points)
    if value is None:
        raise Mistake("the graph is None; does your function end with return?")
    shape = tuple(getattr(value, "shape", ()))
    if shape == (number, number):
        raise Mistake("this is a matrix of links; return a dict from each number to a list")
    if shape == (number, k):
        raise Mistake(
            "this is the table (N, k) of the nearest; return a dict of lists, linked both ways"
        )
    try:
        near = [value[u] for u in range(number)]
    except (TypeError, KeyError, IndexError):
        kind = type(value).__name__
        raise Mistake(
            f"the result should be a dict with a list for each of the numbers 0 to {number - 1}, "
            f"yours is a {kind} without one of them"
        ) from None
    if len(value) != number:
        raise Mistake(
            f"there should be {number} lists, one for each point; yours has {len(value)} entries"
        )
    return [_neighbours(u, linked, points) for u, linked in enumerate(near)]


def _neighbours(u: int, linked: object, points: Tensor) -> set[int]:
    """The neighbours of one point, if they are other points, each once."""
    try:
        near = list(linked)
        numbers = [index(v) for v in near]
    except TypeError:
        raise Mistake(f"the neighbours of {u} should be a list of node numbers") from None
    if any(isinstance(v, Tensor) for v in near):
        raise Mistake(
            f"the neighbours of {u} are tensors, which a dict does not find; make them numbers, "
            "for example with .tolist()"
        )
    if len(numbers) >= len(points):
        raise Mistake(
            f"the list of {u} is longer than there are others; list their numbers, not all points"
        )
    if u in numbers and (points == points[u]).all(dim=1).sum() > 1:
        raise Mistake(
            f"{u} is linked to itself where another point lies in the same place: the point "
            "itself need not come first, so leave it out by its number"
        )
    if u in numbers:
        raise Mistake(f"{u} is linked to itself; leave the point itself out")
    if len(set(numbers)) < len(numbers):
        raise Mistake(f"a neighbour of {u} is in its list twice; link each pair once")
    if not set(numbers) <= set(range(len(points))):
        raise Mistake(f"{u} is linked to a number that is none of 0 to {len(points) - 1}")
    return set(numbers)


def _nearest(points: Tensor, k: int, norm: float = 2.0, largest: bool = False) -> list[list[int]]:
    """The k nearest others of each point, nearest first."""
    distance = torch.cdist(points.double(), points.double(), p=norm)
    distance.fill_diagonal_(-torch.inf if largest else torch.inf)
    return distance.argsort(dim=1, descending=largest, stable=True)[:, :k].tolist()


def _either(near: list[list[int]]) -> dict[int, list[int]]:
    """Link two points if one is among the nearest of the other."""
    every = range(len(near))
    return {u: [v for v in every if v in near[u] or u in near[v]] for u in every}


def _linked(
    nearest: Callable[[Tensor, int], list[list[int]]] = _nearest,
    link: Callable[[list[list[int]]], object] = _either,
) -> Answer:
    """The graph by one choice of the nearest and one way to link them."""
    return lambda points, k: link(nearest(points, k))


def _first_is_itself(points: Tensor, k: int) -> list[list[int]]:
    distance = torch.cdist(points.double(), points.double())
    return distance.argsort(dim=1, stable=True)[:, 1 : k + 1].tolist()


def _without_place(points: Tensor, k: int) -> list[list[int]]:
    distance = torch.cdist(points.double(), points.double())
    distance[distance == 0] = torch.inf
    return distance.argsort(dim=1, stable=True)[:, :k].tolist()


def _with_itself(points: Tensor, k: int) -> list[list[int]]:
    return [[u, *near] for u, near in enumerate(_nearest(points, k))]


def _table(near: list[list[int]]) -> Tensor:
    return torch.tensor(near)


def _matrix(near: list[list[int]]) -> Tensor:
    return torch.tensor([[v in linked for v in range(len(near))] for linked in near])


def _back(near: list[list[int]]) -> dict[int, list[int]]:
    return {u: [v for v in range(len(near)) if u in near[v]] for u in range(len(near))}


def _rows(near: list[list[int]]) -> list[list[int]]:
    return _matrix(near).int().tolist()


def _both(near: list[list[int]]) -> dict[int, list[int]]:
    return {u: [v for v in linked if u in near[v]] for u, linked in enumerate(near)}


@knn_graph.mistake("these links have one direction; if v is near u, u is a neighbour of v as well")
def _(points, k):
    return dict(enumerate(_nearest(points, k)))


for _hint, _variant in {
    "these links have one direction, from v to the points that v is near; add the other": (
        _linked(link=_back)
    ),
    "only points that are near each other are linked; it is enough if one is near the other": (
        _linked(link=_both)
    ),
    "is in its list twice": _linked(
        link=lambda near: {u: near[u] + back for u, back in _back(near).items()}
    ),
    "is linked to itself; leave the point itself out": _linked(_with_itself),
    "the point itself need not come first": _linked(_first_is_itself),
    "another point in the same place is left out as well; leave out the point by its number": (
        _linked(_without_place)
    ),
    "the point itself is counted among the k nearest; k counts the others": (
        _linked(lambda points, k: _nearest(points, k - 1))
    ),
    "there is one neighbour too many for each point; k counts the others": (
        _linked(lambda points, k: _nearest(points, k + 1))
    ),
    "these are the farthest points; sort from the smallest distance": (
        _linked(lambda points, k: _nearest(points, k, largest=True))
    ),
    "the distance sums the differences of coordinates; take the Euclidean distance": (
        _linked(lambda points, k: _nearest(points, k, norm=1.0))
    ),
    "the distance is the largest difference of a coordinate; take the Euclidean distance": (
        _linked(lambda points, k: _nearest(points, k, norm=torch.inf))
    ),
    "this is the table (N, k) of the nearest": _linked(link=_table),
    "this is a matrix of links": _linked(link=_matrix),
    "are tensors, which a dict does not find": (
        _linked(link=lambda near: {u: torch.tensor(v) for u, v in _either(near).items()})
    ),
    "list their numbers, not all points": _linked(link=_rows),
    "without one of them": _linked(
        link=lambda near: {u: v for u, v in _either(near).items() if u}
    ),
}.items():
    knn_graph.mistake(_hint)(_variant)


@checked
def prune_sparse(answer: Answer) -> str:
    """Drop the points that lie in the sparsest places.

    Write ``prune_sparse(points, share, neighbour) -> (N - dropped, Z)``. For each point take the
    distance to its nearest other point if ``neighbour`` is 1, to the second nearest if it is 2,
    and so on. Drop the ``share * N`` points, rounded, for which this distance is largest, and
    return the others in the order in which they came.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """

    def clusters() -> Tensor:
        points = torch.cat([0.3 * torch.randn(15, 2), 3 + 0.8 * torch.randn(15, 2)])
        return points[torch.randperm(30)]

    cases = [
        _cut(lambda: torch.randn(40, 2), 0.1, 5),
        _cut(lambda: torch.rand(12, 3), 0.25, 1),
        _cut(clusters, 0.06, 4),  # 1.8 points
        _cut(clusters, 0.04, 3),  # 1.2 points
        _cut(clusters, 0.5, 8),
        _cut(lambda: torch.randn(10, 2), 0.0, 3),
    ]
    name = "what is left of the points"
    compare_cases(answer, _kept(), cases, name=name, mistakes=prune_sparse.mistakes)
    return f"keeps the right points, in their order, in {len(cases)} cases, one of them share 0"


def _cut(draw: Callable[[], Tensor], share: float, neighbour: int) -> tuple[Tensor, float, int]:
    """Points of which it is clear which lie in the sparsest places."""
    while True:
        points = draw()
        ordered = _reach(points, neighbour).sort().values
        kept = len(points) - round(share * len(points))
        around = ordered[kept - 2 : kept + 1]
        if (around[1:] > 1.02 * around[:-1]).all():
            return points, share, neighbour


def _reach(points: Tensor, n: int) -> Tensor:
    """Distance of each point to its n-th nearest other, ``(N,)``; for n = 0 to itself."""
    distance = torch.cdist(points.double(), points.double())
    distance.fill_diagonal_(-1)
    return distance.sort(dim=1).values[:, n].clamp(min=0)


def _kept(
    sparse: Callable[[Tensor, int], Tensor] = _reach,
    count: Callable[[float], int] = round,
    choose: Callable[[Tensor, Tensor, int], Tensor] = lambda points, order, drop: (
        points[order[: len(order) - drop].sort().values]
    ),
) -> Answer:
    """The points that are kept by one measure, one number to drop, and one way to choose."""

    def answer(points: Tensor, share: float, neighbour: int) -> Tensor:
        order = sparse(points, neighbour).argsort(stable=True)
        return choose(points, order, count(share * len(points)))

    return answer


def _chosen(
    which: Callable[[Tensor, int], Tensor], result: Callable = lambda p, i: p[i]
) -> Answer:
    """The points whose numbers are chosen from those in the order of sparsity."""
    return _kept(choose=lambda points, order, drop: result(points, which(order, drop)))


def _densest(order: Tensor, drop: int) -> Tensor:
    return order[: len(order) - drop].sort().values


def _mean_reach(points: Tensor, n: int) -> Tensor:
    return torch.stack([_reach(points, m) for m in range(1, n + 1)]).mean(dim=0)


def _by_quantile(below: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    """The points whose distance compares with a quantile."""

    def answer(points: Tensor, share: float, neighbour: int) -> Tensor:
        reach = _reach(points, neighbour)
        return points[below(reach, torch.quantile(reach, 1 - share))]

    return answer


def _one_by_one(points: Tensor, share: float, neighbour: int) -> Tensor:
    for _ in range(round(share * len(points))):
        worst = int(_reach(points, neighbour).argmax())
        points = torch.cat([points[:worst], points[worst + 1 :]])
    return points


prune_sparse.mistake("the point itself is counted as its first neighbour; leave it out")(
    _kept(lambda points, n: _reach(points, n - 1))
)
for _hint, _variant in {
    "this drops the densest places; drop the points with the largest distance": (
        _chosen(lambda order, drop: order[drop:].sort().values)
    ),
    "these are the points to drop; return the others": (
        _chosen(lambda order, drop: order[len(order) - drop :].sort().values)
    ),
    "the points are sorted by sparsity; keep the order in which they came": (
        _chosen(lambda order, drop: order[: len(order) - drop])
    ),
    "with nothing to drop nothing is left: [:-0] is empty; count what is kept": (
        _chosen(lambda order, drop: order[:-drop].sort().values)
    ),
    "these are the numbers of the points; return the points": (
        _chosen(_densest, lambda points, numbers: numbers)
    ),
    "this is a mask of the points that stay; return the points": _chosen(
        _densest, lambda points, numbers: torch.isin(torch.arange(len(points)), numbers)
    ),
    "the number to drop is rounded down; round it": _kept(count=int),
    "share is taken as the share to keep; it is the share to drop": (
        lambda points, share, n: _kept()(points, 1 - share, n)
    ),
    "the distances to the nearest are averaged; take that to the n-th nearest alone": (
        _kept(_mean_reach)
    ),
    "this uses the distance to the nearest, whatever neighbour is": (
        _kept(lambda points, n: _reach(points, 1))
    ),
    "far from the centre is not sparse; measure the distance to a neighbour": (
        _kept(lambda points, n: (points - points.mean(dim=0)).norm(dim=1))
    ),
    "far from the origin is not sparse; measure the distance to a neighbour": (
        _kept(lambda points, n: points.norm(dim=1))
    ),
    "the neighbour counted is one too far: number 1 is the nearest other point": (
        _kept(lambda points, n: _reach(points, n + 1))
    ),
    "the distances are measured anew after each drop; measure them once, among all points": (
        _one_by_one
    ),
}.items():
    prune_sparse.mistake(_hint)(_variant)

prune_sparse.mistake(
    "too many points are dropped, by rounding up or by a quantile; drop round(share * N)",
    _kept(count=math.ceil),
    _by_quantile(torch.lt),
    _by_quantile(torch.le),
)
