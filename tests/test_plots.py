"""Plots: images where they belong."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from hvae_course import plots


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
