"""Data sets: what is in the splits, in which order, and how pixels become binary."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_args
from urllib.error import URLError

import pytest
import torch
from sklearn.datasets import load_digits

import hvae_course
from hvae_course.config import Binarisation, Data
from hvae_course.data import DataSet, DataSpec, load, sources

SPLITS = ("train", "validation", "test")
ALL = slice(None)


@pytest.fixture(scope="module")
def grey() -> DataSet:
    return load("digits")


def test_digits_are_those_of_scikit_learn_in_file_order(grey):
    bunch = load_digits()
    x = torch.cat([grey.split(name).batch(ALL) for name in SPLITS])
    labels = torch.cat([grey.split(name).labels for name in SPLITS])
    torch.testing.assert_close(16 * x, torch.from_numpy(bunch.data).float(), rtol=0, atol=0)
    assert labels.tolist() == bunch.target.tolist()
    assert [len(grey.split(name)) for name in SPLITS] == [1000, 350, 447]


def test_digits_take_every_one_of_17_grey_values(grey):
    values = torch.cat([grey.split(name).batch(ALL) for name in SPLITS]).unique()
    torch.testing.assert_close(values, torch.linspace(0, 1, 17), rtol=0, atol=0)
    assert grey.num_values == 17
    assert grey.image_shape == (8, 8)


@pytest.mark.parametrize("binarisation", get_args(Binarisation))
def test_the_spec_says_how_many_pixels_and_values_there_are(binarisation):
    before = torch.get_rng_state()
    digits = load("digits", binarisation=binarisation)
    assert torch.equal(torch.get_rng_state(), before)
    expected = 17 if binarisation == "none" else 2
    assert digits.spec == DataSpec((8, 8), expected, num_classes=10)
    assert str(digits) == f"digits, binarisation {binarisation}, split 1000/350/447 in file order"
    assert str(load(Data(data="digits", binarisation=binarisation))) == str(digits)


@pytest.mark.parametrize("binarisation", get_args(Binarisation))
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("index", [slice(3, 8), torch.tensor([7, 7, 0])], ids=["slice", "tensor"])
def test_a_batch_is_float32_between_zero_and_one(binarisation, split, index):
    part = load("digits", binarisation=binarisation).split(split)
    x = part.batch(index)
    assert part.pixels.dtype == torch.uint8
    assert (x.dtype, x.shape[1], len(x)) == (torch.float32, 64, len(part.labels[index]))
    assert 0 <= x.min() and x.max() <= 1
    if binarisation != "none":
        assert ((x == 0) | (x == 1)).all()


@pytest.mark.parametrize("split", SPLITS)
def test_threshold_makes_white_of_half_and_more(split, grey):
    x = load("digits", binarisation="threshold").split(split).batch(ALL)
    assert torch.equal(x, (grey.split(split).batch(ALL) >= 0.5).float())


@pytest.mark.parametrize("split", SPLITS)
def test_static_binarisation_is_one_fixed_draw(split):
    first, second = (load("digits", binarisation="static").split(split) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(first.batch(ALL), second.batch(ALL))
    assert torch.equal(first.batch(ALL), first.batch(ALL))


@pytest.mark.parametrize("pair", itertools.combinations(SPLITS, 2))
def test_every_split_has_draws_of_its_own(pair, grey):
    static, first = load("digits", binarisation="static"), slice(350)
    p, q = (grey.split(name).batch(first) for name in pair)
    x, y = (static.split(name).batch(first) for name in pair)
    equal = (p == q) & (p > 0) & (p < 1)
    assert not torch.equal(x[equal], y[equal])


@pytest.mark.parametrize("binarisation", ["static", "dynamic"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_drawn_pixel_is_white_with_its_grey_value_as_probability(binarisation, split, grey):
    p = grey.split(split).batch(ALL).double()
    x = load("digits", binarisation=binarisation).split(split).batch(ALL).double()
    assert torch.equal(x[(p == 0) | (p == 1)], p[(p == 0) | (p == 1)])
    for value in p.unique()[1:-1]:
        drawn = x[p == value]
        standard_error = (value * (1 - value) / len(drawn)).sqrt()
        assert abs(drawn.mean() - value) < 5 * standard_error


def test_dynamic_training_batches_differ_and_held_out_ones_do_not():
    dynamic, static = (load("digits", binarisation=name) for name in ("dynamic", "static"))
    assert not torch.equal(dynamic.train.batch(ALL), dynamic.train.batch(ALL))
    for name in ("validation", "test"):
        x = dynamic.split(name).batch(ALL)
        assert torch.equal(x, dynamic.split(name).batch(ALL))
        assert torch.equal(x, static.split(name).batch(ALL))


@pytest.mark.parametrize("binarisation", ["none", "dynamic"])
def test_moving_or_selecting_keeps_all_that_a_split_holds(binarisation, grey):
    digits, index = load("digits", binarisation=binarisation), torch.tensor([5, 900, 5])
    moved = digits.to("cpu")
    assert str(moved) == str(digits) and moved.spec == digits.spec
    for name in SPLITS:
        before, after = digits.split(name), moved.split(name)
        assert torch.equal(before.pixels, after.pixels)
        assert torch.equal(before.labels, after.labels)
        assert (before.max_value, before.redraw) == (after.max_value, after.redraw)
    chosen = digits.train.select(index)
    assert torch.equal(chosen.pixels, grey.train.pixels[index])
    assert torch.equal(chosen.labels, grey.train.labels[index])
    assert (chosen.max_value, chosen.redraw) == (digits.train.max_value, digits.train.redraw)
    assert len(chosen) == 3 and chosen.factors == {} == digits.train.factors
    assert torch.equal(digits.train.select(slice(2, 4)).labels, grey.train.labels[2:4])


def test_a_specification_holds_the_shape_of_an_example():
    assert DataSpec(64, 17) == DataSpec((64,), 17) == DataSpec([64], 17) != DataSpec((8, 8), 17)
    assert DataSpec((8, 8), 17).num_features == DataSpec(64, 17).num_features == 64
    for shape in (0, (), (8, 0), (-8, 8)):
        with pytest.raises(ValueError, match=r"an example needs positive sizes, got the shape \("):
            DataSpec(shape, 2)


def test_unknown_names_are_refused_with_the_known_ones(grey):
    with pytest.raises(ValueError, match="'cifar'; choose one of digits, mnist, fashion_mnist"):
        load("cifar")
    with pytest.raises(ValueError, match="'half'; choose one of dynamic, static, threshold, none"):
        load("digits", binarisation="half")
    with pytest.raises(ValueError, match="'dev'; choose 'train', 'validation' or 'test'"):
        grey.split("dev")


class FakeMNIST:
    """Stands for torchvision's class: each image holds its number, each label is its number."""

    calls: list[tuple[str, bool, bool]] = []
    present = True

    def __init__(self, root: str, train: bool, download: bool = False) -> None:
        self.calls.append((root, train, download))
        if not (self.present or download):
            raise RuntimeError("Dataset not found.")
        number = torch.arange(60_000 if train else 10_000)
        self.data = (number % 256).to(torch.uint8)[:, None, None].expand(-1, 28, 28)
        self.targets = number + (0 if train else 60_000)


@pytest.fixture
def fake_torchvision(monkeypatch):
    monkeypatch.setattr(FakeMNIST, "calls", [])
    fake = SimpleNamespace(MNIST=FakeMNIST, FashionMNIST=FakeMNIST)
    monkeypatch.setattr(sources, "torchvision_datasets", lambda: fake)
    return FakeMNIST


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_last_training_images_of_mnist_are_the_validation_split(name, fake_torchvision):
    mnist = load(name, binarisation="none", root="here")
    labels = torch.cat([mnist.split(split).labels for split in SPLITS])
    assert torch.equal(labels, torch.arange(70_000))
    assert [len(mnist.split(split)) for split in SPLITS] == [50_000, 10_000, 10_000]
    assert mnist.spec == DataSpec((28, 28), 256, num_classes=70_000)
    x = mnist.validation.batch(slice(7, 8))
    torch.testing.assert_close(x, torch.full((1, 784), 50_007 % 256 / 255))
    assert all(not download for _, _, download in fake_torchvision.calls)


def test_mnist_is_binarised_dynamically_unless_told_otherwise(fake_torchvision):
    mnist = load(Data(data="mnist", data_root="here"))
    assert {root for root, _, _ in fake_torchvision.calls} == {"here"}
    assert (mnist.binarisation, mnist.num_values, mnist.train.redraw) == ("dynamic", 2, True)


def test_mnist_is_downloaded_to_where_it_was_looked_for(fake_torchvision, monkeypatch):
    monkeypatch.setattr(FakeMNIST, "present", False)
    load("mnist", binarisation="none", root="here")
    downloads = [(root, train) for root, train, download in fake_torchvision.calls if download]
    assert downloads == [("here", True), ("here", False)]


def test_root_comes_before_hvae_data_and_hvae_data_before_the_cache(fake_torchvision, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.delenv("HVAE_DATA", raising=False)
    load("mnist", binarisation="none")
    monkeypatch.setenv("HVAE_DATA", "variable")
    load("mnist", binarisation="none")
    load("mnist", binarisation="none", root="argument")
    folders = [root for root, train, _ in fake_torchvision.calls if train]
    assert folders == [os.path.join("cache", "hvae_course"), "variable", "argument"]


def torchvision_datasets() -> ModuleType:
    try:
        return sources.torchvision_datasets()
    except ImportError:
        pytest.skip("torchvision is not installed")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("error", [URLError("no network"), RuntimeError("no network")], ids=repr)
def test_missing_files_without_a_network_say_where_they_belong(name, error, monkeypatch, tmp_path):
    folder = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[name]

    def download(self) -> None:
        raise error

    monkeypatch.setattr(torchvision_datasets().MNIST, "download", download)
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="or set HVAE_DATA or root= to a folder") as caught:
        load(name)
    place = tmp_path / folder / "raw"
    assert f"no {folder} files in {place}, and they could not be downl" in str(caught.value)
    assert "no network" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "invalid literal"), (b"<html>404</html>", ""), (b"\0\0\x08\3" + bytes(12), "")],
    ids=["empty", "another page", "no image"],
)
def test_truncated_files_are_named_as_damaged_and_not_as_missing(content, reason, tmp_path):
    torchvision_datasets()
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=f"the MNIST files in .* are damaged.*{reason}") as caught:
        load("mnist", root=tmp_path)
    assert str(folder) in str(caught.value) and "delete them" in str(caught.value)


def test_fewer_images_than_mnist_has_are_not_taken_for_it(fake_torchvision, monkeypatch):
    class Fewer(FakeMNIST):
        def __init__(self, root: str, train: bool, download: bool = False) -> None:
            super().__init__(root, train, download)
            self.data = self.data[:100]

    monkeypatch.setattr(sources, "torchvision_datasets", lambda: SimpleNamespace(MNIST=Fewer))
    with pytest.raises(ValueError, match=r"images and labels are \(100, 60000\) for training"):
        load("mnist", root="here")


def test_a_missing_torchvision_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="pip install torchvision; the data set 'digits' needs"):
        load("mnist")


def test_other_errors_of_torchvision_are_passed_on(monkeypatch):
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise RuntimeError("the driver is too old")

    monkeypatch.setitem(sys.modules, "torchvision", Broken("torchvision"))
    with pytest.raises(RuntimeError, match="the driver is too old"):
        load("mnist")


def test_a_torchvision_without_compiled_operators_is_good_enough(tmp_path):
    """The fake package asks for its operators as torchvision's meta registrations do."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "datasets.py").write_text("MNIST = 'found'\n")
    (package / "__init__.py").write_text(
        "import torch\n"
        "for name in ('nms', 'qnms'):\n"
        "    torch.library.register_fake('torchvision::' + name)(lambda *args: None)\n"
    )
    code = "from hvae_course.data import sources; print(sources.torchvision_datasets().MNIST)"
    paths = os.pathsep.join([str(tmp_path), str(Path(hvae_course.__file__).parents[1])])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout.strip()) == (0, "found"), result.stderr


def test_mnist_files_hold_what_the_split_says():
    root = os.environ.get("HVAE_DATA")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("HVAE_DATA names no folder that holds MNIST/raw")
    source = torchvision_datasets().MNIST
    mnist = load("mnist", binarisation="none")
    parts = [source(root, train=train) for train in (True, False)]
    labels = torch.cat([mnist.split(name).labels for name in SPLITS])
    assert torch.equal(labels, torch.cat([part.targets for part in parts]))
    assert mnist.train.batch(ALL).unique().numel() == mnist.num_values == 256
    first = parts[1].data[0].flatten() / 255
    torch.testing.assert_close(mnist.test.batch(slice(0, 1))[0], first)
