"""Data of one's own: what is taken for what, and what is refused in which words."""

import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, TensorDataset

import hvae_course
from hvae_course import evaluate, fit, recipes
from hvae_course.cli import main
from hvae_course.config import Data, data_info
from hvae_course.data import (
    DataSet,
    DataSpec,
    DataWarning,
    Split,
    Standardisation,
    as_data_set,
    from_arrays,
    from_dataset,
    from_folder,
    from_npz,
    load,
)
from hvae_course.data.arrays import Kind

SPLITS = ("train", "validation", "test")
ALL = slice(None)
random = np.random.default_rng(0)
REAL = random.normal(size=(100, 6))
BYTES = random.integers(0, 256, (100, 8, 6)).astype(np.uint8)
COUNTS = random.poisson(3.0, (100, 4))
LABELS = random.integers(0, 3, 100)
FRAME = pd.DataFrame(REAL, columns=list("abcdef"))


def rows(data: DataSet) -> torch.Tensor:
    """All examples, in the order in which they were given."""
    order = torch.cat([data.split(name).factors["row"] for name in SPLITS])
    return torch.cat([data.split(name).batch(ALL) for name in SPLITS])[order.argsort()]


def given(x, **settings) -> DataSet:
    """A data set with the same examples in every split."""
    labels = settings.pop("labels", None)
    pair = x if labels is None else (x, labels)
    return from_arrays(x, labels, validation=pair, test=pair, **settings)


# What is taken for what

TAKEN = {
    "bytes": (BYTES, {}, DataSpec((8, 6), 256), "8x6 images, 256 values"),
    "bytes as rows": (BYTES.reshape(100, 48), {}, DataSpec(48, 256), "rows of 48 features"),
    "rows of a shape": (
        *(BYTES.reshape(100, 48), {"shape": (8, 6)}),
        *(DataSpec((8, 6), 256), "8x6 images"),
    ),
    "fewer grey values": (BYTES // 16, {"num_values": 16}, DataSpec((8, 6), 16), "16 values"),
    "booleans": (BYTES > 99, {}, DataSpec((8, 6), 2), "8x6 images, 2 values"),
    "zeros and ones": (REAL > 0, {"kind": "binary"}, DataSpec(6, 2), "6 features, 2 values"),
    "dynamic": (BYTES, {"binarisation": "dynamic"}, DataSpec((8, 6), 2), "binarisation dynamic"),
    "fractions": (REAL, {}, DataSpec(6, None), "rows of 6 features, real-valued"),
    "one feature": (REAL[:, :1], {}, DataSpec(1, None), "rows of 1 feature, real-valued"),
    "counts": (COUNTS, {"kind": "counts"}, DataSpec(4, None, counts=True), "counts"),
    "labels": (REAL, {"labels": LABELS}, DataSpec(6, None, num_classes=3), "3 classes"),
    "a frame": (FRAME, {}, DataSpec(6, None, feature_names=tuple("abcdef")), "6 features"),
    "a series": (FRAME["a"], {}, DataSpec(1, None, feature_names=("a",)), "1 feature"),
    "holes": (
        *(np.where(REAL > 1, np.nan, REAL), {"missing": True}),
        *(DataSpec(6, None, missing=True), "with missing values"),
    ),
}


@pytest.mark.parametrize(("x", "settings", "spec", "words"), TAKEN.values(), ids=TAKEN)
def test_the_description_and_the_specification_say_what_was_taken(x, settings, spec, words):
    data = from_arrays(x, name="mine", **settings)
    assert data.spec == spec
    assert str(data).startswith("mine, ") and words in str(data)
    assert "split 80/10/10 cut off with seed 0" in str(data)


@pytest.mark.parametrize("order", ["first", "last"])
def test_channels_come_first_wherever_they_were(order):
    colour = random.integers(0, 256, (30, 3, 5, 6)).astype(np.uint8)
    x = colour if order == "first" else np.moveaxis(colour, 1, 3)
    data = given(x)
    assert data.image_shape == (3, 5, 6)
    assert torch.equal(data.test.pixels, torch.from_numpy(colour).flatten(1))
    assert given(x, channels_last=order == "last").fingerprint() == data.fingerprint()


@pytest.mark.parametrize("axis", [1, 3])
def test_images_of_one_channel_are_grey(axis):
    data = given(np.expand_dims(BYTES, axis))
    assert data.image_shape == (8, 6) and data.fingerprint() == given(BYTES).fingerprint()


@pytest.mark.parametrize("shape", [(3, 5, 3), (16, 9, 9)])
def test_an_unclear_axis_of_channels_is_asked_for(shape):
    x = random.integers(0, 256, (20, *shape)).astype(np.uint8)
    with pytest.raises(ValueError, match="not clear which axis of images .* say channels_last="):
        from_arrays(x)
    assert from_arrays(x, channels_last=False).image_shape == shape
    assert from_arrays(x, channels_last=True).image_shape == (shape[2], *shape[:2])


@pytest.mark.parametrize("scale", ["float32", "float64", "float16"])
def test_fractions_on_the_grid_of_bytes_become_bytes_again(scale):
    data = given((BYTES / 255).astype(scale))
    assert data.train.pixels.dtype == torch.uint8
    assert data.fingerprint() == given(BYTES).fingerprint()
    whole = given(BYTES.astype(scale), kind="images")
    assert whole.fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(">f8"),
        lambda x: x.astype(np.longdouble),
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x[::-1][::-1],
        lambda x: x.tolist(),
        list,
        lambda x: [torch.from_numpy(row) for row in x],
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: pd.DataFrame(x),
        np.ma.asarray,
        lambda x: np.broadcast_to(x, x.shape),
    ],
    ids="big-endian long fortran strided negative lists rows tensors leaf frame masked read-only"
    .split(),
)  # fmt: skip
def test_it_does_not_matter_what_the_numbers_are_kept_in(change):
    expected = torch.from_numpy(REAL).float()
    data = given(change(REAL))
    assert torch.equal(data.test.batch(ALL), expected)
    assert not data.train.pixels.requires_grad
    raw = Split(change(REAL), None, None).batch(ALL)
    torch.testing.assert_close(raw.float(), expected)


def test_a_memory_mapped_file_is_read(tmp_path):
    np.save(tmp_path / "x.npy", BYTES)
    data = given(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert data.fingerprint() == given(BYTES).fingerprint()


@pytest.mark.parametrize("x", [BYTES.copy(), REAL.astype("f4"), COUNTS.astype("f4")])
def test_changing_the_array_afterwards_does_not_change_the_data(x):
    x = x.copy()
    labels = LABELS.copy()
    data = given(x, labels=labels, kind="images" if x.ndim > 2 else "real", standardise=False)
    before = data.fingerprint()
    x[:], labels[:] = 1, 0
    assert data.fingerprint() == before


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int32", "uint64", "float16", "bool"])
def test_counts_may_have_any_type_of_numbers(kind):
    x = COUNTS.astype(kind)
    data = given(x, kind="counts")
    assert data.counts and torch.equal(data.test.batch(ALL), torch.from_numpy(x.astype("f4")))


def test_numbers_of_a_table_without_holes_keep_their_type():
    whole = pd.DataFrame({"a": pd.array([1, 2, 3] * 4, dtype="Int64"), "b": [4, 5, 6] * 4})
    assert from_arrays(whole, kind="counts").counts
    holes = pd.DataFrame({"a": pd.array([1, None, 3] * 4, dtype="Int64"), "b": [0.5, 1, 2] * 4})
    data = given(holes, missing=True)
    assert data.train.batch(slice(1, 2)).isnan().tolist() == [[True, False]]
    assert from_arrays(FRAME > 0).num_values == 2


def test_masked_values_are_missing_in_every_kind():
    masked = np.ma.masked_less(BYTES, 30)
    data = given(masked, kind="images", missing=True)
    x = data.test.batch(ALL)
    assert torch.equal(x.isnan(), torch.from_numpy(BYTES < 30).flatten(1))
    expected = torch.from_numpy(BYTES).flatten(1).float() / 255
    assert torch.equal(x[~x.isnan()], expected[~x.isnan()])
    assert (data.num_values, data.missing) == (256, True)


def test_what_is_binarised_is_what_the_known_sets_would_give():
    digits = load("digits")
    grey = digits.train.pixels.reshape(-1, 8, 8)
    parts = [digits.split(name).pixels.reshape(-1, 8, 8) for name in SPLITS[1:]]
    for how in ("static", "threshold", "none", "dynamic"):
        labels = [digits.split(name).labels for name in SPLITS]
        mine = from_arrays(
            grey,
            labels[0],
            validation=(parts[0], labels[1]),
            test=(parts[1], labels[2]),
            num_values=17,
            binarisation=how,
        )
        assert mine.fingerprint() == load("digits", binarisation=how).fingerprint()
        assert mine.spec == load("digits", binarisation=how).spec


# Splits


def test_a_cut_takes_every_row_once_and_says_which():
    data = from_arrays(REAL, LABELS, validation=0.2, test=5)
    assert [len(data.split(name)) for name in SPLITS] == [75, 20, 5]
    assert torch.equal(rows(data), torch.from_numpy(REAL).float())
    for name in SPLITS:
        part = data.split(name)
        assert part.labels.tolist() == LABELS[part.factors["row"]].tolist()
        assert part.factors["row"].tolist() == sorted(part.factors["row"].tolist())


def test_a_cut_follows_from_its_seed_alone():
    state = torch.get_rng_state()
    first = from_arrays(REAL)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert from_arrays(REAL).fingerprint() == first.fingerprint()
    assert from_arrays(REAL, seed=1).fingerprint() != first.fingerprint()


def test_a_test_split_of_ones_own_stays_as_it_is():
    data = from_arrays(REAL, validation=10, test=REAL[:7])
    assert [len(data.split(name)) for name in SPLITS] == [90, 10, 7]
    assert torch.equal(data.test.batch(ALL), torch.from_numpy(REAL[:7]).float())
    assert str(data).endswith("split 90/10/7 cut off with seed 0 (validation only)")
    assert str(given(REAL)).endswith("split 100/100/100 as given")


def test_examples_and_labels_of_a_split_may_be_a_list():
    pair = from_arrays(REAL, LABELS, validation=[REAL[:9], LABELS[:9]], test=(REAL, LABELS))
    assert pair.validation.labels.tolist() == LABELS[:9].tolist()
    two = from_arrays(REAL, validation=[REAL[0], REAL[1]], test=2)
    assert len(two.validation) == 2 and two.validation.labels is None


def test_three_examples_are_enough():
    assert [len(from_arrays(REAL[:3]).split(name)) for name in SPLITS] == [1, 1, 1]
    assert [len(given(REAL[:1]).split(name)) for name in SPLITS] == [1, 1, 1]


# Standardisation


def test_real_values_are_standardised_by_the_training_split_and_samples_turn_back():
    x = REAL * [1, 10, 100, 1e-3, 1, 1] + 1e9
    data = from_arrays(x, validation=x * 2, test=x / 2, standardise=True)
    mean, std = x.mean(0), x.std(0)
    torch.testing.assert_close(data.train.batch(ALL).mean(0), torch.zeros(6), atol=1e-3, rtol=0)
    expected = torch.from_numpy((2 * x - mean) / std).float()
    assert torch.equal(data.validation.batch(ALL), expected)
    back = data.standardisation.undo(data.train.batch(ALL).double())
    torch.testing.assert_close(back, torch.from_numpy(x), rtol=1e-9, atol=1e-6)
    assert data.spec.standardisation is data.standardisation
    assert "standardised" in str(data)


def test_columns_are_standardised_by_number_or_name():
    by_name = from_arrays(FRAME, standardise=["b", "e"])
    by_number = from_arrays(FRAME, standardise=np.array([1, 4]))
    assert by_name.fingerprint() == by_number.fingerprint()
    std = by_name.standardisation.std
    assert [i for i in range(6) if std[i] != 1] == [1, 4]


MASK = np.array([False, True, False, False, True, False])


@pytest.mark.parametrize("mask", [MASK, MASK.tolist(), torch.from_numpy(MASK), pd.Series(MASK)])
def test_columns_are_standardised_by_a_mask(mask):
    expected = from_arrays(REAL, standardise=[1, 4])
    assert from_arrays(REAL, standardise=mask).fingerprint() == expected.fingerprint()
    with pytest.raises(ValueError, match="a boolean for each of 5 columns, got 6"):
        from_arrays(REAL[:, :5], standardise=mask)


def test_a_mask_of_pandas_goes_by_its_names():
    mask = pd.Series(MASK, index=list("abcdef"))
    expected = from_arrays(FRAME, standardise=["b", "e"]).fingerprint()
    assert from_arrays(FRAME, standardise=mask[::-1]).fingerprint() == expected


def test_a_number_that_is_the_name_of_another_column_is_refused():
    frame = pd.DataFrame(REAL[:, :3], columns=[1, 2, 3])
    for column in (1, 2, 3):
        with pytest.raises(ValueError, match=f"or column {column - 1}, whose name is '{column}'"):
            from_arrays(frame, standardise=[column])
    assert from_arrays(frame, standardise=["1"]).standardisation.std[1:] == (1, 1)
    permuted = from_arrays(frame.set_axis([2, 0, 1], axis=1))
    blocks = [{"columns": [0, 1, 2], "likelihood": "gaussian"}]
    options = {"likelihood": "mixed", "likelihood_options": {"blocks": blocks}}
    with pytest.raises(ValueError, match="column 0 may be .* give names as strings"):
        recipes.vae(permuted, **options)
    recipes.vae(from_arrays(frame.set_axis([0, 1, 2], axis=1)), **options)


def test_no_columns_are_not_standardised():
    data = from_arrays(REAL, standardise=[])
    assert data.standardisation is None and "standardised" not in str(data)


def test_a_standardisation_takes_what_data_come_in_and_is_exact():
    scale = Standardisation((1.7e9, 0.5), (64.0, 2.0))
    x = np.array([[1_700_000_037, 1], [1_700_000_000, 0]])
    expected = torch.tensor([[37 / 64, 0.25], [0, -0.25]])
    for form in (x, pd.DataFrame(x), torch.from_numpy(x), torch.from_numpy(x).double()):
        torch.testing.assert_close(scale.apply(form).float(), expected, rtol=0, atol=0)
    assert scale.apply(x).dtype == scale.undo(expected).dtype == torch.float32
    assert torch.equal(scale.undo(expected.double()), torch.from_numpy(x).double())


def test_new_data_can_be_standardised_as_those_before():
    data = from_arrays(REAL * 9, standardise=True)
    new = given(REAL[:20] + 7, standardise=data.standardisation)
    assert new.standardisation is data.standardisation
    expected = data.standardisation.apply(torch.from_numpy(REAL[:20] + 7)).float()
    assert torch.equal(new.test.batch(ALL), expected)
    with pytest.raises(ValueError, match="the standardisation is of 6 features, x has 3"):
        given(REAL[:, :3], standardise=data.standardisation)


def test_images_of_real_values_have_one_scale():
    x = random.normal(5, 40, (50, 4, 3))
    data = given(x, standardise=True)
    assert data.standardisation.mean == pytest.approx([x.mean()])
    assert data.standardisation.std == pytest.approx([x.std()])
    assert data.test.batch(ALL).std(correction=0) == pytest.approx(1)


def test_missing_values_do_not_count_for_the_scale():
    x = np.where(REAL > 1, np.nan, REAL)
    data = given(x, standardise=True, missing=True)
    assert data.standardisation.mean == pytest.approx(np.nanmean(x, axis=0))
    assert data.standardisation.std == pytest.approx(np.nanstd(x, axis=0))


def test_the_rounding_error_of_a_constant_is_not_its_scale():
    x = np.full((1000, 1), 0.1)
    assert x.std() > 0
    assert Standardisation.of(torch.from_numpy(x)).std == (1.0,)


WARNED = {
    "scale": (REAL * 100, {}, r"the scale of columns 0, 1, 2, 3, 4 and 1 more is far .*standardi"),
    "mean": (FRAME.assign(b=REAL[:, 1] + 50), {}, "the scale of column b is far from 1"),
    "pixels": (random.normal(0, 99, (50, 4, 3)), {}, "the scale of the pixels is far from 1"),
    "constant": (FRAME.assign(c=0.1), {}, "column c is constant in the training split"),
    "other": (FRAME * 100, {"standardise": list("abcde")}, "scale of column f is .* name it in"),
    "no hole": (REAL, {"missing": True}, "no value is missing: .*save x.filled.np.nan"),
    "two of five": ((BYTES > 99) * 1.0, {"kind": "images", "num_values": 5}, "only 0 and 4 of 5 "),
    "dark": (BYTES // 16, {}, "largest of 256 possible grey values is 15.*num_values, such as 16"),
    "masks": ((BYTES > 99) * np.uint8(255), {}, "only 0 and 255 of 256 .*say binarisation='thre"),
    "from one": (REAL, {"labels": LABELS + 1}, "no training example has the label 0; if"),
    "gaps": (REAL, {"labels": LABELS * 400}, "has the label 1, 2, 3, 4, 5 and 793 more"),
}  # fmt: skip


@pytest.mark.parametrize(("x", "settings", "match"), WARNED.values(), ids=WARNED)
def test_what_is_likely_not_meant_gets_a_warning_at_the_call(x, settings, match):
    with pytest.warns(DataWarning, match=match) as caught:
        from_arrays(x, **settings)
    assert caught[0].filename == __file__


def test_a_warning_about_a_file_names_the_line_that_reads_it(tmp_path):
    np.savez(tmp_path / "f.npz", x=REAL * 100)
    for use in (from_npz, load):
        with pytest.warns(DataWarning, match="far from 1") as caught:
            use(tmp_path / "f.npz")
        assert caught[0].filename == __file__


def test_the_wish_to_keep_a_scale_is_respected():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_arrays(REAL * 100, standardise=False)
        scale = Standardisation((0.0, 5.0), (1.0, 1.0))
        from_arrays(REAL[:, :2] * 100, standardise=scale)
        codes = np.c_[REAL[:, 0] * 100, COUNTS[:, 0] * 20, np.arange(100) == 50]
        from_arrays(codes, standardise=[0], kind="real")


# What is refused

HOLES = np.where(REAL > 1, np.nan, REAL)
HOLED = np.ma.masked_less(BYTES, 9)
WORDS = np.array(["cat", "dog"])[LABELS % 2]
REFUSED = {
    # not numbers
    "words": ([["a", "b"]], {}, "expected numbers in x, got words such as 'a'; number them first"),
    "objects": (np.array([[1, None]] * 9), {}, "got Python objects such as None; np.array"),
    "complex": (REAL + 1j, {}, "x needs real numbers, got complex ones; give real and imaginary"),
    "complex tensor": (torch.from_numpy(REAL + 1j), {}, "x needs real numbers, got complex"),
    "dates": (np.array([["2020-01-01"]] * 9, "M8[D]"), {}, "got dates or times; subtract"),
    "structured": (np.zeros(9, [("a", "f4")]), {}, "got a structured array; give np.lib"),
    "sparse": (scipy.sparse.csr_matrix(REAL), {}, r"x is a sparse matrix; give x.toarray\(\)"),
    "sparse tensor": (torch.eye(9).to_sparse(), {}, r"a sparse tensor; give x.to_dense\(\)"),
    "ragged": ([[1.0, 2.0], [3.0]], {}, "the entries of x differ in size or kind"),
    "ragged tensors": ([torch.ones(2), torch.ones(3)], {}, "the entries of x differ in size"),
    "column of words": (FRAME.assign(c="x"), {}, r"got the columns 'c' \(.*pandas.factorize"),
    "nothing": (None, {}, "x must be an array, got NoneType"),
    "on meta": (torch.ones(9, 3, device="meta"), {}, "x is a tensor without data"),
    "a path": ("scans.csv", {}, "got 'scans.csv'; hvae_course.data.load reads .* files .npz"),
    "a mapping": ({"x": REAL}, {}, r"got dict; give its entries to .*from_arrays\(x, labels\)"),
    "a loader": (
        *(DataLoader(TensorDataset(torch.rand(9, 3))), {}),
        "got DataLoader; give its .dataset to hvae_course.data.from_dataset",
    ),
    "a data set": (TensorDataset(torch.rand(9, 3)), {}, "give it to hvae_course.data.from_data"),
    # shapes
    "empty": (REAL[:0], {}, r"x is empty, its shape is \(0, 6\)"),
    "no features": (REAL[:, :0], {}, "x is empty"),
    "one axis": (REAL[:, 0], {}, r"got the shape \(100,\); give x\[:, None\] for one feature"),
    "a number": (3.0, {}, r"got the shape \(\); give an array"),
    "volumes": (np.zeros((9, 3, 4, 4, 4)), {}, r"got the shape \(3, 4, 4, 4\); give rows, x.resh"),
    "wrong shape": (BYTES, {"shape": (7, 7)}, r"48 values, which do not make the shape \(7, 7\)"),
    "no channels": (BYTES, {"channels_last": True}, "channels_last is for images with channels"),
    # kinds
    "whole numbers": (COUNTS, {}, r"whole numbers between 0 and \d+; say what they are: kind="),
    "whole fractions": (BYTES.astype(float), {}, "whole numbers between 0 and 255; say what"),
    "zeros and ones": ((REAL > 0) * 1.0, {}, "whole numbers between 0 and 1; say what they are"),
    "bytes of 0 and 1": (np.uint8(REAL > 0), {}, "bytes that are all 0 or 1; say kind='binary'"),
    "unknown kind": (REAL, {"kind": "image"}, "unknown kind 'image'; choose one of images, bin"),
    "booleans": (REAL > 0, {"kind": "images"}, "x holds booleans; take kind='binary'"),
    "normalised": (BYTES / 127.5 - 1, {"kind": "images"}, "between -1 and 1 in train; undo a nor"),
    "off the grid": (random.random((9, 4, 4)), {"kind": "images"}, "round with .x . 255..round"),
    "too bright": (BYTES, {"num_values": 17}, "images of 17 values hold whole numbers from 0 to"),
    "16 bits": (BYTES * 200.0, {"kind": "images"}, "whole numbers from 0 to 255"),
    "many values": (BYTES, {"num_values": 300}, r"between 2 and 256 values, got .*x // 256"),
    "grey as binary": (BYTES, {"kind": "binary"}, "binary values are 0 and 1, got torch.uint8"),
    "negative counts": (-COUNTS, {"kind": "counts"}, r"counts are whole numbers from 0 to 2\*\*2"),
    "fractional counts": (REAL, {"kind": "counts"}, "take kind='real' for measurements"),
    "huge counts": (COUNTS + 2**25, {"kind": "counts"}, r"from 0 to 2\*\*24, got torch.int64"),
    "NaN": (HOLES, {}, r"hold NaN .* in columns 0, .* say that the values are missing \(missing"),
    "named NaN": (FRAME.mask(FRAME > 2), {}, "hold NaN .* in columns a"),
    "masked": (np.ma.masked_less(REAL, 0), {}, "hold NaN .or masked or absent values. in col"),
    "infinite": (np.where(REAL > 2, np.inf, REAL), {"missing": True}, "hold infinite values in"),
    "never seen": (FRAME.assign(c=np.nan), {"missing": True}, "no training example has a value"),
    "too large": (REAL * 1e300, {"standardise": False}, "beyond single precision"),
    "an outlier": (REAL, {"test": REAL * 1e30, "standardise": True}, r"as large as .*e\+30"),
    # options
    "values of reals": (REAL, {"num_values": 7}, "num_values is for kind='images', got it with"),
    "binarised reals": (REAL, {"binarisation": "static"}, "binary pixels of images, got kind='re"),
    "binarised holes": (
        *(HOLED, {"kind": "images", "missing": True, "binarisation": "static"}),
        "binary pixels of images, got missing values",
    ),
    "binarisation": (BYTES, {"binarisation": "half"}, "unknown binarisation 'half'; choose one o"),
    "scaled bytes": (BYTES, {"standardise": True}, "standardise is for real values, got kind='im"),
    "unknown column": (FRAME, {"standardise": ["z"]}, "the column 'z', and there are columns 0 t"),
    "a single column": (FRAME, {"standardise": "a"}, "standardise is True or a list of columns"),
    "few names": (REAL, {"feature_names": ["a"]}, "6 features need as many different names"),
    "a seed": (REAL, {"seed": -1}, "seed must be a whole number from 0"),
    "a word as shape": (BYTES, {"shape": "8x6"}, "a sequence of whole numbers such as"),
    "a number as name": (REAL, {"name": 3}, "name must be a word, got 3"),
    "a word as answer": (REAL, {"missing": "yes"}, "missing must be True or False, got 'yes'"),
    "a word as names": (REAL, {"feature_names": "abcdef"}, "a list of names, got the word"),
    "half a value": (BYTES, {"num_values": 256.0}, "between 2 and 256 values, got .*256.0"),
    # splits
    "no validation": (REAL, {"validation": None}, "validation is data, a share .* got None; ever"),
    "zero": (REAL, {"test": 0}, "a number of examples from 1 on, got 0; every data set needs a t"),
    "all": (REAL, {"validation": 1.0}, "a share between 0 and 1, .* got 1.0"),
    "yes": (REAL, {"validation": True}, "got True; every data set needs a validation split"),
    "too much": (REAL, {"validation": 60, "test": 40}, "x has 100 examples, which does not leave"),
    "two examples": (REAL[:2], {}, "x has 2 examples, which does not leave one for training"),
    "empty test": (REAL, {"test": REAL[:0]}, r"test is empty, its shape is \(0, 6\)"),
    "other shape": (REAL, {"test": REAL[:, :3]}, r"have the shape \(6,\), those of test \(3,\)"),
    "other range": (BYTES // 2, {"test": BYTES * 2.0}, "between 0 and 510 in test"),
    "other columns": (FRAME, {"test": FRAME.rename(columns={"a": "q"})}, "only one has a, q; giv"),
    "other order": (FRAME, {"validation": FRAME[list("fedcba")]}, "their order differs; give val"),
    # labels
    "words for labels": (REAL, {"labels": WORDS}, "in the labels, got words such as 'cat'; .*np"),
    "categories": (REAL, {"labels": pd.Series(WORDS)}, "in the labels, got the columns .*factori"),
    "a column's name": (FRAME, {"labels": "a"}, r"got the word 'a'; give the column itself"),
    "one-hot": (REAL, {"labels": np.eye(3)[LABELS]}, r"got \(100, 3\); labels.argmax\(1\) makes"),
    "few labels": (REAL, {"labels": LABELS[:10]}, r"100 examples need labels of the shape \(100,"),
    "fractional": (REAL, {"labels": LABELS + 0.5}, "whole numbers 0, 1, 2, ... of classes, got"),
    "unknown label": (REAL, {"labels": np.where(LABELS, LABELS, np.nan)}, "values such as nan"),
    "negative": (REAL, {"labels": LABELS - 1}, "numbers 0 to C - 1 .* got -1; number .*without a"),
    "numbers of people": (REAL, {"labels": LABELS * 10**9}, "got 2000000000 with 100 examples"),
    "labels of one": (
        *(REAL, {"labels": LABELS, "test": REAL}),
        r"labels, but none for test; give the pair \(x, labels\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("x", "settings", "match"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_right_is_refused_with_what_to_do(x, settings, match):
    with pytest.raises((TypeError, ValueError), match=match):
        from_arrays(x, **settings)


# Data sets of PyTorch and torchvision


class Pictures(Dataset):
    """Gives one example and label for each index, like a data set of torchvision."""

    def __init__(self, make, count: int = 40) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int):
        return self.make(i)


@pytest.mark.parametrize(
    "make",
    [
        lambda i: (torch.from_numpy(BYTES[i] / 255).float()[None], int(LABELS[i])),
        lambda i: (Image.fromarray(BYTES[i]), int(LABELS[i])),
        lambda i: (BYTES[i], torch.tensor(LABELS[i])),
        lambda i: [torch.from_numpy(BYTES[i]), LABELS[i]],
    ],
    ids=["ToTensor", "PIL", "NumPy", "lists"],
)
def test_the_examples_of_a_data_set_become_bytes_and_labels(make):
    parts = [Pictures(make, count) for count in (40, 30, 20)]
    expected = from_arrays(
        BYTES[:40],
        LABELS[:40],
        validation=(BYTES[:30], LABELS[:30]),
        test=(BYTES[:20], LABELS[:20]),
    )
    assert from_dataset(tuple(parts)).fingerprint() == expected.fingerprint()
    apart = from_dataset(parts[0], validation=parts[1], test=parts[2])
    assert apart.fingerprint() == expected.fingerprint()


def test_data_sets_of_tensors_may_have_labels_or_none_and_may_be_joined():
    x = torch.from_numpy(REAL).float()
    plain, labelled = TensorDataset(x), TensorDataset(x, torch.from_numpy(LABELS))
    assert from_dataset(plain).fingerprint() == from_arrays(x).fingerprint()
    assert from_dataset(labelled).fingerprint() == from_arrays(x, LABELS).fingerprint()
    both = from_dataset(ConcatDataset([labelled, labelled]), test=20, name="both")
    assert str(both).startswith("both, rows of 6 features") and len(both.test) == 20
    assert from_dataset([(row, 0) for row in REAL]).num_classes == 1


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.ones(3)


@pytest.mark.parametrize(
    ("dataset", "match"),
    [
        (
            DataLoader(TensorDataset(torch.rand(9, 3))),
            "give its .dataset to hvae_course.data.from_d",
        ),
        (Stream(), "got Stream; it is a stream: collect its examples in arrays for from_arrays"),
        (3, "must be a map-style torch.utils.data.Dataset, got int"),
        ({"x": REAL}, "got dict"),
        (Pictures(lambda i: {"image": i}), r"must be x or \(x, label\), got a mapping"),
        (Pictures(lambda i: (i, i, i)), r"must be x or \(x, label\), got 3 values"),
        (
            Pictures(lambda i: torch.ones(i + 1)),
            r"differ in shape, such as \(1,\) and \(2,\); bring",
        ),
        (Pictures(lambda i: (torch.ones(3), "cat")), "in the labels, got words such as 'cat'"),
        (Pictures(lambda i: torch.ones(3), 0), "the data set is empty"),
        ((TensorDataset(torch.rand(9, 3)),) * 2, r"\(train, validation, test\), got 2 data sets"),
    ],
)
def test_what_is_not_a_data_set_of_examples_is_refused(dataset, match):
    with pytest.raises((TypeError, ValueError), match=match):
        from_dataset(dataset)


# Folders of images


@pytest.fixture
def folder(tmp_path):
    """Write images, arrays or bytes, by their paths."""

    def write(files, below="pictures"):
        for path, image in files.items():
            place = tmp_path / below / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(image, bytes):
                place.write_bytes(image)
            else:
                image = image if isinstance(image, Image.Image) else Image.fromarray(image)
                image.save(place)
        return tmp_path / below

    return write


def test_a_folder_of_images_is_read_in_the_order_of_its_paths(folder):
    path = folder({f"{i:02}.png": BYTES[i] for i in range(12)} | {"notes.txt": b"", ".x.png": b""})
    data = from_folder(path)
    assert torch.equal(rows(data), torch.from_numpy(BYTES[:12]).flatten(1) / 255)
    assert str(data).startswith(
        "pictures, 8x6 images, 256 values, binarisation none, split 10/1/1"
    )
    assert data.train.labels is None


def test_subfolders_are_classes_in_sorted_order(folder):
    path = folder({f"{'dog' if i % 2 else 'cat'}/{i:02}.png": BYTES[i] for i in range(12)})
    data = from_folder(str(path), validation=path, test=path)
    assert data.class_names == ("cat", "dog")
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    assert torch.equal(data.test.pixels, torch.from_numpy(BYTES[order]).flatten(1))
    assert str(data).endswith("split 12/12/12 as given, 2 classes (cat, dog)")


def test_images_are_coloured_if_one_is_unless_grey_is_asked_for(folder):
    colour = random.integers(0, 256, (8, 6, 3)).astype(np.uint8)
    path = folder({"0.png": colour} | {f"{i}.png": BYTES[i] for i in range(1, 9)})
    data = from_folder(path)
    images = (255 * rows(data)).round().reshape(-1, 3, 8, 6)
    assert torch.equal(images[0], torch.from_numpy(colour).permute(2, 0, 1).float())
    assert torch.equal(images[5], torch.from_numpy(BYTES[5]).float().expand(3, 8, 6))
    assert from_folder(path, grey=True).image_shape == (8, 6)


def test_images_of_several_sizes_are_resized_when_asked(folder):
    path = folder(
        {"a.png": BYTES[0], "b.png": BYTES[1].T} | {f"{i}.bmp": BYTES[i] for i in range(4)}
    )
    with pytest.raises(
        ValueError, match=r"differ in size, .* has 8x6 pixels and .*b.png 6x8; give"
    ):
        from_folder(path)
    assert from_folder(path, size=(4, 5)).image_shape == (4, 5)
    for size in (7, np.int64(7), [7, 7]):
        assert from_folder(path, size=size).image_shape == (7, 7)
    for wrong in ((4, 0), 7.5, (4, 4, 3), "7"):
        with pytest.raises(ValueError, match=r"size is \(height, width\) in pixels, got "):
            from_folder(path, size=wrong)


def test_a_photograph_is_turned_as_its_file_says(folder):
    turned = Image.Exif()
    turned[0x0112] = 6  # show it turned to the right
    path = folder({f"{i}.png": BYTES[i] for i in range(5)})
    Image.fromarray(np.rot90(BYTES[5])).save(path / "5.png", exif=turned)
    assert torch.equal(
        (255 * rows(from_folder(path))[5]).reshape(8, 6), torch.tensor(BYTES[5] * 1.0)
    )


BROKEN = {
    "damaged": ({"a.png": BYTES[0], "b.png": b"nothing"}, "1 of 2 images cannot be read: .*b.png"),
    "16 bits": ({"a.png": BYTES[0].astype(np.uint16) * 9}, "its pixels have more than 8 bits"),
    "glass": ({"a.png": Image.new("RGBA", (4, 4), (9, 9, 9, 9))}, "parts of it are transparent"),
    "no image": ({"a.txt": b""}, "pictures has no images"),
    "mixed": ({"a.png": BYTES[0], "c/b.png": BYTES[1]}, "holds images and subfolders of images"),
    "empty class": ({"c/b.png": BYTES[1], "d/a.txt": b""}, "the class folders d of .* have no im"),
    "splits": (
        {"train/b.png": BYTES[1], "test/a.png": BYTES[0]},
        "are test, train, which are splits rather than classes; give from_folder",
    ),
}


@pytest.mark.parametrize(("files", "match"), BROKEN.values(), ids=BROKEN)
def test_a_folder_that_is_not_one_of_images_is_refused(files, match, folder):
    with pytest.raises(ValueError, match=match):
        from_folder(folder(files))


def test_folders_of_other_classes_or_none_are_refused(folder, tmp_path):
    one, other = folder({"a/0.png": BYTES[0]}, "one"), folder({"b/0.png": BYTES[0]}, "other")
    with pytest.raises(
        ValueError, match="the test folder has the class folders b, which .* has a"
    ):
        from_folder(one, validation=one, test=other)
    with pytest.raises(ValueError, match="test folder holds images without class folders, .*has"):
        from_folder(one, test=one / "a")
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(
        TypeError, match="named by its path, got ndarray; give it to .*from_arrays"
    ):
        from_folder(BYTES)


# Files


def test_a_file_of_arrays_gives_what_its_arrays_give(tmp_path, monkeypatch):
    path = tmp_path / "scans.npz"
    np.savez(path, x=BYTES, y=LABELS, kind="images", num_values=256, seed=3, test=0.2)
    expected = from_arrays(BYTES, LABELS, seed=3, test=0.2, name="scans")
    data = from_npz(path)
    assert (str(data), data.fingerprint()) == (str(expected), expected.fingerprint())
    assert load(path).fingerprint() == expected.fingerprint()
    assert load(Data(data=str(path))).fingerprint() == expected.fingerprint()
    binary = from_arrays(BYTES, LABELS, seed=3, test=0.2, binarisation="dynamic")
    assert load(path, binarisation="dynamic").fingerprint() == binary.fingerprint()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/scans.npz").fingerprint() == expected.fingerprint()


def test_a_file_may_call_the_labels_so(tmp_path):
    np.savez(tmp_path / "a.npz", x=REAL, labels=LABELS, test_x=REAL[:9], test_labels=LABELS[:9])
    expected = from_arrays(REAL, LABELS, test=(REAL[:9], LABELS[:9]))
    assert from_npz(tmp_path / "a.npz").fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("form", ["{split}_{letter}", "{letter}_{split}"])
def test_a_file_may_hold_the_splits(form, tmp_path):
    arrays = {}
    for split, size in zip(SPLITS, (50, 30, 20), strict=True):
        arrays[form.format(split=split, letter="x")] = REAL[:size]
        arrays[form.format(split=split, letter="y")] = LABELS[:size]
    np.savez(tmp_path / "a.npz", **arrays)
    data = from_npz(tmp_path / "a.npz")
    assert [len(data.split(name)) for name in SPLITS] == [50, 30, 20]
    assert data.test.labels.tolist() == LABELS[:20].tolist()


def test_a_file_holds_the_options_of_a_table(tmp_path):
    names = list(FRAME.columns)
    options = {"missing": True, "standardise": ["a", "b"], "feature_names": names}
    np.savez(tmp_path / "t.npz", x=HOLES, **options)
    expected = from_arrays(HOLES, **options)
    assert from_npz(tmp_path / "t.npz").fingerprint() == expected.fingerprint()
    assert from_npz(tmp_path / "t.npz").feature_names == tuple(names)


FILES = {
    "unknown key": ({"x": REAL, "weights": LABELS}, "holds 'weights', which has no meaning there"),
    "twice": ({"x": REAL, "x_train": REAL}, "has it twice"),
    "no examples": ({"y": LABELS}, "holds labels of train without examples"),
    "test only": ({"test_x": REAL}, "has no training examples, x or train_x"),
    "two tests": (
        {"x": REAL, "test_x": REAL, "test": 5},
        "holds the test split and how much to cut",
    ),
    "objects": ({"x": np.array([[1, None]])}, "it holds Python objects; store numbers"),
    "whole numbers": ({"x": COUNTS}, r"f.npz: x holds whole numbers between .* kind='images'"),
    "few labels": ({"x": REAL, "y": LABELS[:3]}, r"f.npz: 100 examples need labels of the shape"),
}


@pytest.mark.parametrize(("arrays", "match"), FILES.values(), ids=FILES)
def test_a_file_of_other_arrays_is_refused(arrays, match, tmp_path):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(ValueError, match=match):
        from_npz(tmp_path / "f.npz")


def test_a_file_that_lost_a_mask_is_named(tmp_path):
    np.savez(tmp_path / "f.npz", x=np.ma.masked_less(REAL, 0), missing=True)
    with pytest.warns(DataWarning, match="no value is missing: .* np.savez drops masks"):
        from_npz(tmp_path / "f.npz")


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="the data file .*nowhere.npz is not there"):
        load(str(tmp_path / "nowhere.npz"))
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(
        FileNotFoundError, match="folder.npz is a folder; from_folder reads images"
    ):
        from_npz(tmp_path / "folder.npz")
    np.savez(tmp_path / "whole.npz", x=REAL)
    whole = (tmp_path / "whole.npz").read_bytes()
    for content in (b"", b"text", whole[:-50], whole[:500] + bytes(500) + whole[1000:]):
        (tmp_path / "f.npz").write_bytes(content)
        with pytest.raises(ValueError, match="f.npz is not a file of arrays .* or is damaged"):
            from_npz(tmp_path / "f.npz")
    np.save(tmp_path / "f.npy", REAL)
    with pytest.raises(ValueError, match="a single array; write it with np.savez"):
        from_npz(tmp_path / "f.npy")


def test_a_configuration_takes_a_file_whether_or_not_it_exists():
    assert Data(data="somewhere/scans.npz").binarisation == "none"
    assert data_info("a.npz").about == "your own data, from a.npz"
    assert data_info("pendulum").real
    with pytest.raises(ValueError, match="'scans.csv'; choose one of digits, .* or give a file"):
        Data(data="scans.csv")


# From data to a model

TABLE = pd.DataFrame(
    {"height": REAL[:, 0], "smokes": REAL[:, 1] > 0, "town": LABELS, "visits": COUNTS[:, 0]}
)
BLOCKS = [
    {"columns": ["height"], "likelihood": "gaussian"},
    {"columns": ["smokes"], "likelihood": "bernoulli"},
    {"columns": ["town"], "likelihood": "categorical", "num_values": 3},
    {"columns": ["visits"], "likelihood": "poisson"},
]
MODELS = {
    "images": (BYTES, {}, {}),
    "colour": (np.repeat(BYTES[..., None], 3, axis=3), {}, {}),
    "binary": (BYTES > 99, {}, {}),
    "real": (REAL * 50, {"standardise": True}, {}),
    "counts": (COUNTS, {"kind": "counts"}, {}),
    "labels": (REAL, {"labels": LABELS}, {"conditional": True}),
    "holes": (HOLES, {"missing": True}, {}),
    "holes in images": (HOLED, {"kind": "images", "missing": True}, {}),
    "mixed": (
        *(TABLE, {"kind": "real", "standardise": ["height"]}),
        {"likelihood": "mixed", "likelihood_options": {"blocks": BLOCKS}},
    ),
}


@pytest.mark.parametrize(("x", "settings", "options"), MODELS.values(), ids=MODELS)
def test_every_kind_of_data_trains_a_model_that_is_evaluated(x, settings, options):
    data = from_arrays(x, **settings)
    model = recipes.ladder_vae(data, hidden=(8,), latent_sizes=(3, 2), **options)
    history = fit(model, data, epochs=1, batch_size=20, progress=False)
    assert np.isfinite(history.last("elbo"))
    assert np.isfinite(evaluate(model, data, num_samples=2).elbo.mean)


# What users try first


def made(x, white, num_values=None) -> DataSet:
    part = Split(x, torch.zeros(100, dtype=torch.int64), white)
    return DataSet("mine", (8, 8), num_values, "none", part, part, part)


def tiny_fit(data):
    spec = getattr(data, "spec", DataSpec(64, None))
    model = recipes.ladder_vae(spec, hidden=(4,), latent_sizes=(2, 2))
    return fit(model, data, epochs=1, progress=False)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DataLoader(TensorDataset(torch.rand(9, 64))), "got DataLoader; give its .datase"),
        (lambda: TensorDataset(torch.rand(9, 64)), "TensorDataset; give it to .*from_dataset"),
        (lambda: torch.rand(9, 64), "got Tensor; give it to hvae_course.data.from_arrays"),
        (lambda: np.ones((9, 64)), "got ndarray; give it to hvae_course.data.from_arrays"),
        (lambda: (torch.rand(9, 64), None), "got tuple; give it to hvae_course.data.from_arrays"),
        (lambda: "digits", "got str; hvae_course.data.load reads known data sets"),
        (lambda: SimpleNamespace(), "expected a DataSet as the data, got SimpleNamespace$"),
    ],
)  # fmt: skip
def test_what_is_not_a_data_set_is_refused_with_what_makes_one_of_it(make, match):
    for use in (as_data_set, tiny_fit):
        with pytest.raises(TypeError, match=match):
            use(make())


@pytest.mark.parametrize(
    "make",
    [
        lambda: made(torch.from_numpy(np.random.rand(100, 64)), None),
        lambda: made(np.random.rand(100, 64), None),
        lambda: made(torch.zeros(100, 8, 8, dtype=torch.uint8), 255, 256),
    ],
    ids=["float64", "NumPy", "images"],
)
def test_a_data_set_made_by_hand_of_any_array_can_be_fitted(make):
    assert np.isfinite(tiny_fit(make()).last("elbo"))


def test_a_data_set_made_by_hand_is_refused_where_it_cannot_be_right():
    with pytest.raises(
        ValueError, match="pixels of type torch.uint8 need max_value, the value th"
    ):
        made(torch.zeros(100, 64, dtype=torch.uint8), None)
    with pytest.raises(
        ValueError, match=r"100 examples need labels of the shape \(100,\), got \(9"
    ):
        Split(torch.rand(100, 64), torch.zeros(9), None)
    for num_values in (None, 17):
        with pytest.raises(ValueError, match="of 256 values, .* give num_values=256"):
            made(torch.zeros(100, 64, dtype=torch.uint8), 255, num_values)
    labels = torch.zeros(100, dtype=torch.int64)
    parts = [Split(torch.rand(n, 64), labels[:n], None) for n in (100, 0, 9)]
    with pytest.raises(ValueError, match="a split of m.* is empty; give it at least one example"):
        tiny_fit(DataSet("m", (8, 8), None, "none", *parts))


# The page "Your own data"

PAGE = (Path(__file__).parent.parent / "book/your_data.md").read_text("utf-8")


def code(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class SmallMNIST(Pictures):
    """Stands for torchvision's class."""

    def __init__(self, root, train, transform) -> None:
        super().__init__(lambda i: (transform(BYTES[i % 100]), i % 2), 10_020 if train else 10)


@pytest.fixture
def page_files(tmp_path, monkeypatch, folder):
    """The files that the page reads."""
    folder({f"{'cat' if i % 3 else 'dog'}/{i}.png": BYTES[i] for i in range(12)}, "pets")
    monkeypatch.chdir(tmp_path)
    labels, patients = np.arange(100) % 5, np.arange(100)
    arrays = {"scans": BYTES, "small": BYTES // 16, "visits": COUNTS, "labels": labels}
    for name, x in (arrays | {"patients": patients}).items():
        np.save(f"{name}.npy", x)
    (FRAME * 30).to_csv("wine.csv", index=False)
    FRAME.mask(FRAME > 1).to_csv("holes.csv", index=False)
    towns = np.array(["Rome", "Oslo", "Bern"])[LABELS]
    TABLE.assign(town=towns).to_csv("people.csv", index=False)
    module = SimpleNamespace(MNIST=SmallMNIST, ToTensor=lambda: lambda x: x / np.float32(255))
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms"):
        monkeypatch.setitem(sys.modules, name, module)


def test_the_code_of_the_page_runs(page_files, monkeypatch, capsys):
    def fit_briefly(model, data, **settings):
        small = {"epochs": 1, "batch_size": 10, "progress": False}
        return fit(model, data, **settings | small)

    monkeypatch.setattr(hvae_course, "fit", fit_briefly, raising=False)
    names: dict = {}
    for block in code("python"):
        exec(block, names)
    assert str(names["scans"]) in capsys.readouterr().out
    assert names["digits"].spec == DataSpec((8, 6), 256, num_classes=2)
    assert names["samples"].shape == (100, 6) and abs(names["samples"].std() - 30) < 30
    assert not names["filled"].isnan().any() and names["x"].shape[1] == 48
    assert len(names["scores"]) == 15 and names["table"].feature_names[2] == "town"
    for line in "".join(code("sh")).splitlines():
        small = {
            "train": "--epochs 1 --batch-size 20 --hidden 8 --quiet",
            "evaluate": "--num-samples 2 --quiet",
        }
        words = line.split()[1:]
        assert main([*words, *small.get(words[0], "").split()]) == 0, line
    assert len(pd.read_csv("samples.csv")) == 64


def test_the_table_of_the_page_names_the_usual_likelihood_and_its_measure():
    lines = re.findall(r"^\| .* \| `\"(\w+)\"`(.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    assert {kind for kind, *_ in lines} == set(get_args(Kind))
    likelihoods = {name for *_, named, _ in lines for name in re.findall(r"`(\w+)`", named)}
    assert likelihoods == set(recipes.LIKELIHOODS)
    for _, _, named, measure in lines:
        for name in re.findall(r"`(\w+)`", named):
            if name != "mixed":
                assert recipes.LIKELIHOODS[name].measure in measure
