"""A data set from arrays of one's own."""

import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from hvae_course.config import Binarisation
from hvae_course.data.binarisation import binarise
from hvae_course.data.splits import (
    SPLITS,
    DataSet,
    Split,
    Standardisation,
    find_column,
    is_constant,
    read_labels,
    shorten,
)
from hvae_course.data.values import as_tensor, is_frame

Kind = Literal["images", "binary", "real", "counts"]
CHANNELS = (1, 2, 3, 4)
"""Sizes that an axis of channels may have where nothing is said about it."""
LARGEST_COUNT = 2**24
"""Whole numbers up to here are exact in float32."""
LARGEST_REAL = 1e15
"""Real numbers up to here have squares in float32, also divided by a small variance."""
USUAL_SCALE = (0.1, 10.0)
"""Standard deviations of real values that need no warning, and the largest such mean."""
DARK = 127
"""A largest byte below which images seem to have fewer than 256 grey values."""


class DataWarning(UserWarning):
    """Data are accepted that are likely not what was meant."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Examples as they were given, before their kind is known."""

    x: Tensor
    labels: Tensor | None
    names: tuple[str, ...] = ()
    rows: Tensor | None = None


def from_arrays(
    x: Any,  # noqa: ANN401
    labels: Any = None,  # noqa: ANN401
    *,
    validation: Any = 0.1,  # noqa: ANN401
    test: Any = 0.1,  # noqa: ANN401
    name: str = "data",
    kind: Kind | None = None,
    num_values: int | None = None,
    shape: Sequence[int] | None = None,
    channels_last: bool | None = None,
    binarisation: Binarisation = "none",
    standardise: bool | Sequence[int | str] | Standardisation | None = None,
    missing: bool = False,
    feature_names: Sequence[str] | None = None,
    seed: int = 0,
) -> DataSet:
    """Make a data set from arrays, tensors, lists or a pandas frame.

    Args:
        x: the training examples: images ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, H, W, C)``, or
            a table ``(N, D)``. The data set has its own copy.
        labels: ``(N,)``, numbers 0 to C - 1 of the classes; None without labels.
        validation: the validation split: an array like ``x``, or a pair ``(x, labels)``; or how
            much of ``x`` to cut off for it, a share such as 0.1 or a number of examples.
        test: the same for the test split. What is cut off is drawn at random with ``seed``, not
            stratified by label; ``train.factors["row"]`` holds the row of ``x`` of each example.
            Examples that belong together (frames of one film, images of one patient) must not be
            torn apart: give those splits as arrays.
        name: for the description and for plots.
        kind: what the values are:

            - ``"images"``: grey or colour values, whole numbers 0 to V - 1, or multiples of
              1 / (V - 1) in [0, 1], where V is ``num_values``;
            - ``"binary"``: 0 and 1;
            - ``"counts"``: whole numbers from 0 on, up to 2**24;
            - ``"real"``: real numbers, also tables of mixed columns for the likelihood
              ``"mixed"``, whose ``likelihood_options`` name the kind of every column.

            None takes bytes for images of 256 values, booleans for binary values, multiples of
            1/255 in the shape of images for images, and other fractions for real values.
            Whole numbers of any other type might be several of these and are refused.
        num_values: V, for images; None for 256.
        shape: shape of an example, where ``x`` holds images as rows.
        channels_last: whether the last of four axes are the channels, True, or the second, False;
            None takes the one of them that is at most 4.
        binarisation: how grey pixels become binary, see `hvae_course.data`.
        standardise: of real values; True for all, or the columns of a table, by number or name or
            as a mask of D booleans.
            Mean and standard deviation are those of the training split, one for each column and
            a single one for all pixels of images. They stay with the data set and with models of
            it: ``data.standardisation.undo(samples)`` gives the old units, and
            ``standardise=data.standardisation`` treats new data the same way. None standardises
            nothing and warns of a column whose standard deviation is not between 0.1 and 10 or
            whose mean is beyond 10 (for images: of all pixels). A list of columns warns of such
            columns that it leaves out, unless they hold small whole numbers; False does not warn.
        missing: whether NaN, masked or absent values stand for what was not observed.
        feature_names: names of the columns of a table; by default those of a pandas frame.
        seed: seed of the cut.

    Returns:
        The data set, on the CPU. ``print`` it to see what was taken.

    Raises:
        TypeError: if something is not numbers, or is kept in a form that must be converted first.
        ValueError: if the examples do not fit together or are not of their kind.

    Warns:
        DataWarning: if real values have unusual scales or a column is constant, if images use few
            of the grey values that they may have, if the training split lacks a label, or if
            ``missing`` is True and no value is missing.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).poisson(3.0, (50, 4))
        >>> print(from_arrays(x, kind="counts", name="visits"))
        visits, rows of 4 features, counts, split 40/5/5 cut off with seed 0
    """
    _check_words(name, missing=missing, channels_last=channels_last)
    if isinstance(standardise, np.bool_):
        standardise = bool(standardise)
    parts = {"train": _read(x, labels, "x")}
    numbers: dict[str, float] = {}
    for split, value in (("validation", validation), ("test", test)):
        if value is None or isinstance(value, Real):
            numbers[split] = _check_amount(value, split)
        else:
            parts[split] = _read(*(value if _is_pair(value) else (value, None)), split)
    order = "as given"
    if numbers:
        parts |= _cut(parts["train"], numbers, seed)
        only = f" ({next(iter(numbers))} only)" if len(numbers) == 1 else ""
        order = f"cut off with seed {seed}{only}"
    if isinstance(feature_names, str):
        raise TypeError(f"feature_names is a list of names, got the word {feature_names!r}")
    names = tuple(map(str, feature_names or ())) or _common_names(parts)
    shape, flat = _flatten(parts, shape, channels_last)
    kind = _guess(flat["train"], kind, picture=len(shape) > 1)
    _check_missing(flat, missing, names)
    _check_options(kind, num_values, binarisation, standardise, missing)
    scale = None
    if kind == "real":
        scale = _standardisation(flat["train"], standardise, shape, names)
        chosen = isinstance(standardise, bool | Standardisation)
        _warn_of_columns(flat["train"], shape, names, scale, scales=not chosen)
        pixels = _real(flat, scale)
    elif kind == "counts":
        pixels = _counts(flat)
    else:
        guessed = num_values is None
        num_values = 2 if kind == "binary" else int(num_values or 256)
        pixels = _grey(flat, num_values, missing=missing)
        if num_values > 2 and not missing:
            _warn_of_few_values(pixels["train"], num_values, binarisation, guessed=guessed)
    num_classes = _classes(parts)
    white = None if num_values is None or missing else num_values - 1
    splits = []
    for number, split in enumerate(SPLITS):
        rows = parts[split].rows
        factors = {} if rows is None else {"row": rows}
        one = Split(pixels[split], parts[split].labels, white, factors=factors)
        splits.append(binarise(one, binarisation, number=number))
    if len(shape) > 1:
        what = "x".join(map(str, shape)) + " images"
    else:
        what = f"rows of {shape[0]} feature" + "s" * (shape[0] > 1)
    return DataSet(
        name,
        shape,
        num_values if binarisation == "none" else 2,
        binarisation,
        *splits,
        counts=kind == "counts",
        missing=bool(missing),
        num_classes=num_classes,
        feature_names=names,
        standardisation=scale,
        order=order,
        about=what if num_values is None else f"{what}, {num_values} values",
    )


def _is_pair(value: Any) -> bool:  # noqa: ANN401
    """Whether this is examples and labels, rather than examples."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return isinstance(value, tuple) or np.ndim(value[0]) > np.ndim(value[1]) == 1


def _check_words(name: str, **truths: bool | None) -> None:
    """Refuse options of the wrong type."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a word, got {name!r}")
    for option, value in truths.items():
        if value is not None and not isinstance(value, bool | np.bool_):
            raise TypeError(f"{option} must be True or False, got {value!r}")


def _read(x: Any, labels: Any, what: str) -> _Part:  # noqa: ANN401
    """Values and labels of one split, checked against each other."""
    names = tuple(map(str, x.columns)) if is_frame(x) else ()
    if hasattr(x, "to_frame"):  # a pandas series is one column
        names = () if x.name is None else (str(x.name),)
        values = as_tensor(x, what)[:, None]
    else:
        values = as_tensor(x, what)
    if values.dim() < 2:
        hint = f"give {what}[:, None] for one feature" if values.dim() else "give an array"
        raise ValueError(
            f"{what} needs examples along its first axis and features along others, got the "
            f"shape {tuple(values.shape)}; {hint}, {what}[None] for one example"
        )
    if 0 in values.shape:
        raise ValueError(f"{what} is empty, its shape is {tuple(values.shape)}")
    if isinstance(labels, str):
        raise TypeError(
            f"labels are numbers, one for each example, got the word {labels!r}; give the column "
            "itself, such as frame.pop('label')"
        )
    if values.is_meta:
        raise TypeError(f"{what} is a tensor without data, on the device meta; give its data")
    values = values.cpu()
    if labels is not None:
        labels = read_labels(labels, len(values)).cpu().clone()
    return _Part(values, labels, names)


def _check_amount(value: Real | None, split: str) -> int | float:
    """How much to cut off, a share or a number of examples."""
    whole = isinstance(value, Integral)
    if value is None or isinstance(value, bool) or not (value >= 1 if whole else 0 < value < 1):
        raise ValueError(
            f"{split} is data, a share between 0 and 1, or a number of examples from 1 on, got "
            f"{value!r}; every data set needs a {split} split"
        )
    return int(value) if whole else float(value)


def _cut(whole: _Part, numbers: Mapping[str, float], seed: int) -> dict[str, _Part]:
    """Cut splits off at random; each keeps the order of the rows."""
    count, sizes = len(whole.x), {}
    for split, number in numbers.items():
        sizes[split] = number if isinstance(number, int) else max(1, round(number * count))
    if sum(sizes.values()) >= count:
        wanted = " and ".join(f"{size} for {split}" for split, size in sizes.items())
        raise ValueError(
            f"x has {count} examples, which does not leave one for training after {wanted}; give "
            "more examples, or cut off fewer"
        )
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(int(seed)))
    parts, start = {}, 0
    for split, size in (*sizes.items(), ("train", count - sum(sizes.values()))):
        rows = order[start : start + size].sort().values
        labels = None if whole.labels is None else whole.labels[rows]
        parts[split] = _Part(whole.x[rows], labels, whole.names, rows)
        start += size
    return parts


def _common_names(parts: Mapping[str, _Part]) -> tuple[str, ...]:
    """Names of the columns, which must be those of all tables that have names."""
    names = parts["train"].names
    for split, part in parts.items():
        if names and part.names and part.names != names:
            differ = sorted(set(names) ^ set(part.names))
            raise ValueError(
                f"the columns of {split} are not those of x: "
                + (f"only one has {shorten(differ)}" if differ else "their order differs")
                + f"; give {split}[list(x.columns)]"
            )
    return names


def _flatten(
    parts: Mapping[str, _Part], shape: Sequence[int] | None, channels_last: bool | None
) -> tuple[tuple[int, ...], dict[str, Tensor]]:
    """Shape of an example, and the examples of every split as rows; channels come first."""
    arrays = {split: part.x for split, part in parts.items()}
    if shape is not None:
        sizes = (shape,) if isinstance(shape, Integral) else shape
        if not isinstance(sizes, Iterable) or not all(isinstance(n, Integral) for n in sizes):
            raise TypeError(
                f"shape is a sequence of whole numbers such as (28, 28), got {shape!r}"
            )
        shape = tuple(map(int, sizes))
        for split, x in arrays.items():
            if x[0].numel() != math.prod(shape) or min(shape, default=0) < 1:
                raise ValueError(
                    f"examples of shape {tuple(x.shape[1:])} in {split} have {x[0].numel()} "
                    f"values, which do not make the shape {shape}"
                )
        arrays = {split: x.reshape(len(x), *shape) for split, x in arrays.items()}
    sizes = {split: tuple(x.shape[1:]) for split, x in arrays.items()}
    first = sizes["train"]
    if wrong := [split for split, size in sizes.items() if size != first]:
        raise ValueError(
            f"training examples have the shape {first}, those of {wrong[0]} {sizes[wrong[0]]}; "
            "give all splits in the same shape"
        )
    if len(first) > 3:
        raise ValueError(
            f"examples are images of two or three axes, or rows, got the shape {first}; give "
            "rows, x.reshape(len(x), -1)"
        )
    if len(first) < 3:
        if channels_last is not None:
            raise ValueError(f"channels_last is for images with channels, got the shape {first}")
        return first, {split: x.flatten(1) for split, x in arrays.items()}
    if channels_last is None:
        second, last = first[0] in CHANNELS, first[2] in CHANNELS
        if second == last:
            raise ValueError(
                f"it is not clear which axis of images of shape {first} are the channels; say "
                "channels_last=True for (H, W, C), or channels_last=False for (C, H, W)"
            )
        channels_last = last
    if channels_last:
        first = (first[2], *first[:2])
        arrays = {split: x.movedim(3, 1) for split, x in arrays.items()}
    first = first[1:] if first[0] == 1 else first  # (1, H, W) is a grey image
    return first, {split: x.flatten(1) for split, x in arrays.items()}


def _guess(x: Tensor, kind: Kind | None, *, picture: bool) -> Kind:
    """The kind that was named, or the only one that the values can be."""
    if kind is not None:
        if kind not in get_args(Kind):
            raise ValueError(f"unknown kind {kind!r}; choose one of {', '.join(get_args(Kind))}")
        if kind == "images" and x.dtype == torch.bool:
            raise ValueError("x holds booleans; take kind='binary'")
        return kind
    if x.dtype == torch.bool:
        return "binary"
    seen = _observed(x)
    if not len(seen):
        return "real"
    if x.dtype == torch.uint8:
        if x.max() > 1:
            return "images"
        raise ValueError(
            "x holds bytes that are all 0 or 1; say kind='binary', or kind='images' if 255 stands "
            "for white"
        )
    whole = not x.is_floating_point() or (
        torch.equal(seen, seen.round()) and seen.abs().amax() <= LARGEST_COUNT
    )
    if whole:
        raise ValueError(
            f"x holds whole numbers between {seen.min().item():g} and {seen.max().item():g}; say "
            "what they are: kind='images' (grey values, with num_values), 'binary', 'counts', or "
            "'real' (also for tables of mixed columns)"
        )
    unit = seen.min() >= 0 and seen.max() <= 1
    return "images" if picture and unit and _on_grid(seen, 255) else "real"


def _observed(x: Tensor) -> Tensor:
    """All values but NaN."""
    missing = x.isnan()
    return x[~missing] if missing.any() else x


def _on_grid(x: Tensor, largest: int) -> bool:
    """Whether numbers in [0, 1] are multiples of 1 / largest, up to rounding in their type."""
    tolerance = min(0.25, largest * max(4e-6, torch.finfo(x.dtype).eps))
    for some in x.split(10_000):  # most other numbers are told from the first few
        level = (some if some.dtype == torch.float64 else some.float()) * largest
        if not ((level - level.round()).abs() <= tolerance).all():
            return False
    return True


def _check_missing(arrays: Mapping[str, Tensor], missing: bool, names: tuple[str, ...]) -> None:
    """Refuse infinite values, and NaN that does not stand for a missing value."""
    for split, x in arrays.items():
        if not x.is_floating_point():
            continue
        if x.isinf().any():
            raise ValueError(
                f"the {split} examples hold infinite values in "
                f"{_columns(x.isinf().any(0), names)}; remove these examples, or set missing "
                "values to NaN"
            )
        if x.isnan().any() and not missing:
            raise ValueError(
                f"the {split} examples hold NaN (or masked or absent values) in "
                f"{_columns(x.isnan().any(0), names)}; remove these examples, or say that the "
                "values are missing (missing=True)"
            )
    if missing and (unseen := arrays["train"].isnan().all(0)).any():
        raise ValueError(
            f"no training example has a value in {_columns(unseen, names)}; leave it out"
        )
    if missing and not any(x.isnan().any() for x in arrays.values()):
        warn(
            "missing=True, and no value is missing: a missing value is NaN or masked, and codes "
            "such as -999 are read as values; np.savez drops masks, so save x.filled(np.nan)"
        )


def _columns(where: Tensor, names: tuple[str, ...]) -> str:
    """Name columns, by number without names."""
    found = where.nonzero().flatten().tolist()
    return f"column{'s' * (len(found) > 1)} " + shorten(names[i] if names else i for i in found)


def _check_options(
    kind: Kind,
    num_values: int | None,
    binarisation: str,
    standardise: bool | Sequence[int | str] | Standardisation | None,
    missing: bool,
) -> None:
    """Refuse options that mean nothing for the kind of data."""
    if num_values is not None:
        if kind != "images":
            raise ValueError(f"num_values is for kind='images', got it with kind={kind!r}")
        whole = isinstance(num_values, Integral) and not isinstance(num_values, bool)
        if not whole or num_values not in range(2, 257):
            raise ValueError(
                f"images have between 2 and 256 values, got num_values={num_values!r}; scale 16 "
                "bits down, (x // 256).astype(np.uint8), or take kind='real'"
            )
    if binarisation not in get_args(Binarisation):
        raise ValueError(
            f"unknown binarisation {binarisation!r}; choose one of "
            f"{', '.join(get_args(Binarisation))}"
        )
    if binarisation != "none" and (kind != "images" or missing):
        found = "missing values" if kind == "images" else f"kind={kind!r}"
        raise ValueError(
            f"binarisation={binarisation!r} makes binary pixels of images, got {found}; leave it "
            "out"
        )
    if standardise is not None and standardise is not False and kind != "real":
        raise ValueError(
            f"standardise is for real values, got kind={kind!r}, whose likelihoods score the "
            "values as they are; leave it out"
        )


def _grey(arrays: Mapping[str, Tensor], num_values: int, *, missing: bool) -> dict[str, Tensor]:
    """Grey values as bytes; as multiples of 1 / (V - 1) with NaN where values may be missing."""
    largest = num_values - 1
    train = arrays["train"]
    # 1 is white in floating-point images, unless they hold larger numbers
    unit = train.is_floating_point() and train.nan_to_num().max() <= 1
    result = {}
    for split, x in arrays.items():
        seen = _observed(x)
        scaled = unit and x.is_floating_point()
        low, high = (seen.min().item(), seen.max().item()) if len(seen) else (0, 0)
        if scaled:
            right = low >= 0 and high <= 1 and _on_grid(seen, largest)
        else:
            right = low >= 0 and high <= largest
            right = right and not (x.is_floating_point() and (seen != seen.round()).any())
        if not right and num_values == 2:
            raise ValueError(
                f"binary values are 0 and 1, got {x.dtype} values between {low:g} and {high:g} in "
                f"{split}; threshold them, x > t, or take another kind"
            )
        if not right:
            raise ValueError(
                f"images of {num_values} values hold whole numbers from 0 to {largest}, or "
                f"multiples of 1/{largest} in [0, 1], got {x.dtype} values between {low:g} and "
                f"{high:g} in {split}; undo a normalisation, round with "
                f"(x * {largest}).round().astype(np.uint8), give another num_values, or take "
                "kind='real' for a density"
            )
        level = (x.double() * largest).round() if scaled else x
        result[split] = (level / largest).float() if missing else level.to(torch.uint8, copy=True)
    return result


def _warn_of_few_values(
    pixels: Tensor, num_values: int, binarisation: str, *, guessed: bool
) -> None:
    """Warn of images that seem to have fewer values than they can have."""
    if (largest := int(pixels.max())) < DARK and guessed:
        warn(
            f"the largest of 256 possible grey values is {largest}; if the images have fewer, say "
            f"num_values, such as {largest + 1}: bounds of another number cannot be compared"
        )
    elif binarisation == "none" and ((pixels == 0) | (pixels == largest)).all():
        warn(
            f"only 0 and {largest} of {num_values} possible grey values occur; to score binary "
            "pixels, say binarisation='threshold'"
        )


def _counts(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for split, x in arrays.items():
        seen = _observed(x)
        whole = not x.is_floating_point() or torch.equal(seen, seen.round())
        if len(seen) and not (
            whole and 0 <= seen.min().item() <= seen.max().item() <= LARGEST_COUNT
        ):
            raise ValueError(
                f"counts are whole numbers from 0 to 2**24, got {x.dtype} values between "
                f"{seen.min().item():g} and {seen.max().item():g} in {split}; take kind='real' "
                "for measurements"
            )
        result[split] = x.to(torch.float32, copy=True)
    return result


def _real(arrays: Mapping[str, Tensor], scale: Standardisation | None) -> dict[str, Tensor]:
    result = {}
    for split, x in arrays.items():
        # in double precision: a large mean leaves few digits for the rest
        real = (x if scale is None else scale.apply(x.double())).to(torch.float32, copy=True)
        if (largest := real.nan_to_num(posinf=math.inf).abs().max().item()) > LARGEST_REAL:
            raise ValueError(
                f"the {split} examples hold numbers as large as {largest:g}, whose squares are "
                "beyond single precision; look for outliers, rescale, or take standardise=True"
            )
        result[split] = real
    return result


def _standardisation(
    train: Tensor,
    choice: bool | Sequence[int | str] | Standardisation | None,
    shape: tuple[int, ...],
    names: tuple[str, ...],
) -> Standardisation | None:
    """Mean and standard deviation of the training split, of the chosen columns."""
    if choice is None or choice is False:
        return None
    if isinstance(choice, Standardisation):
        if len(choice.mean) not in (1, math.prod(shape)):
            raise ValueError(
                f"the standardisation is of {len(choice.mean)} features, x has {math.prod(shape)}"
            )
        return choice
    if len(shape) > 1:
        if choice is not True:
            raise ValueError(
                f"images are standardised as a whole, standardise=True, got {choice!r}"
            )
        return Standardisation.of(train.reshape(-1, 1))
    scale = Standardisation.of(train)
    if choice is True:
        return scale
    numbers = _chosen(choice, names, train.shape[1])
    if not numbers:
        return None
    mean = [m if i in numbers else 0.0 for i, m in enumerate(scale.mean)]
    std = [s if i in numbers else 1.0 for i, s in enumerate(scale.std)]
    return Standardisation(tuple(mean), tuple(std))


def _chosen(choice: Any, names: tuple[str, ...], size: int) -> list[int]:  # noqa: ANN401
    """Numbers of the columns that a list or a mask names."""
    listed = choice.tolist() if hasattr(choice, "tolist") else choice
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise TypeError(f"standardise is True or a list of columns, got {choice!r}")
    listed = list(listed)
    if listed and all(isinstance(one, bool) for one in listed):
        if len(listed) != size:
            raise ValueError(
                f"a mask in standardise has a boolean for each of {size} columns, got "
                f"{len(listed)}"
            )
        if hasattr(choice, "to_frame"):  # a pandas series goes by its names
            labels = list(map(str, choice.index))
            if sorted(labels) == sorted(names):
                listed = [listed[labels.index(name)] for name in names]
        return [column for column, wanted in enumerate(listed) if wanted]
    numbers = [find_column(one, names, size) for one in listed]
    if None in numbers:
        known = f"; the names are {shorten(names)}" if names else ""
        raise ValueError(
            f"standardise names the column {listed[numbers.index(None)]!r}, and there are columns "
            f"0 to {size - 1}{known}"
        )
    return numbers


def _warn_of_columns(
    train: Tensor,
    shape: tuple[int, ...],
    names: tuple[str, ...],
    scale: Standardisation | None,
    *,
    scales: bool,
) -> None:
    """Warn of real values that a density does not suit: constants, and unusual scales."""
    x = train.double() if len(shape) == 1 else train.double().reshape(-1, 1)
    constant = is_constant(x)
    if len(train) > 1 and constant.any():
        where = _columns(constant, names) if len(shape) == 1 else "every pixel"
        warn(
            f"{where} is constant in the training split, and the density of a constant has no "
            "upper limit; leave it out"
        )
    if not scales:
        return
    usual = Standardisation.of(x if scale is None else scale.apply(x))
    std, mean = torch.tensor(usual.std).double(), torch.tensor(usual.mean).double()
    low, high = USUAL_SCALE
    far = ~constant & ((std < low) | (std > high) | (mean.abs() > high))
    advice = "say standardise=True or name the columns, or say standardise=False if the scale is "
    advice += "meant"
    if scale is not None:  # of some columns: others may be categories or counts
        seen = x.nan_to_num()
        far &= ~((seen == seen.round()) & (seen.abs() <= 255)).all(dim=0)
        advice = "name it in standardise too, if it holds real values"
    if far.any():
        where = _columns(far, names) if len(shape) == 1 else "the pixels"
        worst = int(far.nonzero()[0])
        warn(
            f"the scale of {where} is far from 1 (mean {mean[worst]:.3g}, standard deviation "
            f"{std[worst]:.3g}), which networks and likelihoods expect; {advice}"
        )


def _classes(parts: Mapping[str, _Part]) -> int | None:
    """The number of classes, from the labels of all splits."""
    lacking = [split for split, part in parts.items() if part.labels is None]
    if len(lacking) == len(parts):
        return None
    if lacking:
        raise ValueError(
            f"there are labels, but none for {' and '.join(lacking)}; give the pair (x, labels) "
            "for every split, or no labels"
        )
    labels = torch.cat([part.labels for part in parts.values()])
    if labels.min() < 0:
        raise ValueError(
            f"labels are numbers 0 to C - 1 of the classes, got {int(labels.min())}; number them "
            "with np.unique(labels, return_inverse=True), and leave out examples without a label "
            "(-1 in pandas.factorize)"
        )
    num_classes, known = int(labels.max()) + 1, parts["train"].labels.unique()
    if num_classes > max(1000, len(labels)):
        raise ValueError(
            f"labels are numbers 0 to C - 1 of the classes, got {num_classes - 1} with "
            f"{len(labels)} examples; number them with np.unique(labels, return_inverse=True)"
        )
    if len(known) < num_classes:
        gaps = set(range(num_classes)) - set(known.tolist())
        warn(
            f"there are labels up to {num_classes - 1}, but no training example has the label "
            f"{shorten(sorted(gaps))}; if the classes are numbered otherwise, number them with "
            "np.unique(labels, return_inverse=True)"
        )
    return num_classes


def warn(message: str) -> None:
    """Give a `DataWarning` for the line that called the package.

    Args:
        message: what is unusual, and what to do.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(__package__):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DataWarning, stacklevel=level)
