r"""Acclaim skeletons (``.asf``) and motions (``.amc``), the text files of the CMU database.

A skeleton lists bones and the degrees of freedom of the joint that moves each; a motion gives one
value to every degree of freedom in every frame. A malformed file is refused with file and line: a
value that is lost or shifted would otherwise pass for a pose.

Source:
    Schafer (1994), Acclaim Skeleton File Definition, version 1.10.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import NoReturn

import numpy as np

ROTATIONS = ("rx", "ry", "rz")
"""Degrees of freedom that are angles."""
LENGTHS = ("tx", "ty", "tz", "l")
"""Degrees of freedom that are lengths, shifts of a joint and stretching of a bone."""
COMMENT = re.compile(r"(?:^|\s)#")
"""What ends the part of a line that counts."""


@dataclass(frozen=True)
class Skeleton:
    """What a motion must know of the body that it moves."""

    root: tuple[str, ...]
    """Degrees of freedom of the body as a whole, in the order in which a motion gives them."""
    bones: Mapping[str, tuple[str, ...]]
    """Degrees of freedom of every bone, in file order; empty for a bone that cannot move."""
    radians: bool
    """Whether angles are in radians, where a motion does not say so itself."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the joint angles, such as ``"lfemur.rx"``, in file order."""
        names = [(bone, axis) for bone, dof in self.bones.items() for axis in dof]
        return tuple(f"{bone}.{axis}" for bone, axis in names if axis in ROTATIONS)


def _fail(path: Path, number: int, what: str) -> NoReturn:
    raise ValueError(f"{path}, line {number}: {what}")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of every line that holds any, comments left out."""
    # a comment begins with a separate word, because a value may be "1.#QNAN", which is how some
    # programs write NaN; cut at "#", it would parse as 1
    text = path.read_text(encoding="latin-1")  # knows every byte, so comments may hold any
    for number, line in enumerate(text.split("\n"), start=1):
        words = (COMMENT.split(line, maxsplit=1)[0] if "#" in line else line).split()
        if words:
            yield number, words


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _degrees_of_freedom(path: Path, number: int, words: list[str]) -> tuple[str, ...]:
    dof = tuple(word.lower() for word in words)
    unknown = [word for word in dof if word not in ROTATIONS + LENGTHS]
    if unknown or len(set(dof)) < len(dof) or not dof:
        _fail(
            path,
            number,
            f"degrees of freedom are some of {', '.join(ROTATIONS + LENGTHS)}, each once, got "
            f"{' '.join(words) or 'none'}",
        )
    return dof


def _bones(path: Path, lines: list[tuple[int, list[str]]]) -> dict[str, tuple[str, ...]]:
    """Read the blocks from ``begin`` to ``end`` of the section ``:bonedata``."""
    bones: dict[str, tuple[str, ...]] = {}
    began, name, dof = 0, "", ()
    for number, words in lines:
        key = words[0].lower()
        if key == "begin" and not began:
            began, name, dof = number, "", ()
        elif key == "begin":
            _fail(path, number, f"the bone that begins in line {began} has no 'end'")
        elif not began:
            _fail(path, number, f"expected 'begin' of a bone, got {words[0]!r}")
        elif key == "name":
            name = " ".join(words[1:])
        elif key == "dof":
            dof = _degrees_of_freedom(path, number, words[1:])
        elif key == "end":
            if not name:
                _fail(path, began, "this bone has no name")
            if name in bones or name == "root":
                _fail(path, began, f"there is a bone {name!r} already; names must differ")
            bones[name], began = dof, 0
    if began:
        _fail(path, began, "this bone has no 'end'; the file is truncated, copy it again")
    return bones


def read_skeleton(path: str | Path) -> Skeleton:
    """Read the degrees of freedom of a skeleton.

    Directions, lengths, limits and the hierarchy of the bones are not needed for joint angles
    and are passed over.

    Args:
        path: an ``.asf`` file.

    Returns:
        Bones and degrees of freedom.

    Raises:
        ValueError: if the file is not a skeleton, is truncated, or names a degree of freedom or a
            unit that does not exist; the message gives file and line.
    """
    path = Path(path)
    section, radians, root = "", False, ()
    blocks: list[tuple[int, list[str]]] = []
    for number, words in _lines(path):
        key = words[0].lower()
        if key.startswith(":"):
            section = key
        elif section == "":
            _fail(path, number, f"a skeleton (.asf) begins with a keyword, got {words[0][:30]!r}")
        elif section == ":bonedata":
            blocks.append((number, words))
        elif (section, key) == (":root", "order"):
            root = _degrees_of_freedom(path, number, words[1:])
        elif (section, key) == (":units", "angle"):
            unit = " ".join(words[1:]).lower()
            if unit not in ("deg", "rad"):
                _fail(path, number, f"the unit of angles is 'deg' or 'rad', got {unit!r}")
            radians = unit == "rad"
    bones = _bones(path, blocks)
    if not root:
        raise ValueError(
            f"{path} has no line 'order' below ':root', so it is not a skeleton (.asf)"
        )
    if not any(bones.values()):
        raise ValueError(f"{path} has no bone with a line 'dof' below ':bonedata', so none moves")
    return Skeleton(root, bones, radians)


def _values(path: Path, number: int, words: list[str], dof: tuple[str, ...]) -> list[float]:
    """Numbers of a line ``bone v1 v2 ...``."""
    bone, *numbers = words
    if len(numbers) != len(dof):
        expected = f"{len(dof)} value{'s' * (len(dof) > 1)} ({' '.join(dof)})"
        _fail(path, number, f"{bone} takes {expected}, got {len(numbers)}")
    try:
        values = list(map(float, numbers))
    except ValueError:
        values = [float("nan")]
    if not all(map(isfinite, values)) or "_" in "".join(numbers):  # float("1_0") is 10
        _fail(path, number, f"{bone} takes finite numbers, got {' '.join(numbers)}")
    return values


def read_motion(path: str | Path, skeleton: Skeleton) -> np.ndarray:
    """Read the joint angles of every frame, as the file gives them.

    Args:
        path: an ``.amc`` file.
        skeleton: the body that it moves.

    Returns:
        Angles in degrees, ``(T, C)``, float64, in the order of the skeleton's ``channels``; the
        six values of the root and lengths are checked and left out.

    Raises:
        ValueError: if the file is not a motion of this skeleton, has no frames, is truncated,
            skips a frame, or holds something other than finite numbers; the message gives file
            and line.
    """
    path = Path(path)
    expected = {"root": skeleton.root} | {b: dof for b, dof in skeleton.bones.items() if dof}
    specified, radians, rows = False, skeleton.radians, []
    frame: dict[str, list[float]] = {}
    last, began = None, 0

    def finish(number: int, ending: str = "") -> None:
        if len(frame) < len(expected):
            missing = _shorten([bone for bone in expected if bone not in frame])
            _fail(path, number, f"{ending}frame {last}, begun in line {began}, lacks {missing}")
        rows.append([value for bone in expected for value in frame[bone]])

    number = 1
    for number, words in _lines(path):
        head = words[0]
        if head.startswith(":"):
            if last is not None:
                _fail(path, number, f"keyword {head} must stand above the frames")
            specified |= head.upper() == ":FULLY-SPECIFIED"
            if head.upper() in (":DEGREES", ":RADIANS"):
                radians = head.upper() == ":RADIANS"
        elif not specified:
            _fail(
                path,
                number,
                f"a motion (.amc) says ':FULLY-SPECIFIED' above its frames, got {head[:30]!r}",
            )
        elif head.isdecimal() and len(words) == 1:
            if last is not None:
                finish(number)
                if int(head) != last + 1:
                    _fail(path, number, f"frame {head} follows frame {last}; numbers go up by one")
            frame, last, began = {}, int(head), number
        elif last is None:
            _fail(path, number, f"expected the number of the first frame, got {head!r}")
        elif head not in expected:
            _fail(
                path,
                number,
                f"unknown bone {head!r}; the skeleton moves {_shorten(list(expected))}",
            )
        elif head in frame:
            _fail(path, number, f"{head} occurs twice in frame {last}")
        else:
            frame[head] = _values(path, number, words, expected[head])
    if last is None:
        raise ValueError(f"{path} has no frames")
    finish(number, "the file ends too early, ")
    angles = np.array(rows)  # (T, number of degrees of freedom)
    axes = [(bone, axis) for bone, dof in expected.items() for axis in dof]
    keep = [bone != "root" and axis in ROTATIONS for bone, axis in axes]
    return np.degrees(angles[:, keep]) if radians else angles[:, keep]
