"""Windows of Gaussian filters: where they lie, what they read and write."""

from dataclasses import replace

import pytest
import torch
from linear_gaussian import D
from torch import Tensor

from hvae_course.attention import Window, filterbank, make_window, read, write
from hvae_course.windows import ReadWindow, WriteWindow


def window(outputs: list[float], shape: tuple[int, int], n: int) -> Window:
    return make_window(torch.tensor([outputs], dtype=D), shape, n)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=D)


def center_of(filters: Tensor) -> float:
    """Mean position of all filters, in pixels counted from 0."""
    return (filters[0] * torch.arange(filters.shape[2], dtype=D)).sum(1).mean().item()


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_window_at_zero_lies_in_the_middle_of_the_image(n):
    """28 pixels counted from 0 have their middle at 13.5."""
    of = {"num_filters": n, "size": 28}
    g = make_window(torch.zeros(1, 5, dtype=D), (28, 28), n).column
    filters = filterbank(g, one(3.0), one(1.0), **of)
    assert center_of(filters) == pytest.approx(13.5, abs=1e-6)
    late = filterbank(g - 3.0, one(3.0), one(1.0), **of)  # i from 0 in the formula
    assert center_of(late) == pytest.approx(10.5, abs=1e-6)
    pixels = filterbank(g + 1.0, one(3.0), one(1.0), **of)  # a from 0 alone
    assert center_of(pixels) == pytest.approx(14.5, abs=1e-6)
    both = filterbank(g + 1.0 - 3.0, one(3.0), one(1.0), **of)  # both from 0
    assert center_of(both) == pytest.approx(11.5, abs=1e-6)


@pytest.mark.equation("eq-draw-centres")
def test_filters_are_the_formula():
    g, stride, std = one(4.2), one(1.7), one(0.8)
    filters = filterbank(g, stride, std, num_filters=3, size=6)[0]
    for i in (1, 2, 3):
        mean = 4.2 + (i - 3 / 2 - 1 / 2) * 1.7
        weights = [torch.tensor(-((a - mean) ** 2) / (2 * 0.8**2)).exp() for a in range(1, 7)]
        expected = torch.stack(weights).double() / sum(weights)
        torch.testing.assert_close(filters[i - 1], expected, rtol=1e-6, atol=0)


def test_every_filter_sums_to_one_even_outside_the_image():
    far = torch.tensor([-1e3, 3.0, 1e3])
    filters = filterbank(far, torch.ones(3), torch.full((3,), 1e-3), num_filters=4, size=9)
    torch.testing.assert_close(filters.sum(dim=2), torch.ones(3, 4))
    assert (filters[0, :, 0] == 1).all() and (filters[2, :, -1] == 1).all()


def test_as_many_sharp_filters_as_pixels_read_and_write_the_image_itself():
    image = torch.randn(2, 5, 5, dtype=D)
    full = make_window(torch.zeros(2, 5, dtype=D), (5, 5), 5)
    assert full.stride.tolist() == [1, 1] and full.intensity.tolist() == [1, 1]
    sharp = replace(full, std=torch.full((2,), 0.05, dtype=D))
    torch.testing.assert_close(read(image, sharp, 5), image)
    torch.testing.assert_close(write(image, sharp, (5, 5)), image)


def test_a_mirrored_image_and_centre_give_the_mirrored_patch():
    image = torch.randn(1, 7, 10, dtype=D)
    here = window([0.3, -0.2, 0.4, -0.5, 0.7], (7, 10), 4)
    there = window([-0.3, -0.2, 0.4, -0.5, 0.7], (7, 10), 4)
    below = window([0.3, 0.2, 0.4, -0.5, 0.7], (7, 10), 4)
    patch = read(image, here, 4)
    torch.testing.assert_close(read(image.flip(2), there, 4), patch.flip(2))
    torch.testing.assert_close(read(image.flip(1), below, 4), patch.flip(1))
    assert (read(image.flip(2), here, 4) - patch.flip(2)).abs().max() > 0.1
    drawn = write(patch, here, (7, 10))
    torch.testing.assert_close(write(patch.flip(2), there, (7, 10)), drawn.flip(2))


def test_writing_is_the_transpose_of_reading_up_to_the_intensity():
    image, patch = torch.randn(1, 7, 10, dtype=D), torch.randn(1, 4, 4, dtype=D)
    at = window([0.3, -0.2, 0.4, -0.5, 0.7], (7, 10), 4)
    gamma = at.intensity.item()
    assert gamma == pytest.approx(2.0, abs=0.02)  # exp(0.7), bounded smoothly
    there = (read(image, at, 4) * patch).sum() / gamma
    back = (image * write(patch, at, (7, 10))).sum() * gamma
    torch.testing.assert_close(there, back)


def test_the_numbers_of_a_network_move_the_window_as_the_paper_says():
    at = window([0.5, -0.5, 0.0, 0.0, 0.0], (7, 10), 4)
    assert at.column.item() == pytest.approx(11 / 2 * 1.5)
    assert at.row.item() == pytest.approx(8 / 2 * 0.5)
    assert at.stride.item() == pytest.approx(9 / 3) and at.std.item() == 1
    wide = window([0.0, 0.0, 2 * 0.1, 0.1, 0.0], (7, 10), 4)
    assert wide.stride.item() / 3 == pytest.approx(1.105, abs=1e-3)
    assert wide.std.item() == pytest.approx(1.105, abs=1e-3)


def test_gradients_reach_image_patch_and_window():
    image, patch = (torch.randn(1, 4, 3, dtype=D, requires_grad=True) for _ in range(2))
    outputs = torch.randn(1, 5, dtype=D, requires_grad=True)

    def both(image: Tensor, patch: Tensor, outputs: Tensor) -> Tensor:
        at = make_window(outputs, (4, 3), 3)
        return torch.cat([read(image, at, 3), write(patch[:, :3], at, (4, 3))], dim=1)

    assert torch.autograd.gradcheck(both, (image, patch, outputs))


def test_extreme_numbers_give_finite_patches_and_gradients():
    for value in (-1e3, 1e3):
        outputs = torch.full((1, 5), value, requires_grad=True)
        at = make_window(outputs, (8, 8), 3)
        total = (
            read(torch.rand(1, 8, 8), at, 3).sum() + write(torch.rand(1, 3, 3), at, (8, 8)).sum()
        )
        total.backward()
        assert total.isfinite() and outputs.grad.isfinite().all()


def test_the_layers_read_and_write_rows():
    reading, writing = ReadWindow(6, (5, 4), 3), WriteWindow(6, (5, 4), 3)
    x, error, hidden = torch.rand(2, 20), torch.rand(2, 20), torch.randn(2, 6)
    seen = reading(x, error, hidden)
    at = make_window(reading.window(hidden), (5, 4), 3)
    torch.testing.assert_close(seen[:, :9], read(x.view(2, 5, 4), at, 3).flatten(1))
    torch.testing.assert_close(seen[:, 9:], read(error.view(2, 5, 4), at, 3).flatten(1))
    assert writing(hidden).shape == (2, 20)
