"""A data set as three splits that live on the device that trains."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from hvae_course.data.values import advice, as_tensor

SPLITS = ("train", "validation", "test")
"""Names of the splits."""


def is_constant(x: Tensor) -> Tensor:
    """Say which columns hold one value only.

    Args:
        x: ``(N, D)``; NaN is left out.

    Returns:
        ``(D,)``, boolean; True also where nothing was observed.
    """
    if not x.isnan().any():
        return x.amax(dim=0) == x.amin(dim=0)
    return x.nan_to_num(nan=-math.inf).amax(dim=0) <= x.nan_to_num(nan=math.inf).amin(dim=0)


def find_column(column: Any, names: Sequence[str], size: int) -> int | None:  # noqa: ANN401
    """Find a column of a table by its number or its name.

    Args:
        column: a number from 0 on, or a name.
        names: names of the columns; empty if they have none.
        size: D, the number of columns.

    Returns:
        Its number; None if there is no such column.

    Raises:
        ValueError: if a number is also the name of another column.
    """
    place = names.index(str(column)) if str(column) in names else None
    if isinstance(column, str) or not isinstance(column, Integral):
        return place
    if isinstance(column, bool) or column not in range(size) and place is None:
        return None
    if place not in (None, column):
        raise ValueError(
            f"column {column} may be the column of that number or column {place}, whose name is "
            f"'{column}'; give names as strings, or rename the columns"
        )
    return int(column)


@dataclass(frozen=True)
class Standardisation:
    """How real values were shifted and scaled, so that samples can be given in their old units."""

    mean: tuple[float, ...]
    """Subtracted from every feature; a single number is that of all."""
    std: tuple[float, ...]
    """Divided by afterwards."""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if len(self.mean) != len(self.std) or not all(std > 0 for std in self.std):
            raise ValueError(
                "a standardisation needs as many positive scales as means, got "
                f"{len(self.mean)} means and the scales {self.std}"
            )

    @classmethod
    def of(cls, x: Tensor) -> "Standardisation":
        """Take mean and standard deviation of every column; NaN is left out.

        Args:
            x: ``(N, D)``; a constant column keeps its scale.

        Returns:
            The standardisation that gives the columns mean 0 and standard deviation 1.
        """
        x = x.double()
        mean = x.nanmean(dim=0).nan_to_num()
        std = (x - mean).square().nanmean(dim=0).sqrt().nan_to_num()
        # the mean of equal numbers is rounded, and the rounding error is not a scale
        std = torch.where(is_constant(x) | (std == 0), 1.0, std)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def apply(self, x: Tensor) -> Tensor:
        """Standardise.

        Args:
            x: ``(..., D)``, old units, as a tensor, array or pandas frame.

        Returns:
            The same shape, standardised; of the floating-point type of x, float32 for whole
            numbers.
        """
        x, mean, std, kind = self._exact(x)
        return ((x - mean) / std).to(kind)

    def undo(self, x: Tensor) -> Tensor:
        """Give standardised values, such as samples of a model, in their old units.

        Args:
            x: ``(..., D)``, standardised, as a tensor, array or pandas frame.

        Returns:
            The same shape, old units; of the floating-point type of x. float32 has seven digits,
            so give ``x.double()`` where the mean is far larger than the standard deviation.
        """
        x, mean, std, kind = self._exact(x)
        return (x * std + mean).to(kind)

    def _exact(self, x: Any) -> tuple[Tensor, Tensor, Tensor, torch.dtype]:  # noqa: ANN401
        """x, mean and standard deviation in double precision, and the type of the result."""
        x = x if isinstance(x, Tensor) else as_tensor(x)
        kind = x.dtype if x.is_floating_point() else torch.float32
        x = x.to(torch.float32 if x.device.type == "mps" else torch.float64)  # mps has no float64
        return x, x.new_tensor(self.mean), x.new_tensor(self.std), kind


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data."""

    shape: int | tuple[int, ...]
    """Shape of an example, ``(28, 28)`` or ``(3, 32, 32)`` for images; a number D for vectors.
    Models take examples as rows ``(B, D)``, and a convolutional network restores the shape."""
    num_values: int | None
    """V, the number of values a pixel can take; 2 after binarisation, None for real values and
    counts."""
    counts: bool = False
    """Whether the values are whole numbers from 0 on, without a largest."""
    missing: bool = False
    """Whether NaN stands for a value that was not observed."""
    num_classes: int | None = None
    """C, the labels being 0 to C - 1; None if they are unknown."""
    feature_names: tuple[str, ...] = ()
    """Names of the D columns of a table."""
    standardisation: Standardisation | None = None
    """What was done to real values before they came here."""

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, Integral) else self.shape
        object.__setattr__(self, "shape", tuple(map(int, shape)))
        object.__setattr__(self, "feature_names", tuple(map(str, self.feature_names)))
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"an example needs positive sizes, got the shape {self.shape}")
        for name in ("num_values", "num_classes"):
            number = getattr(self, name)
            if number is None:
                continue
            if not isinstance(number, Integral) or number < 1:
                raise ValueError(f"{name} is a whole number of at least 1 or None, got {number!r}")
            object.__setattr__(self, name, int(number))
        if self.counts and self.num_values is not None:
            raise ValueError(
                f"counts have no largest value, got num_values={self.num_values}; give None"
            )
        names, size = self.feature_names, self.num_features
        if names and (len(names) != size or len(set(names)) != size):
            raise ValueError(
                f"{size} features need as many different names, got {len(names)}: {names}"
            )
        if self.standardisation and len(self.standardisation.mean) not in (1, size):
            raise ValueError(
                f"the standardisation is of {len(self.standardisation.mean)} features, the data "
                f"have {size}"
            )

    @property
    def num_features(self) -> int:
        """D, the number of pixels or coordinates."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: examples as they are kept, and how to make a batch of them.

    NumPy arrays become tensors, images become rows, and real values float32, or stay float64.
    """

    pixels: Tensor
    """``(N, D)``, bytes 0 to ``max_value``, or real values."""
    labels: Tensor | None
    """``(N,)``, int64; None without labels."""
    max_value: int | None
    """The byte that stands for white; None for real values and counts."""
    redraw: bool = False
    """Whether every batch draws its binary pixels again."""
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    """What generated data were made from, by name, each ``(N,)``; empty where unknown."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _rows(self.pixels, self.max_value))
        if self.labels is not None:
            object.__setattr__(self, "labels", read_labels(self.labels, len(self.pixels)))

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, index: Tensor | slice) -> Tensor:
        """Turn examples into model input, on their device.

        Args:
            index: which examples.

        Returns:
            ``(B, D)``; float32 in [0, 1] for images kept as bytes, else as the values are kept.
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
            labels=None if self.labels is None else change(self.labels),
            factors={name: change(values) for name, values in self.factors.items()},
        )


def _rows(pixels: Tensor, max_value: int | None) -> Tensor:
    """Examples as rows, in the type that a split keeps."""
    pixels = as_tensor(pixels, "the examples")
    if pixels.dim() < 2:
        raise ValueError(
            f"a split needs examples (N, D), got the shape {tuple(pixels.shape)}; give features "
            "of one dimension as x[:, None]"
        )
    if pixels.dim() > 2:
        pixels = pixels.flatten(1)
    if max_value is None:
        if pixels.dtype in (torch.uint8, torch.bool):
            raise ValueError(
                f"pixels of type {pixels.dtype} need max_value, the value that stands for white "
                "(255 for images, 1 for binary data); convert real values and counts with .float()"
            )
        return pixels if pixels.dtype == torch.float64 else pixels.float()
    if not 1 <= max_value <= 255:
        raise ValueError(f"max_value must be between 1 and 255, got {max_value}")
    if pixels.dtype == torch.uint8:
        return pixels
    stored = pixels.to(torch.uint8)
    if not torch.equal(stored.to(pixels.dtype), pixels):
        raise ValueError(
            f"with max_value={max_value}, pixels are whole numbers from 0 to {max_value}, got "
            f"{pixels.dtype} values between {pixels.min():g} and {pixels.max():g}; give bytes, or "
            "max_value=None for real values"
        )
    return stored


def read_labels(labels: Any, count: int) -> Tensor:  # noqa: ANN401
    """Read the labels of some examples.

    Args:
        labels: anything that holds ``count`` whole numbers.
        count: N.

    Returns:
        ``(N,)``, int64.

    Raises:
        TypeError: if they are not numbers.
        ValueError: if they are not N whole numbers.
    """
    labels = as_tensor(labels, "the labels")
    whole = labels.long()
    if labels.shape != (count,):
        one_hot = labels.dim() == 2 and len(labels) == count and labels.shape[1] > 1
        rest = "or give None without labels"
        if one_hot:
            rest = "labels.argmax(1) makes numbers of one-hot rows"
        raise ValueError(
            f"{count} examples need labels of the shape ({count},), got {tuple(labels.shape)}; "
            f"{rest}"
        )
    if whole is not labels and not torch.equal(whole.to(labels.dtype), labels):
        raise ValueError(
            f"labels are whole numbers 0, 1, 2, ... of classes, got {labels.dtype} values such as "
            f"{labels[whole.to(labels.dtype) != labels][0].item():g}; leave them out, or number "
            "the classes"
        )
    return whole


def shorten(names: Iterable[object]) -> str:
    """List names for a sentence, no more than five of them.

    Args:
        names: any number.

    Returns:
        The names, and how many there are besides.
    """
    words = list(map(str, names))
    return ", ".join(words[:5]) + f" and {len(words) - 5} more" * (len(words) > 5)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training, validation and test split with what a result must state about them.

    `from_arrays` makes one from arrays and checks them.
    """

    name: str
    image_shape: tuple[int, ...]
    """Shape of an example, ``(H, W)``, ``(C, H, W)``, or ``(D,)`` for the rows of a table."""
    num_values: int | None
    binarisation: str
    train: Split
    validation: Split
    test: Split
    counts: bool = field(default=False, kw_only=True)
    missing: bool = field(default=False, kw_only=True)
    num_classes: int | None = field(default=None, kw_only=True)
    feature_names: tuple[str, ...] = field(default=(), kw_only=True)
    standardisation: Standardisation | None = field(default=None, kw_only=True)
    order: str = field(default="in file order", kw_only=True)
    """How the examples were distributed over the splits, for the description."""
    about: str = field(default="", kw_only=True)
    """What an example is, for the description."""
    class_names: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of the labels, where they are known."""

    def __post_init__(self) -> None:
        size = self.spec.num_features
        for name in SPLITS:
            part = self.split(name)
            if part.pixels.shape[1] != size:
                raise ValueError(
                    f"examples of shape {self.image_shape} have {size} values, the {name} split "
                    f"has {part.pixels.shape[1]} per example"
                )
            values = None if part.max_value is None else 2 if part.redraw else part.max_value + 1
            if values not in (None, self.num_values):
                raise ValueError(
                    f"the {name} split holds pixels of {values} values, from "
                    f"max_value={part.max_value}, and the data set says "
                    f"num_values={self.num_values}; give num_values={values}"
                )

    @property
    def spec(self) -> DataSpec:
        """What a model must know of the data."""
        names = (entry.name for entry in fields(DataSpec) if entry.name != "shape")
        return DataSpec(self.image_shape, **{name: getattr(self, name) for name in names})

    def fingerprint(self) -> str:
        """Identify the data by their content, wherever they are kept.

        Returns:
            A hash of all splits, of the specification and of the binarisation, in hexadecimal
            digits. The name is no part of it.
        """
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.spec, self.binarisation)).encode())
        for name in SPLITS:
            part = self.split(name)
            digest.update(repr((len(part), part.max_value, part.redraw)).encode())
            for values in (part.pixels, part.labels):
                if values is not None:
                    digest.update(repr((values.dtype, values.shape)).encode())
                    digest.update(values.cpu().contiguous().numpy())
        return digest.hexdigest()

    def split(self, name: str) -> Split:
        """Look up a split by name.

        Args:
            name: ``"train"``, ``"validation"`` or ``"test"``.

        Returns:
            The split.

        Raises:
            ValueError: if the name is none of these.
        """
        if name not in SPLITS:
            raise ValueError(f"unknown split {name!r}; choose 'train', 'validation' or 'test'")
        return getattr(self, name)

    def to(self, device: torch.device | str) -> "DataSet":
        """Move all splits.

        Args:
            device: where to.

        Returns:
            The data set on that device.
        """
        splits = {name: self.split(name).to(device) for name in SPLITS}
        return replace(self, **splits)

    def __str__(self) -> str:
        sizes = f"{len(self.train)}/{len(self.validation)}/{len(self.test)}"
        values = "counts" if self.counts else "real-valued"
        values = f"binarisation {self.binarisation}" if self.num_values else values
        words = [self.name, self.about, values, "standardised" * bool(self.standardisation)]
        words += ["with missing values" * self.missing, f"split {sizes} {self.order}"]
        if self.about and self.num_classes:
            names = shorten(self.class_names)
            words.append(f"{self.num_classes} classes" + f" ({names})" * bool(names))
        return ", ".join(filter(None, words))


def as_data_set(data: Any) -> DataSet:  # noqa: ANN401
    """Require a data set where one belongs.

    Args:
        data: what was given.

    Returns:
        The data set.

    Raises:
        TypeError: if it is anything else; the message names the function that makes a data set
            of it.
    """
    if not isinstance(data, DataSet):
        raise TypeError(f"expected a DataSet as the data, got {type(data).__name__}{advice(data)}")
    return data
