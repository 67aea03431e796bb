"""Where images come from: scikit-learn's digits and torchvision's data sets."""

import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Raw:
    """A data set as its source gives it, in file order."""

    pixels: Tensor
    """``(N, D)``, bytes, or real values in float32."""
    labels: Tensor
    """``(N,)``, int64."""
    image_shape: tuple[int, ...]
    max_value: int | None
    """The byte that stands for white; None for real values."""
    sizes: tuple[int, int, int]
    """Examples for training, validation and test, in this order."""
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    """What generated data were made from, or where an example was."""
    class_names: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of the labels, where they are known."""
    order: str = field(default="in file order", kw_only=True)
    """How the examples were distributed over the splits, for the description."""


def check_generated(sizes: tuple[int, int, int], *, noise: float) -> None:
    """Refuse settings from which no images can be generated.

    Args:
        sizes: images for training, validation and test.
        noise: standard deviation of the noise on every pixel.

    Raises:
        ValueError: if a split is empty or the noise is negative.
    """
    if min(sizes) < 1 or not noise >= 0:
        raise ValueError(
            f"every split needs an image and the noise must not be negative, got sizes={sizes} "
            f"and noise={noise}"
        )


def digits(root: Path | None) -> Raw:
    """Read scikit-learn's 8x8 digits, 17 grey values.

    Args:
        root: not used, they come with scikit-learn.

    Returns:
        The images in file order.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels, labels = torch.from_numpy(bunch.data).to(torch.uint8), torch.from_numpy(bunch.target)
    return Raw(pixels, labels.long(), (8, 8), 16, (1000, 350, 447))


_torchvision_library: torch.library.Library | None = None  # a declaration lasts as long as this


def _declare_missing_operators() -> None:
    """Declare the two operators that a torchvision without compiled extensions asks for.

    ``import torchvision`` fails with "operator torchvision::nms does not exist" beside a torch
    build that its binary does not match (https://github.com/pytorch/vision/issues/8985,
    https://github.com/pytorch/vision/issues/9085). Data sets are pure Python and need neither.
    """
    global _torchvision_library
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _torchvision_library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _torchvision_library.define(
            f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )


def torchvision_datasets() -> ModuleType:
    """Import torchvision's data sets, whether or not its compiled operators match this torch.

    Returns:
        The module `torchvision.datasets`.

    Raises:
        ImportError: if torchvision is not installed.
    """
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(
            "MNIST, Fashion-MNIST, CIFAR-10, SVHN and Omniglot are read with torchvision: "
            "pip install torchvision; the data set 'digits' needs neither it nor a download, and "
            "'patches' is its counterpart in colour"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_missing_operators()
        from torchvision import datasets
    return datasets


def default_folder() -> Path:
    """Say where data sets are that are downloaded.

    Returns:
        The folder in ``HVAE_DATA``, or else a cache folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HVAE_DATA") or cache / "hvae_course")


@dataclass(frozen=True, kw_only=True)
class Published:
    """What is known about one of torchvision's data sets before it is read."""

    place: str
    """The folder that holds its files, below the root; empty for the root itself."""
    files: str
    """Which files belong there, for the message."""
    parts: tuple[Mapping[str, Any], ...]
    """What torchvision calls its training and its test part."""
    sizes: tuple[int, int, int]
    """Examples for training, validation and test."""
    image_shape: tuple[int, ...]
    examples: Callable[[Any], tuple[Tensor, Tensor]]
    """Pixels ``(N, D)`` and labels ``(N,)`` of one part."""
    class_names: tuple[str, ...] = ()
    new_classes: bool = False
    """Whether the test part has classes of its own."""
    offline: str = "digits"
    """A data set that needs no download, for the message."""


def _arrays(part: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """MNIST and its likes keep tensors, CIFAR-10 an array with channels last and a list."""
    pixels = torch.as_tensor(part.data)
    pixels = pixels.movedim(3, 1) if pixels.dim() == 4 else pixels
    return pixels.flatten(1), torch.as_tensor(part.targets)


def _house_numbers(part: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """SVHN keeps arrays with channels first."""
    return torch.as_tensor(part.data).flatten(1), torch.as_tensor(part.labels)


HELD_OUT_DRAWINGS = 2
"""Of 20 drawings of a character of Omniglot, how many are validation images."""


def _characters(part: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Omniglot keeps a folder of drawings for each character, and lists them in any order."""
    drawings: dict[Path, list[Path]] = {}  # by character
    for file in sorted(Path(part.target_folder).glob("*/*/*.png")):
        drawings.setdefault(file.parent, []).append(file)
    first, last = slice(None, -HELD_OUT_DRAWINGS), slice(-HELD_OUT_DRAWINGS, None)
    chosen = [
        (file, label)
        for some in ((first, last) if part.background else (slice(None),))
        for label, files in enumerate(drawings.values())
        for file in files[some]
    ]
    pixels = [_drawing(file) for file, _ in chosen]
    if not pixels:
        raise ValueError(f"{part.target_folder} holds no folders of characters")
    return torch.stack(pixels), torch.tensor([label for _, label in chosen])


def _drawing(file: Path) -> Tensor:
    """A drawing of 105x105 pixels, black on white, as 784 bytes with ink 255."""
    try:
        with Image.open(file) as image:
            paper = torch.from_numpy(np.array(image.convert("L"), dtype=np.float32))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error
    return (255 - area_resize(paper, 28)).round().to(torch.uint8).flatten()


def area_resize(image: Tensor, side: int) -> Tensor:
    """Make an image smaller; every new pixel is the mean over the area that it covers.

    Args:
        image: ``(H, W)``.
        side: new height and width, at most H and W.

    Returns:
        ``(side, side)``; the mean of all pixels stays the same.
    """

    def shares(size: int) -> Tensor:
        scale = size / side
        start, pixel = scale * torch.arange(side)[:, None], torch.arange(size)
        end = torch.minimum(start + scale, pixel + 1)
        return (end - torch.maximum(start, pixel)).clamp_min(0) / scale  # (side, size)

    height, width = image.shape
    return shares(height).to(image) @ image @ shares(width).to(image).T


def _mnist_like(class_name: str) -> Published:
    return Published(
        place=f"{class_name}/raw",
        files="the four files",
        parts=({"train": True}, {"train": False}),
        sizes=(50_000, 10_000, 10_000),
        image_shape=(28, 28),
        examples=_arrays,
    )


PUBLISHED: dict[str, Published] = {
    "MNIST": _mnist_like("MNIST"),
    "FashionMNIST": _mnist_like("FashionMNIST"),
    "CIFAR10": Published(
        place="cifar-10-batches-py",
        files="the six batches and batches.meta",
        parts=({"train": True}, {"train": False}),
        sizes=(45_000, 5_000, 10_000),
        image_shape=(3, 32, 32),
        examples=_arrays,
        class_names=(
            *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"),
            "truck",
        ),
        offline="patches",
    ),
    "SVHN": Published(
        place="",
        files="train_32x32.mat and test_32x32.mat",
        parts=({"split": "train"}, {"split": "test"}),
        sizes=(66_000, 7_257, 26_032),
        image_shape=(3, 32, 32),
        examples=_house_numbers,
        offline="patches",
    ),
    "Omniglot": Published(
        place="omniglot-py",
        files="images_background.zip and images_evaluation.zip, and what they hold,",
        parts=({"background": True}, {"background": False}),
        sizes=(17_352, 1_928, 13_180),
        image_shape=(28, 28),
        examples=_characters,
        new_classes=True,
    ),
}
"""torchvision's data sets, by the name of the class in `torchvision.datasets`."""


def torchvision_set(class_name: str) -> Callable[[Path | None], Raw]:
    """Make a reader for one of torchvision's data sets.

    Args:
        class_name: its class in `torchvision.datasets`, one of `PUBLISHED`.

    Returns:
        A reader that looks in ``root``, or in HVAE_DATA, or in the cache folder, and downloads
        to that place if the files are missing.
    """

    def read(root: Path | None) -> Raw:
        known = PUBLISHED[class_name]
        folder = root or default_folder()
        place = folder / known.place
        source = getattr(torchvision_datasets(), class_name)
        damaged = f"the {class_name} files in {place} are damaged"
        remedy = "delete them to have them downloaded again, or copy them again"
        try:
            parts = [source(str(folder), **part) for part in known.parts]
        except Exception as error:  # any that its parser meets in truncated files
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise
            if "Dataset not found" not in str(error):
                reason = str(error) or type(error).__name__
                raise ValueError(f"{damaged} ({reason}); {remedy}") from error
            # of some sets it does not say whether files are missing or damaged
            intact = "intact " * ("corrupted" in str(error))
            try:
                parts = [source(str(folder), **part, download=True) for part in known.parts]
            except (RuntimeError, OSError) as error:
                below = f"that holds {known.place}" if known.place else "that holds them"
                raise FileNotFoundError(
                    f"no {intact}{class_name} files in {place}, and they could not be downloaded "
                    f"({error}). Put {known.files} there, or set HVAE_DATA or root= to a folder "
                    f"{below}, or use the data set {known.offline!r}, which needs no download"
                ) from error
        try:
            examples = [known.examples(part) for part in parts]
        except ValueError as error:
            raise ValueError(f"{damaged} ({error}); {remedy}") from error
        sizes = [(len(pixels), len(labels)) for pixels, labels in examples]
        pixels = torch.cat([pixels for pixels, _ in examples])
        training, validation, test = known.sizes
        expected = [(training + validation,) * 2, (test,) * 2]
        if sizes != expected or pixels.shape[1] != math.prod(known.image_shape):
            raise ValueError(
                f"{damaged}: images and labels are {sizes[0]} for training and {sizes[1]} for the "
                f"test, and an image has {pixels.shape[1]} pixels; {remedy}"
            )
        (_, labels), (_, others) = examples
        others = others + (labels.max() + 1 if known.new_classes else 0)
        return Raw(
            pixels,
            torch.cat([labels, others]),
            known.image_shape,
            255,
            known.sizes,
            class_names=known.class_names,
        )

    return read
