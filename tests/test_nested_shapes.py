"""Images of nested shapes: each level is drawn from the one above, and pixels show them all."""

import functools
import itertools
import math
import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from linear_gaussian import agree
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from hvae_course.config import Binarisation
from hvae_course.data import DataSpec, load
from hvae_course.data import nested_shapes as nested
from hvae_course.data.nested_shapes import FACTORS, OBJECTS, SHAPES, SIDE, coverage, render

D = torch.float64
TURN = 2 * math.pi
SPLITS = ("train", "validation", "test")
NUM_PARTS = 3
close = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-5, check_dtype=False)


def levels(factors) -> tuple[nested.Scene, nested.Parts, nested.Texture]:
    shapes = torch.stack([factors[f"part_{k + 1}"] for k in range(NUM_PARTS)], dim=1)
    return (
        nested.Scene(factors["object"], factors["x"], factors["y"]),
        nested.Parts(shapes, factors["size"]),
        nested.Texture(factors["orientation"], factors["phase"], factors["contrast"]),
    )


def clean(factors) -> torch.Tensor:
    scene, parts, texture = levels(factors)
    return render(scene, parts, texture=texture)


def uniform(values: torch.Tensor, spread: float) -> bool:
    """Bounds and the first, second and fourth moment of a uniform distribution around 0."""
    values = values.to(D) / spread
    moments = [agree(values, 0), agree(values.square(), 1 / 3), agree(values**4, 1 / 5)]
    return bool(values.abs().max() <= 1 + 1e-5) and all(moments)


@pytest.fixture(scope="module")
def draws():
    """Many factors without their images."""
    generator = torch.Generator().manual_seed(0)
    scene = nested.draw_global(100_000, generator)
    parts = nested.draw_parts(scene, generator)
    return scene, parts, nested.draw_texture(parts, generator)


@pytest.fixture(scope="module")
def raw():
    return nested.generate()


@pytest.fixture
def load_raw(raw, monkeypatch):
    """Load the data set without generating it again."""
    monkeypatch.setattr(nested, "generate", lambda: raw)
    return functools.partial(load, "nested_shapes")


@pytest.fixture(scope="module")
def few(raw):
    """Factors of some images."""
    return {name: values[:200] for name, values in raw.factors.items()}


def test_the_seed_alone_decides_what_is_generated():
    results = []
    for caller in (1, 2):
        torch.manual_seed(caller)
        before = torch.get_rng_state()
        results.append(nested.generate((20, 5, 5), seed=1))
        assert torch.equal(torch.get_rng_state(), before)
    other = nested.generate((20, 5, 5), seed=2)
    assert torch.equal(results[0].pixels, results[1].pixels)
    for name in FACTORS:
        assert torch.equal(results[0].factors[name], results[1].factors[name])
        assert not torch.equal(results[0].factors[name], other.factors[name])


def test_the_tables_are_distributions_and_no_part_leaves_the_image():
    tables = torch.tensor(nested.SHAPE_PROBABILITY, dtype=D)
    assert tables.shape == (len(OBJECTS), NUM_PARTS, len(SHAPES)) and (tables > 0).all()
    torch.testing.assert_close(tables.sum(-1), torch.ones_like(tables[..., 0]))
    farthest = torch.tensor(nested.PLACES).abs().amax(dim=(1, 2)) + torch.tensor(nested.SIZE)
    assert (farthest + nested.SIZE_SPREAD + nested.REACH <= SIDE / 2 + 1e-5).all()


def test_objects_are_equally_probable_and_their_centre_is_uniform_on_a_square(draws):
    scene, _, _ = draws
    for number in range(len(OBJECTS)):
        own = scene.object == number
        assert agree(own.to(D), 1 / len(OBJECTS))
        assert uniform(scene.x[own], nested.REACH) and uniform(scene.y[own], nested.REACH)
        assert agree((scene.x * scene.y)[own].to(D), 0)


@pytest.mark.parametrize("number", range(len(OBJECTS)), ids=OBJECTS)
def test_shapes_and_size_are_independent_given_their_object_and_follow_its_tables(number, draws):
    """All 27 triples of shapes, each as probable as the product over the parts."""
    scene, parts, _ = draws
    own, table = scene.object == number, nested.SHAPE_PROBABILITY[number]
    shapes, size = parts.shapes[own], parts.size[own].to(D) - nested.SIZE[number]
    assert uniform(size, nested.SIZE_SPREAD)
    assert agree(size * scene.x[own], 0) and agree(size * scene.y[own], 0)
    for triple in itertools.product(range(len(SHAPES)), repeat=NUM_PARTS):
        here = (shapes == torch.tensor(triple)).all(1).to(D)
        assert agree(here, math.prod(table[k][shape] for k, shape in enumerate(triple)))
        assert agree(here * size, 0)


@pytest.mark.parametrize("triple", itertools.product(range(len(SHAPES)), repeat=NUM_PARTS))
def test_the_shapes_of_the_parts_decide_how_probable_upright_stripes_are(triple, draws):
    _, parts, texture = draws
    own = (parts.shapes == torch.tensor(triple)).all(1)
    probability = sum(nested.UPRIGHT[shape] for shape in triple) / NUM_PARTS
    assert agree(texture.orientation[own].to(D), probability)


@pytest.mark.parametrize("number", range(len(OBJECTS)), ids=OBJECTS)
def test_the_texture_depends_on_the_parts_and_through_them_alone_on_the_object(number, draws):
    scene, parts, texture = draws
    own = scene.object == number
    size, x = parts.size[own].to(D) - nested.MIDDLE_SIZE, scene.x[own]
    contrast = texture.contrast[own] - nested.CONTRAST - nested.CONTRAST_SLOPE * size
    upright = torch.tensor(nested.UPRIGHT, dtype=D)[parts.shapes].mean(1)
    surprise = (texture.orientation - upright)[own]
    assert uniform(contrast, nested.CONTRAST_SPREAD)
    for product in (contrast * size, contrast * x, surprise, surprise * size, surprise * x):
        assert agree(product, 0)


def test_the_phase_is_uniform_on_the_circle_whatever_the_rest(draws):
    _, parts, texture = draws
    assert 0 <= texture.phase.min() and texture.phase.max() <= TURN
    for frequency in (1, 2, 3):
        angle = frequency * texture.phase.to(D)
        for factor in (1, parts.size, texture.contrast, texture.orientation):
            assert agree(factor * angle.sin(), 0) and agree(factor * angle.cos(), 0)


@pytest.mark.parametrize("shape", range(len(SHAPES)), ids=SHAPES)
def test_a_part_is_its_polygon_with_an_edge_one_pixel_wide(shape, few):
    """A pixel is covered by one half plus its distance inside the nearest edge of the polygon."""
    scene, parts, _ = levels(few)
    covered = coverage(scene, replace(parts, shapes=torch.full_like(parts.shapes, shape)))
    centres = torch.arange(SIDE) + 0.5 - SIDE / 2
    y, x = (grid.flatten() for grid in torch.meshgrid(centres, centres, indexing="ij"))
    for n, k in itertools.product(range(100), range(NUM_PARTS)):
        place_x, place_y = nested.PLACES[scene.object[n]][k]
        dx, dy = x - scene.x[n] - place_x, y - scene.y[n] - place_y
        s = parts.size[n].item()
        corners = {
            "diamond": [(0, -s), (s, 0), (0, s), (-s, 0)],
            "square": [(-s, -s), (s, -s), (s, s), (-s, s)],
            "triangle": [(0, -s), (s, s), (-s, s)],
        }[SHAPES[shape]]
        inside = torch.full_like(x, math.inf)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            cross = (bx - ax) * (dy - ay) - (by - ay) * (dx - ax)
            inside = torch.minimum(inside, cross / math.hypot(bx - ax, by - ay))
        close(covered[n, k], (0.5 + inside).clamp(0, 1))


def test_a_covered_pixel_has_the_brightness_of_its_stripe_and_others_the_background(few):
    scene, parts, texture = levels(few)
    covered, images = coverage(scene, parts), clean(few)
    assert torch.equal(images, clean(few))
    assert (images[covered.sum(1) == 0] - nested.BACKGROUND).abs().max() < 1e-6
    assert images.min() > nested.BACKGROUND - 1e-6 and images.max() < 14 / 15
    whole = (covered == 1).any(1) & (covered.sum(1) == 1)
    assert whole.sum() > 4000
    for n, pixel in whole.nonzero()[::50].tolist():
        place_x, place_y = nested.PLACES[scene.object[n]][covered[n, :, pixel].argmax()]
        across = pixel % SIDE + 0.5 - SIDE / 2 - scene.x[n] - place_x
        if texture.orientation[n] == 0:
            across = pixel // SIDE + 0.5 - SIDE / 2 - scene.y[n] - place_y
        wave = torch.cos(TURN * across / nested.PERIOD - texture.phase[n])
        close(images[n, pixel], nested.BRIGHTNESS + texture.contrast[n] * wave)


def test_moving_the_centre_by_a_pixel_moves_the_image_by_a_pixel(few):
    few = few | {name: few[name].clamp(max=0.2) for name in ("x", "y")}
    image, right, down = (
        clean(factors).view(-1, SIDE, SIDE)
        for factors in (few, few | {"x": few["x"] + 1}, few | {"y": few["y"] + 1})
    )
    close(right[:, :, 1:], image[:, :, :-1])
    close(down[:, 1:], image[:, :-1])


CHANGE = {
    "object": lambda values: (values + 1) % len(OBJECTS),
    **dict.fromkeys(("x", "y"), lambda values: -values.sign()),
    **dict.fromkeys(("part_1", "part_2", "part_3"), lambda values: (values + 1) % len(SHAPES)),
    "size": lambda values: values - 0.2,
    "orientation": lambda values: 1 - values,
    "phase": lambda values: values + 2.0,
    "contrast": lambda values: 0.6 * values,
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_changes_pixels_of_its_parts_and_no_others(name, few):
    after = few | {name: CHANGE[name](few[name])}
    change = (clean(after) - clean(few)).abs()
    covered = coverage(*levels(few)[:2]) + coverage(*levels(after)[:2])
    if name.startswith("part"):
        covered = covered[:, [int(name[-1]) - 1]]
    assert (change[covered.sum(1) == 0] < 1e-6).all() and ((change > 1e-6).sum(1) >= 3).all()
    assert nested.MAX_VALUE * change.amax(1).median() > 1


def test_averaged_over_the_phase_an_image_shows_its_parts_alone(few):
    """So no texture can move a part, or make one look larger."""
    phases = [few | {"phase": few["phase"] + n * TURN / 12} for n in range(12)]
    images = torch.stack([clean(factors) for factors in phases])
    covered = coverage(*levels(few)[:2])
    alone = (covered > 0).sum(1) <= 1
    expected = nested.BACKGROUND + covered.amax(1) * (nested.BRIGHTNESS - nested.BACKGROUND)
    close(images.mean(0)[alone], expected[alone])


@pytest.mark.parametrize("noise", [nested.NOISE, 0.06])
def test_an_image_is_the_drawing_of_its_factors_with_independent_noise_rounded(noise):
    """Noise wider than half a grey value makes the rounding errors uniform."""
    raw = nested.generate((3000, 1, 1), noise=noise)
    images = clean(raw.factors)
    residual = raw.pixels.to(D) - nested.MAX_VALUE * images
    inner = (images > 0.2) & (images < 0.8)  # rarely so far from the drawing as to be clamped
    variance = (nested.MAX_VALUE * noise) ** 2 + 1 / 12
    assert agree(residual[inner], 0) and agree(residual[inner].square(), variance)
    both = inner[:, 1:] & inner[:, :-1]
    assert agree((residual[:, 1:] * residual[:, :-1])[both], 0)
    raw = nested.generate((3000, 1, 1), noise=0.0)
    assert (raw.pixels - nested.MAX_VALUE * clean(raw.factors)).abs().max() < 0.5 + 1e-5


CHANCE = {  # of one who knows the levels above and does not look: accuracy, or explained variance
    "object": 1 / 4,
    **{f"part_{k + 1}": np.mean([max(p[k]) for p in nested.SHAPE_PROBABILITY]) for k in range(3)},
    "orientation": 0.63,
    "size": np.var(nested.SIZE) / (np.var(nested.SIZE) + nested.SIZE_SPREAD**2 / 3),
    "contrast": 0.2,
    **dict.fromkeys(("x", "y", "phase"), 0.0),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_simple_probe_reads_a_factor_off_the_images(name, raw):
    x, factor = raw.pixels.float() / nested.MAX_VALUE, raw.factors[name]
    probe = Ridge(1.0) if factor.is_floating_point() else KNeighborsClassifier(10)
    if name == "contrast":
        grid = x.view(-1, SIDE, SIDE)  # how much neighbouring pixels differ
        x = torch.cat([x, *(grid.diff(dim=dim).square().flatten(1) for dim in (1, 2))], dim=1)
    if name == "phase":
        probe = KNeighborsRegressor(10)
        factor = torch.stack([factor.cos(), factor.sin()], dim=1)
    probe.fit(x[:4000].numpy(), factor[:4000].numpy())
    score = probe.score(x[-2000:].numpy(), factor[-2000:].numpy())
    assert score > CHANCE[name] + 0.35 * (1 - CHANCE[name])


def test_the_splits_are_parts_of_one_draw_in_order(raw, load_raw):
    data = load_raw()
    parts = [data.split(name) for name in SPLITS]
    assert tuple(map(len, parts)) == nested.SIZES == raw.sizes
    assert torch.equal(torch.cat([part.pixels for part in parts]), raw.pixels)
    assert torch.equal(torch.cat([part.labels for part in parts]), raw.factors["object"])
    assert list(raw.factors) == list(parts[2].factors) == list(FACTORS)
    for name in FACTORS:
        assert torch.equal(torch.cat([p.factors[name] for p in parts]), raw.factors[name])
    assert len(raw.pixels.unique(dim=0)) == sum(nested.SIZES)


@pytest.mark.parametrize("binarisation", get_args(Binarisation))
def test_pixels_lie_on_the_grid_of_16_grey_values_or_are_made_binary(binarisation, load_raw):
    data = load_raw(binarisation=binarisation)
    num_values = 16 if binarisation == "none" else 2
    assert data.spec == DataSpec((SIDE, SIDE), num_values, num_classes=4)
    for name in SPLITS:
        values = data.split(name).batch(slice(None)).unique()
        torch.testing.assert_close(values, torch.arange(num_values) / (num_values - 1))


def test_the_recipes_score_the_images_as_grey_values(
    make_model, assert_finite_gradients, load_raw
):
    data = load_raw()
    model, x = make_model(data=data), data.train.batch(slice(20))
    trace = model(x)
    assert trace.px.num_values == 16
    assert_finite_gradients(model, -trace.log_weight(x).mean())


@pytest.mark.parametrize(
    ("sizes", "noise"), [((0, 1, 1), 0.1), ((1, 1, -1), 0.1), ((1, 1, 1), -0.1)], ids=str
)
def test_an_empty_split_and_negative_noise_are_refused(sizes, noise):
    match = f"the noise must not be negative, got sizes={sizes} and noise={noise}"
    with pytest.raises(ValueError, match=f"^every split needs an image and {re.escape(match)}$"):
        nested.generate(sizes, noise=noise)
