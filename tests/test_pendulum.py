"""Images of a pendulum, whose latent space is a circle."""

import math

import pytest
import torch
from linear_gaussian import agree

from hvae_course.data import DataSpec, Split, load, pendulum
from hvae_course.data.pendulum import BOB, LENGTH, NOISE, SECTORS, SIDE, SIZES, draw, read_angle

D = torch.float64
TURN = 2 * math.pi
SPLITS = ("train", "validation", "test")


def circle(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=D) * TURN / n


def between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Shortest way from one angle to another."""
    return (a - b + math.pi) % TURN - math.pi


@pytest.fixture(scope="module")
def raw():
    return pendulum.generate()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_alone_decides_what_is_generated(seed):
    results = []
    for caller in (1, 2):
        torch.manual_seed(caller)
        before = torch.get_rng_state()
        results.append(pendulum.generate((20, 5, 5), seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0].pixels, results[1].pixels)
    assert torch.equal(results[0].factors["angle"], results[1].factors["angle"])
    other = pendulum.generate((20, 5, 5), seed=3)
    assert not torch.equal(other.factors["angle"], results[0].factors["angle"])


def test_the_angle_is_uniform_on_the_circle(raw):
    angle = raw.factors["angle"].to(D)
    assert 0 <= angle.min() and angle.max() < TURN
    for frequency in (1, 2, 3):
        assert agree((frequency * angle).sin(), 0.0) and agree((frequency * angle).cos(), 0.0)
    for n in range(SECTORS):
        assert agree((raw.labels == n).to(D), 1 / SECTORS)


def test_labels_are_the_sectors_of_the_angle(raw):
    angle = raw.factors["angle"]
    assert raw.labels.dtype == torch.int64 and raw.labels.unique().tolist() == [*range(SECTORS)]
    assert (raw.labels * TURN / SECTORS <= angle + 1e-6).all()
    assert (angle <= (raw.labels + 1) * TURN / SECTORS + 1e-6).all()


@pytest.mark.parametrize("noise", [NOISE, 0.2])
def test_the_noise_is_independent_and_has_the_given_level(noise):
    raw = pendulum.generate((3000, 1, 1), noise=noise)
    residual = ((raw.pixels - draw(raw.factors["angle"])) / noise).to(D)
    assert agree(residual.flatten(), 0.0) and agree(residual.flatten().square(), 1.0)
    assert agree((residual[:, 1:] * residual[:, :-1]).flatten(), 0.0)
    assert agree((residual[1:] * residual[:-1]).flatten(), 0.0)


def test_without_noise_an_image_is_the_drawing_of_its_angle():
    raw = pendulum.generate((5, 2, 2), noise=0.0)
    assert torch.equal(raw.pixels, draw(raw.factors["angle"]))


@pytest.mark.parametrize("side", [16, 24])
def test_the_angle_can_be_read_off_within_the_resolution(side):
    angle = TURN * torch.rand(500, dtype=D, generator=torch.Generator().manual_seed(0))
    images = draw(angle, side=side)
    read, distance = read_angle(images, resolution=360)
    assert between(read, angle).abs().max() <= TURN / 360 / 2 * 1.05
    assert distance.max() < 0.01 and read.dtype == D
    exact, nothing = read_angle(draw(circle(360), side=side), resolution=360)
    torch.testing.assert_close(exact, circle(360))
    assert nothing.max() < 1e-6


def test_the_angle_of_a_noisy_image_is_found_and_its_distance_is_the_noise(raw):
    read, distance = read_angle(raw.pixels[:500])
    assert between(read, raw.factors["angle"][:500]).abs().max() < 0.05
    assert ((0.8 * NOISE < distance) & (distance < 1.2 * NOISE)).all()


def test_what_is_no_pendulum_is_far_from_all():
    images = torch.stack([torch.zeros(256), torch.ones(256), torch.rand(256)])
    images = torch.cat([images, draw(torch.tensor([0.0])) + draw(torch.tensor([math.pi]))])
    assert (read_angle(images)[1] > 3 * NOISE).all()


def test_the_image_is_a_closed_curve_without_jumps_or_stops():
    angles = circle(5000)
    step = TURN / 5000
    torch.testing.assert_close(draw(angles + TURN), draw(angles))
    images = draw(angles)
    change = (images.roll(-1, 0) - images) / step
    assert change.abs().max() < 2.5  # per radian, of white
    speed = change.square().sum(1).sqrt()
    assert 7 < speed.min() and speed.max() < 9  # and no angle is easier to tell than another
    assert 0 <= images.min() and images.max() == 1


def test_no_two_angles_look_alike():
    images = draw(circle(180))
    distance = torch.cdist(images, images)
    steps = (torch.arange(180)[:, None] - torch.arange(180)).abs()
    steps = torch.minimum(steps, 180 - steps)
    assert distance[steps > 5].min() > distance[steps == 5].min() > 0.5


@pytest.mark.parametrize("quarter", range(4))
def test_zero_hangs_down_and_a_quarter_turn_points_right(quarter):
    centres = (torch.arange(SIDE, dtype=D) + 0.5) * 2 / SIDE - 1
    image = draw(torch.tensor([quarter * math.pi / 2], dtype=D)).view(SIDE, SIDE)
    middle = torch.stack([(image.sum(0) * centres).sum(), (image.sum(1) * centres).sum()])
    x, y = middle / image.sum()  # y points down
    expected = [(0, 1), (1, 0), (0, -1), (-1, 0)][quarter]
    direction = torch.stack([x, y]) / torch.hypot(x, y)
    torch.testing.assert_close(direction, torch.tensor(expected, dtype=D))
    assert 0.3 < torch.hypot(x, y) < LENGTH


def test_rod_and_bob_are_white_and_the_corners_black():
    """Whole disc and rod, up to the ramp of the edge, at a high resolution."""
    side, angle = 200, torch.tensor([0.7], dtype=D)
    image = draw(angle, side=side).view(side, side)
    centres = (torch.arange(side, dtype=D) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    bob = torch.hypot(x - LENGTH * angle.sin(), y - LENGTH * angle.cos())
    assert (image[bob < BOB - 0.02] == 1).all()
    rod = torch.hypot(x - 0.3 * angle.sin(), y - 0.3 * angle.cos()) < 0.05
    assert (image[rod] == 1).all()
    assert (image[torch.hypot(x, y) > LENGTH + BOB + 0.02] == 0).all()
    assert (image[bob > LENGTH + 0.35] == 0).all()
    area = math.pi * BOB**2 + 2 * 0.1 * (LENGTH - BOB) + math.pi * 0.1**2 / 2
    assert image.mean().item() * 4 == pytest.approx(area, rel=0.03)


def test_the_splits_are_disjoint_parts_of_one_draw_in_order(raw):
    data = load("pendulum")
    parts = [data.split(name) for name in SPLITS]
    assert tuple(map(len, parts)) == SIZES == raw.sizes
    assert torch.equal(torch.cat([part.batch(slice(None)) for part in parts]), raw.pixels)
    assert torch.equal(torch.cat([part.labels for part in parts]), raw.labels)
    assert torch.equal(torch.cat([p.factors["angle"] for p in parts]), raw.factors["angle"])
    assert len(raw.pixels.unique(dim=0)) == sum(SIZES)


def test_the_data_set_says_that_its_values_are_real():
    data = load("pendulum")
    assert data.spec == DataSpec((SIDE, SIDE), None, num_classes=8)
    assert str(data) == "pendulum, real-valued, split 10000/2500/2500 in file order"
    x = data.train.batch(torch.tensor([3, 1]))
    assert x.dtype == torch.float32 and torch.equal(x, data.train.pixels[[3, 1]])
    assert x.min() < 0  # noise around black, which no binarisation could read


@pytest.mark.parametrize("binarisation", ["dynamic", "static", "threshold"])
def test_real_values_are_not_made_binary(binarisation):
    match = f"pendulum holds real values, which binarisation='{binarisation}' cannot make binary"
    with pytest.raises(ValueError, match=match):
        load("pendulum", binarisation=binarisation)
    assert load("pendulum", binarisation="none").binarisation == "none"


@pytest.mark.parametrize(
    ("index", "expected"),
    [(slice(1, 3), [1, 2]), (torch.tensor([4, 0, 4]), [4, 0, 4]), (torch.arange(5) > 2, [3, 4])],
    ids=["slice", "numbers", "mask"],
)
def test_a_selection_keeps_pixels_labels_and_factors_together(index, expected):
    n = torch.arange(5)
    split = Split(n[:, None].float(), n, None, False, {"angle": n / 2, "time": n + 7})
    part = split.select(index)
    numbers = torch.tensor(expected)
    assert part.labels.tolist() == expected and len(part) == len(expected)
    assert torch.equal(part.pixels[:, 0], numbers.float())
    assert torch.equal(part.factors["angle"], numbers / 2)
    assert torch.equal(part.factors["time"], numbers + 7)
    assert len(split) == 5 and len(split.factors["angle"]) == 5


def test_moving_a_split_takes_the_factors_along():
    data = load("pendulum").to("meta")
    for name in SPLITS:
        part = data.split(name)
        assert {part.pixels.device, part.labels.device, part.factors["angle"].device} == {
            torch.device("meta")
        }


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, -1)], ids=str)
def test_an_empty_split_is_refused(sizes):
    with pytest.raises(ValueError, match="every split needs an image .* got sizes=") as error:
        pendulum.generate(sizes)
    assert f"sizes={sizes}" in str(error.value)


@pytest.mark.parametrize("side", [8, 32])
def test_the_side_changes_the_resolution_and_not_the_angles(side, raw):
    other = pendulum.generate(SIZES, noise=0.0, side=side)
    assert other.image_shape == (side, side)
    assert torch.equal(other.factors["angle"], raw.factors["angle"])
    assert torch.equal(other.pixels, draw(raw.factors["angle"], side=side))


def test_images_without_pixels_are_refused():
    with pytest.raises(ValueError, match="at least 1 pixel, got side=0"):
        pendulum.generate((1, 1, 1), side=0)


@pytest.mark.parametrize("noise", [-0.1, math.nan])
def test_negative_noise_is_refused(noise):
    with pytest.raises(ValueError, match=f"the noise must not be negative, got .*noise={noise}"):
        pendulum.generate((1, 1, 1), noise=noise)
