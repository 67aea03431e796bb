"""A data set from a file, a folder of images, or a data set of another library."""

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import IterableDataset

from hvae_course.config import Binarisation
from hvae_course.data.arrays import from_arrays
from hvae_course.data.splits import DataSet, shorten
from hvae_course.data.values import advice, as_tensor

PICTURES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the files that are read as images."""
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Names of folders that are splits and not classes."""
OPTIONS = (
    *("kind", "num_values", "shape", "channels_last", "standardise", "missing"),
    *("feature_names", "validation", "test", "seed"),
)
"""Arguments of `from_arrays` that a file may hold beside its arrays."""
LISTS = ("shape", "standardise", "feature_names")
"""Those of them that are lists."""


def from_npz(
    path: str | Path, *, name: str | None = None, binarisation: Binarisation = "none"
) -> DataSet:
    """Make a data set from a file of NumPy arrays, as ``np.savez`` writes it.

    ``np.savez("scans.npz", x=x, y=labels, kind="images")`` is enough, and
    ``hvae train --data scans.npz`` reads the file too.

    Args:
        path: a file that ends in ``.npz``. It holds the examples ``x`` and, if there are any, the
            labels ``y``; splits of your own are ``train_x``, ``validation_x``, ``test_x`` and
            ``train_y``, ``validation_y``, ``test_y`` (``x_train`` and so on will do, and
            ``labels`` for ``y``). Entries named like these arguments of `from_arrays` have their
            meaning: ``kind``, ``num_values``, ``shape``, ``channels_last``, ``standardise``,
            ``missing``, ``feature_names``, ``seed``, and ``validation`` and ``test`` for how much
            to cut off.
        name: for the description; None for the name of the file.
        binarisation: how grey pixels become binary, see `hvae_course.data`.

    Returns:
        The data set, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or holds Python objects or entries of other names, or
            if its arrays are no data set.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = "is a folder; from_folder reads images" if path.is_dir() else "is not there"
        raise FileNotFoundError(f"the data file {path.absolute()} {what}")
    entries = read_npz(path)
    options = {key: entries.pop(key) for key in OPTIONS if key in entries}
    splits: dict[str, dict[str, np.ndarray]] = {"train": {}, "validation": {}, "test": {}}
    for key, values in entries.items():
        words = ["train", key] if key in ("x", "y", "labels") else key.split("_")
        words = ["y" if word == "labels" else word for word in words]
        letter = next((word for word in words if word in ("x", "y")), None)
        split = next((word for word in words if word in splits), None)
        if len(words) != 2 or letter is None or split is None or letter in splits[split]:
            raise ValueError(
                f"{path} holds {key!r}, which has no meaning there, or has it twice; give x and "
                "y, or train_x, train_y, validation_x, validation_y, test_x, test_y, and the "
                f"options {', '.join(OPTIONS)}"
            )
        splits[split][letter] = values
    if wrong := [split for split, found in splits.items() if "y" in found and "x" not in found]:
        raise ValueError(f"{path} holds labels of {wrong[0]} without examples")
    if "x" not in splits["train"]:
        raise ValueError(f"{path} has no training examples, x or train_x")
    for split in ("validation", "test"):
        if splits[split] and split in options:
            raise ValueError(f"{path} holds the {split} split and how much to cut off; give one")
        if splits[split]:
            options[split] = (splits[split]["x"], splits[split].get("y"))
    options |= {"name": name or path.stem, "binarisation": binarisation}
    try:
        return from_arrays(splits["train"]["x"], splits["train"].get("y"), **options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def read_npz(path: Path) -> dict[str, Any]:
    """Read all entries of a file of NumPy arrays, without running code from it.

    Args:
        path: a file as ``np.savez`` writes it.

    Returns:
        Its entries by name; single values, and options that are lists, as Python's own.

    Raises:
        ValueError: if the file is damaged, or holds Python objects or a single array.
    """
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("it holds a single array; write it with np.savez(path, x=array)")
            with found:
                entries = {key: found[key] for key in found.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            error = "it holds Python objects; store numbers, for example array.astype(float)"
        raise ValueError(
            f"{path} is not a file of arrays (.npz), or is damaged: {error}"
        ) from None
    return {
        key: value.item() if value.ndim == 0 else value.tolist() if key in LISTS else value
        for key, value in entries.items()
    }


def from_dataset(
    dataset: Any,  # noqa: ANN401
    *,
    validation: Any = 0.1,  # noqa: ANN401
    test: Any = 0.1,  # noqa: ANN401
    **options: Any,  # noqa: ANN401
) -> DataSet:
    """Make a data set from a map-style data set of PyTorch or torchvision.

    Every example is read once. Floating-point images that are multiples of 1/255, as torchvision's
    ``ToTensor`` gives them, become bytes again; random transforms are drawn once and for all.

    Args:
        dataset: gives ``x`` or ``(x, label)`` for each index, where ``x`` is a tensor, an array
            or an image of PIL; or a tuple ``(train, validation, test)`` of such data sets.
        validation: the validation split, a data set, or how much of ``dataset`` to cut off, as
            for `from_arrays`.
        test: the same for the test split.
        **options: other arguments of `from_arrays`.

    Returns:
        The data set, on the CPU.

    Raises:
        TypeError: if it is not a map-style data set.
        ValueError: if it is empty, or its examples do not have one size.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> pairs = TensorDataset(torch.rand(50, 4), torch.arange(50) % 2)
        >>> print(from_dataset(pairs, name="pairs", standardise=False))
        pairs, rows of 4 features, real-valued, split 40/5/5 cut off with seed 0, 2 classes
    """
    if isinstance(dataset, tuple):
        if len(dataset) != 3:
            raise ValueError(
                f"a tuple holds (train, validation, test), got {len(dataset)} data sets; give the "
                "others as validation= and test="
            )
        dataset, validation, test = dataset
    x, labels = _read_dataset(dataset, "the data set")
    others = {"validation": validation, "test": test}
    for split, value in others.items():
        if not isinstance(value, Real):
            others[split] = _read_dataset(value, split)
    return from_arrays(x, labels, **others, **options)


def _read_dataset(dataset: Any, what: str) -> tuple[Tensor, list[Any] | None]:  # noqa: ANN401
    """Examples and labels of one data set."""
    mapped = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if isinstance(dataset, IterableDataset) or not mapped or isinstance(dataset, str | Mapping):
        stream = "; it is a stream: collect its examples in arrays for from_arrays"
        raise TypeError(
            f"{what} must be a map-style torch.utils.data.Dataset, got {type(dataset).__name__}"
            + (stream if isinstance(dataset, IterableDataset) else advice(dataset))
        )
    items = [dataset[i] for i in range(len(dataset))]
    if not items:
        raise ValueError(f"{what} is empty")
    pairs = [item if isinstance(item, tuple | list) else (item,) for item in items]
    lengths = {len(pair) for pair in pairs}
    if lengths not in ({1}, {2}) or isinstance(items[0], Mapping):
        found = "a mapping" if isinstance(items[0], Mapping) else f"{max(lengths)} values"
        raise TypeError(
            f"an example of {what} must be x or (x, label), got {found}; collect what you need in "
            "arrays for hvae_course.data.from_arrays"
        )
    x = [_tensor(pair[0], f"an example of {what}") for pair in pairs]
    shapes = list(dict.fromkeys(tuple(one.shape) for one in x))
    if len(shapes) > 1:
        raise ValueError(
            f"examples of {what} differ in shape, such as {shapes[0]} and {shapes[1]}; bring them "
            "to one size with a transform"
        )
    return torch.stack(x), None if lengths == {1} else [pair[1] for pair in pairs]


def _tensor(x: Any, what: str) -> Tensor:  # noqa: ANN401
    if isinstance(x, Image.Image):
        x = _picture(x)
    x = as_tensor(x, what)
    return x if x.dim() else x[None]


def from_folder(
    path: str | Path,
    *,
    validation: Any = 0.1,  # noqa: ANN401
    test: Any = 0.1,  # noqa: ANN401
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    name: str | None = None,
    binarisation: Binarisation = "none",
    seed: int = 0,
) -> DataSet:
    """Make a data set from a folder of images.

    Args:
        path: holds images, or one subfolder of images for each class. Files ending in .bmp, .jpeg,
            .jpg, .pgm, .png, .ppm, .tif, .tiff or .webp are read in the order of their paths,
            others and hidden ones are passed over.
        validation: the validation split, a folder of the same form, or how much to cut off, as
            for `from_arrays`.
        test: the same for the test split.
        size: height and width, to which all images are resized, whatever their proportions; None
            if they have one size. A single number is both.
        grey: whether to make grey images of coloured ones. Otherwise all images are coloured if
            one of them is.
        name: for the description; None for the name of the folder.
        binarisation: how grey pixels become binary, see `hvae_course.data`.
        seed: seed of the cut.

    Returns:
        The data set, on the CPU. ``class_names`` has the names of the subfolders, sorted, and a
        label is the place of its name there.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if files cannot be read or differ in size, or the folder has no images.
    """
    if size is not None:
        sides = tuple(size) if isinstance(size, Iterable) else (size, size)
        if len(sides) != 2 or not all(isinstance(n, Integral) and n > 0 for n in sides):
            raise ValueError(f"size is (height, width) in pixels, got {size!r}")
        size = tuple(map(int, sides))
    folders = {"train": path} | {
        split: value
        for split, value in (("validation", validation), ("test", test))
        if not isinstance(value, Real)
    }
    found = {split: _list_folder(folder) for split, folder in folders.items()}
    classes = list(found["train"])
    for split, files in found.items():
        if "" in files and classes != [""]:
            raise ValueError(
                f"the {split} folder holds images without class folders, and the training folder "
                f"has the class folders {shorten(classes)}; give a folder of the same form"
            )
        if unknown := [one for one in files if one not in classes]:
            raise ValueError(
                f"the {split} folder has the class folders {shorten(unknown)}, which the training "
                f"folder does not have; it has {shorten(classes) or 'none'}"
            )
    images = {split: _read_images(files, size, grey) for split, files in found.items()}
    colour = any(image.ndim == 3 for arrays in images.values() for image in arrays)
    given = {}
    for split, arrays in images.items():
        if colour:
            arrays = [np.stack([a] * 3, axis=2) if a.ndim == 2 else a for a in arrays]
        labels = [classes.index(one) for one, files in found[split].items() for _ in files]
        given[split] = (np.stack(arrays), labels if classes != [""] else None)
    x, labels = given.pop("train")
    data = from_arrays(
        x,
        labels,
        **({"validation": validation, "test": test} | given),
        name=name or Path(path).expanduser().absolute().name,
        kind="images",
        channels_last=True if colour else None,
        binarisation=binarisation,
        seed=seed,
    )
    return replace(data, class_names=() if labels is None else tuple(classes))


def _list_folder(path: Any) -> dict[str, list[Path]]:  # noqa: ANN401
    """Files of every class; those of a folder without classes have the name ""."""
    if not isinstance(path, str | Path):
        raise TypeError(f"a folder is named by its path, got {type(path).__name__}{advice(path)}")
    path = Path(path).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path.absolute()}")

    def pictures(files: Any) -> list[Path]:  # noqa: ANN401
        visible = (f for f in files if not f.name.startswith(".") and f.is_file())
        return sorted(f for f in visible if f.suffix.lower() in PICTURES)

    direct = pictures(path.iterdir())
    below = {
        folder.name: pictures(folder.rglob("*"))
        for folder in sorted(path.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    if direct and any(below.values()):
        raise ValueError(
            f"{path} holds images and subfolders of images; put all images into subfolders, one "
            "for each class, or none"
        )
    if direct:
        return {"": direct}
    if not any(below.values()):
        raise ValueError(f"{path} has no images ({', '.join(PICTURES)})")
    if empty := [folder for folder, files in below.items() if not files]:
        raise ValueError(f"the class folders {shorten(empty)} of {path} have no images")
    if all(folder.lower() in SPLIT_FOLDERS for folder in below):
        raise ValueError(
            f"the subfolders of {path} are {shorten(below)}, which are splits rather than "
            "classes; give from_folder(training_folder, validation=folder, test=folder), or "
            "shares to cut off"
        )
    return below


def _read_images(
    classes: Mapping[str, list[Path]], size: tuple[int, int] | None, grey: bool
) -> list[np.ndarray]:
    """Images as bytes, ``(H, W)`` or ``(H, W, 3)``."""
    images, unreadable = {}, []
    for path in (path for files in classes.values() for path in files):
        try:
            with Image.open(path) as image:
                images[path] = _picture(ImageOps.exif_transpose(image), size, grey)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            unreadable.append(f"{path} ({error})")
    if unreadable:
        raise ValueError(
            f"{len(unreadable)} of {len(unreadable) + len(images)} images cannot be read: "
            f"{shorten(unreadable)}; remove or convert them"
        )
    by_size = {image.shape[:2]: path for path, image in images.items()}
    if len(by_size) > 1:
        (one, first), (two, second) = list(by_size.items())[:2]
        raise ValueError(
            f"the images differ in size, {first} has {one[0]}x{one[1]} pixels and {second} "
            f"{two[0]}x{two[1]}; give size=(height, width) to resize all"
        )
    return list(images.values())


def _picture(
    image: Image.Image, size: tuple[int, int] | None = None, grey: bool = False
) -> np.ndarray:
    """Pixels of an image as bytes."""
    if image.mode[0] in "IF":
        raise ValueError("its pixels have more than 8 bits; scale them to bytes")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        raise ValueError("parts of it are transparent; paint it on a background")
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"it holds {image.n_frames} frames; store each as a file")
    image = image.convert("L" if grey or image.mode in ("1", "L", "LA") else "RGB")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.array(image)
