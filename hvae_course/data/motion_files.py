"""Files of the CMU motion-capture database: which are used, and how they are fetched.

The database is free to use; its keepers ask not to be crawled, and publications are asked to
acknowledge mocap.cs.cmu.edu and its funding, NSF EIA-0196217.
"""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import IO

from tqdm import tqdm

from hvae_course.data.asf_amc import read_motion, read_skeleton
from hvae_course.data.sources import default_folder
from hvae_course.files import as_path, read_json, write_json, write_whole

SERVER = "http://mocap.cs.cmu.edu/subjects"
"""Where the files are, in one folder for each subject."""
MOTIONS: Mapping[str, tuple[str, ...]] = {
    "walking": ("02_01.amc", "05_01.amc", "06_01.amc", "07_01.amc", "07_02.amc", "07_03.amc"),
    "running": ("16_35.amc", "16_36.amc", "16_45.amc", "16_46.amc", "16_55.amc", "16_56.amc"),
    "jumping": ("13_11.amc", "13_13.amc", "13_19.amc", "13_32.amc", "13_39.amc", "13_40.amc"),
    "soccer": ("10_01.amc", "10_02.amc", "10_03.amc", "10_05.amc", "10_06.amc", "11_01.amc"),
    "basketball": ("06_02.amc", "06_03.amc", "06_04.amc", "06_05.amc", "06_06.amc", "06_07.amc"),
}
"""Five motions and their files, the last for the test, the last but one for validation. A file is
called by the numbers of its subject and its recording; the skeleton of subject 02 is ``02.asf``.
They are the motions of prediction benchmarks, and nearly their recordings."""
CHECKSUMS: Mapping[str, str] = {
    "02_01.amc": "e196f67e5cee0bb575e2ed105082231166a13f81f6ff7b460f6078ed66c8e43a",
    "12.asf": "bc918d3901ab165ac2c0ad5182c343372ced36d9a1ef539d500118c0568825c2",
}
"""SHA-256 of files that are known, with line endings of one byte. Those of all others are noted
when they are downloaded first."""
RECORD = "checksums.json"
"""Where they are noted, in the folder of the files."""
NAME = re.compile(r"(\d{2,3})_\d{2}\.amc")
"""How a motion of the database is called."""
TIMEOUT = 60
"""Seconds to wait for the server."""


def check_motions(motions: Mapping[str, Sequence[str]]) -> None:
    """Refuse what does not name the files of motions.

    Args:
        motions: the files of each motion, by its name.

    Raises:
        TypeError: if it is not a mapping to lists of names. Sets have no last file, for the test.
        ValueError: if a motion has no file, or there is no motion.
    """

    def are_names(files: Sequence[str]) -> bool:
        listed = isinstance(files, Sequence) and not isinstance(files, str)
        return listed and all(isinstance(name, str | PathLike) for name in files)

    if not isinstance(motions, Mapping) or not all(map(are_names, motions.values())):
        raise TypeError(
            "motions= maps the name of a motion to a list of files, such as "
            f"{{'walking': ['07_01.amc']}}, got {motions!r}"
        )
    if not motions or not all(motions.values()):
        raise ValueError(f"every motion needs a file, got motions={dict(motions)!r}")


def download_motion(
    folder: str | Path | None = None,
    *,
    motions: Mapping[str, Sequence[str]] = MOTIONS,
    progress: bool = True,
) -> Path:
    """Download recordings of the CMU motion-capture database, and the skeletons of their subjects.

    Files that are there already are not fetched again, but checked. The 30 recordings of
    ``MOTIONS`` and their eight skeletons take about 10 MB.

    Args:
        folder: where to put the files; by default the folder ``cmu`` in that of the environment
            variable ``HVAE_DATA``, or in a cache folder.
        motions: the files of each motion, by its name.
        progress: whether to show a progress bar.

    Returns:
        The folder, for `load_motion`.

    Raises:
        TypeError: if ``motions`` is not a mapping to lists of names.
        ConnectionError: if a file cannot be fetched.
        ValueError: if a name is none of the database, if the server gives something other than a
            whole motion or skeleton, or if a file that is there is none, or is not the one that
            was downloaded first.
        OSError: if a file cannot be written.

    Example:
        >>> folder = download_motion()  # doctest: +SKIP
        >>> load_motion(folder, MOTIONS)  # doctest: +SKIP
    """
    folder = default_folder() / "cmu" if folder is None else as_path(folder)
    check_motions(motions)
    names = list(dict.fromkeys(str(name) for group in motions.values() for name in group))
    if wrong := [name for name in names if not NAME.fullmatch(name)]:
        raise ValueError(
            f"files of the database have names such as 02_01.amc, got {wrong[0]!r}; skeletons "
            "come with the motions"
        )
    files = {}
    for name in names:
        subject = NAME.fullmatch(name)[1]
        files |= {
            f"{subject}.asf": subject,
            name: subject,
        }  # the skeleton first, to read the motion
    noted = read_json(folder / RECORD) or {}
    for name, subject in tqdm(files.items(), desc="motions", unit="file", disable=not progress):
        path = folder / name
        if path.is_file():
            found = _check(path.read_bytes(), name, noted, str(path))
            if name not in CHECKSUMS and name not in noted:
                _read(
                    path, path, f"{path} is not the file {name}", "delete it and download it again"
                )
        else:
            url = f"{SERVER}/{subject}/{name}"
            content = _fetch(url, folder)
            found = _check(content, name, noted, url)
            write_whole(path, partial(_write, path=path, content=content))
        if name not in CHECKSUMS and name not in noted:
            noted[name] = found
            write_json(folder / RECORD, noted)
    return folder


def _check(content: bytes, name: str, noted: Mapping[str, str], place: str) -> str:
    """Checksum of a file, if it is that which is known by this name."""
    found = hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()
    expected = CHECKSUMS.get(name) or noted.get(name, found)
    if found == expected:
        return found
    again = "try again later" if place.startswith("http") else "delete it and download it again"
    accept = f"delete {RECORD} to accept it"
    if name in CHECKSUMS:
        accept = "leave it out of motions="
    raise ValueError(
        f"{place} has changed: its SHA-256 is {found[:12]}..., and that of {name} was "
        f"{expected[:12]}...; {again}, or {accept}"
    )


def _fetch(url: str, folder: Path) -> bytes:
    """Content of a file on the server."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return answer.read()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer of the server as well
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"could not download {url}: {reason}; try again later, or put the file into {folder} "
            "yourself"
        ) from None


def _write(file: IO[bytes], path: Path, content: bytes) -> None:
    """Write a skeleton or a motion, if it can be read from end to end."""
    file.write(content)
    file.flush()
    remedy = "try again later, or get it from http://mocap.cs.cmu.edu yourself"
    _read(Path(file.name), path, f"the server did not give the file {path.name}", remedy)


def _read(written: Path, path: Path, failed: str, remedy: str) -> None:
    """Refuse what cannot be read as the skeleton or the motion of that path."""
    try:
        if path.suffix == ".asf":
            read_skeleton(written)
        else:
            read_motion(written, read_skeleton(path.with_name(f"{path.stem.split('_')[0]}.asf")))
    except ValueError as error:
        raise ValueError(
            f"{failed}, or not all of it ({str(error).replace(str(written), path.name)}); {remedy}"
        ) from None
