r"""Poses of a moving body: joint angles from files of the CMU motion-capture database.

An example is one frame, and its features are the angles of all joints. The root's position and all
three of its angles (which mix heading and lean) are left out: walking to the left and walking to
the right are the same poses, and a model would spend its latents on the place in the room, which
varies more than any joint.

Neighbouring frames are nearly equal, so a random split would put near copies of the training
frames into the test set. Every file is therefore cut in time: the first 80 % of its frames are for
training, the next 10 % for validation, the last 10 % for the test.

A joint angle means the same after a whole turn. Angles are unwrapped over time, so that no
channel jumps from 180 to -180 degrees, and files are brought to the same turn as the first one.
Then every channel is standardised with mean and standard deviation of the training frames.
Channels that do not move in those (they span at most ``STILL`` degrees) are left out.

The course ships none of the files. The database is free to use; publications are asked to
acknowledge mocap.cs.cmu.edu and its funding, NSF EIA-0196217.

Source:
    CMU Graphics Lab Motion Capture Database, http://mocap.cs.cmu.edu.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvae_course.data.asf_amc import Skeleton, read_motion, read_skeleton
from hvae_course.data.sources import Raw

STILL = 1e-3
"""Degrees; a channel whose training frames span no more does not move. Rounding noise is far below
(collar bones of about 1e-14 degrees occur); standardised, it would look like a movement."""
MIN_FRAMES = 10
"""Frames that a file needs, so that each of its three parts has one."""
TURN = 360.0
"""Degrees of a whole turn, after which an angle means the same."""


@dataclass(frozen=True, eq=False)
class MotionSet:
    """Standardised poses, and what turns them back into joint angles."""

    raw: Raw
    """Poses ``(N, D)`` in float32, label and frame of each; file order within each split."""
    motions: tuple[str, ...]
    """Name of each label."""
    channels: tuple[str, ...]
    """Name of each feature, such as ``"lfemur.rx"``, D of them."""
    still: tuple[str, ...]
    """Names of the channels that are left out because they do not move."""
    mean: Tensor
    """Mean over the training frames, ``(D,)``, degrees, float64."""
    std: Tensor
    """Standard deviation over the training frames, ``(D,)``, degrees, float64."""

    def degrees(self, x: Tensor) -> Tensor:
        """Turn standardised poses into joint angles.

        Args:
            x: ``(..., D)``.

        Returns:
            Angles in degrees, ``(..., D)``, of the dtype of ``x``.
        """
        return x * self.std.to(x) + self.mean.to(x)


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
    if not isinstance(motions, Mapping) or any(isinstance(n, str) for n in motions.values()):
        raise TypeError(
            "motions= maps the name of a motion to a list of files, such as "
            f"{{'walking': ['07_01.amc']}}, got {motions!r}"
        )
    if not motions or not all(motions.values()):
        raise ValueError(f"every motion needs a file, got motions={dict(motions)!r}")
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


def _check_channels(
    path: Path, channels: tuple[str, ...], first: Path, expected: tuple[str, ...]
) -> None:
    if channels != expected:
        differ = sorted(set(channels) ^ set(expected))
        what = f"only one of them has {', '.join(differ[:6])}" if differ else "the order differs"
        raise ValueError(
            f"{path} and {first} have different joint angles, {len(channels)} and "
            f"{len(expected)} ({what}); subjects can be mixed only if theirs are the same"
        )


def _read_takes(
    chosen: Mapping[str, list[Path]], asf: list[Path]
) -> tuple[list[tuple[int, np.ndarray]], tuple[str, ...]]:
    """Label and unwrapped angles ``(T, C)`` of every file, and the names of the C channels."""
    skeletons: dict[Path, Skeleton] = {}
    takes: list[tuple[int, np.ndarray]] = []
    channels, centre = (), None
    for label, path in [(i, path) for i, paths in enumerate(chosen.values()) for path in paths]:
        place = _skeleton_of(path, asf)
        if place not in skeletons:
            skeletons[place] = read_skeleton(place)
            first = next(iter(skeletons))
            channels = skeletons[first].channels
            _check_channels(place, skeletons[place].channels, first, channels)
        angles = read_motion(path, skeletons[place])
        if len(angles) < MIN_FRAMES:
            raise ValueError(
                f"{path} has {len(angles)} frame(s), but training, validation and test need "
                f"{MIN_FRAMES} or more; leave the file out"
            )
        angles = np.unwrap(angles, period=TURN, axis=0)
        mean = angles[: _cuts(len(angles))[1]].mean(axis=0)
        centre = mean if centre is None else centre
        takes.append((label, angles - TURN * np.round((mean - centre) / TURN)))
    return takes, channels


def _cuts(frames: int) -> tuple[int, int, int, int]:
    """Where training, validation and test begin and end in a file."""
    return 0, 8 * frames // 10, 9 * frames // 10, frames


def gather(folder: str | Path, motions: Mapping[str, Sequence[str]] | None = None) -> MotionSet:
    """Read, cut and standardise the motions of a folder.

    Args:
        folder: holds ``.amc`` motions and their ``.asf`` skeleton, or one for each subject
            (``07.asf`` for ``07_01.amc``), in subfolders too.
        motions: the files of each motion, by its name; by default every file is a motion of its
            own, named like it, in the order of their paths.

    Returns:
        Poses with the number of the motion as label and the factor ``"time"``, frames since the
        beginning of the file (files do not say how long a frame is; most were recorded at 120
        frames per second).

    Raises:
        FileNotFoundError: if there is no folder, skeleton or motion, or a named file is missing.
        TypeError: if ``motions`` is not a mapping to lists of names.
        ValueError: if a file is wrong (the message gives file and line) or has fewer than
            ``MIN_FRAMES`` frames, if it is not clear which file or which skeleton is meant, if
            subjects have different joints, if a file is named twice, or if nothing moves.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder}; get motions and their skeletons from http://mocap.cs.cmu.edu"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    asf, amc = ([p for p in files if p.suffix.lower() == end] for end in (".asf", ".amc"))
    if not asf:
        raise FileNotFoundError(
            f"{folder} has no skeleton (.asf), which says what the values of a motion mean"
        )
    chosen = _choose(folder, amc, motions)
    takes, channels = _read_takes(chosen, asf)
    splits = [  # of each the label, the frames and their angles in every file
        [
            (label, np.arange(*_cuts(len(angles))[part : part + 2]), angles)
            for label, angles in takes
        ]
        for part in range(3)
    ]
    train = np.concatenate([angles[frames] for _, frames, angles in splits[0]])
    moves = np.ptp(train, axis=0) > STILL
    if not moves.any():
        raise ValueError(f"no joint of {folder} moves by more than {STILL} degrees in training")
    mean, std = train[:, moves].mean(axis=0), train[:, moves].std(axis=0)
    pieces = [piece for split in splits for piece in split]
    angles = np.concatenate([angles[frames][:, moves] for _, frames, angles in pieces])
    labels = np.concatenate([np.full(len(frames), label) for label, frames, _ in pieces])
    time = np.concatenate([frames for _, frames, _ in pieces])
    raw = Raw(
        torch.from_numpy((angles - mean) / std).float(),
        torch.from_numpy(labels).long(),
        (1, len(mean)),
        None,
        tuple(sum(len(frames) for _, frames, _ in split) for split in splits),
        {"time": torch.from_numpy(time).float()},
    )
    return MotionSet(
        raw,
        motions=tuple(chosen),
        channels=tuple(compress(channels, moves)),
        still=tuple(compress(channels, ~moves)),
        mean=torch.from_numpy(mean),
        std=torch.from_numpy(std),
    )


def read(folder: str | Path, motions: Mapping[str, Sequence[str]] | None = None) -> Raw:
    """Read the poses of a folder; ``gather`` gives the names of their features as well.

    Args:
        folder: as for ``gather``.
        motions: as for ``gather``.

    Returns:
        The poses, training before validation before test.
    """
    return gather(folder, motions).raw
