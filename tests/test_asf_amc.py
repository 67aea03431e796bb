"""Acclaim files: what they say, and which are refused."""

import numpy as np
import pytest
from acclaim import CHANNELS, motion, skeleton, walk

from hvae_course.data.asf_amc import read_motion, read_skeleton


@pytest.fixture
def read(tmp_path):
    def parse(amc: str, asf: str = "") -> np.ndarray:
        for name, text in (("s.asf", asf or skeleton()), ("m.amc", amc)):
            (tmp_path / name).write_bytes(text.encode("latin-1"))
        return read_motion(tmp_path / "m.amc", read_skeleton(tmp_path / "s.asf"))

    return parse


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", " # \xe9t\xe9 \x85 \xff\n"),
        lambda text: text.replace("\n", "\n\n \t\n").replace(" ", "\t "),
        lambda text: text.removesuffix("\n"),
    ],
    ids=["as is", "CRLF", "comments", "blanks", "no newline at the end"],
)
def test_angles_are_read_to_the_last_bit_and_sorted_as_in_the_skeleton(change, read, tmp_path):
    angles = walk(12) * 10.0 ** np.random.default_rng(1).integers(-20, 3, size=(12, 6))
    assert "e-1" in motion(angles)
    assert np.array_equal(read(change(motion(angles)), change(skeleton())), angles)
    assert read_skeleton(tmp_path / "s.asf").channels == CHANNELS


@pytest.mark.parametrize(
    ("units", "unit", "radians"),
    [
        (":units\n  angle deg\n", ":DEGREES\n", False),
        (":units\n  angle rad\n", ":degrees\n", False),
        (":units\n  angle deg\n", ":RADIANS\n", True),
        (":units\n  angle rad\n", "", True),
        ("", "", False),
    ],
)
def test_the_unit_is_that_of_the_motion_or_else_of_the_skeleton(units, unit, radians, read):
    angles = walk(5)
    text = motion(np.radians(angles) if radians else angles, unit=unit)
    np.testing.assert_allclose(read(text, skeleton(units=units)), angles, rtol=1e-14, atol=0)


def test_lengths_are_no_angles(read, tmp_path):
    bones = {"spine": ("tx", "rx", "ty"), "neck": ("l",), "head": ("ry", "l")}
    angles = walk(4)
    assert np.array_equal(read(motion(angles, bones), skeleton(bones)), angles[:, [1, 4]])
    assert read_skeleton(tmp_path / "s.asf").channels == ("spine.rx", "head.ry")


def test_bones_come_after_those_they_hang_on_whatever_their_order_in_the_file(tmp_path):
    text = skeleton({"toe": ("rx",), "leg": ("rx",), "arm": ()})
    chain = "root toe\n    toe leg\n    leg arm"
    (tmp_path / "s.asf").write_text(text.replace(chain, "root leg arm\n    leg toe"))
    body = read_skeleton(tmp_path / "s.asf")
    assert body.parents == {"leg": "root", "arm": "root", "toe": "leg"}
    assert list(body.bones) == list(body.offsets) == list(body.axes) == ["leg", "arm", "toe"]


def test_lengths_count_in_units_of_the_file_and_axes_in_its_angles(tmp_path):
    tilted = skeleton({"leg": ("rx",)}).replace("axis 0 0 0", "axis 0 90 -180")
    for unit, length, axes in (("deg", 4.0, (0, np.pi / 2, -np.pi)), ("rad", 2.0, (0, 90, -180))):
        text = tilted.replace("angle deg", f"length {2 / length}\n  angle {unit}")
        (tmp_path / "s.asf").write_text(text.replace("direction 0 -1", "direction 0 -3"))
        body = read_skeleton(tmp_path / "s.asf")
        assert body.offsets == {"leg": (0, -length, 0)}
        assert body.axes == {"leg": axes}


def test_a_motion_may_begin_with_any_frame(read):
    assert np.array_equal(read(motion(walk(3), first=118)), walk(3))


def test_a_piece_of_a_file_is_refused_unless_it_ends_in_the_last_value_of_a_frame(read):
    text = motion([[1, 2, 3, 4, 5, 6], [7, 8, 9.25, 10, 11, 12]])
    whole = read(text)
    accepted = 0
    for end in range(len(text)):
        try:
            piece = read(text[:end])
        except ValueError:
            continue
        accepted += 1
        piece[-1, 2] = whole[len(piece) - 1, 2]  # thigh.rz, which is written last
        assert np.array_equal(piece, whole[: len(piece)])
    assert accepted == len("3") + len(".0\n") + len("9.25")


HEAD = ":FULLY-SPECIFIED\n:DEGREES\n"
FRAME = "root 0 0 0 0 0 0\nthigh 1 2 3\nshin 4\nfoot 5 6\n"


WRONG_MOTIONS = [
    ("", r"m\.amc has no frames"),
    (HEAD, r"m\.amc has no frames"),
    ("PK\x03\x04 zip", r"line 1: a motion \(\.amc\) says ':FULLY-SPECIFIED' above its frames"),
    ("1\n" + FRAME, r"line 1: a motion \(\.amc\) says ':FULLY-SPECIFIED' .*, got '1'"),
    (skeleton(), r"line 5: a motion \(\.amc\) says .*, got 'mass'"),
    (HEAD + FRAME, r"line 3: expected the number of the first frame, got 'root'"),
    (HEAD + "1\n" + FRAME + ":RADIANS\n", "line 8: keyword :RADIANS must stand above the f"),
    (HEAD + "1\ntail 1 2\n", "line 4: unknown bone 'tail'; the skeleton moves root, thigh, s"),
    (HEAD + "1\nhip 0\n", "line 4: unknown bone 'hip'"),
    (HEAD + "-1\n", "line 3: expected the number of the first frame, got '-1'"),
    (HEAD + "1\nthigh 1 2\n", r"line 4: thigh takes 3 values \(rx ry rz\), got 2"),
    (HEAD + "1\nshin 1 2\n", r"line 4: shin takes 1 value \(rx\), got 2"),
    (HEAD + "1\nroot 1 2 3\n", r"line 4: root takes 6 values \(tx ty tz rx ry rz\), got 3"),
    (HEAD + "1\nfoot 1 x\n", "line 4: foot takes 2 finite numbers, got 1 x"),
    (HEAD + "1\nfoot 1 nan\n", "line 4: foot takes 2 finite numbers, got 1 nan"),
    (HEAD + "1\nfoot 1 -1.#IND\n", "line 4: foot takes 2 finite numbers, got 1 -1.#IND"),
    (HEAD + "1\nfoot 1 1.#QNAN00\n", "line 4: foot takes 2 finite numbers, got 1 1.#QNAN00"),
    (HEAD + "1\nfoot -Inf 1\n", "line 4: foot takes 2 finite numbers, got -Inf 1"),
    (HEAD + "1\nfoot 1e999 1\n", "line 4: foot takes 2 finite numbers, got 1e999 1"),
    (HEAD + "1\nfoot 1_0 1\n", "line 4: foot takes 2 finite numbers, got 1_0 1"),
    (HEAD + "1\nroot 0 0 0 0 0 nan\n", "line 4: root takes 6 finite numbers"),
    (HEAD + "1\nshin 1\nshin 1\n", "line 5: shin occurs twice in frame 1"),
    (HEAD + f"1\n{FRAME}3\n", "line 8: frame 3 follows frame 1; numbers go up by one"),
    (HEAD + f"1\n{FRAME}1\n", "line 8: frame 1 follows frame 1; numbers go up by one"),
    (
        HEAD + f"1\nshin 4\n2\n{FRAME}",
        "line 5: frame 1, begun in line 3, lacks root, thigh, f",
    ),
    (HEAD + f"1\n{FRAME}2\nshin 4\n", "line 9: the file ends too early, frame 2, begun in li"),
]


@pytest.mark.parametrize(("amc", "message"), WRONG_MOTIONS, ids=[m for _, m in WRONG_MOTIONS])
def test_a_wrong_motion_is_refused_with_its_line(amc, message, read):
    with pytest.raises(ValueError, match=message) as caught:
        read(amc)
    assert "m.amc" in str(caught.value)


BONE = "begin\nname a\ndof rx\ndirection 0 1 0\nlength 1\naxis 0 0 0 XYZ\nend\n"
ROOT = ":root\norder TX\n:bonedata\n"
HANGING = ":hierarchy\nbegin\nroot a\nend\n"


def bone(line: str) -> str:
    """A skeleton with one line of its bone replaced; it is line 6 where it is the bone's third."""
    key = line.split()[0]
    lines = [line if old.startswith(key) else old for old in BONE.split("\n")]
    return ROOT + "\n".join(lines) + HANGING


WRONG_SKELETONS = [
    (" ", "s.asf has no line 'order' below ':root', so it is not a skeleton"),
    (motion(walk(2)), "s.asf has no line 'order' below ':root', so it is not a skeleton"),
    ("GIF89a", r"line 1: a skeleton \(\.asf\) begins with a keyword, got 'GIF89a'"),
    (":bonedata\n" + BONE, "s.asf has no line 'order' below ':root'"),
    (":root\norder TX\n", "s.asf has no bone with a line 'dof' below ':bonedata'"),
    (":units\nangle grad\n", "line 2: the unit of angles is 'deg' or 'rad', got 'grad'"),
    (":units\nlength inch\n", "line 2: the unit of length takes 1 finite number, got inch"),
    (":units\nlength 0\n", "line 2: the unit of length is positive, got 0"),
    (bone("dof rw"), "line 6: degrees of freedom are .*, got rw"),
    (bone("dof rx rx"), "line 6: degrees of freedom .*, got rx rx"),
    (bone("dof"), "line 6: degrees of freedom .*, got none"),
    (bone("direction 1 0"), "line 7: a direction takes 3 finite numbers, got 1 0"),
    (bone("direction 1 0 nan"), "line 7: a direction takes 3 finite numbers, got 1 0 nan"),
    (bone("direction 0 0 0"), "line 4: the bone 'a' has the direction 0 0 0"),
    (bone("length"), "line 8: a length takes 1 finite number, got none"),
    (bone("axis 0 0 XYZ"), "line 9: an axis takes 3 finite numbers, got 0 0 XYZ"),
    (bone("axis 0 0 0 ZYX"), "line 9: an axis is three angles and the order XYZ, got ZYX"),
    (bone("axis 0 0 0"), "line 9: an axis is three angles and the order XYZ, got none"),
    (bone("direction").replace("direction\n", ""), "line 4: the bone 'a' has no 'direction'"),
    (bone("length").replace("length\n", ""), "line 4: the bone 'a' has no 'length'"),
    (bone("axis").replace("axis\n", ""), "line 4: the bone 'a' has no 'axis'"),
    (":root\norder up\n", "line 2: degrees of freedom are some of rx, .*, got up"),
    (ROOT + "name a\n", "line 4: expected 'begin' of a bone, got 'name'"),
    (ROOT + "begin\nname a\n" + BONE, "line 6: the bone that begins in line 4 has no 'end'"),
    (ROOT + BONE + "begin\nname b\n", "line 11: this bone has no 'end'; the file is truncated"),
    (ROOT + "begin\ndof rx\nend\n", "line 4: this bone has no name"),
    (ROOT + BONE + BONE, "line 11: there is a bone 'a' already"),
    (ROOT + BONE.replace("name a", "name root"), "line 4: there is a bone 'root' already"),
    (ROOT + BONE, "s.asf: the section ':hierarchy' does not lead from the root to a; the file is"),
    (
        ROOT + BONE + HANGING.replace("root a", "a a"),
        "':hierarchy' does not lead from the root to a",
    ),
    (
        ROOT + BONE + HANGING.replace("root a", "root b"),
        "line 13: there is no bone 'b' below ':bonedata'",
    ),
    (ROOT + BONE + HANGING.replace("root a", "b a"), "line 13: there is no bone 'b' below"),
    (ROOT + BONE + HANGING.replace("root a", "a root"), "line 13: there is no bone 'root' below"),
    (
        ROOT + BONE + HANGING.replace("root a", "root a a"),
        "line 13: a hangs on root already, and on root",
    ),
]


@pytest.mark.parametrize(("asf", "message"), WRONG_SKELETONS, ids=[m for _, m in WRONG_SKELETONS])
def test_a_wrong_skeleton_is_refused_with_its_line(asf, message, read):
    with pytest.raises(ValueError, match=message) as caught:
        read(motion(walk(2)), asf)
    assert "s.asf" in str(caught.value)
