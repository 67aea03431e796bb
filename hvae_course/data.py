r"""Data sets that live on the device as bytes.

A data set is three splits of grey images, kept as ``uint8`` on the device that trains. Shuffling
is an index, and turning bytes into a batch (scaling, or drawing binary pixels) happens where the
bytes are, so a training step waits for nothing.

Binarisation changes the data that a bound is about, and two numbers can be compared only if it is
the same. It is one of:

- ``"dynamic"``: each training batch draws every pixel anew with its grey value as probability;
  validation and test set are drawn once with a fixed seed, so that every evaluation scores the
  same images;
- ``"static"``: all splits are drawn once with a fixed seed;
- ``"threshold"``: a pixel is 1 where its grey value is at least one half;
- ``"none"``: the grey values themselves.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

BINARISATIONS = ("dynamic", "static", "threshold", "none")
"""Ways to make binary pixels of grey ones."""
BINARISATION_SEED = 20_161_128
"""Seed of the one draw that static sets, and dynamic validation and test sets, are made of."""


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data."""

    num_features: int
    """D, the number of pixels."""
    num_values: int
    """K, the number of values a pixel can take; 2 after binarisation."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: images as bytes, and how to make a batch of them."""

    pixels: Tensor
    """``(N, D)``, uint8, values 0 to ``max_value``."""
    labels: Tensor
    """``(N,)``, int64."""
    max_value: int
    """The byte that stands for white."""
    redraw: bool = False
    """Whether every batch draws its binary pixels anew."""

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, index: Tensor | slice) -> Tensor:
        """Turn images into model input, on their device.

        Args:
            index: which images.

        Returns:
            ``(B, D)``, float32 in [0, 1].
        """
        x = self.pixels[index].float() / self.max_value
        return (torch.rand_like(x) < x).float() if self.redraw else x

    def to(self, device: torch.device | str) -> "Split":
        """Move the bytes.

        Args:
            device: where to.

        Returns:
            The split on that device.
        """
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training, validation and test split with what a result must state about them."""

    name: str
    image_shape: tuple[int, int]
    num_values: int
    binarisation: str
    train: Split
    validation: Split
    test: Split

    @property
    def spec(self) -> DataSpec:
        """What a model must know of the data."""
        return DataSpec(self.train.pixels.shape[1], self.num_values)

    def split(self, name: str) -> Split:
        """Look up a split by name.

        Args:
            name: ``"train"``, ``"validation"`` or ``"test"``.

        Returns:
            The split.

        Raises:
            ValueError: if the name is none of these.
        """
        if name not in ("train", "validation", "test"):
            raise ValueError(f"unknown split {name!r}; choose 'train', 'validation' or 'test'")
        return getattr(self, name)

    def to(self, device: torch.device | str) -> "DataSet":
        """Move all bytes.

        Args:
            device: where to.

        Returns:
            The data set on that device.
        """
        splits = {name: self.split(name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **splits)

    def __str__(self) -> str:
        sizes = f"{len(self.train)}/{len(self.validation)}/{len(self.test)}"
        return f"{self.name}, binarisation {self.binarisation}, split {sizes} in file order"


@dataclass(frozen=True, eq=False)
class _Raw:
    """A data set as its source gives it, in file order."""

    pixels: Tensor
    labels: Tensor
    image_shape: tuple[int, int]
    max_value: int
    sizes: tuple[int, int, int]


def _digits(root: Path | None) -> _Raw:
    """Read scikit-learn's 8x8 digits, 17 grey values; comes with scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels, labels = torch.from_numpy(bunch.data).to(torch.uint8), torch.from_numpy(bunch.target)
    return _Raw(pixels, labels.long(), (8, 8), 16, (1000, 350, 447))


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


def _torchvision_datasets() -> ModuleType:
    """Import torchvision's data sets, whether or not its compiled operators match this torch."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(
            "MNIST and Fashion-MNIST are read with torchvision: pip install torchvision; "
            "the data set 'digits' needs neither it nor a download"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_missing_operators()
        from torchvision import datasets
    return datasets


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "hvae_course"


def _torchvision_set(class_name: str) -> Callable[[Path | None], _Raw]:
    """Make a reader for one of torchvision's MNIST-like sets.

    Args:
        class_name: its class in `torchvision.datasets`.

    Returns:
        A reader that looks in ``root``, or in HVAE_DATA, or in the cache folder, and downloads
        to that place if the files are missing.
    """

    def read(root: Path | None) -> _Raw:
        folder = root or Path(os.environ.get("HVAE_DATA") or _cache_folder())
        source = getattr(_torchvision_datasets(), class_name)
        try:
            try:
                parts = [source(str(folder), train=train) for train in (True, False)]
            except RuntimeError:  # not there yet
                parts = [
                    source(str(folder), train=train, download=True) for train in (True, False)
                ]
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(
                f"no {class_name} files in {folder / class_name / 'raw'}, and they could not be "
                f"downloaded ({error}). Put the four files there, or set HVAE_DATA or root= to a "
                f"folder that holds {class_name}/raw, or use the data set 'digits', which needs "
                "no download"
            ) from error
        pixels = torch.cat([part.data.flatten(1) for part in parts])
        labels = torch.cat([part.targets for part in parts])
        return _Raw(pixels, labels, (28, 28), 255, (50_000, 10_000, 10_000))

    return read


_READERS: dict[str, tuple[Callable[[Path | None], _Raw], str]] = {
    "digits": (_digits, "none"),
    "mnist": (_torchvision_set("MNIST"), "dynamic"),
    "fashion_mnist": (_torchvision_set("FashionMNIST"), "dynamic"),
}
NAMES = tuple(_READERS)
"""The known data sets."""


def _binarise(pixels: Tensor, max_value: int, *, threshold: bool, seed: int) -> Tensor:
    """Turn grey bytes into bytes 0 and 1, by threshold or by one draw with a fixed seed."""
    probability = pixels.float() / max_value
    if threshold:
        return (probability >= 0.5).to(torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(pixels.shape, generator=generator) < probability).to(torch.uint8)


def load(
    name: str = "digits", *, binarisation: str | None = None, root: str | Path | None = None
) -> DataSet:
    """Load a data set by name.

    Args:
        name: ``"digits"`` (8x8, 17 grey values, comes with scikit-learn), ``"mnist"`` or
            ``"fashion_mnist"`` (28x28, through torchvision).
        binarisation: one of `hvae_course.data.BINARISATIONS`; by default grey values for digits
            and dynamic binarisation for the others, as in most published results.
        root: folder of the torchvision sets; by default the environment variable ``HVAE_DATA``,
            or a cache folder.

    Returns:
        The data set, on the CPU. Splits are in file order, 1000/350/447 for digits, and
        50,000/10,000/10,000 for the others.

    Raises:
        ValueError: if the name or the binarisation is unknown.

    Example:
        >>> print(load("digits"))
        digits, binarisation none, split 1000/350/447 in file order
    """
    if name not in _READERS:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")
    read, usual = _READERS[name]
    binarisation = usual if binarisation is None else binarisation
    if binarisation not in BINARISATIONS:
        raise ValueError(
            f"unknown binarisation {binarisation!r}; choose one of {', '.join(BINARISATIONS)}"
        )
    raw = read(Path(root) if root is not None else None)
    binary, splits, start = binarisation != "none", [], 0
    for number, size in enumerate(raw.sizes):
        pixels, max_value = raw.pixels[start : start + size], raw.max_value
        redraw = binarisation == "dynamic" and number == 0
        if binary and not redraw:
            threshold = binarisation == "threshold"
            seed = BINARISATION_SEED + number
            pixels, max_value = _binarise(pixels, max_value, threshold=threshold, seed=seed), 1
        splits.append(Split(pixels, raw.labels[start : start + size], max_value, redraw))
        start += size
    return DataSet(
        name, raw.image_shape, 2 if binary else raw.max_value + 1, binarisation, *splits
    )
