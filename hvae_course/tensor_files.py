"""Files of tensors, numbers and strings: written whole, and read without running code in them."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hvae_course.atomic import write_whole


def _native(value: Any) -> Any:  # noqa: ANN401
    """The same content with Python's numbers for NumPy's, which no safe reader takes."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict) and not isinstance(value, OrderedDict):  # those are state_dicts
        return {_native(name): _native(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_native, value))
    return value


def write_tensors(content: dict[str, Any], path: str | Path) -> None:
    """Write a file, whole or not at all.

    Args:
        content: tensors, numbers, strings, and containers of them.
        path: the file; its folder is made if needed.
    """
    content = _native(content)
    write_whole(path, lambda file: torch.save(content, file))


def read_tensors(path: str | Path, *, kind: str) -> Any:  # noqa: ANN401
    """Read a file onto the CPU, without running any code in it.

    Args:
        path: a file that `write_tensors` wrote.
        kind: what it should be, for the message.

    Returns:
        Its content.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler answers a foreign file with any error there is
        raise ValueError(f"{path} is no {kind}, or is damaged: {error}") from error
