"""Plots: images, edges and bodies where they belong."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from hvae_course import plots


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def pixels(axes: Axes) -> np.ndarray:
    return np.ma.filled(axes.images[0].get_array(), np.nan)


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (2, 3)], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 5)])
def test_every_image_stands_in_its_row_and_column(shape, rows, columns):
    height, width = shape
    images = torch.rand(rows, columns, height * width, requires_grad=True)
    canvas = pixels(plots.image_grid(images, shape))
    filled = canvas[~np.isnan(canvas).all(axis=1)][:, ~np.isnan(canvas).all(axis=0)]
    for r in range(rows):
        for c in range(columns):
            shown = filled[r * height : (r + 1) * height, c * width : (c + 1) * width]
            expected = images[r, c].detach().reshape(shape)
            np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_the_gaps_between_images_are_empty():
    canvas = pixels(plots.image_grid(torch.ones(2, 3, 64), (8, 8)))
    assert canvas.shape == (2 * 8 + 1, 3 * 8 + 2)
    assert np.isnan(canvas).sum() == canvas.size - 6 * 64


def test_images_are_black_on_white_between_zero_and_one():
    image = plots.image_grid(torch.full((1, 1, 4), 0.5), (2, 2)).images[0]
    assert image.get_clim() == (0, 1)
    assert image.cmap(image.norm(0.0))[:3] == (1, 1, 1)
    assert image.cmap(image.norm(1.0))[:3] == (0, 0, 0)


def test_rows_may_come_one_by_one_with_labels_and_a_title():
    rows = [torch.zeros(3, 4), torch.ones(3, 4)]
    axes = plots.image_grid(rows, (2, 2), labels=["data", "model"], title="Digits")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["data", "model"]
    assert axes.get_title() == "Digits"
    assert len(plots.image_grid(rows, (2, 2)).get_yticks()) == 0


@pytest.mark.parametrize("lengths", [(2, 3), (3, 2, 3)], ids=str)
def test_rows_of_different_lengths_are_refused(lengths):
    with pytest.raises(ValueError, match="equally long, got") as error:
        plots.image_grid([torch.zeros(n, 4) for n in lengths], (2, 2))
    assert f"{list(lengths)} images" in str(error.value)


def test_a_grid_without_rows_is_refused():
    with pytest.raises(ValueError, match=r"equally long, got \[\] images"):
        plots.image_grid([], (2, 2))


@pytest.mark.parametrize("labels", [[], ["one"], ["one", "two", "three"]], ids=len)
def test_a_wrong_number_of_labels_is_refused(labels):
    with pytest.raises(ValueError, match=f"2 rows need as many labels, got {len(labels)}"):
        plots.image_grid(torch.zeros(2, 3, 4), (2, 2), labels=labels)


def test_given_axes_are_drawn_on_and_returned():
    _, (first, second) = plt.subplots(1, 2)
    assert plots.image_grid(torch.zeros(1, 1, 4), (2, 2), axes=second) is second
    assert second.images and not first.images


def test_new_figures_have_an_opaque_background_and_the_size_asked_for():
    axes = plots.new_axes(5, 2)
    assert axes.figure.get_facecolor() == (1, 1, 1, 1)
    assert axes.figure.get_size_inches().tolist() == [5, 2]


def test_plotting_leaves_the_style_alone():
    before = plt.rcParams.copy()
    plots.image_grid(torch.zeros(1, 1, 4), (2, 2))
    assert plt.rcParams == before


# What users have at hand

GREY, COLOUR = (4, 6), (3, 4, 6)


@pytest.mark.parametrize("shape", [GREY, COLOUR, (1, 4, 6)], ids=str)
def test_rows_images_arrays_and_lists_give_the_same_grid(shape):
    images = torch.rand(2, 5, *shape)
    expected = pixels(plots.image_grid(images.flatten(2), shape))
    forms = {
        "images": images,
        "an array": images.numpy(),
        "float64": images.double(),
        "rows of images": list(images),
        "rows of arrays": [row.flatten(1).numpy() for row in images],
        "numbers": images.flatten(2).tolist(),
    }
    for name, form in forms.items():
        np.testing.assert_array_equal(pixels(plots.image_grid(form, shape)), expected, name)
        plt.close()


@pytest.mark.parametrize("shape", [GREY, COLOUR], ids=str)
def test_a_single_row_and_a_single_image_are_shown(shape):
    row = torch.rand(5, *shape)
    expected = pixels(plots.image_grid(row[None], shape))
    for form in (row, row.flatten(1), list(row), list(row.flatten(1))):
        np.testing.assert_array_equal(pixels(plots.image_grid(form, shape)), expected)
    one = pixels(plots.image_grid(row[0], shape))
    height, width = one.shape[:2]
    np.testing.assert_array_equal(one, expected[:height, :width])


def test_colour_images_keep_their_channels_on_white():
    image = torch.rand(3, 4, 6)
    shown = pixels(plots.image_grid(image[None].repeat(2, 1, 1, 1), COLOUR))
    np.testing.assert_allclose(shown[:, :6], image.movedim(0, 2), atol=1e-7)
    assert (shown[:, 6] == 1).all()


def test_bytes_are_shown_as_the_grey_values_they_stand_for():
    image = torch.tensor([[0, 51, 204, 255]], dtype=torch.uint8)
    shown = pixels(plots.image_grid(image, (2, 2)))
    np.testing.assert_allclose(shown, [[0, 0.2], [0.8, 1]])
    binary = pixels(plots.image_grid(torch.tensor([[0, 1, 1, 0]], dtype=torch.uint8), (2, 2)))
    np.testing.assert_array_equal(binary, [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    "values",
    [torch.arange(17, dtype=torch.uint8)[:16], 255 * torch.rand(16), torch.rand(16) - 5],
    ids=["few bytes", "bytes as real numbers", "negative"],
)
def test_values_on_another_scale_are_refused_until_it_is_given(values):
    with pytest.raises(ValueError, match="got values between .* give the largest possible value"):
        plots.image_grid(values, (4, 4))
    shown = pixels(plots.image_grid(values, (4, 4), max_value=16))
    np.testing.assert_allclose(shown, values.reshape(4, 4) / 16, rtol=1e-6)


def test_noise_a_little_outside_the_range_is_clipped():
    grey = plots.image_grid(torch.tensor([[-0.3, 1.4, 0.0, 1.0]]), (2, 2)).images[0]
    assert grey.get_clim() == (0, 1)
    colour = pixels(plots.image_grid(torch.full((3, 2, 2), 1.4), (3, 2, 2)))
    assert (colour == 1).all()


@pytest.mark.parametrize(
    ("rows", "shape", "text"),
    [
        (torch.rand(2, 5, 63), (8, 8), r"have 64 values each, got an array of shape \(2, 5, 63\)"),
        (torch.rand(2, 5, 64), (8, 9), r"have 72 values each"),
        (torch.rand(1, 2, 5, 64), (8, 8), "rows and columns, got .* 3 axes"),
        (torch.rand(5, 192), (8, 8, 3), r"channels first, got \(8, 8, 3\)"),
        (torch.rand(5, 64), (64,), r"must be \(H, W\)"),
        ([torch.rand(64), torch.rand(5, 64)], (8, 8), "or all single images, got the shapes"),
    ],
    ids=["too few values", "another shape", "too many axes", "channels last", "a row", "mixed"],
)
def test_what_is_no_grid_of_images_is_refused_with_its_shape(rows, shape, text):
    with pytest.raises(ValueError, match=text):
        plots.image_grid(rows, shape)


@pytest.mark.parametrize("max_value", [0, -1, float("nan")])
def test_a_largest_value_that_is_not_positive_is_refused(max_value):
    with pytest.raises(ValueError, match="max_value must be positive"):
        plots.image_grid(torch.rand(5, 64), (8, 8), max_value=max_value)


def test_missing_values_leave_a_grid_empty_where_they_are():
    image = torch.tensor([[float("nan"), 1.0, 0.0, 1.0]])
    assert np.isnan(pixels(plots.image_grid(image, (2, 2)))).sum() == 1
    assert pixels(plots.image_grid(torch.full((1, 4), float("nan")), (2, 2))).shape == (2, 2)


# Latent graphs

POINTS = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 3.0]])
EDGES = [(0, 1), (2, 1), (0, 2)]


def test_every_edge_of_a_latent_graph_joins_its_points_and_has_its_length():
    axes = plots.latent_graph(POINTS, EDGES)
    lines = axes.collections[0]
    np.testing.assert_allclose(lines.get_array(), [1, 18**0.5, 5], rtol=1e-6)
    drawn = np.array([path.vertices for path in lines.get_paths()])
    np.testing.assert_array_equal(drawn, POINTS.numpy()[np.array([[2, 1], [0, 2], [0, 1]])])
    low, high = axes.get_ylim()
    assert low < 0 and high > 4


def test_the_longest_edge_of_a_latent_graph_is_the_darkest():
    lines = plots.latent_graph(POINTS, EDGES).collections[0]
    brightness = lines.cmap(lines.norm(lines.get_array()))[:, 0]
    assert (np.diff(brightness) < 0).all()


def test_paths_lie_over_a_latent_graph_corner_by_corner():
    paths = [POINTS.clone().requires_grad_()[[0, 2, 1]], POINTS[:2].numpy()]
    axes = plots.latent_graph(POINTS, EDGES, paths)
    first, ends, second, _ = [line for line in axes.lines if line.get_color() != "white"]
    np.testing.assert_array_equal(first.get_xydata(), POINTS[[0, 2, 1]].detach())
    np.testing.assert_array_equal(ends.get_xydata(), POINTS[[0, 1]])
    np.testing.assert_array_equal(second.get_xydata(), POINTS[:2])
    assert first.get_color() == ends.get_color() != second.get_color()
    assert first.get_zorder() > axes.collections[0].get_zorder()


def test_a_latent_graph_without_edges_is_empty():
    assert not plots.latent_graph(POINTS, []).collections[0].get_paths()


@pytest.mark.parametrize(
    ("points", "edges", "paths", "text"),
    [
        (torch.rand(5, 3), [], (), r"points must have the shape \(N, 2\), got \(5, 3\)"),
        (POINTS, [], [torch.rand(2, 3)], r"corners of a path must have the shape \(N, 2\)"),
        (POINTS, [(0, 3)], (), "numbers of the 3 points, got numbers from 0 to 3"),
        (POINTS, [(0, -1)], (), "numbers of the 3 points, got numbers from -1 to 0"),
        (POINTS, [(0, 1, 2)], (), r"pairs of numbers of points, got int64 of shape \(1, 3\)"),
        (POINTS, [(0.7, 1.9)], (), r"pairs of numbers of points, got float64 of shape \(1, 2\)"),
        (POINTS, [(True, False)], (), "numbers of points, got bool"),
        (POINTS * np.nan, [(0, 1)], (), "points must be finite, got NaN or infinity"),
        (POINTS, [(0, 1)], [POINTS / 0], "corners of a path must be finite"),
        (POINTS, [(0, 1)], [POINTS[:0]], "a path has one corner or more, got none"),
    ],
)
def test_a_latent_graph_outside_a_plane_or_with_a_wrong_edge_is_refused(
    points, edges, paths, text
):
    with pytest.raises(ValueError, match=text):
        plots.latent_graph(points, edges, paths)


# Bodies in motion

NAMES = ("root", "lhip", "lfoot", "rhip", "rfoot", "lowerback", "head")
PARENTS = (-1, 0, 1, 0, 3, 0, 5)
BODY = torch.tensor(
    [[0, 0, 0], [1, 0, 0], [1, -4, 0], [-1, 0, 0], [-1, -4, 0], [0, 2, 0], [0, 4, 0]],
    dtype=torch.float64,
)


def bones(axes: Axes) -> dict[str, np.ndarray]:
    """Bones by side, ``(number, 2, 2)``, joints before their parents."""
    limbs = zip(plots.LIMB_COLOURS, axes.collections, strict=False)
    return {side: np.array(c.get_segments()) for side, c in limbs}


def test_a_body_is_seen_from_its_front_right_on_the_ground():
    ahead, left, up = plots.standing(
        [[[0, 0, 0], [0, 0, 1]], [[0, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 1, 0]]]
    )
    assert ahead[1, 0] > 0.7  # it looks to the right
    assert left[1, 0] > 0
    assert left[1, 1] > left[0, 1]  # farther away, so higher in the picture
    np.testing.assert_allclose(up, [[0, 0], [0, np.cos(np.radians(plots.VIEW[1]))]])
    poses = plots.standing(torch.randn(4, 3, 7, 3))
    assert (poses[..., 1].min(axis=-1) == 0).all()
    assert (poses[..., 0, 0] == 0).all()


def test_moving_a_body_through_the_room_does_not_change_its_picture():
    poses = torch.randn(5, 7, 3)
    np.testing.assert_allclose(plots.standing(poses + 3), plots.standing(poses), atol=1e-5)


def test_left_and_right_are_told_by_names_that_come_in_pairs():
    sides = plots.body_sides(NAMES)
    assert sides == ["middle", "left", "left", "right", "right", "middle", "middle"]


def test_every_bone_of_every_frame_is_drawn_to_the_same_scale():
    poses = torch.stack([BODY, 0.5 * BODY, BODY])
    axes = plots.stick_figures(torch.stack([poses, poses]), PARENTS, names=NAMES)
    drawn = bones(axes)
    assert {side: len(lines) for side, lines in drawn.items()} == dict.fromkeys(drawn, 12)
    length = np.linalg.norm(drawn["left"][:, 0] - drawn["left"][:, 1], axis=1).reshape(2, 3, 2)
    np.testing.assert_allclose(length[:, 1], 0.5 * length[:, 0])
    np.testing.assert_allclose(length[:, 2], length[:, 0])
    np.testing.assert_allclose(length[0], length[1])
    assert axes.get_aspect() == 1
    assert len(axes.patches) == 6  # heads


def test_figures_of_a_row_do_not_overlap():
    poses = torch.stack([BODY, BODY, BODY])
    x = bones(plots.stick_figures(poses, PARENTS))["middle"].reshape(3, -1, 2)[..., 0]
    assert x[0].max() < x[1].min() and x[1].max() < x[2].min()


def test_marked_frames_stand_in_a_box():
    poses = BODY.expand(2, 4, 7, 3)
    marked = torch.tensor([[False, True, False, False], [False, False, False, True]])
    axes = plots.stick_figures(poses, PARENTS, marked=marked, labels=["graph", "line"])
    joints = bones(axes)["middle"].reshape(2, 4, -1, 2)
    assert len(axes.patches) == 2
    for box, frame in zip(axes.patches, (joints[0, 1], joints[1, 3]), strict=True):
        inside = box.get_bbox().count_contains(joints.reshape(-1, 2))
        assert inside == box.get_bbox().count_contains(frame) == len(frame)
    assert [text.get_text() for text in axes.texts] == ["graph", "line"]


def test_a_body_without_extent_is_drawn_without_a_warning():
    plots.stick_figures(torch.zeros(1, 2, 3), (-1, 0))


@pytest.mark.parametrize(
    ("poses", "options", "text"),
    [
        (
            torch.zeros(5, 7, 2),
            {},
            r"positions \(..., J, 3\) .* got an array of shape \(5, 7, 2\)",
        ),
        (torch.zeros(0, 7, 3), {}, r"got an array of shape \(0, 7, 3\)"),
        (BODY, {}, r"\(T, J, 3\) or \(R, T, J, 3\), got an array of shape \(7, 3\)"),
        (BODY[None] * torch.nan, {}, "poses must be finite"),
        (BODY[None, :6], {}, "6 joints need as many parents, got 7"),
        (BODY[None], {"parents": (-1, 0, 1, 0, 3, 0, 7)}, "is one of the 7 joints, got 7"),
        (BODY[None], {"names": ["head"]}, "7 joints need as many names, got 1"),
        (BODY[None], {"labels": ["a", "b"]}, "1 rows need as many labels, got 2"),
        (
            BODY[None],
            {"marked": [True, False]},
            r"false per frame, \(1,\), got bool of shape \(2,\)",
        ),
        (BODY[None], {"marked": [21.5]}, "got float64 .* compare steps with a threshold first"),
    ],
    ids=[
        "plane",
        "empty",
        "one pose",
        "NaN",
        "few",
        "no parent",
        "names",
        "labels",
        "marks",
        "degrees",
    ],
)
def test_what_is_no_motion_is_refused(poses, options, text):
    with pytest.raises(ValueError, match=text):
        plots.stick_figures(poses, **{"parents": PARENTS} | options)
