"""CIFAR-10, SVHN and Omniglot: small files in the layout that torchvision reads."""

import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hvae_course.config import Data
from hvae_course.data import DataSet, DataSpec, load, sources
from hvae_course.data.splits import SPLITS

RANDOM = np.random.default_rng(0)
CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
CLASSES += ["dog", "frog", "horse", "ship", "truck"]
COLOUR = {
    "train": RANDOM.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8),
    "test": RANDOM.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8),
}
LABELS = {"train": np.arange(10), "test": np.array([3, 9, 0, 3])}
DRAWINGS = {
    f"images_{part}/{alphabet}/character{number:02}": RANDOM.random((4, 105, 105)) < 0.3
    for part, alphabet, number in [
        *(("background", "Greek", 1), ("background", "Greek", 2), ("background", "Arcadian", 1)),
        *(("evaluation", "Oriya", 1), ("evaluation", "Tengwar", 1)),
    ]
}


def write_cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    batches = {f"data_batch_{n + 1}": ("train", slice(2 * n, 2 * n + 2)) for n in range(5)}
    for name, (part, some) in (batches | {"test_batch": ("test", slice(None))}).items():
        x, labels = COLOUR[part][some], LABELS[part][some]
        entry = {"data": x.reshape(len(x), -1), "labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES}))


def write_svhn(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for part, x in COLOUR.items():
        labels = np.where(LABELS[part] == 0, 10, LABELS[part])[:, None].astype(np.uint8)
        content = {"X": x.transpose(2, 3, 1, 0), "y": labels}
        scipy.io.savemat(root / f"{part}_32x32.mat", content)


def write_omniglot(root: Path) -> None:
    folder = root / "omniglot-py"
    for number, (place, drawings) in enumerate(DRAWINGS.items()):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for drawer in (3, 0, 2, 1):
            ink = Image.fromarray(~drawings[drawer])
            assert ink.mode == "1"
            ink.save(folder / place / f"{number:04}_{drawer + 1:02}.png")
    for part in ("background", "evaluation"):
        (folder / f"images_{part}.zip").write_bytes(b"")


@dataclass(frozen=True)
class Known:
    """How the files of one set are written, and how torchvision is made to accept small ones."""

    class_name: str
    place: str
    write: Callable[[Path], None]
    checksums: dict[str, object]
    sizes: tuple[int, int, int]
    first: str
    """A file of which the set cannot do without."""


KNOWN = {
    "cifar10": Known(
        "CIFAR10",
        "cifar-10-batches-py",
        write_cifar10,
        {
            "train_list": [[f"data_batch_{n + 1}", None] for n in range(5)],
            "test_list": [["test_batch", None]],
            "meta": {"filename": "batches.meta", "key": "label_names", "md5": None},
        },
        (7, 3, 4),
        "cifar-10-batches-py/data_batch_2",
    ),
    "svhn": Known(
        "SVHN",
        "",
        write_svhn,
        {"split_list": {p: ["", f"{p}_32x32.mat", None] for p in ("train", "test")}},
        (7, 3, 4),
        "train_32x32.mat",
    ),
    "omniglot": Known(
        "Omniglot",
        "omniglot-py",
        write_omniglot,
        {"zips_md5": {"images_background": None, "images_evaluation": None}},
        (6, 6, 8),
        "omniglot-py/images_background/Greek/character02/0001_03.png",
    ),
}
named = pytest.mark.parametrize("name", KNOWN)


@pytest.fixture
def torchvision():
    try:
        return sources.torchvision_datasets()
    except ImportError:
        pytest.skip("torchvision is not installed")


@pytest.fixture
def small(torchvision, monkeypatch):
    """Accept files without their published checksums, and the sizes of the small sets."""
    for known in KNOWN.values():
        for attribute, value in known.checksums.items():
            monkeypatch.setattr(getattr(torchvision, known.class_name), attribute, value)
        published = replace(sources.PUBLISHED[known.class_name], sizes=known.sizes)
        monkeypatch.setitem(sources.PUBLISHED, known.class_name, published)
    return torchvision


def everything(data: DataSet) -> tuple[Tensor, list[int]]:
    parts = [data.split(name) for name in SPLITS]
    labels = torch.cat([part.labels for part in parts])
    return torch.cat([part.pixels for part in parts]), labels.tolist()


# What is read


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_colour_images_come_in_file_order_with_channels_first(name, small, tmp_path):
    KNOWN[name].write(tmp_path)
    data = load(name, root=tmp_path)
    pixels, labels = everything(data)
    expected = np.concatenate([COLOUR["train"], COLOUR["test"]]).reshape(14, 3072)
    np.testing.assert_array_equal(pixels, expected)
    assert labels == [*LABELS["train"], *LABELS["test"]]
    assert data.spec == DataSpec((3, 32, 32), 256, num_classes=10)
    assert str(data) == f"{name}, binarisation none, split 7/3/4 in file order"
    assert data.class_names == (tuple(CLASSES) if name == "cifar10" else ())
    x = data.test.batch(slice(0, 1)).reshape(3, 32, 32)
    torch.testing.assert_close(x, torch.tensor(COLOUR["test"][0]) / 255)


def test_the_last_drawings_of_every_character_are_the_validation_split(small, tmp_path):
    write_omniglot(tmp_path)
    data = load("omniglot", binarisation="none", root=tmp_path)
    assert data.spec == DataSpec((28, 28), 256, num_classes=5)
    order = ["Arcadian/character01", "Greek/character01", "Greek/character02"]
    train = [DRAWINGS[f"images_background/{place}"] for place in order]
    test = [DRAWINGS[f"images_evaluation/{place}/character01"] for place in ("Oriya", "Tengwar")]
    ink = [*(one[:2] for one in train), *(one[2:] for one in train), *test]
    ink = torch.tensor(np.concatenate(ink)).float()
    # 420 = 28 * 15 = 105 * 4, so that the mean over areas is one over equal squares
    fine = ink.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    expected = 255 * avg_pool2d(fine, 15).flatten(1)
    pixels, labels = everything(data)
    assert (pixels - expected).abs().max() <= 0.5 + 1e-3
    assert labels == [0, 0, 1, 1, 2, 2] * 2 + [3] * 4 + [4] * 4
    assert [len(data.split(name)) for name in SPLITS] == [6, 6, 8]


def test_the_order_of_drawings_does_not_depend_on_how_the_folder_is_listed(
    small, tmp_path, monkeypatch
):
    write_omniglot(tmp_path)
    before = load("omniglot", root=tmp_path).fingerprint()
    listed = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, form: reversed(list(listed(self, form))))
    assert load("omniglot", root=tmp_path).fingerprint() == before


def test_omniglot_is_binarised_dynamically_and_colours_are_not(small, tmp_path):
    for name, known in KNOWN.items():
        known.write(tmp_path / name)
        data = load(Data(data=name, data_root=str(tmp_path / name)))
        usual = ("dynamic", 2, True) if name == "omniglot" else ("none", 256, False)
        assert (data.binarisation, data.num_values, data.train.redraw) == usual
        assert len(data.train) == known.sizes[0]


@pytest.mark.parametrize(("size", "side"), [((105, 105), 28), ((6, 9), 3), ((5, 5), 5)], ids=str)
def test_a_smaller_image_has_the_mean_of_the_larger_one(size, side):
    image = torch.rand(size, dtype=torch.float64)
    small = sources.area_resize(image, side)
    torch.testing.assert_close(small.mean(), image.mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sources.area_resize(torch.ones(size), side), torch.ones(side, side))
    if size == (5, 5):
        torch.testing.assert_close(small, image)
    if size == (6, 9):
        torch.testing.assert_close(small[1, 2], image[2:4, 6:9].mean())


def test_published_sizes_are_those_of_the_published_files():
    totals = {name: (sum(known.sizes[:2]), known.sizes[2]) for name, known in PUBLISHED.items()}
    assert totals == {
        "MNIST": (60_000, 10_000),
        "FashionMNIST": (60_000, 10_000),
        "CIFAR10": (50_000, 10_000),
        "SVHN": (73_257, 26_032),
        "Omniglot": (964 * 20, 659 * 20),
    }
    training, validation, _ = PUBLISHED["Omniglot"].sizes
    assert (training, validation) == (964 * 18, 964 * sources.HELD_OUT_DRAWINGS)


PUBLISHED = dict(sources.PUBLISHED)


# Files that are missing or damaged


@named
@pytest.mark.parametrize("error", [URLError("no network"), RuntimeError("no network")], ids=repr)
def test_missing_files_without_a_network_say_where_they_belong(
    name, error, torchvision, monkeypatch, tmp_path
):
    def download(self) -> None:
        raise error

    known = KNOWN[name]
    monkeypatch.setattr(getattr(torchvision, known.class_name), "download", download)
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    instead = "digits" if name == "omniglot" else "patches"
    with pytest.raises(
        FileNotFoundError, match=f"or use the data set '{instead}', which"
    ) as caught:
        load(name)
    message = str(caught.value)
    assert f"no intact {known.class_name} files in {tmp_path / known.place}, and they" in message
    assert "no network" in message and "set HVAE_DATA or root= to a folder that holds" in message


@named
def test_files_with_other_checksums_are_not_intact(name, torchvision, monkeypatch, tmp_path):
    def download(self) -> None:
        raise URLError("no network")

    known = KNOWN[name]
    known.write(tmp_path)
    monkeypatch.setattr(getattr(torchvision, known.class_name), "download", download)
    with pytest.raises(FileNotFoundError, match=f"no intact {known.class_name} files in "):
        load(name, root=tmp_path)


@named
def test_missing_files_are_downloaded_to_where_they_were_looked_for(
    name, small, monkeypatch, tmp_path
):
    known = KNOWN[name]
    source = getattr(small, known.class_name)
    monkeypatch.setattr(source, "download", lambda self: known.write(tmp_path / "new"))
    assert len(load(name, root=tmp_path / "new").train) == known.sizes[0]


@named
@pytest.mark.parametrize("content", [b"", b"<html>404</html>"], ids=["empty", "another page"])
def test_truncated_files_are_named_as_damaged_and_not_as_missing(name, content, small, tmp_path):
    known = KNOWN[name]
    known.write(tmp_path)
    (tmp_path / known.first).write_bytes(content)
    with pytest.raises(ValueError, match="files in .* are damaged .*; delete them to") as caught:
        load(name, root=tmp_path)
    assert f"the {known.class_name} files in {tmp_path / known.place} are" in str(caught.value)
    if name == "omniglot":
        assert known.first in str(caught.value)


@named
def test_another_number_of_images_than_was_published_is_refused(name, small, tmp_path):
    known = KNOWN[name]
    known.write(tmp_path)
    published = replace(sources.PUBLISHED[known.class_name], sizes=(100, 10, 10))
    small_count, test = sum(known.sizes[:2]), known.sizes[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.PUBLISHED, known.class_name, published)
        with pytest.raises(
            ValueError, match=rf"are \({small_count}, {small_count}\) for training"
        ):
            load(name, root=tmp_path)
    (tmp_path / KNOWN["omniglot"].first).unlink(missing_ok=True)
    if name == "omniglot":
        with pytest.raises(ValueError, match=rf"are \(11, 11\) for training and \({test}, {test}"):
            load(name, root=tmp_path)


def test_archives_of_omniglot_must_be_unpacked(small, tmp_path):
    write_omniglot(tmp_path)
    folder = tmp_path / "omniglot-py"
    (folder / "images_evaluation").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match="are damaged .*No such file .*images_evaluation"):
        load("omniglot", root=tmp_path)
    (folder / "images_evaluation").mkdir()
    with pytest.raises(ValueError, match="images_evaluation holds no folders of characters"):
        load("omniglot", root=tmp_path)


@named
def test_a_missing_torchvision_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="pip install torchvision.*'patches' is its counterpart"):
        load(name)
