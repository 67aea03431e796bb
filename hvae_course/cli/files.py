"""Strict JSON, written atomically."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvae_course.atomic import write_whole


def plain(value: Any) -> Any:  # noqa: ANN401
    """Convert a value to types that JSON has.

    Args:
        value: numbers, strings, and containers of them.

    Returns:
        Lists for tuples, dictionaries for mappings, None for numbers that are not finite.

    Example:
        >>> plain({"levels": (16, 8), "spread": math.nan})
        {'levels': [16, 8], 'spread': None}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401
    """Write JSON atomically.

    Args:
        path: the file.
        content: a value that `plain` accepts.
    """
    text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read JSON.

    Args:
        path: the file.

    Returns:
        Its content; None if there is no such file.

    Raises:
        ValueError: if the file is not JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}; delete its folder, or repair it") from error
