"""Which data, and what is known about them before they are read."""

from dataclasses import dataclass
from typing import Literal

from hvae_course.config.options import Options

DataName = Literal[
    "digits",
    "mnist",
    "fashion_mnist",
    "pendulum",
    "nested_shapes",
    "patches",
    "cifar10",
    "svhn",
    "omniglot",
]
Binarisation = Literal["dynamic", "static", "threshold", "none"]


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known about a data set before it is read."""

    about: str
    """One line."""
    binarisation: Binarisation = "none"
    """The usual one."""
    real: bool = False
    """Whether its values are real numbers."""
    folder: bool = False
    """Whether it is read from the folder ``data_root``."""


DATA_SETS: dict[str, DataInfo] = {
    "digits": DataInfo(about="8x8 handwritten digits, 17 grey values, from scikit-learn"),
    "mnist": DataInfo(
        about="28x28 handwritten digits, binarised dynamically, through torchvision",
        binarisation="dynamic",
        folder=True,
    ),
    "fashion_mnist": DataInfo(
        about="28x28 pieces of clothing, binarised dynamically, through torchvision",
        binarisation="dynamic",
        folder=True,
    ),
    "pendulum": DataInfo(about="16x16 images of a pendulum, real values, generated", real=True),
    "nested_shapes": DataInfo(
        about="16x16 shapes with factors on three levels, 16 grey values, generated"
    ),
    "patches": DataInfo(
        about="16x16 colour patches of two photographs, 256 values, from scikit-learn"
    ),
    "cifar10": DataInfo(
        about="32x32 colour images of ten classes, 256 values, through torchvision", folder=True
    ),
    "svhn": DataInfo(
        about="32x32 colour images of house numbers, 256 values, through torchvision", folder=True
    ),
    "omniglot": DataInfo(
        about="28x28 handwritten characters, binarised dynamically, through torchvision",
        binarisation="dynamic",
        folder=True,
    ),
}
"""The known data sets.

:meta hide-value:
"""
FILE_ENDING = ".npz"
"""How the name of a file with data of your own ends."""


def data_info(name: str) -> DataInfo:
    """Say what is known about a data set before it is read.

    Args:
        name: a key of `DATA_SETS`, or a file that ends in ``.npz``, whether or not it exists.

    Returns:
        What is known; of a file, that its pixels are binarised only if you say so.

    Raises:
        ValueError: if the name is neither.
    """
    if name.endswith(FILE_ENDING):
        return DataInfo(about=f"your own data, from {name}")
    if name not in DATA_SETS:
        raise ValueError(
            f"unknown data {name!r}; choose one of {', '.join(DATA_SETS)}, or give a file that "
            f"ends in {FILE_ENDING}"
        )
    return DATA_SETS[name]


@dataclass(frozen=True, kw_only=True)
class Data(Options):
    """Which data, and how their pixels become binary."""

    data: DataName | str = "digits"
    """Data set, or a file .npz with data of your own."""
    binarisation: Binarisation | None = None
    """How grey pixels become binary; None for dynamic with mnist, fashion_mnist and omniglot, none
    with the others."""
    data_root: str | None = None
    """Folder of mnist, fashion_mnist, cifar10, svhn and omniglot; None for HVAE_DATA, or a cache
    folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        info = data_info(self.data)
        self._choose_usual(binarisation=info.binarisation)
        if self.data_root is not None and not info.folder:
            raise ValueError(
                f"{self.data} is not read from the folder data_root={self.data_root!r}; leave it "
                "out"
            )
        if info.real and self.binarisation != "none":
            raise ValueError(
                f"{self.data} holds real values, which binarisation={self.binarisation!r} cannot "
                "make binary; leave it out"
            )
