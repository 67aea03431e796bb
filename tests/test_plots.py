"""Plots: images where they belong, curves of the recorded values, axes with units."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from hvae_course import plots
from hvae_course.training import History


@pytest.fixture
def history() -> History:
    """Two levels, three epochs, every value different."""
    history = History()
    for epoch in (1, 2, 3):
        for split, offset in (("train", 0.0), ("validation", 0.5)):
            history.record(epoch, split, [offset + 10 * epoch + i for i in range(5)])
    return history


def curves(axes: Axes) -> dict[str, list[float]]:
    """Values of every line in the legend."""
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    lines = [line for line in axes.get_lines() if len(line.get_ydata())]
    return {n: list(line.get_ydata()) for n, line in zip(names, lines, strict=True)}


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


@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_level_has_its_information_curve(history, split):
    axes = plots.information_curves(history, split=split)
    offset = 0.5 if split == "validation" else 0.0
    expected = [[offset + 10 * epoch + 2 + level for epoch in (1, 2, 3)] for level in (1, 2)]
    shown = curves(axes)
    assert [name.strip("$") for name in shown] == ["z_1", "z_2"]
    assert list(shown.values()) == expected


@pytest.mark.parametrize(
    ("number", "quantity"), list(enumerate(("objective", "elbo", "reconstruction")))
)
def test_both_splits_have_their_curve_of_the_bound(history, quantity, number):
    shown = curves(plots.bound_curves(history, quantity=quantity))
    values = [10.0 * epoch + number for epoch in (1, 2, 3)]
    assert shown == {"train": values, "validation": [value + 0.5 for value in values]}


def test_axes_say_what_they_show_and_in_which_unit(history):
    bound = plots.bound_curves(history, quantity="elbo")
    information = plots.information_curves(history)
    assert bound.get_ylabel() == "elbo [nats per example]"
    assert information.get_ylabel() == "information [nats per example]"
    assert bound.get_xlabel() == information.get_xlabel() == "epoch"


def test_given_axes_are_drawn_on_and_returned(history):
    _, (first, second, third) = plt.subplots(1, 3)
    assert plots.bound_curves(history, axes=first) is first
    assert plots.information_curves(history, axes=second) is second
    assert plots.image_grid(torch.zeros(1, 1, 4), (2, 2), axes=third) is third
    assert first.get_lines() and second.get_lines() and third.images


def test_new_figures_have_an_opaque_background_and_the_size_asked_for():
    axes = plots.new_axes(5, 2)
    assert axes.figure.get_facecolor() == (1, 1, 1, 1)
    assert axes.figure.get_size_inches().tolist() == [5, 2]


def test_plotting_leaves_the_style_alone(history):
    before = plt.rcParams.copy()
    plots.bound_curves(history)
    plots.image_grid(torch.zeros(1, 1, 4), (2, 2))
    assert plt.rcParams == before
