"""Files that are always complete: written to a temporary file beside the target, then renamed.

Tensors are read without running code, and JSON is strict: it holds no NaN. ``~`` in a path is the
home folder. What the machine refuses is an ``OSError`` that names the file and what to do.
"""

import contextlib
import errno
import io
import json
import math
import os
import pickle
import shutil
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from hvae_course.config import plain

REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space, or choose another folder",
    errno.EDQUOT: "the quota of the disk is used up; free some space, or choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "permission denied; change the permissions, or choose another folder",
    errno.EPERM: "permission denied; change the permissions, or choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
"""What the machine refuses, and what to do.

:meta hide-value:
"""


def as_path(path: str | os.PathLike[str]) -> Path:
    """Give a path, with ``~`` as the home folder.

    Args:
        path: the path of a file or a folder.

    Returns:
        The path.

    Raises:
        TypeError: if it is not a path.
        ValueError: if it is empty, or names an unknown user.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a path is a string or a pathlib.Path, got {path!r}")
    if not os.fspath(path):
        raise ValueError("the path of a file is empty; give a name")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: there is no such user; give the folder itself") from None


@contextlib.contextmanager
def _refusals(path: Path, action: str) -> Iterator[None]:
    """Name the file, the reason and the remedy in an error of the machine."""
    try:
        yield
    except OSError as error:
        reason = REFUSALS.get(error.errno, error.strerror or str(error))
        named = type(error)(f"cannot {action} {path}: {reason}")
        named.errno = error.errno
        raise named from None


def existing_file(path: str | os.PathLike[str], *, kind: str, hint: str = "") -> Path:
    """Find a file that is to be read.

    Args:
        path: the file.
        kind: what it must be, for the message.
        hint: what to do if it does not exist.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if there is no such file.
        IsADirectoryError: if it is a folder.
    """
    path = as_path(path)
    if os.path.isdir(path):
        inside = sorted(path.glob("*.pt"))
        example = f", such as {inside[0]}" if inside else ""
        raise IsADirectoryError(f"{path} is a folder, not a {kind}; give a file{example}")
    if not os.path.exists(path):
        raise FileNotFoundError(f"no {kind} at {path}; {hint or 'check the path'}")
    return path


def check_writable(path: str | os.PathLike[str], *, size: int = 1) -> Path:
    """Require that a file can be written, before the work whose result it is to hold.

    Args:
        path: the file. Neither it nor its folder is made.
        size: bytes that it needs.

    Returns:
        The path.

    Raises:
        OSError: if it is a folder, its folder cannot be written or made, or the disk is full.
    """
    path = as_path(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f"cannot write {path}: it is a folder; give the name of a file")
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    probe = folder / f"{path.name}-{uuid.uuid4().hex}.part"
    with _refusals(path, "write"):
        try:
            probe.write_bytes(b" ")
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            f"cannot write {path}: it takes about {size:,} bytes and the disk has {free:,} left; "
            "free some space, or choose another folder"
        )
    return path


def write_whole(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file atomically; an existing file stays until the new one is complete.

    Args:
        path: the file; its folder is created if needed.
        write: function that writes the content to an open binary file.

    Raises:
        OSError: if the machine refuses it; the message names the file and what to do.
    """
    path = as_path(path)
    temporary = path.with_name(f"{path.name}-{uuid.uuid4().hex}.part")
    with _refusals(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
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


def write_json(path: str | os.PathLike[str], content: Any) -> None:  # noqa: ANN401
    """Write JSON atomically.

    Args:
        path: the file.
        content: numbers, strings, paths, dataclasses, arrays, and containers of them; a number
            that is not finite becomes null.

    Raises:
        TypeError: if there is something else in it.
        OSError: if the machine refuses it; the message names the file and what to do.
    """
    try:
        text = json.dumps(_finite(plain(content)), indent=2, allow_nan=False) + "\n"
    except TypeError as error:
        raise TypeError(f"cannot write {path}: {error}; convert it to numbers or text") from None
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401
    """Read JSON.

    Args:
        path: the file.

    Returns:
        Its content; None if there is no such file.

    Raises:
        ValueError: if the file is not JSON.
        OSError: if it is a folder, or cannot be read.
    """
    path = as_path(path)
    if not os.path.exists(path):
        return None
    with _refusals(path, "read"):
        content = path.read_bytes()
    if not content:
        raise ValueError(f"{path} is empty; delete its folder, or repair it")
    try:
        return json.loads(content.decode())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}; delete its folder, or repair it") from error


def _native(value: Any, place: str) -> Any:  # noqa: ANN401
    """Convert a value to types that ``weights_only=True`` reads, or name its place."""
    import numpy as np
    import torch

    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.tensor(value)
    if isinstance(value, dict):
        inside = {
            _native(name, place): _native(entry, f"{place}[{name!r}]")
            for name, entry in value.items()
        }
        if isinstance(value, OrderedDict):  # a state_dict, with its metadata
            kept = OrderedDict(inside)
            vars(kept).update(vars(value))
            return kept
        return inside
    if isinstance(value, list | tuple) and type(value) is not torch.Size:
        entries = (_native(entry, f"{place}[{n}]") for n, entry in enumerate(value))
        return [*entries] if isinstance(value, list) else tuple(entries)
    if isinstance(value, set | frozenset):
        return {_native(entry, place) for entry in value}
    if isinstance(value, torch.Tensor | torch.Size | torch.dtype | torch.device):
        return value
    value = plain(value)
    if isinstance(value, dict | list):  # of a dataclass or an array of text
        return _native(value, place)
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    raise TypeError(
        f"{place} is {value!r}, which a file of tensors cannot hold; convert it to numbers, text "
        "or tensors"
    )


def storable(content: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a content to what `read_tensors` can read again.

    Args:
        content: tensors, arrays, numbers, strings, paths, dataclasses, and containers of them.

    Returns:
        The same in tensors, Python's own numbers, strings, lists, tuples and dictionaries.

    Raises:
        TypeError: if there is something else in it; the message names its place.
    """
    return {plain(name): _native(entry, str(name)) for name, entry in content.items()}


def write_tensors(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors atomically.

    Args:
        content: what `storable` takes.
        path: the file; its folder is created if needed.

    Raises:
        TypeError: if something in it cannot be stored.
        OSError: if the machine refuses it; the message names the file and what to do.
    """
    import torch

    # in memory first: PyTorch hides an error of the disk behind one of its own
    torch.save(storable(content), memory := io.BytesIO())
    write_whole(path, lambda file: file.write(memory.getbuffer()))


def read_tensors(path: str | os.PathLike[str], *, kind: str) -> Any:  # noqa: ANN401
    """Read tensors onto the CPU, without running code from the file.

    Args:
        path: a file written by `write_tensors`.
        kind: expected kind of file, for the message.

    Returns:
        Its content.

    Raises:
        ValueError: if the file does not hold tensors, or is damaged.
        OSError: if it is missing or a folder, or cannot be read.
    """
    import torch

    path = existing_file(path, kind=kind)
    with _refusals(path, "read"):
        content = path.read_bytes()
    if not content:
        raise ValueError(f"{path} is empty, and not a {kind}; delete it, or choose another file")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            reason = (
                "some bytes have changed" if archive.testzip() else None
            )  # PyTorch does not look
        if reason is None:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        reason = "it holds objects of other kinds"
    except Exception:  # a foreign file may raise any error
        whole = content.startswith(b"PK")
        reason = "its end is missing" if whole else "PyTorch did not write it"
    raise ValueError(f"{path} is not a {kind}, or is damaged ({reason}); choose another file")
