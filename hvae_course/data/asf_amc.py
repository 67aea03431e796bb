r"""Acclaim skeletons (``.asf``) and motions (``.amc``), the text files of the CMU database.

A skeleton lists bones, the degrees of freedom of the joint that moves each, and which bone hangs
on which; a motion gives one value to every degree of freedom in every frame. A malformed file is
refused with file and line: a value that is lost or shifted would otherwise pass for a pose.

Source:
    Schafer (1994), Acclaim Skeleton File Definition, version 1.10.
"""

import math
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
ORDER = "XYZ"
"""Order in which the frame of a bone is turned about fixed axes; no other is in use."""


@dataclass(frozen=True)
class Skeleton:
    """What a motion must know of the body that it moves."""

    root: tuple[str, ...]
    """Degrees of freedom of the body as a whole, in the order in which a motion gives them."""
    bones: Mapping[str, tuple[str, ...]]
    """Degrees of freedom of every bone, in file order; empty for a bone that cannot move."""
    radians: bool
    """Whether angles are in radians, where a motion does not say so itself."""
    parents: Mapping[str, str]
    """The bone that each bone hangs on, ``"root"`` or one that comes before it."""
    offsets: Mapping[str, tuple[float, ...]]
    """From the beginning of each bone to its end, at rest, divided by the unit of length."""
    axes: Mapping[str, tuple[float, ...]]
    """How each bone's frame is tilted at rest, by these angles about x, then y, then z, which stay
    fixed, radians."""

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
    text = text.removeprefix("\xef\xbb\xbf")  # with which some editors begin a file
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


@dataclass
class _Bone:
    """A block from ``begin`` to ``end`` of the section ``:bonedata``."""

    began: int
    name: str = ""
    dof: tuple[str, ...] = ()
    direction: tuple[float, ...] = ()
    length: tuple[float, ...] = ()
    axis: tuple[float, ...] = ()


def _numbers(
    path: Path, number: int, what: str, words: list[str], count: int
) -> tuple[float, ...]:
    """The given number of finite values."""
    try:
        values = tuple(map(float, words))
    except ValueError:
        values = (float("nan"),)
    # float("1_0") is 10
    if len(words) != count or not all(map(isfinite, values)) or "_" in "".join(words):
        expected = f"{count} finite number{'s' * (count > 1)}"
        _fail(path, number, f"{what} takes {expected}, got {' '.join(words) or 'none'}")
    return values


def _bones(path: Path, lines: list[tuple[int, list[str]]]) -> dict[str, _Bone]:
    """Read the section ``:bonedata``."""
    bones: dict[str, _Bone] = {}
    bone = None
    for number, words in lines:
        key = words[0].lower()
        if key == "begin" and bone is None:
            bone = _Bone(number)
        elif key == "begin":
            _fail(path, number, f"the bone that begins in line {bone.began} has no 'end'")
        elif bone is None:
            _fail(path, number, f"expected 'begin' of a bone, got {words[0]!r}")
        elif key == "name":
            bone.name = " ".join(words[1:])
        elif key == "dof":
            bone.dof = _degrees_of_freedom(path, number, words[1:])
        elif key == "direction":
            bone.direction = _numbers(path, number, "a direction", words[1:], 3)
        elif key == "length":
            bone.length = _numbers(path, number, "a length", words[1:], 1)
        elif key == "axis":
            bone.axis = _numbers(path, number, "an axis", words[1:4], 3)
            if [word.upper() for word in words[4:]] != [ORDER]:
                found = " ".join(words[4:]) or "none"
                _fail(path, number, f"an axis is three angles and the order {ORDER}, got {found}")
        elif key == "end":
            if not bone.name:
                _fail(path, bone.began, "this bone has no name")
            if bone.name in bones or bone.name == "root":
                _fail(
                    path, bone.began, f"there is a bone {bone.name!r} already; names must differ"
                )
            for entry in ("direction", "length", "axis"):
                if not getattr(bone, entry):
                    _fail(path, bone.began, f"the bone {bone.name!r} has no {entry!r}")
            bones[bone.name], bone = bone, None
    if bone is not None:
        _fail(path, bone.began, "this bone has no 'end'; the file is truncated, copy it again")
    return bones


def _parents(
    path: Path, lines: list[tuple[int, list[str]]], bones: Mapping[str, _Bone]
) -> dict[str, str]:
    """Read the section ``:hierarchy``; bones in file order, but after the one they hang on."""
    parents: dict[str, str] = {}
    for number, (parent, *children) in lines:
        if not children:  # begin or end
            continue
        for bone in (parent, *children):
            if bone not in bones and (bone != "root" or bone in children):
                _fail(path, number, f"there is no bone {bone!r} below ':bonedata'")
        for bone in children:
            if bone in parents:
                _fail(path, number, f"{bone} hangs on {parents[bone]} already, and on {parent}")
            parents[bone] = parent
    placed: dict[str, str] = {}
    while len(placed) < len(bones):
        before = len(placed)
        for bone in bones:
            parent = parents.get(bone)
            if bone not in placed and (parent == "root" or parent in placed):
                placed[bone] = parent
        if len(placed) == before:
            loose = _shorten([bone for bone in bones if bone not in placed])
            raise ValueError(
                f"{path}: the section ':hierarchy' does not lead from the root to {loose}; the "
                "file is truncated or damaged, copy it again"
            )
    return placed


def read_skeleton(path: str | Path) -> Skeleton:
    """Read the bones of a skeleton, their degrees of freedom, frames and hierarchy.

    The limits of the angles, masses and skins are passed over.

    Args:
        path: an ``.asf`` file.

    Returns:
        The skeleton.

    Raises:
        ValueError: if the file is not a skeleton, is incomplete, or names a degree of freedom, an
            order or a unit that does not exist; the message gives file and line.
    """
    path = Path(path)
    section, radians, unit, root = "", False, 1.0, ()
    sections: dict[str, list[tuple[int, list[str]]]] = {":bonedata": [], ":hierarchy": []}
    for number, words in _lines(path):
        key = words[0].lower()
        if key.startswith(":"):
            section = key
        elif section == "":
            _fail(path, number, f"a skeleton (.asf) begins with a keyword, got {words[0][:30]!r}")
        elif section in sections:
            sections[section].append((number, words))
        elif (section, key) == (":root", "order"):
            root = _degrees_of_freedom(path, number, words[1:])
        elif (section, key) == (":units", "angle"):
            name = " ".join(words[1:]).lower()
            if name not in ("deg", "rad"):
                _fail(path, number, f"the unit of angles is 'deg' or 'rad', got {name!r}")
            radians = name == "rad"
        elif (section, key) == (":units", "length"):
            (unit,) = _numbers(path, number, "the unit of length", words[1:], 1)
            if unit <= 0:
                _fail(path, number, f"the unit of length is positive, got {words[1]}")
    bones = _bones(path, sections[":bonedata"])
    if not root:
        raise ValueError(
            f"{path} has no line 'order' below ':root', so it is not a skeleton (.asf)"
        )
    if not any(bone.dof for bone in bones.values()):
        raise ValueError(f"{path} has no bone with a line 'dof' below ':bonedata', so none moves")
    parents = _parents(path, sections[":hierarchy"], bones)
    bones = {name: bones[name] for name in parents}
    offsets, axes = {}, {}
    for name, bone in bones.items():
        size = math.hypot(*bone.direction)
        if not size:
            _fail(path, bone.began, f"the bone {name!r} has the direction 0 0 0")
        offsets[name] = tuple(bone.length[0] * x / (size * unit) for x in bone.direction)
        axes[name] = bone.axis if radians else tuple(map(math.radians, bone.axis))
    dof = {name: bone.dof for name, bone in bones.items()}
    return Skeleton(root, dof, radians, parents, offsets, axes)


def _values(path: Path, number: int, words: list[str], dof: tuple[str, ...]) -> list[float]:
    """Numbers of a line ``bone v1 v2 ...``."""
    bone, *numbers = words
    if len(numbers) != len(dof):
        expected = f"{len(dof)} value{'s' * (len(dof) > 1)} ({' '.join(dof)})"
        _fail(path, number, f"{bone} takes {expected}, got {len(numbers)}")
    return list(_numbers(path, number, bone, numbers, len(dof)))


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
