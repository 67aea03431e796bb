"""Small skeletons (.asf) and motions (.amc), written by hand."""

import numpy as np

BONES = {
    "hip": (),
    "thigh": ("rx", "ry", "rz"),
    "shin": ("rx",),
    "foot": ("rx", "rz"),
}
CHANNELS = ("thigh.rx", "thigh.ry", "thigh.rz", "shin.rx", "foot.rx", "foot.rz")


def skeleton(bones=BONES, *, units=":units\n  mass 1.0\n  angle deg\n") -> str:
    """Every bone hangs on the one before it, points down, and is two units long."""
    text = f"# made by hand\n:version 1.10\n:name VICON\n{units}:documentation\n  begin, a note\n"
    text += ":root\n   order TX TY TZ RX RY RZ\n   axis XYZ\n:bonedata\n"
    for bone, dof in bones.items():
        text += f"  begin\n    name {bone}\n    direction 0 -1 0\n    length 2\n"
        text += "    axis 0 0 0   XYZ\n"
        text += f"    dof {' '.join(dof)}\n" if dof else ""
        text += "    limits (-10.0 20.0)\n           (-70 70)\n" * bool(dof) + "  end\n"
    chain = zip(["root", *bones], bones, strict=False)
    return text + ":hierarchy\n  begin\n" + "".join(f"    {a} {b}\n" for a, b in chain) + "  end\n"


def motion(angles, bones=BONES, *, unit=":DEGREES\n", first=1, root=(0.5, 9.0, 1, 2, 3, 4)) -> str:
    """Bones of a frame in reverse order, as a motion may list them in any."""
    text = f"#!OML:ASF F:\\VICON\\07.ASF\n:FULLY-SPECIFIED\n{unit}"
    for frame, values in enumerate(np.asarray(angles, dtype=float).tolist(), start=first):
        text += f"{frame}\n" + " ".join(["root", *map(str, root)]) + "\n"
        for bone, dof in reversed(bones.items()):
            start = sum(len(d) for d in list(bones.values())[: list(bones).index(bone)])
            numbers = values[start : start + len(dof)]
            text += f"{' '.join([bone, *map(repr, numbers)])}\n" if dof else ""
    return text


def walk(frames: int, *, size: int = len(CHANNELS), seed: int = 0) -> np.ndarray:
    """Angles in degrees, a random walk."""
    return np.cumsum(np.random.default_rng(seed).normal(size=(frames, size)), axis=0)
