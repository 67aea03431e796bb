"""Atomic writing: to a temporary file beside the target, which is then renamed."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


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
