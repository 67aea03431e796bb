"""Files that are always complete: written to a temporary file beside the target, then renamed.

Tensors are read without running code, and JSON is strict: it holds no NaN.
"""

import json
import math
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from hvae_course.config import plain


def write_whole(path: str | Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file atomically; an existing file stays until the new one is complete.

    Args:
        path: the file; its folder is created if needed.
        write: function that writes the content to an open binary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}-{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _finite(value: Any) -> Any:  # noqa: ANN401
    """Replace numbers that are not finite by None."""
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [*map(_finite, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | Path, content: Any) -> None:  # noqa: ANN401
    """Write JSON atomically.

    Args:
        path: the file.
        content: numbers, strings, dataclasses, and containers of them; a number that is not
            finite becomes null.
    """
    text = json.dumps(_finite(plain(content)), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: str | Path) -> Any:  # noqa: ANN401
    """Read JSON.

    Args:
        path: the file.

    Returns:
        Its content; None if there is no such file.

    Raises:
        ValueError: if the file is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}; delete its folder, or repair it") from error


def _native(value: Any) -> Any:  # noqa: ANN401
    """Replace NumPy numbers by Python numbers; ``weights_only=True`` rejects the former."""
    import numpy as np

    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict) and not isinstance(value, OrderedDict):  # a state_dict
        return {_native(name): _native(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_native, value))
    return value


def write_tensors(content: dict[str, Any], path: str | Path) -> None:
    """Write tensors atomically.

    Args:
        content: tensors, numbers, strings, and containers of them.
        path: the file; its folder is created if needed.
    """
    import torch

    content = _native(content)
    write_whole(path, lambda file: torch.save(content, file))


def read_tensors(path: str | Path, *, kind: str) -> Any:  # noqa: ANN401
    """Read tensors onto the CPU, without running code from the file.

    Args:
        path: a file written by `write_tensors`.
        kind: expected kind of file, for the message.

    Returns:
        Its content.

    Raises:
        ValueError: if the file cannot be read.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler may raise any error on a foreign file
        raise ValueError(f"{path} is not a {kind}, or is damaged: {error}") from error
