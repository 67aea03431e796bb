"""Patches of photographs: where they come from, that splits lie apart, and what they are like."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor

from hvae_course import plots
from hvae_course.data import DataSet, DataSpec, load, patches
from hvae_course.data.splits import SPLITS

SIDE, GAP = 16, 16
ALL = slice(None)


@pytest.fixture(scope="module")
def colour() -> DataSet:
    return load("patches")


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    return [load_sample_image(f"{name}.jpg") for name in patches.PHOTOGRAPHS]


def places(data: DataSet, split: str, photograph: int) -> list[tuple[int, int]]:
    """Top and left of every patch of one photograph in one split."""
    part = data.split(split)
    chosen = part.select(part.labels == photograph).factors
    return list(zip(chosen["top"].tolist(), chosen["left"].tolist(), strict=True))


def covered(found: list[tuple[int, int]]) -> np.ndarray:
    """How many patches each pixel belongs to."""
    count = np.zeros((427, 640), int)
    for top, left in found:
        count[top : top + SIDE, left : left + SIDE] += 1
    return count


def test_the_data_set_says_what_it_is(colour):
    assert colour.spec == DataSpec((3, 16, 16), 256, num_classes=2)
    assert colour.class_names == ("china", "flower")
    assert str(colour) == "patches, binarisation none, split 4160/208/312 by region"
    assert colour.fingerprint() == load("patches").fingerprint()


@pytest.mark.parametrize(
    ("split", "of_each"), zip(SPLITS, (2080, 104, 156), strict=True), ids=SPLITS
)
def test_each_split_has_as_many_patches_of_either_photograph(colour, split, of_each):
    assert colour.split(split).labels.bincount().tolist() == [of_each, of_each]


@pytest.mark.parametrize("split", SPLITS)
def test_every_patch_stands_in_its_photograph_channels_first(colour, photographs, split):
    part = colour.split(split)
    for photograph, picture in enumerate(photographs):
        shown = part.pixels[part.labels == photograph].reshape(-1, 3, SIDE, SIDE)
        found = places(colour, split, photograph)
        for patch, (top, left) in zip(shown, found, strict=True):
            expected = picture[top : top + SIDE, left : left + SIDE]
            assert np.array_equal(patch.permute(1, 2, 0), expected)


@pytest.mark.parametrize("stride", [8, 5, 16])
@pytest.mark.parametrize("photograph", [0, 1], ids=patches.PHOTOGRAPHS)
def test_sixteen_columns_lie_between_the_patches_of_two_splits(stride, photograph):
    """Seen from the pixels that the patches cover, whatever the bands are."""
    raw = patches.cut(stride)
    owner = torch.arange(3).repeat_interleave(torch.tensor(raw.sizes))
    columns = []
    for split in range(3):
        chosen = (owner == split) & (raw.labels == photograph)
        left = raw.factors["left"][chosen].unique()
        columns.append((left[:, None] + torch.arange(SIDE)).unique())
    assert sum(map(len, columns)) <= 640 - 8 * GAP
    for one, other in itertools.combinations(columns, 2):
        assert (one[:, None] - other).abs().min() > GAP


def test_held_out_patches_share_no_pixels_and_fill_their_bands(colour):
    for split, photograph in itertools.product(SPLITS[1:], range(2)):
        count = covered(places(colour, split, photograph))
        assert count.max() == 1
        bands = patches.regions(split)
        assert count.sum() == 416 * sum(right - left for left, right in bands)
    overlapping = covered(places(colour, "train", 0))
    assert overlapping.max() == 4  # two in each direction
    assert patches.cut(16).sizes == (1144, 208, 312)


def test_no_held_out_patch_is_also_a_training_patch(colour):
    train = set(map(bytes, colour.train.pixels.numpy()))
    for split in SPLITS[1:]:
        assert not train & set(map(bytes, colour.split(split).pixels.numpy()))


def nearest(x: Tensor, others: Tensor) -> float:
    """Mean distance of patches from the nearest of others, grey levels per sub-pixel."""
    return torch.cdist(x.float(), others.float()).amin(1).mean().item() / x.shape[1] ** 0.5


@pytest.mark.parametrize("photograph", [0, 1], ids=patches.PHOTOGRAPHS)
def test_overlapping_training_patches_bring_test_patches_no_nearer_than_more_data_do(
    colour, photograph
):
    """Four times as many patches by overlap gain less than four times as many disjoint ones."""
    test = colour.test.pixels[colour.test.labels == photograph]
    raw = patches.cut(16)
    labels, pixels = raw.labels[: raw.sizes[0]], raw.pixels[: raw.sizes[0]]
    disjoint = pixels[labels == photograph]
    order = torch.randperm(len(disjoint), generator=torch.Generator().manual_seed(0))
    few = disjoint[order[: len(disjoint) // 4]]
    many = colour.train.pixels[colour.train.labels == photograph]
    by_overlap = nearest(test, disjoint) / nearest(test, many)
    by_new_patches = nearest(test, few) / nearest(test, disjoint)
    assert 1 < by_overlap < by_new_patches


@pytest.mark.parametrize("stride", [0, 17, -8])
def test_strides_that_leave_pixels_out_are_refused(stride):
    with pytest.raises(ValueError, match=f"stride must be between 1 and 16 pixels, got {stride}"):
        patches.cut(stride)


# What a model of the photographs is compared with


def entropy(values: np.ndarray) -> float:
    """Entropy of the values' frequencies, bits."""
    counts = np.unique(values, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


@pytest.mark.parametrize(
    ("photograph", "marginal", "difference"),
    [(0, 7.785, 5.541), (1, 7.084, 3.660)],
    ids=patches.PHOTOGRAPHS,
)
def test_bits_per_value_alone_and_given_the_pixel_to_the_left(
    photographs, photograph, marginal, difference
):
    picture = photographs[photograph].astype(int)
    assert picture.shape == (427, 640, 3)
    assert entropy(picture) == pytest.approx(marginal, abs=0.005)
    assert entropy(np.diff(picture, axis=1)) == pytest.approx(difference, abs=0.005)


@pytest.mark.parametrize(
    ("photograph", "correlation"), [(0, 0.97), (1, 0.78)], ids=patches.PHOTOGRAPHS
)
def test_red_and_green_are_correlated(photographs, photograph, correlation):
    red, green = photographs[photograph].reshape(-1, 3).T[:2].astype(float)
    assert np.corrcoef(red, green)[0, 1] == pytest.approx(correlation, abs=0.005)


@pytest.mark.parametrize(
    ("photograph", "shares"),
    [(0, {0: 0.8, 254: 1.6, 255: 2.3}), (1, {0: 8.8, 254: 0.0, 255: 0.01})],
    ids=patches.PHOTOGRAPHS,
)
def test_the_darkest_and_brightest_values_are_frequent_enough_to_matter(
    photographs, photograph, shares
):
    """Percent of all values, where a likelihood needs the tails of its distribution."""
    picture = photographs[photograph]
    for value, share in shares.items():
        assert 100 * (picture == value).mean() == pytest.approx(share, abs=0.05)


def test_every_split_is_about_as_varied_as_its_photograph(colour, photographs):
    for split, (label, picture) in itertools.product(SPLITS, enumerate(photographs)):
        part = colour.split(split)
        some = part.pixels[part.labels == label].numpy()
        assert abs(entropy(some) - entropy(picture)) < 0.6


def test_a_grid_of_patches_shows_their_colours(colour):
    x = colour.test.batch(slice(0, 1))
    (image,) = plots.image_grid(x, colour.image_shape).images
    expected = x.reshape(3, SIDE, SIDE).permute(1, 2, 0)
    np.testing.assert_allclose(image.get_array(), expected, atol=1e-7)
    as_bytes = plots.image_grid(colour.test.pixels[:1], colour.image_shape).images[0]
    np.testing.assert_allclose(as_bytes.get_array(), expected, atol=1e-7)
    plt.close("all")
