"""Files that are written whole or not at all: a temporary one beside the target, then a rename."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_whole(path: str | Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file, whole or not at all; the old one stays until the new one is complete.

    Args:
        path: the file; its folder is made if needed.
        write: writes the content into an open binary file.
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
