r"""Poses of a moving body, from recordings of the CMU motion-capture database.

An example is one frame: the rotation vectors (`hvae_course.data.kinematics`) of all joints, in
radians, each in the frame of the bone that it hangs on. A feature is one coordinate of one joint,
such as ``"lfemur.x"``. The position and the rotation of the root are left out: walking to the left
and walking to the right are the same poses, and a model would spend its latents on the place in
the room, which varies more than any joint. Coordinates that move by at most ``STILL`` in training
are left out too, and the others are standardised with mean and standard deviation of the training
frames.

Recordings come in two forms, which give the same features:

- files of the database, ``.amc`` motions with their ``.asf`` skeletons, whose angles become
  rotation vectors;
- a file ``.npz`` with one array ``(T, 117)`` for each recording, under names such as
  ``train/walking_1`` and ``test/walking_1``: position and rotation of the root, then the rotation
  vectors of the 37 joints in ``EXPMAP_JOINTS``. Prediction benchmarks use this form. Its vectors
  are those of the inverse rotations, so their sign is turned round here.

Two kinds of frames are dropped. Recordings of the second form begin with a calibration pose, which
differs from the next frame by more than ``CALIBRATION`` in some joint. And a joint that has turned
by more than ``LARGEST_TURN`` since the last frame that was kept has not moved so fast: the
recorded angles jump. In nine of the thirty recordings of the benchmark those of a thumb do, which
is why the thumbs are left out (``LEFT_OUT``); seven frames of the other joints are dropped.

Neighbouring frames are nearly equal, so a random split would put near copies of the training
frames into the test set. A motion of three or more recordings gives the last to the test and the
last but one to the validation. With fewer, every recording is cut in time: the first 80 % of its
frames are for training, the next 10 % for validation, the last 10 % for the test. The frames on
both sides of a cut are alike, so these scores are too good.

The course ships none of the recordings; `download_motion` fetches some. The
database is free to use; publications are asked to acknowledge mocap.cs.cmu.edu and its funding,
NSF EIA-0196217.

Source:
    CMU Graphics Lab Motion Capture Database, http://mocap.cs.cmu.edu. The form of the benchmark is
    that of Li et al. (2018), Convolutional Sequence to Sequence Model for Human Dynamics.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvae_course.data.arrays import warn
from hvae_course.data.asf_amc import Skeleton, read_motion, read_skeleton
from hvae_course.data.files import read_npz
from hvae_course.data.kinematics import (
    Body,
    body_of,
    joint_positions,
    rotations_of,
)
from hvae_course.data.motion_files import check_motions
from hvae_course.data.sources import Raw
from hvae_course.data.splits import shorten
from hvae_course.files import as_path

STILL = 1e-4
"""Radians; a coordinate that spans no more in the training frames does not move. Rounding noise is
far below (some 1e-6 occur); standardised, it would look like a movement."""
CALIBRATION = 1.0
"""Radians that some joint of a calibration pose differs from the frame after it."""
LARGEST_TURN = math.pi / 2
"""Radians; a joint turns no further from one frame to the next. The fastest real turn in the
recordings of the benchmark, at 120 frames per second, is 0.8."""
MOST_TURNS = 2
"""Whole turns in a rotation vector. One is enough for any rotation; more are likely degrees."""
FAR = 30.0
"""Standard deviations of the training frames beyond which a held-out frame is far away. In the
recordings of the benchmark it is at most 9.4."""
MANY = 0.05
"""Share of dropped frames beyond which something is wrong with a recording."""
MIN_FRAMES = 10
"""Frames that a recording needs, so that each of its parts has one where it is cut."""
LEFT_OUT = ("lthumb", "rthumb")
"""Joints that are left out by default."""
EXPMAP = "cmu_expmap.npz"
"""Name of the file of the second form in a folder."""
EXPMAP_JOINTS = (
    *("lhipjoint", "lfemur", "ltibia", "lfoot", "ltoes", ""),
    *("rhipjoint", "rfemur", "rtibia", "rfoot", "rtoes", ""),
    *("lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head", ""),
    *("lclavicle", "lhumerus", "lradius", "lwrist", "lhand", "lfingers", "", "lthumb", ""),
    *("rclavicle", "rhumerus", "rradius", "rwrist", "rhand", "rfingers", "", "rthumb", ""),
)
"""Joints of the second form in their order; an empty name is the end of a limb, which cannot
turn."""
EXPMAP_KEY = re.compile(r"(train|test)/(.+)_(\d+)")
"""How an array of the second form is called."""


@dataclass(frozen=True, eq=False)
class MotionSet:
    """Standardised poses, and what turns them back into rotations and positions of joints."""

    raw: Raw
    """Poses ``(N, D)`` in float32, training before validation before test, with the label of the
    motion, and as factors the ``"time"`` (number of the frame in its recording, without the
    calibration pose) and the ``"recording"`` (its place in ``recordings``)."""
    motions: tuple[str, ...]
    """Name of each label."""
    recordings: tuple[str, ...]
    """Name of each recording, motion by motion."""
    channels: tuple[str, ...]
    """Name of each feature, such as ``"lfemur.x"``, D of them."""
    still: tuple[str, ...]
    """Names of the coordinates that are left out because they do not move."""
    mean: Tensor
    """Mean over the training frames, ``(D,)``, radians, float64."""
    std: Tensor
    """Standard deviation over the training frames, ``(D,)``, radians, float64."""
    dropped: int
    """Frames that were dropped, calibration poses and jumps of the recorded angles."""
    cut: tuple[str, ...]
    """Motions whose recordings are cut in time, for lack of a third one."""
    joints: tuple[str, ...]
    """Names of all J joints, without the root."""
    rest: Tensor
    """Mean rotation vector of every joint over the training frames, ``(J, 3)``, float64."""
    body: Body | None
    """Lengths of the bones, those of the first skeleton; None if there is no skeleton."""

    def rotations(self, x: Tensor) -> Tensor:
        """Turn standardised poses into rotation vectors.

        Args:
            x: ``(..., D)``.

        Returns:
            ``(..., J, 3)``, radians, of the dtype of ``x``, float32 for whole numbers. Joints that
            are left out and coordinates that do not move are at their training mean.

        Raises:
            ValueError: if the poses do not have D features.
        """
        x = torch.as_tensor(x)
        x = x if x.is_floating_point() else x.float()
        if x.shape[-1:] != self.mean.shape:
            raise ValueError(
                f"a pose has {len(self.mean)} features, got the shape {tuple(x.shape)}"
            )
        places = {
            f"{j}.{c}": 3 * i + k for i, j in enumerate(self.joints) for k, c in enumerate("xyz")
        }
        columns = torch.tensor([places[name] for name in self.channels], device=x.device)
        flat = self.rest.flatten().to(x).expand(*x.shape[:-1], -1)
        turns = flat.index_copy(-1, columns, x * self.std.to(x) + self.mean.to(x))
        return turns.unflatten(-1, (-1, 3))

    def positions(self, x: Tensor) -> Tensor:
        """Turn standardised poses into the positions of the joints.

        Args:
            x: ``(..., D)``.

        Returns:
            ``(..., J + 1, 3)``, metres: the root, which is at the origin of an upright body, and
            the end of every bone.

        Raises:
            ValueError: if the poses do not have D features, or there is no skeleton.
        """
        if self.body is None:
            raise ValueError(
                "positions need the lengths of the bones, and there is no skeleton (.asf) of "
                "these joints beside the recordings; put one there, such as 02.asf from "
                "data.download_motion()"
            )
        return joint_positions(self.body, self.rotations(x))


@dataclass(frozen=True, eq=False)
class _Take:
    """One recording, as its file holds it."""

    name: str
    rotations: np.ndarray
    """Rotation vectors ``(T, J, 3)``, float64."""
    test: bool = False
    """Whether its file says that it is for the test."""


@dataclass(frozen=True, eq=False)
class _Source:
    """All recordings of all motions."""

    takes: Mapping[str, list[_Take]]
    joints: tuple[str, ...]
    body: Body | None


def _find(folder: Path, files: list[Path], motion: str, name: str) -> Path:
    """The one motion file of that name, by its path in the folder or by its name alone."""
    found = [path for path in files if path == folder / name]
    found = found or [path for path in files if path.name == name]
    if not found:
        raise FileNotFoundError(
            f"motion {motion!r} names {name!r}, which is not among the {len(files)} .amc files "
            f"of {folder}; put it there or correct the name"
        )
    if len(found) > 1:
        places = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ValueError(
            f"motion {motion!r} names {name!r}, which may be any of {places}; name its folder too"
        )
    return found[0]


def _choose(
    folder: Path, files: list[Path], motions: Mapping[str, Sequence[str]] | None
) -> dict[str, list[Path]]:
    """Files of every motion."""
    if motions is None:
        chosen = {path.stem: [path] for path in files}
        if len(chosen) < len(files):
            raise ValueError(
                f"{folder} has {len(files)} .amc files, but only {len(chosen)} different names; "
                "say with motions= which file belongs to which motion"
            )
        if not files:
            raise FileNotFoundError(f"{folder} has no motion (.amc)")
        return chosen
    check_motions(motions)
    chosen = {m: [_find(folder, files, m, name) for name in names] for m, names in motions.items()}
    paths = [path for group in chosen.values() for path in group]
    twice = sorted({path.name for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            f"a file belongs to one motion and occurs once, not so {', '.join(twice)}"
        )
    return chosen


def _skeleton_of(path: Path, skeletons: list[Path]) -> Path:
    """The skeleton of a motion: by its name, by its subject, or the only one there is."""
    beside = [asf for asf in skeletons if asf.parent == path.parent]
    for stem in (path.stem, path.stem.partition("_")[0]):
        for group in (beside, skeletons):
            named = [asf for asf in group if asf.stem.lower() == stem.lower()]
            if len(named) == 1:
                return named[0]
    for group in (beside, skeletons):
        if len(group) == 1:
            return group[0]
    raise ValueError(
        f"none of the {len(skeletons)} skeletons fits {path}: expected "
        f"{path.stem.partition('_')[0]}.asf, or a folder with one skeleton only"
    )


def _check_joints(
    path: Path, joints: tuple[str, ...], first: Path, expected: tuple[str, ...]
) -> None:
    if joints != expected:
        differ = sorted(set(joints) ^ set(expected))
        what = f"only one of them has {', '.join(differ[:6])}" if differ else "the order differs"
        raise ValueError(
            f"{path} and {first} have different joints, {len(joints)} and {len(expected)} "
            f"({what}); subjects can be mixed only if theirs are the same"
        )


def _read_folder(folder: Path, motions: Mapping[str, Sequence[str]] | None) -> _Source:
    """Read ``.amc`` motions with their ``.asf`` skeletons."""
    found = (path for path in folder.rglob("*") if path.is_file())
    files = sorted(path for path in found if not path.name.startswith("."))  # macOS adds ._NAME
    asf, amc = ([p for p in files if p.suffix.lower() == end] for end in (".asf", ".amc"))
    if not asf:
        raise FileNotFoundError(
            f"{folder} has no skeleton (.asf), which says what the values of a motion mean"
        )
    skeletons: dict[Path, Skeleton] = {}
    takes: dict[str, list[_Take]] = {}
    for motion, paths in _choose(folder, amc, motions).items():
        takes[motion] = []
        for path in paths:
            place = _skeleton_of(path, asf)
            if place not in skeletons:
                skeletons[place] = read_skeleton(place)
                first = next(iter(skeletons))
                joints = tuple(skeletons[first].bones)
                _check_joints(place, tuple(skeletons[place].bones), first, joints)
            angles = torch.from_numpy(read_motion(path, skeletons[place]))
            turns = rotations_of(skeletons[place], angles).numpy()
            takes[motion].append(_Take(str(path.relative_to(folder)), turns))
    return _Source(takes, joints, body_of(skeletons[first]))


def _read_expmap(path: Path, motions: Sequence[str] | None) -> _Source:
    """Read recordings of the second form, with the first skeleton that fits them."""
    columns = 3 * len(EXPMAP_JOINTS) + 6
    bones = [number for number, joint in enumerate(EXPMAP_JOINTS) if joint]
    joints = tuple(filter(None, EXPMAP_JOINTS))
    found: dict[str, list[tuple[str, int, _Take]]] = {}
    for name, rows in read_npz(path).items():
        key = EXPMAP_KEY.fullmatch(name)
        if not key:
            raise ValueError(
                f"{path} holds {name!r}, and recordings have names such as 'train/walking_1' and "
                "'test/walking_1'; rename it, or leave it out"
            )
        rows = np.asarray(rows)
        if rows.dtype.kind != "f" or rows.ndim != 2 or rows.shape[1] != columns:
            raise ValueError(
                f"{path}: a recording is an array of real numbers (T, {columns}), got {name} "
                f"with {rows.dtype} numbers {rows.shape}"
            )
        if len(wrong := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
            raise ValueError(
                f"{path}: frame {wrong[0]} of {name} holds numbers that are not finite; remove "
                "the frame or the recording"
            )
        turns = -rows[:, 6:].astype(np.float64).reshape(-1, len(EXPMAP_JOINTS), 3)[:, bones]
        if (longest := np.linalg.norm(turns, axis=-1).max(initial=0)) > MOST_TURNS * 2 * math.pi:
            raise ValueError(
                f"{path}: a joint of {name} turns by {longest:.4g} radians; if the vectors are in "
                "degrees, turn them into radians, np.radians(rows)"
            )
        split, motion, number = key.groups()
        take = _Take(name, turns, test=split == "test")
        found.setdefault(motion, []).append((split == "test", int(number), take))
    if not found:
        raise ValueError(f"{path} holds no recordings; choose another file")
    if isinstance(motions, str) or not isinstance(motions, Sequence | None):
        raise TypeError(
            f"motions= is a list of motions of {path}, such as {list(found)[:2]}, got {motions!r}"
        )
    chosen = list(found if motions is None else motions)
    if unknown := [name for name in chosen if name not in found]:
        raise ValueError(f"{path} has no motion {unknown[0]!r}; there are {shorten(found)}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"motions= names every motion once, and one at least, got {chosen}")
    takes = {}
    for motion in chosen:
        takes[motion] = [take for *_, take in sorted(found[motion], key=lambda one: one[:2])]
        tests = sum(take.test for take in takes[motion])
        if not tests or len(takes[motion]) - tests < 2:
            raise ValueError(
                f"{path}: a motion needs two training recordings, of which the last is for "
                f"validation, and one for the test, got {len(takes[motion]) - tests} and {tests} "
                f"of {motion}"
            )
    for asf in sorted(p for p in path.parent.iterdir() if p.suffix.lower() == ".asf"):
        skeleton = read_skeleton(asf)
        if tuple(skeleton.bones) == joints:
            return _Source(takes, joints, body_of(skeleton))
    return _Source(takes, joints, None)


def _read(
    path: str | Path, motions: Mapping[str, Sequence[str]] | Sequence[str] | None
) -> _Source:
    """Read whatever form is there."""
    path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path}; hvae_course.data.download_motion() fetches motions and their "
            "skeletons from http://mocap.cs.cmu.edu"
        )
    if (path / EXPMAP).is_file() and not isinstance(motions, Mapping):
        path = path / EXPMAP
    if path.is_dir():
        return _read_folder(path, motions)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"give a folder, or a file .npz of recordings, got the file {path}")
    return _read_expmap(path, motions)


def _kept(joints: tuple[str, ...], leave_out: Sequence[str]) -> list[int]:
    """Numbers of the joints that are features."""
    if isinstance(leave_out, str) or not isinstance(leave_out, Iterable):
        raise TypeError(f"leave_out is a list of joints, () for none, got {leave_out!r}")
    if unknown := set(leave_out) - set(joints) - set(LEFT_OUT):
        raise ValueError(
            f"leave_out names {shorten(sorted(unknown))}, and the joints are {', '.join(joints)}"
        )
    kept = [number for number, joint in enumerate(joints) if joint not in leave_out]
    if not kept:
        raise ValueError(f"leave_out names all {len(joints)} joints; keep some")
    return kept


def _usable(take: _Take, kept: list[int]) -> tuple[np.ndarray, int]:
    """Numbers of the frames that stay, and whether the first was a calibration pose, 1 or 0."""
    turns = take.rotations[:, kept]
    # the cosine of half the angle between two rotations is the product of their quaternions
    half = np.linalg.norm(turns, axis=-1, keepdims=True) / 2
    poses = np.concatenate([np.cos(half), turns * np.sinc(half / np.pi) / 2], axis=-1)

    def differ(one: int, other: int, angle: float) -> bool:
        products = np.abs((poses[one] * poses[other]).sum(axis=-1))
        return bool(products.min() < math.cos(angle / 2))

    first = int(len(poses) > 1 and differ(0, 1, CALIBRATION))
    frames = [first] if len(poses) else []
    for t in range(first + 1, len(poses)):
        if not differ(frames[-1], t, LARGEST_TURN):
            frames.append(t)
    jumps = len(poses) - first - len(frames)
    if len(frames) < MIN_FRAMES:
        raise ValueError(
            f"{take.name} has {len(frames)} usable frame(s) of {len(poses)}, and a recording "
            f"needs {MIN_FRAMES} or more; leave it out"
        )
    if jumps > MANY * len(poses):
        warn(
            f"{jumps} of {len(poses)} frames of {take.name} were dropped, because a joint turned "
            f"by more than {math.degrees(LARGEST_TURN):.0f} degrees since the frame before; look "
            "at the recording, and leave it out, or the joint (leave_out=)"
        )
    return np.array(frames), first


def _continue(rotations: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Of all vectors of each rotation, take that nearest to the one in the frame before."""
    vectors = np.concatenate([start[None], rotations])
    if np.linalg.norm(np.diff(vectors, axis=0), axis=-1).max() < math.pi:
        return rotations
    for before, vector in zip(vectors, vectors[1:], strict=False):
        angle = np.linalg.norm(vector, axis=-1, keepdims=True)
        # a whole turn leads back to 0, which has no direction of its own
        unit = np.where(angle > 1e-6, vector, before)
        unit = unit / np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), 1e-6)
        turns = np.round(((before * unit).sum(axis=-1, keepdims=True) - angle) / (2 * math.pi))
        vector += 2 * math.pi * turns * unit
    return vectors[1:]


def _cuts(frames: int) -> tuple[int, int, int, int]:
    """Where training, validation and test begin and end in a recording."""
    return 0, 8 * frames // 10, 9 * frames // 10, frames


def _parts(takes: list[_Take]) -> list[int] | None:
    """The split of every recording of a motion; None if each must be cut in time."""
    tests = sum(take.test for take in takes) or 1
    if len(takes) < 3:
        return None
    return [0] * (len(takes) - tests - 1) + [1] + [2] * tests


def gather(
    path: str | Path,
    motions: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
    *,
    leave_out: Sequence[str] = LEFT_OUT,
) -> MotionSet:
    """Read, clean, split and standardise recordings of motions.

    Args:
        path: a folder, or a file ``.npz`` of recordings. A folder that holds ``cmu_expmap.npz`` is
            read as that file. Any other holds ``.amc`` motions and their ``.asf`` skeleton, or one
            for each subject (``07.asf`` for ``07_01.amc``), in subfolders too.
        motions: of a file ``.npz``, the names of the motions to be read, by default all. Of
            other files, the files of each motion, by its name, such as
            `MOTIONS`; by default every file is a motion of its own, named like
            it, in the order of their paths. Files that are named are read even if there is a
            ``cmu_expmap.npz`` beside them.
        leave_out: joints that are no features.

    Returns:
        The poses, with the number of the motion as label, and all that is needed to draw them.

    Raises:
        FileNotFoundError: if there is no folder, skeleton or motion, or a named file is missing.
        TypeError: if ``path`` is no path, ``motions`` has the wrong form, or ``leave_out`` is not
            a list of names.
        ValueError: if a file is wrong (the message gives its place), a recording has fewer than
            ``MIN_FRAMES`` frames, it is not clear which file or which skeleton is meant, subjects
            have different joints, a motion or a joint is unknown, or nothing moves.

    Warns:
        DataWarning: if a motion has fewer than three recordings, which are then cut in time, if
            many frames of a recording were dropped, or if a held-out frame is far from all
            training frames.
    """
    source = _read(path, motions)
    joints = source.joints
    kept = _kept(joints, leave_out)
    splits: list[list[tuple[int, int, np.ndarray, np.ndarray]]] = [[], [], []]
    recordings, cut, dropped, start = [], [], 0, None
    for label, (motion, takes) in enumerate(source.takes.items()):
        parts = _parts(takes)
        if parts is None:
            cut.append(motion)
        for number, take in enumerate(takes):
            frames, calibration = _usable(take, kept)
            dropped += len(take.rotations) - len(frames)
            turns = take.rotations[frames]
            start = turns[0] if start is None else start
            turns, time = _continue(turns, start), frames - calibration
            ends = _cuts(len(frames))
            for part in range(3) if parts is None else parts[number : number + 1]:
                piece = slice(*ends[part : part + 2]) if parts is None else slice(None)
                splits[part].append((label, len(recordings), time[piece], turns[piece]))
            recordings.append(take.name)
    if cut:
        warn(
            f"{shorten(cut)} {'has' if len(cut) == 1 else 'have'} fewer than three recordings, so "
            "each is cut in time, and neighbouring frames of one recording are alike: scores on "
            "validation and test will be too good; give three recordings of each motion, which "
            "are then split as a whole",
        )
    pieces = [piece for split in splits for piece in split]
    count = sum(len(time) for *_, time, _ in splits[0])
    turns = np.concatenate([turns for *_, turns in pieces])
    flat = turns[:, kept].reshape(len(turns), -1)
    names = [f"{joints[number]}.{axis}" for number in kept for axis in "xyz"]
    moves = np.ptp(flat[:count], axis=0) > STILL
    if not moves.any():
        raise ValueError(f"no joint of {path} moves by more than {STILL} radians in training")
    mean, std = flat[:count, moves].mean(axis=0), flat[:count, moves].std(axis=0)

    poses = (flat[:, moves] - mean) / std
    channels = tuple(compress(names, moves))
    if (away := np.abs(poses).max(axis=0)).max() > FAR:
        worst = int(away.argmax())
        warn(
            f"{channels[worst]} of a held-out frame is {away[worst]:.0f} standard deviations of "
            "the training frames away from their mean; leave its joint out (leave_out=), or give "
            "a training recording in which it moves"
        )

    def each(values: list[int]) -> Tensor:
        """One value for each piece, as one for each frame."""
        lengths = [len(time) for *_, time, _ in pieces]
        return torch.from_numpy(np.repeat(values, lengths))

    raw = Raw(
        torch.from_numpy(poses).float(),
        each([label for label, *_ in pieces]).long(),
        (len(mean),),
        None,
        tuple(sum(len(time) for *_, time, _ in split) for split in splits),
        {
            "time": torch.from_numpy(np.concatenate([time for *_, time, _ in pieces])).float(),
            "recording": each([number for _, number, *_ in pieces]).float(),
        },
    )
    return MotionSet(
        raw,
        motions=tuple(source.takes),
        recordings=tuple(recordings),
        channels=channels,
        still=tuple(compress(names, ~moves)),
        mean=torch.from_numpy(mean),
        std=torch.from_numpy(std),
        dropped=dropped,
        cut=tuple(cut),
        joints=joints,
        rest=torch.from_numpy(turns[:count].mean(axis=0)),
        body=source.body,
    )
