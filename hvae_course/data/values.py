"""Arrays, tables and lists as tensors: what data of one's own may be kept in, and what is refused.

Nothing is guessed here. What holds no numbers is refused with the way to make numbers of it.
"""

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

ENCODE = (
    "number them first, for example with `names, codes = np.unique(labels, return_inverse=True)`, "
    "and keep the names"
)
"""What to do about words in place of numbers."""


def as_tensor(values: Any, what: str = "x") -> Tensor:  # noqa: ANN401
    """Read numbers from whatever holds them, sharing memory where that is possible.

    Args:
        values: a tensor, NumPy array (also masked, memory-mapped, read-only or of the other byte
            order), pandas frame or series, list, or anything else that ``np.asarray`` reads.
        what: what they are, for the message.

    Returns:
        A tensor of booleans, bytes, signed integers or floating-point numbers; NaN where an array
        is masked or a table has no value. A tensor stays on its device.

    Raises:
        TypeError: if the values are not real numbers, or are kept in a sparse form.
        ValueError: if the examples differ in size.
    """
    if isinstance(values, Tensor):
        if values.layout != torch.strided:
            raise TypeError(f"{what} is a sparse tensor; give {what}.to_dense()")
        if values.is_quantized:
            raise TypeError(f"{what} is a quantised tensor; give {what}.dequantize()")
        _refuse_complex(values.is_complex(), what)
        tiny = values.is_floating_point() and values.element_size() == 1
        return (values.float() if tiny else values).detach()
    if isinstance(values, str | Path | Mapping | Dataset | DataLoader):
        found = repr(str(values)) if isinstance(values, str | Path) else type(values).__name__
        raise TypeError(f"{what} must be an array, got {found}{advice(values)}")
    if hasattr(values, "toarray"):
        raise TypeError(f"{what} is a sparse matrix; give {what}.toarray()")
    if hasattr(values, "to_frame"):  # a pandas series
        return as_tensor(values.to_frame(), what).squeeze(1)
    if is_frame(values):
        return torch.from_numpy(_from_frame(values, what))
    try:
        if isinstance(values, list | tuple) and any(isinstance(one, Tensor) for one in values):
            return torch.stack([as_tensor(one, what) for one in values])
        array = np.ma.asanyarray(values) if np.ma.isMA(values) else np.asarray(values)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the entries of {what} differ in size or kind ({str(error).splitlines()[0]}); give "
            "one array whose first axis counts the examples"
        ) from error
    _check_numbers(array, what, values)
    if np.ma.isMA(array):
        masked = np.ma.getmaskarray(array).any()
        array = array.astype(np.float64).filled(np.nan) if masked else array.data
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "u" and size > 1:  # PyTorch can do little with them
        if size == 8 and array.size and array.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{what} holds numbers above {np.iinfo(np.int64).max}")
        array = array.astype(np.int64)
    elif kind == "f" and size > 8:
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _refuse_complex(wrong: bool, what: str) -> None:
    if wrong:
        raise TypeError(
            f"{what} needs real numbers, got complex ones; give real and imaginary parts as "
            "features of their own"
        )


def _check_numbers(array: np.ndarray, what: str, values: Any) -> None:  # noqa: ANN401
    kind = array.dtype.kind
    _refuse_complex(kind == "c", what)
    if kind in "US":
        word = str(next(array.flat, ""))
        raise TypeError(f"expected numbers in {what}, got words such as {word!r}; {ENCODE}")
    if kind == "V":
        raise TypeError(
            f"expected numbers in {what}, got a structured array; give "
            "np.lib.recfunctions.structured_to_unstructured(...) of it"
        )
    if kind in "mM":
        raise TypeError(
            f"expected numbers in {what}, got dates or times; subtract the first and divide by "
            "np.timedelta64(1, 'D')"
        )
    if kind == "O" and array.ndim == 0:
        raise TypeError(f"{what} must be an array, got {type(values).__name__}{advice(values)}")
    if kind == "O":
        other = next((one for one in array.flat if not isinstance(one, Real)), array.flat[0])
        raise TypeError(
            f"expected numbers in {what}, got Python objects such as {other!r}; "
            f"np.array(..., dtype=float) makes numbers of numbers and None; of words, {ENCODE}"
        )


def is_frame(values: Any) -> bool:  # noqa: ANN401
    """Say whether this is a table with named columns.

    Args:
        values: anything.

    Returns:
        True for a pandas data frame.
    """
    return hasattr(values, "columns") and hasattr(values, "iloc")


def _from_frame(frame: Any, what: str) -> np.ndarray:  # noqa: ANN401
    """All columns in one type: booleans or integers if all are, NaN where a value is missing."""
    from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

    kinds = dict(zip(frame.columns, frame.dtypes, strict=True))
    if wrong := [
        f"{name!r} ({kind})" for name, kind in kinds.items() if not is_numeric_dtype(kind)
    ]:
        raise TypeError(
            f"expected numbers in {what}, got the columns {', '.join(wrong[:5])}; number "
            "categories, for example with `codes, names = pandas.factorize(column)`, set the code "
            "-1 of missing ones to NaN (missing=True), and leave other columns out"
        )
    _refuse_complex(any(getattr(kind, "kind", "") == "c" for kind in kinds.values()), what)
    array = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isnan(array).any():
        return array
    if all(map(is_bool_dtype, kinds.values())):
        return array.astype(bool)
    whole = all(is_bool_dtype(kind) or is_integer_dtype(kind) for kind in kinds.values())
    return array.astype(np.int64) if whole else array


def advice(values: Any) -> str:  # noqa: ANN401
    """Say which function makes a data set of something, as the end of a sentence.

    Args:
        values: what somebody gave in place of a data set or an array.

    Returns:
        Text that begins with a semicolon, empty if there is nothing to say.
    """
    if isinstance(values, DataLoader):
        return "; give its .dataset to hvae_course.data.from_dataset"
    if isinstance(values, Dataset):
        return "; give it to hvae_course.data.from_dataset"
    if isinstance(values, str | Path):
        return (
            "; hvae_course.data.load reads known data sets and files .npz, and "
            "hvae_course.data.from_folder reads a folder of images"
        )
    if isinstance(values, Tensor | np.ndarray | list | tuple) or is_frame(values):
        return "; give it to hvae_course.data.from_arrays"
    if isinstance(values, Mapping):
        return "; give its entries to hvae_course.data.from_arrays(x, labels)"
    return ""
