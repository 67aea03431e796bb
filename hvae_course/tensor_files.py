"""Files of tensors, numbers and strings: written atomically, read without running code."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hvae_course.atomic import write_whole


def _native(value: Any) -> Any:  # noqa: ANN401
    """Replace NumPy numbers by Python numbers; ``weights_only=True`` rejects the former."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict) and not isinstance(value, OrderedDict):  # a state_dict
        return {_native(name): _native(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_native, value))
    return value


def write_tensors(content: dict[str, Any], path: str | Path) -> None:
    """Write a file atomically.

    Args:
        content: tensors, numbers, strings, and containers of them.
        path: the file; its folder is created if needed.
    """
    content = _native(content)
    write_whole(path, lambda file: torch.save(content, file))


def read_tensors(path: str | Path, *, kind: str) -> Any:  # noqa: ANN401
    """Read a file onto the CPU, without running code from it.

    Args:
        path: a file written by `write_tensors`.
        kind: expected kind of file, for the message.

    Returns:
        Its content.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler may raise any error on a foreign file
        raise ValueError(f"{path} is not a {kind}, or is damaged: {error}") from error
