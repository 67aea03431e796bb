"""A data set as three splits that live on the device that trains."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data."""

    shape: int | tuple[int, ...]
    """Shape of an example, such as ``(28, 28)``; a number D for vectors. Models take examples as
    rows ``(B, D)``, and a convolutional network restores the shape."""
    num_values: int | None
    """V, the number of values a pixel can take; 2 after binarisation, None for real values."""

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else tuple(self.shape)
        object.__setattr__(self, "shape", shape)
        if not shape or min(shape) < 1:
            raise ValueError(f"an example needs positive sizes, got the shape {shape}")

    @property
    def num_features(self) -> int:
        """D, the number of pixels or coordinates."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: examples as they are kept, and how to make a batch of them."""

    pixels: Tensor
    """``(N, D)``, bytes 0 to ``max_value``, or real values in float32."""
    labels: Tensor
    """``(N,)``, int64."""
    max_value: int | None
    """The byte that stands for white; None for real values."""
    redraw: bool = False
    """Whether every batch draws its binary pixels again."""
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    """What generated data were made from, by name, each ``(N,)``; empty where unknown."""

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, index: Tensor | slice) -> Tensor:
        """Turn examples into model input, on their device.

        Args:
            index: which examples.

        Returns:
            ``(B, D)``, float32, in [0, 1] for images kept as bytes.
        """
        if self.max_value is None:
            return self.pixels[index]
        chosen = isinstance(index, Tensor) and index.dtype == torch.int64
        rows = self.pixels.index_select(0, index) if chosen else self.pixels[index]
        x = rows.float().div_(self.max_value)
        return torch.rand_like(x).lt_(x) if self.redraw else x  # 1 where the draw is below

    def select(self, index: Tensor | slice) -> "Split":
        """Keep some of the examples, with their labels and factors.

        Args:
            index: which examples.

        Returns:
            A smaller split.
        """
        return self._each(lambda values: values[index])

    def to(self, device: torch.device | str) -> "Split":
        """Move the data.

        Args:
            device: where to.

        Returns:
            The split on that device.
        """
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Split":
        return replace(
            self,
            pixels=change(self.pixels),
            labels=change(self.labels),
            factors={name: change(values) for name, values in self.factors.items()},
        )


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training, validation and test split with what a result must state about them."""

    name: str
    image_shape: tuple[int, int]
    num_values: int | None
    binarisation: str
    train: Split
    validation: Split
    test: Split

    @property
    def spec(self) -> DataSpec:
        """What a model must know of the data."""
        return DataSpec(self.image_shape, self.num_values)

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
        """Move all splits.

        Args:
            device: where to.

        Returns:
            The data set on that device.
        """
        splits = {name: self.split(name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **splits)

    def __str__(self) -> str:
        sizes = f"{len(self.train)}/{len(self.validation)}/{len(self.test)}"
        values = f"binarisation {self.binarisation}" if self.num_values else "real-valued"
        return f"{self.name}, {values}, split {sizes} in file order"
