"""Where images come from: scikit-learn's digits and torchvision's data sets."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch
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
    """What generated data were made from."""


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
            "MNIST and Fashion-MNIST are read with torchvision: pip install torchvision; "
            "the data set 'digits' needs neither it nor a download"
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


def torchvision_set(class_name: str) -> Callable[[Path | None], Raw]:
    """Make a reader for one of torchvision's MNIST-like sets.

    Args:
        class_name: its class in `torchvision.datasets`.

    Returns:
        A reader that looks in ``root``, or in HVAE_DATA, or in the cache folder, and downloads
        to that place if the files are missing.
    """

    def read(root: Path | None) -> Raw:
        folder = root or default_folder()
        raw = folder / class_name / "raw"
        source = getattr(torchvision_datasets(), class_name)
        damaged = f"the {class_name} files in {raw} are damaged"
        remedy = "delete them to have them downloaded again, or copy them again"
        try:
            parts = [source(str(folder), train=train) for train in (True, False)]
        except OSError:
            raise
        except Exception as error:  # any that its parser meets in truncated files
            if "Dataset not found" not in str(error):
                reason = str(error) or type(error).__name__
                raise ValueError(f"{damaged} ({reason}); {remedy}") from error
            try:
                parts = [
                    source(str(folder), train=train, download=True) for train in (True, False)
                ]
            except (RuntimeError, OSError) as error:
                raise FileNotFoundError(
                    f"no {class_name} files in {raw}, and they could not be downloaded ({error}). "
                    "Put the four files there, or set HVAE_DATA or root= to a folder that holds "
                    f"{class_name}/raw, or use the data set 'digits', which needs no download"
                ) from error
        pixels = torch.cat([part.data.flatten(1) for part in parts])
        labels = torch.cat([part.targets for part in parts])
        sizes = [(len(part.data), len(part.targets)) for part in parts]
        if sizes != [(60_000, 60_000), (10_000, 10_000)] or pixels.shape[1] != 784:
            raise ValueError(
                f"{damaged}: images and labels are {sizes[0]} for training and {sizes[1]} for the "
                f"test, and an image has {pixels.shape[1]} pixels; {remedy}"
            )
        return Raw(pixels, labels, (28, 28), 255, (50_000, 10_000, 10_000))

    return read
