"""Paths through small graphs: whether a path is valid and shortest, and if not, why."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hvae_course.checks.verdict import Mistake


@dataclass(frozen=True)
class _Task:
    """A search, with the length of the shortest path."""

    neighbours: dict[int, list[int]]
    positions: Tensor
    start: int
    goal: int
    shortest: float

    def distance(self, u: int, v: int) -> float:
        return (self.positions[u].double() - self.positions[v].double()).norm().item()

    def length(self, path: list[int], cost: Callable[[float], float] = float) -> float:
        return sum(cost(self.distance(u, v)) for u, v in pairwise(path))


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
        for u, v in edges:
            length = (positions[u].double() - positions[v].double()).norm().item()
            graph.add_edge(u, v, weight=length)
        neighbours = {u: sorted(graph[u]) for u in graph}
        lengths = networkx.single_source_dijkstra_path_length(graph, 0)
        far = sorted(lengths, key=lengths.get)
        goals = [6] if len(positions) == 10 else [far[-1], far[-4], far[len(far) // 2]]
        tasks += [_Task(neighbours, positions, 0, goal, lengths[goal]) for goal in goals]
    return [*tasks, _Task(tasks[-1].neighbours, tasks[-1].positions, 3, 3, 0.0)]


def _search(
    task: _Task,
    *,
    cost: Callable[[float], float] = float,
    weight: float = 1.0,
    early: bool = False,
    late: bool = False,
    closed: str = "final",
    squared: bool = False,
    manhattan: bool = False,
) -> list[int]:
    """Best-first search with one known mistake.

    Args:
        task: what to find.
        cost: of an edge, from its length.
        weight: factor on the heuristic; 0 for none.
        early: keep the first path that reaches a node.
        late: keep the last path that reaches a node, however long.
        closed: what a shorter path to an expanded node does: nothing ("final"), it is recorded
            ("noted"), or the search continues from there ("reopened").
        squared: square the heuristic.
        manhattan: sum the distances of the coordinates for the heuristic.

    Returns:
        A path.
    """

    def heuristic(u: int) -> float:
        if manhattan:
            return (task.positions[u] - task.positions[task.goal]).abs().sum().item()
        distance = task.distance(u, task.goal)
        return weight * (distance**2 if squared else distance)

    reached, before = {task.start: 0.0}, {}
    queue = [(heuristic(task.start), task.start)]
    left = set()
    while queue:
        _, u = heapq.heappop(queue)
        if u == task.goal:
            break
        if u in left and closed != "reopened":
            continue
        left.add(u)
        for v in task.neighbours[u]:
            way = reached[u] + cost(task.distance(u, v))
            if v in reached:
                replace = late or (not early and way < reached[v])
                if not replace or (v in left and closed == "final"):
                    continue
            reached[v], before[v] = way, u
            heapq.heappush(queue, (way + heuristic(v), v))
    path = [task.goal]
    while path[-1] != task.start:
        path.append(before[path[-1]])
    return path[::-1]


_CLOSED = ("final", "noted", "reopened")
_FEWEST = "this path has the fewest edges; the length of an edge is the distance of its ends"
_SQUARED = "this is shortest in squared lengths; take the root"
_COSTS = {_FEWEST: lambda length: 1.0, _SQUARED: lambda length: length**2}
"""Hints, each with the cost of an edge for which a wrong path may be shortest."""
_MISTAKES = {
    "this is greedy search by the heuristic alone; add the length so far": [
        {"cost": lambda length: 0.0, "early": True},
        {"cost": lambda length: 0.0, "late": True},
    ],
    _FEWEST: [{"cost": lambda length: 1.0, "closed": closed} for closed in _CLOSED],
    _SQUARED: [
        {"cost": lambda length: length**2, "squared": squared, "closed": closed}
        for closed in _CLOSED
        for squared in (False, True)
    ],
    "a node keeps the first path that reaches it; let a shorter one replace it": [
        {"early": True},
        {"early": True, "weight": 0.0},
    ],
    "a node keeps the last path that reaches it; replace it only by a shorter one": [
        {"late": True},
        {"late": True, "weight": 0.0},
    ],
    "the heuristic is the squared distance, which may exceed the remaining length": [
        {"squared": True, "closed": closed} for closed in _CLOSED
    ],
    "the heuristic sums coordinate differences, which may exceed the remaining length": [
        {"manhattan": True, "closed": closed} for closed in _CLOSED
    ],
}


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


def check_paths(answer: Callable[..., object]) -> int:
    """Judge a search by the length of what it finds.

    Args:
        answer: function of neighbours, positions, start and goal.

    Returns:
        The number of searches.

    Raises:
        Mistake: if a path is not valid, or not shortest.
    """
    tasks = _tasks()
    paths = []
    for task in tasks:
        neighbours = {u: [*near] for u, near in task.neighbours.items()}
        path = answer(neighbours, task.positions.clone(), task.start, task.goal)
        paths.append(_validated(path, task))

    def lengths(paths: list[list[int]], cost: Callable[[float], float] = float) -> Tensor:
        each = [task.length(path, cost) for task, path in zip(tasks, paths, strict=True)]
        return torch.tensor(each, dtype=torch.float64)

    found = lengths(paths)
    shortest = torch.tensor([task.shortest for task in tasks], dtype=torch.float64)
    if torch.allclose(found, shortest, 1e-5, 1e-5):
        return len(tasks)
    for hint, cost in _COSTS.items():  # compare costs, since ties may be broken differently
        best = [_search(task, cost=cost, weight=0.0) for task in tasks]
        if torch.allclose(lengths(paths, cost), lengths(best, cost), 1e-5, 1e-5):
            raise Mistake(hint)
    for hint, variants in _MISTAKES.items():
        for variant in variants:
            wrong = lengths([_search(task, **variant) for task in tasks])
            if torch.allclose(found, wrong, 1e-5, 1e-5):
                raise Mistake(hint)
    worst = int((found - shortest).argmax())
    raise Mistake(
        f"from {tasks[worst].start} to {tasks[worst].goal} your path has the length "
        f"{found[worst]:.3f}, the shortest {shortest[worst]:.3f}"
    )
