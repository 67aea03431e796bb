"""Shortest paths through a latent graph: whether a path is valid and shortest, and if not, why."""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, Mistake, checked, hint_for

_Neighbours = dict[int, list[int]]
_FEWEST = "this path has the fewest edges; the length of an edge is the distance between its ends"
_SQUARED = "this is shortest in squared lengths; take the root"


@dataclass(frozen=True)
class _Task:
    """A search, with the length of the shortest path."""

    neighbours: _Neighbours
    positions: Tensor
    start: int
    goal: int
    shortest: float

    def solved_by(self, answer: Answer) -> list[int]:
        """The path that an answer finds in copies of the graph, if it is valid."""
        neighbours = {u: [*near] for u, near in self.neighbours.items()}
        return _validated(answer(neighbours, self.positions.clone(), self.start, self.goal), self)

    def length(self, path: list[int], cost: Callable[[float], float] = float) -> float:
        return sum(cost(_distance(self.positions, u, v)) for u, v in pairwise(path))


@checked
def shortest_path(answer: Answer) -> str:
    """A* through a latent graph, with the straight line as its heuristic.

    Write ``shortest_path(neighbours, positions, start, goal) -> list`` of node numbers from start
    to goal, both included. ``neighbours`` maps a node to the list of nodes that it is linked to;
    ``positions``, ``(N, Z)``, holds the positions of the nodes. The length of an edge is the
    distance between its ends. A path exists. Any shortest path is accepted, however it was found.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    tasks = _tasks()
    paths = [task.solved_by(answer) for task in tasks]

    def lengths(paths: Sequence[list[int]], cost: Callable[[float], float] = float) -> Tensor:
        each = [task.length(path, cost) for task, path in zip(tasks, paths, strict=True)]
        return torch.tensor(each, dtype=torch.float64)

    def as_long_as_with(wrong: Answer, cost: Callable[[float], float] = float) -> bool:
        """Whether the paths are as long as those of another search; ties may differ."""
        others = [task.solved_by(wrong) for task in tasks]
        return torch.allclose(lengths(paths, cost), lengths(others, cost), 1e-5, 1e-5)

    found = lengths(paths)
    shortest = torch.tensor([task.shortest for task in tasks], dtype=torch.float64)
    if torch.allclose(found, shortest, 1e-5, 1e-5):
        searches = f"{len(tasks)} searches of 5 graphs"
        return f"valid, and as short as with Dijkstra's algorithm, in {searches}"
    for hint, cost in ((_FEWEST, _one), (_SQUARED, _square)):
        if as_long_as_with(_search(cost=cost, weight=0.0), cost):
            raise Mistake(hint)
    hint_for(shortest_path.mistakes, as_long_as_with)
    worst = int((found - shortest).argmax())
    raise Mistake(
        f"from {tasks[worst].start} to {tasks[worst].goal} your path has the length "
        f"{found[worst]:.3f}, the shortest {shortest[worst]:.3f}"
    )


def _distance(positions: Tensor, u: int, v: int) -> float:
    return math.dist(positions[u].tolist(), positions[v].tolist())


def _validated(path: object, task: _Task) -> list[int]:
    """The path as node numbers, if it runs from start to goal along edges."""
    if path is None:
        raise Mistake("the path is None; does your function end with return?")
    try:
        nodes = [int(node) for node in path]
    except (TypeError, ValueError):
        kind = type(path).__name__
        if isinstance(path, list | tuple) and path:
            kind += f" of {type(path[0]).__name__}"
        raise Mistake(f"the path should be a list of node numbers, yours is {kind}") from None
    start, goal = task.start, task.goal
    if not nodes:
        raise Mistake("the path is empty; it should hold at least start and goal")
    if start != goal:
        if (nodes[0], nodes[-1]) == (goal, start):
            raise Mistake("the path is reversed; it runs from goal to start")
        if nodes[-1] == goal and nodes[0] in task.neighbours[start]:
            raise Mistake("the path lacks the start; include both ends")
        if nodes[0] == start and nodes[-1] in task.neighbours[goal]:
            raise Mistake("the path lacks the goal; include both ends")
    if (nodes[0], nodes[-1]) != (start, goal):
        raise Mistake(
            f"the path runs from {nodes[0]} to {nodes[-1]}; it should run from {start} to {goal}"
        )
    for u, v in pairwise(nodes):
        if v not in task.neighbours.get(u, ()):
            raise Mistake(f"the path uses an edge that does not exist, from {u} to {v}")
    return nodes


def _nearest(positions: Tensor, k: int) -> list[tuple[int, int]]:
    """Edges from each point to its k nearest."""
    distance = torch.cdist(positions.double(), positions.double())
    nearest = distance.topk(k + 1, largest=False).indices[:, 1:].tolist()
    return [(u, v) for u, near in enumerate(nearest) for v in near]


def _trap() -> tuple[Tensor, list[tuple[int, int]]]:
    """A dead end near the goal, and few long hops beside many short ones."""
    places = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (4, 2), (5, 0), (0, 1.5), (2, 2), (3, 2.5)]
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (0, 7), (7, 8), (8, 9), (9, 6)]
    return torch.tensor(places, dtype=torch.float32), [*edges, (0, 9), (3, 9)]


def _tasks() -> list[_Task]:
    import networkx  # only this exercise needs it

    ring = torch.linspace(0, 6.0, 30)
    graphs = [
        _trap(),
        *((points, _nearest(points, 4)) for points in (torch.randn(60, 2), torch.randn(80, 3))),
    ]
    grid = torch.cartesian_prod(torch.arange(7.0), torch.arange(7.0)) + 0.35 * torch.randn(49, 2)
    graphs.append((grid, _nearest(grid, 5)))
    ring = torch.stack([ring.cos(), ring.sin()], dim=1)
    graphs.append((ring, [*pairwise(range(30)), (2, 9), (8, 21), (20, 28)]))

    tasks = []
    for positions, edges in graphs:
        graph = networkx.Graph()
        graph.add_nodes_from(range(len(positions)))
        graph.add_weighted_edges_from((u, v, _distance(positions, u, v)) for u, v in edges)
        neighbours = {u: sorted(graph[u]) for u in graph}
        lengths = networkx.single_source_dijkstra_path_length(graph, 0)
        far = sorted(lengths, key=lengths.get)
        goals = [6] if len(positions) == 10 else [far[-1], far[-4], far[len(far) // 2]]
        tasks += [_Task(neighbours, positions, 0, goal, lengths[goal]) for goal in goals]
    return [*tasks, _Task(tasks[-1].neighbours, tasks[-1].positions, 3, 3, 0.0)]


def _one(length: float) -> float:
    return 1.0


def _square(length: float) -> float:
    return length**2


def _search(
    *,
    cost: Callable[[float], float] = float,  # of an edge, from its length
    weight: float = 1.0,  # of the heuristic
    power: int = 1,  # of the distance in the heuristic
    norm: int = 2,  # of the difference in the heuristic
    keep: str = "shorter",  # which path to a node is kept: the "shorter", "first" or "last"
    closed: str = "final",  # a shorter path to an expanded node is ignored, "noted" or "reopened"
    result: Callable[[list[int]], object] = list,
) -> Answer:
    """Best-first search, right or with one part exchanged."""

    def answer(neighbours: _Neighbours, positions: Tensor, start: int, goal: int) -> object:
        to_goal = (positions - positions[goal]).norm(norm, dim=1).tolist()

        def heuristic(u: int) -> float:
            return weight * to_goal[u] ** power

        reached, before, left = {start: 0.0}, {}, set()
        queue = [(heuristic(start), start)]
        while queue:
            _, u = heapq.heappop(queue)
            if u == goal:
                break
            if u in left and closed != "reopened":
                continue
            left.add(u)
            for v in neighbours[u]:
                way = reached[u] + cost(_distance(positions, u, v))
                if v in reached:
                    replace = keep == "last" or (keep == "shorter" and way < reached[v])
                    if not replace or (v in left and closed == "final"):
                        continue
                reached[v], before[v] = way, u
                heapq.heappush(queue, (way + heuristic(v), v))
        path = [goal]
        while path[-1] != start:
            path.append(before[path[-1]])
        return result(path[::-1])

    return answer


@shortest_path.mistake("the path uses an edge that does not exist")
def _(neighbours, positions, start, goal):
    return [start, goal]


for _hint, _result in {
    "the path is reversed; it runs from goal to start": lambda path: path[::-1],
    "the path lacks the start; include both ends": lambda path: path[1:],
    "the path lacks the goal; include both ends": lambda path: path[:-1],
    "the path is empty; it should hold at least start and goal": lambda path: [],
    "the path should be a list of node numbers, yours is int": len,
    "the path runs from 0 to 1": lambda path: [0, 1],
}.items():
    shortest_path.mistake(_hint)(_search(result=_result))

_CLOSED = ("final", "noted", "reopened")
for _hint, _variants in {
    "this is greedy search by the heuristic alone; add the length so far": [
        {"cost": lambda length: 0.0, "keep": keep} for keep in ("first", "last")
    ],
    _FEWEST: [{"cost": _one, "weight": 0.0}, *({"cost": _one, "closed": c} for c in _CLOSED)],
    _SQUARED: [
        {"cost": _square, "weight": 0.0},
        *({"cost": _square, "power": power, "closed": c} for c in _CLOSED for power in (1, 2)),
    ],
    "a node keeps the first path that reaches it; let a shorter one replace it": [
        {"keep": "first", "weight": weight} for weight in (1.0, 0.0)
    ],
    "a node keeps the last path that reaches it; replace it only by a shorter one": [
        {"keep": "last", "weight": weight} for weight in (1.0, 0.0)
    ],
    "the heuristic is the squared distance, which may exceed the remaining length": [
        {"power": 2, "closed": closed} for closed in _CLOSED
    ],
    "the heuristic sums coordinate differences, which may exceed the remaining length": [
        {"norm": 1, "closed": closed} for closed in _CLOSED
    ],
    "the heuristic is larger than the distance, so it may exceed the remaining length": [
        {"weight": 3.0}
    ],
}.items():
    for _variant in _variants:
        shortest_path.mistake(_hint)(_search(**_variant))
