"""Holes in the plane, curves around them and steps of an angle, against known shapes."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hvae_course.analysis import RingTest, angle_steps, persistence, prune_sparse, ring_test

D = torch.float64


def circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def polygon(number: int) -> Tensor:
    """The corners of a regular polygon, in order, on the unit circle."""
    return circle(torch.arange(number, dtype=D) * (2 * math.pi / number))


def uniform(number: int, turn: float = 1.0) -> Tensor:
    """Random points on a part of the unit circle."""
    return circle(turn * 2 * math.pi * torch.rand(number, dtype=D))


def noise(number: int) -> Tensor:
    return torch.randn(number, 2, dtype=D)


def two_places(number: int) -> Tensor:
    return torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=D).repeat(number // 2, 1)


CODES = polygon(360)


# Holes


@pytest.mark.parametrize(
    ("corners", "birth", "death"),
    [
        ([[0, 0], [6, 0], [6, 2], [0, 2]], 3.0, math.sqrt(10)),  # half a long side, a diagonal
        ([[0, 0], [4, 0], [2, 3]], 2.0, 13 / 6),  # acute: half the longest side, circumradius
        ([[0, 0], [0, 0], [4, 0], [2, 3], [2, 3]], 2.0, 13 / 6),
    ],
    ids=["rectangle", "triangle", "triangle with equal corners"],
)
def test_a_hole_is_born_at_its_widest_gap_and_dies_at_its_largest_circle(corners, birth, death):
    holes = persistence(torch.tensor(corners, dtype=D))
    torch.testing.assert_close(holes, torch.tensor([[birth, death]], dtype=D))


@pytest.mark.parametrize("radius", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("number", [7, 100])
def test_the_hole_of_a_circle_dies_at_its_radius(radius, number):
    hole = persistence(radius * polygon(number) + torch.tensor([5.0, -2.0]))[0]
    torch.testing.assert_close(
        hole, radius * torch.tensor([math.sin(math.pi / number), 1.0]).to(D)
    )


def test_holes_are_sorted_by_how_long_they_live():
    shapes = [s * polygon(20) + torch.tensor([x, 0.0]) for s, x in ((1, 0), (3, 20), (2, 40))]
    lives = persistence(torch.cat(shapes)).diff(dim=1)[:, 0]
    expected = torch.tensor([3.0, 2.0, 1.0], dtype=D) * (1 - math.sin(math.pi / 20))
    torch.testing.assert_close(lives[:3], expected)
    assert (lives[:-1] >= lives[1:]).all() and (lives[3:] < 1e-6).all()


def test_holes_neither_turn_nor_move_with_the_points():
    points = noise(200)
    c, s = math.cos(0.7), math.sin(0.7)
    turned = points @ torch.tensor([[c, -s], [s, c]], dtype=D) + 3.0
    torch.testing.assert_close(persistence(turned), persistence(points))
    torch.testing.assert_close(persistence(4 * points), 4 * persistence(points))


@pytest.mark.parametrize(
    "points",
    [torch.ones(1, 2), torch.eye(2), torch.zeros(6, 2), torch.tensor([[0, 0], [2, 0], [1, 0.1]])],
    ids=["one point", "two points", "equal points", "obtuse triangle"],
)
def test_points_without_a_hole_fail(points):
    assert persistence(points).shape == (0, 2)
    result = ring_test(points, CODES)
    assert (result.hole_ratio, result.second, result.turns, result.total_turns) == (1, 0, 0, 0)
    assert result.centre.isnan().all()
    assert not result.passes


# The ring test


def test_a_regular_polygon_measures_what_geometry_says():
    result = ring_test(2 * polygon(50) + 7.0, 2 * CODES + 7.0)
    assert result.hole_ratio == pytest.approx(1 / math.sin(math.pi / 50))
    assert result.second == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(result.centre, torch.full((2,), 7.0, dtype=D))
    assert result.turns == 1
    assert result.total_turns == pytest.approx(1.0)
    assert result.passes


def test_the_centre_is_as_far_from_the_nearest_points_as_the_hole_is_large():
    points = uniform(300) * torch.tensor([1.0, 0.6]) + 0.05 * noise(300)
    centre = ring_test(points, CODES).centre
    nearest = (points - centre).norm(dim=1).sort().values[:3]
    torch.testing.assert_close(nearest, persistence(points)[0, 1].expand(3))


def test_the_second_hole_is_measured_in_shares_of_the_first():
    points = torch.cat([3 * polygon(60), 1.2 * polygon(60) + torch.tensor([9.0, 0.0])])
    assert ring_test(points, CODES).second == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("direction", [1, -1])
def test_a_noisy_circle_passes(seed, direction):
    torch.manual_seed(seed)
    points = prune_sparse(uniform(1_000) + 0.05 * noise(1_000))
    result = ring_test(points, CODES if direction == 1 else CODES.flip(0))
    assert result.passes
    assert result.turns == direction
    assert result.centre.norm() < 0.1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "shape", ["disc", "Gaussian", "two blobs", "figure of eight", "arc", "two rings"]
)
def test_what_is_no_ring_fails_even_if_the_codes_go_around(shape, seed):
    torch.manual_seed(seed)
    n = 1_000
    points = {
        "disc": uniform(n) * torch.rand(n, 1, dtype=D).sqrt(),
        "Gaussian": noise(n),
        "two blobs": two_places(n) + 0.2 * noise(n),
        "figure of eight": two_places(n) + uniform(n) + 0.03 * noise(n),
        "arc": uniform(n, turn=0.75) + 0.05 * noise(n),
        "two rings": 2 * two_places(n) + uniform(n) + 0.03 * noise(n),
    }[shape]
    points = prune_sparse(points)
    around = ring_test(points, CODES).centre + 0.1 * CODES
    result = ring_test(points, around)
    assert result.turns == 1 and result.total_turns == pytest.approx(1.0)
    assert not result.passes


@pytest.mark.parametrize("turns", [0, 2, -3])
def test_a_ring_fails_if_the_codes_do_not_wind_once(turns):
    points = polygon(100)
    angle = turns * torch.linspace(0, 2 * math.pi, 361, dtype=D)[:-1]
    codes = circle(angle) if turns else 0.3 * CODES + torch.tensor([1.0, 0.0])
    result = ring_test(points, codes)
    assert result.turns == turns
    assert not result.passes
    assert replace(ring_test(points, CODES), turns=-1).passes


@pytest.mark.parametrize(("back", "passes"), [(0.1, True), (0.2, False)])
def test_a_ring_fails_if_the_codes_turn_back_too_far(back, passes):
    """Going forward, back by a share of a turn, and forward again adds twice that share."""
    turn = torch.cat([torch.linspace(0, 0.5, 50), torch.linspace(0.5, 0.5 - back, 50)])
    turn = torch.cat([turn, torch.linspace(0.5 - back, 1, 50)]).double()
    result = ring_test(polygon(100), circle(2 * math.pi * turn))
    assert result.turns == 1
    assert result.total_turns == pytest.approx(1 + 2 * back)
    assert result.passes is passes


def test_turns_are_the_winding_number_of_the_closed_polygon():
    """A ray from the centre counts the edges that cross it, upward less downward."""
    seen = set()
    for _ in range(200):
        codes = noise(12)
        seen.add(turns := ring_test(polygon(40), codes).turns)
        (x, y), (u, v) = codes.T, codes.roll(-1, dims=0).T
        crosses = (y > 0) != (v > 0)
        right = x + (u - x) * y / (y - v) > 0
        assert turns == torch.where(crosses & right, (v - y).sign(), 0).sum()
    assert seen >= {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(
    ("threshold", "value"),
    [("min_hole_ratio", 32.0), ("max_second", -0.1), ("max_total_turns", 0.9)],
)
def test_each_threshold_can_be_set(threshold, value):
    points = polygon(100)  # ratio 31.8
    assert ring_test(points, CODES).passes
    assert not ring_test(points, CODES, **{threshold: value}).passes


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({"hole_ratio": 4.0, "second": 0.5, "turns": -1, "total_turns": 1.29}, True),
        ({"hole_ratio": 3.99}, False),
        ({"second": 0.51}, False),
        ({"turns": 2}, False),
        ({"total_turns": 1.3}, False),
    ],
)
def test_the_verdict_needs_every_measurement(change, passes):
    good = RingTest(50.0, 0.1, torch.zeros(2), 1, 1.0)
    assert good.passes
    assert replace(good, **change).passes is passes


@pytest.mark.parametrize(
    ("points", "codes", "match"),
    [
        (torch.zeros(5, 3), CODES, r"points must .* plane, \(N, 2\), got shape \(5, 3\)"),
        (torch.full((5, 2), math.nan), CODES, "points must be finite"),
        (CODES, CODES[0], r"codes must .* got shape \(2,\)"),
        (CODES, CODES[:2], "at least three codes, got 2"),
    ],
    ids=["three dimensions", "not finite", "one code", "two codes"],
)
def test_what_is_not_in_the_plane_is_refused(points, codes, match):
    with pytest.raises(ValueError, match=match):
        ring_test(points, codes)


def test_without_gudhi_the_package_works_and_the_ring_test_says_what_to_install():
    code = """
import sys
sys.modules["gudhi"] = None  # makes its import fail
import torch
from hvae_course.analysis import ring_test
try:
    ring_test(torch.randn(5, 2), torch.randn(5, 2))
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "hvae-course[topology]"' in result.stdout, result.stderr


# Angles


def test_steps_across_the_wrap_go_the_short_way_round():
    angle = torch.tensor([3.0, -3.0, 3.0, 3.5, 3.5 + 4 * math.pi], dtype=D)
    short = 2 * math.pi - 6
    expected = torch.tensor([short, -short, 0.5, 0.0], dtype=D)
    torch.testing.assert_close(angle_steps(angle), expected)


def test_half_a_turn_counts_as_positive_and_a_short_step_stays_as_it_is():
    pi = math.pi
    assert angle_steps(torch.tensor([0.0, pi, 0.0, -pi, 2 * pi], dtype=D)).tolist() == [pi] * 4
    angle = torch.tensor([0.0, 1e-12, -1e-12], dtype=D)
    assert torch.equal(angle_steps(angle), angle.diff())


@pytest.mark.parametrize("turns", [-2, 0, 1, 3])
def test_steps_around_a_closed_curve_sum_to_whole_turns(turns):
    angle = turns * torch.linspace(0, 2 * math.pi, 100, dtype=D) + torch.rand(2, 1, dtype=D)
    wrapped = torch.atan2(angle.sin(), angle.cos())  # two curves at once, (2, 100)
    total = angle_steps(wrapped).sum(dim=1)
    torch.testing.assert_close(total, torch.full((2,), 2 * math.pi * turns, dtype=D))


def test_one_angle_has_no_steps():
    with pytest.raises(ValueError, match="at least two angles along the last axis"):
        angle_steps(torch.zeros(3, 1))
