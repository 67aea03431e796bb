"""Motion capture: which files belong together, and what becomes of the angles."""

import numpy as np
import pytest
import torch
from acclaim import BONES, CHANNELS, motion, skeleton, walk

from hvae_course import data

SPLITS = ("train", "validation", "test")


@pytest.fixture
def write(tmp_path):
    def save(**files: str) -> None:
        """Names have a double underscore for the dot, so that they can be keywords."""
        for name, text in files.items():
            path = tmp_path / name.replace("__", ".")
            path.write_bytes(text.encode("latin-1"))

    return save


@pytest.fixture
def mocap(tmp_path, write):
    """Three files of two motions, with what they hold."""
    takes = {"a_1": walk(25, seed=1), "a_2": walk(10, seed=2), "b_1": walk(47, seed=3)}
    write(s__asf=skeleton(), **{f"{name}__amc": motion(x) for name, x in takes.items()})
    return tmp_path, takes


MOTIONS = {"stroll": ["b_1.amc"], "run": ["a_2.amc", "a_1.amc"]}


def test_every_file_is_cut_in_time_and_scaled_by_its_training_frames(mocap):
    folder, takes = mocap
    files = [(0, takes["b_1"]), (1, takes["a_2"]), (1, takes["a_1"])]
    cuts = {47: (0, 37, 42, 47), 10: (0, 8, 9, 10), 25: (0, 20, 22, 25)}
    train = np.concatenate([x[: cuts[len(x)][1]] for _, x in files])
    dataset = data.load_motion(folder, MOTIONS)
    for number, name in enumerate(SPLITS):
        rows = [
            (label, t, (x[t] - train.mean(axis=0)) / train.std(axis=0))
            for label, x in files
            for t in range(*cuts[len(x)][number : number + 2])
        ]
        split = dataset.split(name)
        assert split.labels.tolist() == [label for label, _, _ in rows]
        assert split.factors["time"].tolist() == [t for _, t, _ in rows]
        assert (split.pixels.dtype, split.factors["time"].dtype) == (torch.float32, torch.float32)
        expected = torch.tensor(np.array([x for _, _, x in rows])).float()
        torch.testing.assert_close(split.batch(slice(None)), expected, rtol=1e-6, atol=1e-6)
    assert str(dataset) == "motion, real-valued, split 65/8/9 in file order"
    assert dataset.spec == data.DataSpec((1, 6), None, num_classes=2)


def test_standardised_poses_turn_back_into_degrees(mocap):
    folder, takes = mocap
    poses = data.motion.gather(folder, MOTIONS)
    assert (poses.motions, poses.channels, poses.still) == (("stroll", "run"), CHANNELS, ())
    train = poses.raw.pixels[: poses.raw.sizes[0]].double()
    torch.testing.assert_close(train.mean(dim=0), torch.zeros(6).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(train.std(dim=0, correction=0), torch.ones(6).double())
    back = poses.degrees(train[:37])
    torch.testing.assert_close(back, torch.tensor(takes["b_1"][:37]), rtol=0, atol=1e-6)
    assert poses.degrees(poses.raw.pixels).dtype == torch.float32


def test_every_file_is_a_motion_of_its_own_unless_told_otherwise(mocap):
    poses = data.motion.gather(mocap[0])
    assert poses.motions == ("a_1", "a_2", "b_1")
    assert poses.raw.labels.bincount().tolist() == [25, 10, 47]


def test_where_the_body_stands_and_faces_changes_nothing(mocap, write):
    folder, takes = mocap
    before = data.motion.read(folder).pixels
    write(b_1__amc=motion(takes["b_1"], root=(77, -3, 1e3, 170, -90, 12)))
    assert torch.equal(data.motion.read(folder).pixels, before)


def test_held_out_frames_have_no_say_in_the_training_frames(mocap, write):
    folder, takes = mocap
    before = data.load_motion(folder).train.pixels
    takes["b_1"][37:] += 160 * np.arange(1, 11)[:, None]  # moves the mean by half a turn
    write(b_1__amc=motion(takes["b_1"]))
    assert torch.equal(data.load_motion(folder).train.pixels, before)


@pytest.mark.parametrize("unit", ["degrees", "radians"])
def test_a_joint_that_turns_and_turns_makes_no_jump(unit, tmp_path, write):
    """Steps below half a turn are recovered from angles modulo a turn, each file by itself."""
    true = np.arange(30.0)[:, None] * [25, -40, 7, 1, 170, -11] + [0, 100, -90, 179, 5, 6]
    wrapped = (true + 180) % 360 - 180
    assert abs(np.diff(wrapped, axis=0)).max() > 300
    text = wrapped if unit == "degrees" else np.radians(wrapped)
    write(s__asf=skeleton(), m__amc=motion(text, unit=f":{unit}\n"))
    poses = data.motion.gather(tmp_path)
    angles = poses.degrees(poses.raw.pixels.double()).numpy()
    np.testing.assert_allclose(angles - angles[0], true - true[0], rtol=0, atol=2e-3)


def test_files_on_either_side_of_half_a_turn_are_brought_together(mocap, write):
    """One body holds a joint at 178 degrees, the other at -178, which are 4 degrees apart."""
    folder, takes = mocap
    near = {"a_1": 178.0, "a_2": -178.0, "b_1": -178.0}
    wave = {name: np.sin(x * 9) for name, x in takes.items()}
    write(**{f"{n}__amc": motion((x + near[n] + 180) % 360 - 180) for n, x in wave.items()})
    poses = data.motion.gather(folder)
    train = np.concatenate([x[: 8 * len(x) // 10] + near[n] % 360 for n, x in wave.items()])
    np.testing.assert_allclose(poses.mean.numpy(), train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(poses.std.numpy(), train.std(axis=0), rtol=1e-9)


def test_channels_that_do_not_move_in_training_are_left_out_and_named(tmp_path, write):
    x = walk(20)
    x[:, 1] = 7.125
    x[:, 3] = 1e-14 * x[:, 3]  # rounding
    x[:16, 5] = 0  # moves in the last two splits only
    write(s__asf=skeleton(), m__amc=motion(x))
    poses = data.motion.gather(tmp_path)
    assert poses.channels == ("thigh.rx", "thigh.rz", "foot.rx")
    assert poses.still == ("thigh.ry", "shin.rx", "foot.rz")
    assert poses.raw.image_shape == (1, 3) and poses.raw.pixels.isfinite().all()
    write(m__amc=motion(np.zeros((20, 6))))
    with pytest.raises(ValueError, match=r"no joint of .* moves by more than 0\.001 degrees"):
        data.motion.gather(tmp_path)


def test_each_subject_has_a_skeleton_of_its_own(tmp_path):
    """One in degrees, the other in radians; the poses are the same."""
    x = walk(20)
    for subject, unit in (("07", "deg"), ("08", "rad")):
        folder = tmp_path / "subjects" / subject
        folder.mkdir(parents=True)
        text = skeleton(units=f":units\n  angle {unit}\n")
        (folder / f"{subject}.ASF").write_text(text)
        values = x if unit == "deg" else np.radians(x)
        (folder / f"{subject}_01.AMC").write_text(motion(values, unit=""))
    (tmp_path / "other.asf").write_text("not read, because the others fit better")
    names = ["07_01.AMC", "subjects/08/08_01.AMC"]
    poses = data.motion.gather(tmp_path, {name: [name] for name in names}).raw
    first, second = (poses.pixels[poses.labels == label] for label in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "fitting"),
    [
        (["any.asf"], "any.asf"),
        (["s7.asf", "s8.asf", "s7_01.asf"], "s7_01.asf"),
        (["s8.asf", "s7.asf"], "s7.asf"),
        (["a/s7.asf", "walks/s7.asf", "walks/s8.asf"], "walks/s7.asf"),
        (["a/s7.asf", "walks/s8.asf"], "a/s7.asf"),
        (["S8.asf", "S7.asf"], "S7.asf"),
        (["a/s8.asf", "b/s9.asf", "walks/any.asf"], "walks/any.asf"),
    ],
    ids=[
        "only",
        "own name",
        "subject",
        "subject beside",
        "subject elsewhere",
        "upper case",
        "only one beside",
    ],
)
def test_the_nearest_skeleton_fits(names, fitting, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(skeleton() if name == fitting else "the wrong one")
    (tmp_path / "walks").mkdir(exist_ok=True)
    (tmp_path / "walks" / "s7_01.amc").write_text(motion(walk(10)))
    assert data.motion.gather(tmp_path).channels == CHANNELS


def test_several_skeletons_of_which_none_fits_are_refused(mocap, write):
    write(t__asf=skeleton())
    with pytest.raises(ValueError, match=r"none of the 2 skeletons fits .*: expected a\.asf, or"):
        data.motion.gather(mocap[0])


@pytest.mark.parametrize(
    ("bones", "message"),
    [
        (BONES | {"toes": ("rx",)}, r"7 and 6 \(only one of them has toes\.rx\)"),
        (dict(reversed(BONES.items())), r"6 and 6 \(the order differs\)"),
    ],
    ids=["another bone", "another order"],
)
def test_subjects_with_different_joints_cannot_be_mixed(bones, message, tmp_path, write):
    size = sum(map(len, bones.values()))
    write(a__asf=skeleton(), a_1__amc=motion(walk(10)))
    write(b__asf=skeleton(bones), b_1__amc=motion(walk(10, size=size), bones))
    with pytest.raises(ValueError, match=rf"b\.asf and .*a\.asf have different .*, {message}"):
        data.motion.gather(tmp_path)


def test_a_file_with_fewer_than_ten_frames_is_refused(mocap, write):
    write(a_2__amc=motion(walk(9)))
    with pytest.raises(ValueError, match=r"a_2\.amc has 9 frame\(s\), but .* need 10 or more"):
        data.load_motion(mocap[0])


@pytest.mark.parametrize(
    ("motions", "error", "message"),
    [
        ({"run": ["c_1.amc"]}, FileNotFoundError, "'run' names 'c_1.amc', which is not among the"),
        ({"run": ["s.asf"]}, FileNotFoundError, "'s.asf', which is not among the 3 .amc files of"),
        ({"run": "a_1.amc"}, TypeError, "to a list of files, .*, got {'run': 'a_1.amc'}"),
        (["a_1.amc"], TypeError, r"to a list of files, .*, got \['a_1.amc'\]"),
        ({}, ValueError, "every motion needs a file, got motions={}"),
        ({"run": ["a_1.amc"], "sit": []}, ValueError, "every motion needs a file, got .*'sit': "),
        ({"run": ["a_1.amc", "./a_1.amc"]}, ValueError, "occurs once, not so a_1.amc"),
        ({"run": ["a_1.amc"], "sit": ["a_1.amc"]}, ValueError, "occurs once, not so a_1.amc"),
    ],
)
def test_motions_that_cannot_be_meant_are_refused(motions, error, message, mocap):
    with pytest.raises(error, match=message):
        data.load_motion(mocap[0], motions)


def test_a_name_that_two_files_bear_needs_its_folder(mocap):
    folder, takes = mocap
    (folder / "more").mkdir()
    (folder / "more" / "a_1.amc").write_text(motion(takes["a_1"]))
    (folder / "even_more").mkdir()
    (folder / "even_more" / "a_2.amc").write_text(motion(takes["a_2"]))
    (folder / "a_2.amc").rename(folder / "more" / "a_2.amc")
    with pytest.raises(ValueError, match="5 .amc files, but only 3 different names; say with"):
        data.load_motion(folder)
    with pytest.raises(
        ValueError, match="may be any of even_more.a_2.amc, more.a_2.amc; name its"
    ):
        data.load_motion(folder, {"run": ["a_2.amc"]})
    assert len(data.load_motion(folder, {"run": ["more/a_2.amc", "a_1.amc"]}).train) == 28


def test_a_folder_that_lacks_something_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*none; get motions .*mocap\.cs\.cmu"):
        data.load_motion(tmp_path / "none")
    (tmp_path / "m.amc").write_text(motion(walk(10)))
    with pytest.raises(FileNotFoundError, match=r"has no skeleton \(\.asf\), which says what"):
        data.load_motion(tmp_path)
    (tmp_path / "m.amc").rename(tmp_path / "m.asf")
    with pytest.raises(FileNotFoundError, match=r"has no motion \(\.amc\)"):
        data.load_motion(tmp_path)
