r"""Is it a ring? Persistent homology of points in the plane, and curves that wind around a hole.

Grow a disc around every point. Where discs meet they close loops, and a loop encloses a hole until
the discs fill it. So a hole has a radius of birth, about half the widest gap between neighbours
along its rim, and a radius of death, that of the largest empty circle inside. (Birth and death are
the field's terms.) Densely sampled circles have one hole with a large ratio of death to birth;
clouds without a hole have many, with small ratios. The alpha complex, a part of the Delaunay
triangulation, has the same holes as the union of the discs at every radius.

A ring among the points is not enough: data that lie on a circle should also be encoded once
around it. `ring_test` tests both.

The computation is GUDHI's, an optional dependency: GUDHI itself is under the MIT licence, but its
alpha complex links CGAL, which is under the GPL. ``pip install "hvae-course[topology]"`` adds it.

Source:
    Edelsbrunner and Harer (2010), Computational Topology: An Introduction, chapters III and VII.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_course.analysis.inputs import as_real
from hvae_course.analysis.paths import angle_steps


def _check_plane(name: str, places: Tensor) -> None:
    if places.ndim != 2 or places.shape[1] != 2 or not torch.isfinite(places).all():
        raise ValueError(
            f"{name} must be finite and lie in the plane, (N, 2), got shape "
            f"{tuple(places.shape)}; for a larger latent space choose two of its dimensions"
        )


def _holes(points: Tensor) -> tuple[Tensor, Tensor]:
    """Birth and death, ``(n, 2)``, and last triangle, ``(n, 3, 2)``; most persistent first."""
    try:
        from gudhi import AlphaComplex
    except ImportError as error:
        raise ImportError(
            "persistent homology needs the optional package gudhi: "
            'pip install "hvae-course[topology]"'
        ) from error
    points = as_real(points, "points")
    _check_plane("points", points)
    # Equal points make no hole; without them vertex i of the complex is row i.
    distinct = points.detach().cpu().double().unique(dim=0)  # (N, 2)
    tree = AlphaComplex(points=distinct.numpy()).create_simplex_tree()
    tree.compute_persistence()
    found = [
        (tree.filtration(edge), tree.filtration(triangle), triangle)
        for edge, triangle in tree.persistence_pairs()
        if len(edge) == 2 and len(triangle) == 3
    ]
    intervals = torch.tensor([[b, d] for b, d, _ in found], dtype=torch.float64).view(-1, 2).sqrt()
    order = (intervals[:, 1] - intervals[:, 0]).argsort(descending=True, stable=True)
    triangles = torch.tensor([t for _, _, t in found], dtype=torch.long).view(-1, 3)
    return intervals[order], distinct[triangles[order]]


def persistence(points: Tensor) -> Tensor:
    """Find the holes of points in the plane: persistent homology H1 of the alpha complex.

    Args:
        points: ``(N, 2)``; equal ones count once.

    Returns:
        Radii of birth and death of every hole, ``(n, 2)``, in the units of the points and in
        double precision, most persistent first; ``(0, 2)`` if there is no hole.

    Raises:
        ValueError: if the points are not finite or not ``(N, 2)``.
        ImportError: if GUDHI is not installed.

    Example:
        >>> persistence(torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]]))
        tensor([[1.0000, 1.4142]], dtype=torch.float64)
    """
    return _holes(points)[0]


def _circumcentre(triangle: Tensor) -> Tensor:
    """Centre of the circle through three points ``(3, 2)``."""
    a = triangle[0]
    sides = triangle[1:] - a  # (2, 2)
    # |c - b|^2 = |c - a|^2 for both other corners b, a linear system in c - a.
    return a + torch.linalg.solve(sides, sides.square().sum(dim=1) / 2)


@dataclass(frozen=True, eq=False)
class RingTest:
    """What the ring test measured, and its thresholds."""

    hole_ratio: float
    """Radius of death over radius of birth of the most persistent hole; 1 without a hole."""
    second: float
    """Death minus birth of the next hole over that of the first; 0 if there is none."""
    centre: Tensor
    """Centre of the largest empty circle in the first hole, ``(2,)``; NaN without a hole."""
    turns: int
    """Winding number of the closed curve of codes about the centre; 0 without a hole."""
    total_turns: float
    """Turns that the curve takes about the centre, forward and backward added up."""
    min_hole_ratio: float = 4.0
    """Least hole ratio of a ring."""
    max_second: float = 0.5
    """Largest second hole of a ring."""
    max_total_turns: float = 1.3
    """A ring's curve takes fewer turns than this."""

    @property
    def passes(self) -> bool:
        """Whether the points form one ring and the codes go around it once."""
        return (
            self.hole_ratio >= self.min_hole_ratio
            and self.second <= self.max_second
            and abs(self.turns) == 1
            and self.total_turns < self.max_total_turns
        )


def ring_test(
    points: Tensor,
    codes: Tensor,
    *,
    min_hole_ratio: float = 4.0,
    max_second: float = 0.5,
    max_total_turns: float = 1.3,
) -> RingTest:
    r"""Test whether points form a ring, and codes of data on a circle go around it once.

    The first hole is the one with the largest persistence, death minus birth. Its largest empty
    circle is the one through the corners of the triangle that fills it last. With
    :math:`\phi_m` the angle of code m about the centre of that circle and steps wrapped to
    :math:`(-\pi, \pi]`, the closed polygon of codes has

    .. math:: \text{turns} = \frac{1}{2 \pi} \sum_m (\phi_{m+1} - \phi_m), \qquad
              \text{total turns} = \frac{1}{2 \pi} \sum_m \lvert \phi_{m+1} - \phi_m \rvert,

    equal up to sign for a curve that never turns back.

    Args:
        points: samples of a prior, ``(N, 2)``. A few in the middle of the ring divide its hole,
            so remove them first with `hvae_course.analysis.latent_graph.prune_sparse`.
        codes: codes of clean data in the order of their true angle, ``(M, 2)``; the last is
            followed by the first.
        min_hole_ratio: least hole ratio of a ring.
        max_second: largest persistence of the second hole, as a share of the first's.
        max_total_turns: total turns of a ring stay below this.

    Returns:
        The measurements; `hvae_course.analysis.topology.RingTest.passes` is the verdict.

    Raises:
        ValueError: if points or codes are not finite or not in the plane, or there are fewer
            than three codes.
        ImportError: if GUDHI is not installed.
    """
    codes = as_real(codes, "codes")
    _check_plane("codes", codes)
    if len(codes) < 3:
        raise ValueError(f"a closed curve needs at least three codes, got {len(codes)}")
    thresholds = (min_hole_ratio, max_second, max_total_turns)
    holes, triangles = _holes(points)
    if len(holes) == 0:
        nowhere = torch.full((2,), math.nan, dtype=torch.float64)
        return RingTest(1.0, 0.0, nowhere, 0, 0.0, *thresholds)
    birth, death = holes[0].tolist()
    lives = (holes[:, 1] - holes[:, 0]).tolist()
    centre = _circumcentre(triangles[0])
    x, y = (codes.detach().cpu().double() - centre).unbind(dim=1)
    angle = torch.atan2(y, x)  # (M,)
    steps = angle_steps(torch.cat([angle, angle[:1]])) / (2 * math.pi)  # (M,), turns
    return RingTest(
        death / birth,
        lives[1] / lives[0] if len(lives) > 1 else 0.0,
        centre,
        round(steps.sum().item()),
        steps.abs().sum().item(),
        *thresholds,
    )
