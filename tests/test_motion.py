"""Motion capture: which files belong together, and what becomes of the recorded angles."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from acclaim import BONES, motion, skeleton, walk
from scipy.spatial.transform import Rotation

from hvae_course import data
from hvae_course.data.kinematics import joint_positions, joint_steps, read_body, rotation_matrix
from hvae_course.data.motion import EXPMAP_JOINTS

SPLITS = ("train", "validation", "test")
JOINTS = tuple(BONES)
CHANNELS = tuple(f"{j}.{c}" for j in ("thigh", "shin", "foot") for c in "xyz")
MOVING = tuple(c for c in CHANNELS if c not in ("shin.y", "shin.z"))
ignore_cuts = pytest.mark.filterwarnings("ignore:.*fewer than three recordings")


def turns(angles: np.ndarray) -> np.ndarray:
    """Rotation vectors ``(T, 4, 3)`` of the joints of the small skeleton, whose axes are those of
    the body."""
    x = np.zeros((len(angles), 4, 3))
    x[:, 1:, 0], x[:, 1, 1], x[:, 1, 2], x[:, 3, 2] = angles[:, [0, 3, 4]], *angles[:, [1, 2, 5]].T
    return Rotation.from_euler("xyz", x.reshape(-1, 3), degrees=True).as_rotvec().reshape(x.shape)


def features(angles: np.ndarray) -> np.ndarray:
    """The seven coordinates that can move, ``(T, 7)``."""
    rows = turns(angles)[:, 1:].reshape(-1, 9)
    return rows[:, [CHANNELS.index(name) for name in MOVING]]


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


def check_splits(dataset: data.DataSet, pieces: list[list[tuple[int, int, np.ndarray, int, int]]]):
    """Compare with label, recording, angles, first frame and end of every piece of each split."""
    train = np.concatenate([features(x)[start:end] for _, _, x, start, end in pieces[0]])
    for name, split in zip(SPLITS, pieces, strict=True):
        rows = [
            (label, number, t, (features(x)[t] - train.mean(axis=0)) / train.std(axis=0))
            for label, number, x, start, end in split
            for t in range(start, end)
        ]
        found = dataset.split(name)
        assert found.labels.tolist() == [label for label, *_ in rows]
        assert found.factors["recording"].tolist() == [number for _, number, *_ in rows]
        assert found.factors["time"].tolist() == [t for *_, t, _ in rows]
        assert (found.pixels.dtype, found.factors["time"].dtype) == (torch.float32, torch.float32)
        expected = torch.tensor(np.array([x for *_, x in rows])).float()
        torch.testing.assert_close(found.batch(slice(None)), expected, rtol=1e-5, atol=1e-5)


def test_a_motion_of_one_or_two_recordings_is_cut_in_time_with_a_warning(mocap):
    folder, takes = mocap
    files = [(0, 0, takes["b_1"]), (1, 1, takes["a_2"]), (1, 2, takes["a_1"])]
    cuts = {47: (0, 37, 42, 47), 10: (0, 8, 9, 10), 25: (0, 20, 22, 25)}
    with pytest.warns(
        data.DataWarning, match="^stroll, run have fewer than three .* alike: "
    ) as w:
        dataset = data.load_motion(folder, MOTIONS)
    assert len(w) == 1 and w[0].filename == __file__
    pieces = [[(*f, *cuts[len(f[2])][part : part + 2]) for f in files] for part in range(3)]
    check_splits(dataset, pieces)
    text = "motion, poses of 4 joints, real-valued, standardised, split 65/8/9 in time, 2 classes"
    assert str(dataset) == f"{text} (stroll, run)"


def test_a_motion_of_three_or_more_is_split_by_recording_and_never_within(mocap, write):
    folder, takes = mocap
    takes |= {f"c_{n}": walk(10 + n, seed=10 + n) for n in range(4)}
    write(**{f"{name}__amc": motion(x) for name, x in takes.items()})
    names = {"run": ["a_1", "c_0", "b_1"], "jump": ["c_2", "a_2", "c_3", "c_1"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = {name: [f"{n}.amc" for n in group] for name, group in names.items()}
        dataset = data.load_motion(folder, files)
    order = [takes[name] for group in names.values() for name in group]
    roles = [0, 1, 2, 0, 0, 1, 2]
    labels = [0, 0, 0, 1, 1, 1, 1]
    pieces = [
        [(labels[n], n, x, 0, len(x)) for n, x in enumerate(order) if roles[n] == part]
        for part in range(3)
    ]
    check_splits(dataset, pieces)
    assert " by recording, " in str(dataset)


@ignore_cuts
def test_a_model_knows_the_features_and_their_units(mocap):
    dataset = data.load_motion(mocap[0], MOTIONS)
    spec = dataset.spec
    assert (spec.shape, spec.feature_names, spec.num_classes) == ((7,), MOVING, 2)
    back = spec.standardisation.undo(dataset.train.pixels.double())[:37]
    expected = torch.from_numpy(features(mocap[1]["b_1"])[:37])
    torch.testing.assert_close(back, expected, rtol=0, atol=1e-6)


@ignore_cuts
def test_standardised_poses_turn_back_into_rotations_and_positions(mocap):
    folder, takes = mocap
    poses = data.motion.gather(folder, MOTIONS)
    assert (poses.motions, poses.cut) == (("stroll", "run"), ("stroll", "run"))
    assert poses.recordings == ("b_1.amc", "a_2.amc", "a_1.amc")
    assert (poses.channels, poses.joints) == (MOVING, JOINTS)
    assert poses.still == ("hip.x", "hip.y", "hip.z", "shin.y", "shin.z")
    train = poses.raw.pixels[: poses.raw.sizes[0]].double()
    torch.testing.assert_close(train.mean(dim=0), torch.zeros(7).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(train.std(dim=0, correction=0), torch.ones(7).double())
    back = poses.rotations(train[:37])
    expected = torch.from_numpy(turns(takes["b_1"])[:37])
    torch.testing.assert_close(back, expected, rtol=0, atol=1e-6)
    places = joint_positions(read_body(folder / "s.asf"), expected)
    torch.testing.assert_close(poses.positions(train[:37]), places, rtol=0, atol=1e-6)
    assert poses.positions(poses.raw.pixels[0]).shape == (5, 3)
    batch = poses.raw.pixels[:12].unflatten(0, (3, 4)).requires_grad_()
    assert poses.rotations(batch).shape == (3, 4, 4, 3)
    assert poses.rotations(batch).dtype == torch.float32
    mean = poses.rotations([0] * 7)
    assert torch.equal(mean, poses.rotations(torch.zeros(7))) and mean.any()
    poses.positions(batch).square().sum().backward()
    assert batch.grad.isfinite().all() and batch.grad.any()
    with pytest.raises(ValueError, match=r"a pose has 7 features, got the shape \(2, 8\)"):
        poses.rotations(torch.zeros(2, 8))


@ignore_cuts
def test_every_file_is_a_motion_of_its_own_unless_told_otherwise(mocap):
    poses = data.motion.gather(mocap[0])
    assert poses.motions == ("a_1", "a_2", "b_1")
    assert poses.raw.labels.bincount().tolist() == [25, 10, 47]


@ignore_cuts
def test_where_the_body_stands_and_faces_changes_nothing(mocap, write):
    folder, takes = mocap
    before = data.load_motion(folder).train.pixels
    write(b_1__amc=motion(takes["b_1"], root=(77, -3, 1e3, 170, -90, 12)))
    assert torch.equal(data.load_motion(folder).train.pixels, before)


@ignore_cuts
@pytest.mark.filterwarnings("ignore:.* of a held-out frame is .* standard deviations")
def test_held_out_frames_have_no_say_in_the_training_frames(mocap, write):
    folder, takes = mocap
    before = data.load_motion(folder).train.pixels
    takes["b_1"][37:] += 30 * np.arange(1, 11)[:, None]
    write(b_1__amc=motion(takes["b_1"]))
    assert torch.equal(data.load_motion(folder).train.pixels, before)


@ignore_cuts
@pytest.mark.parametrize("unit", ["degrees", "radians"])
def test_a_joint_that_turns_and_turns_makes_no_jump(unit, tmp_path, write):
    """About one axis, its vector grows beyond half a turn."""
    true = np.arange(30.0)[:, None] * [0, 0, 0, 40, 0, 0]
    wrapped = (true + 180) % 360 - 180
    text = wrapped if unit == "degrees" else np.radians(wrapped)
    write(s__asf=skeleton(), m__amc=motion(text, unit=f":{unit}\n"))
    poses = data.motion.gather(tmp_path)
    assert poses.channels == ("shin.x",)
    angles = poses.rotations(poses.raw.pixels.double())[:, 2, 0].rad2deg()
    torch.testing.assert_close(angles, torch.from_numpy(true[:, 3]), rtol=1e-6, atol=1e-4)


@ignore_cuts
def test_files_on_either_side_of_half_a_turn_are_brought_together(mocap, write):
    """One body holds a joint at 178 degrees, the other at -178, which are 4 degrees apart."""
    folder, takes = mocap
    near = {"a_1": 178.0, "a_2": -178.0, "b_1": -178.0}
    wave = {name: np.sin(x * 9) * [0, 0, 0, 1, 0, 0] for name, x in takes.items()}
    at = {name: x + [0, 0, 0, near[name], 0, 0] for name, x in wave.items()}
    write(**{f"{n}__amc": motion((x + 180) % 360 - 180) for n, x in at.items()})
    poses = data.motion.gather(folder)
    train = np.concatenate([x[: 8 * len(x) // 10, 3] % 360 for x in at.values()])
    assert poses.mean.rad2deg().item() == pytest.approx(train.mean(), rel=1e-12)
    assert poses.std.rad2deg().item() == pytest.approx(train.std(), rel=1e-9)


@ignore_cuts
def test_coordinates_that_do_not_move_in_training_are_left_out_and_named(tmp_path, write):
    x = walk(20)
    x[:, :3] = [0, 7.125, 0]
    x[:, 3] *= 1e-9  # rounding
    x[:16, 5] = 0  # moves in the last two splits only, and with it y
    write(s__asf=skeleton(), m__amc=motion(x))
    poses = data.motion.gather(tmp_path)
    assert poses.channels == ("foot.x",)
    assert len(poses.still) == 11 and {"thigh.y", "shin.x", "foot.z"} < set(poses.still)
    assert poses.raw.image_shape == (1,) and poses.raw.pixels.isfinite().all()
    rest = poses.rotations(torch.zeros(1))
    expected = [[0, 0, 0], [0, 7.125, 0], [0, 0, 0], [float(x[:16, 4].mean()), 0, 0]]
    torch.testing.assert_close(rest.rad2deg(), torch.tensor(expected), rtol=1e-5, atol=1e-5)
    write(m__amc=motion(np.zeros((20, 6))))
    with pytest.raises(ValueError, match=r"no joint of .* moves by more than 0\.0001 radians"):
        data.motion.gather(tmp_path)


@ignore_cuts
def test_joints_can_be_left_out(mocap):
    folder, takes = mocap
    poses = data.motion.gather(folder, MOTIONS, leave_out=["foot", "lthumb"])
    assert poses.channels == MOVING[:4]
    foot = poses.rotations(torch.randn(5, 4).double())[:, 3]
    train = [turns(takes["b_1"])[:37], turns(takes["a_2"])[:8], turns(takes["a_1"])[:20]]
    expected = torch.from_numpy(np.concatenate(train)[:, 3].mean(axis=0)).expand(5, 3)
    torch.testing.assert_close(foot, expected)
    assert data.load_motion(folder, leave_out=JOINTS[:3]).feature_names == MOVING[4:]
    for wrong in ("foot", None):
        with pytest.raises(TypeError, match=f"list of joints, .. for none, got {wrong!r}"):
            data.motion.gather(folder, leave_out=wrong)
    with pytest.raises(ValueError, match="names tail, and the joints are hip, thigh, shin, foot"):
        data.motion.gather(folder, leave_out=["tail", "foot"])
    with pytest.raises(ValueError, match="leave_out names all 4 joints; keep some"):
        data.motion.gather(folder, leave_out=JOINTS)


@ignore_cuts
def test_a_calibration_pose_at_the_beginning_is_dropped(mocap, write):
    folder, takes = mocap
    pose = takes["b_1"][:1] + [0, 0, 0, 60, 0, 0]
    with_pose = np.concatenate([pose, takes["b_1"]])
    before = data.motion.gather(folder, MOTIONS)
    write(b_1__amc=motion(with_pose))
    poses = data.motion.gather(folder, MOTIONS)
    assert (before.dropped, poses.dropped) == (0, 1)
    assert torch.equal(poses.raw.pixels, before.raw.pixels)
    assert torch.equal(poses.raw.factors["time"], before.raw.factors["time"])
    write(b_1__amc=motion(with_pose - 5 * (np.arange(48) == 0)[:, None] * [0, 0, 0, 1, 0, 0]))
    assert data.motion.gather(folder, MOTIONS).dropped == 0  # by 55 degrees, below 1 radian


@ignore_cuts
def test_frames_in_which_a_joint_jumps_and_comes_back_are_dropped(tmp_path, write):
    x = walk(100)
    x[[30, 50, 51]] += [0, 0, 0, 100, 0, 0]
    x[70:72] += [0, 80, 0, 0, 0, 0]  # fast, but less than a quarter turn
    write(s__asf=skeleton(), m__amc=motion(x))
    poses = data.motion.gather(tmp_path)
    assert poses.dropped == 3
    assert set(range(100)) - set(poses.raw.factors["time"].tolist()) == {30, 50, 51}
    assert data.motion.gather(tmp_path, leave_out=["shin"]).dropped == 0


@ignore_cuts
def test_a_joint_that_jumps_for_good_is_reported(tmp_path, write):
    x = walk(100)
    x[30:] += [0, 0, 0, 120, 0, 0]
    write(s__asf=skeleton(), m__amc=motion(x))
    with pytest.warns(data.DataWarning, match="70 of 100 frames of m.amc were dropped, .* 90 deg"):
        poses = data.motion.gather(tmp_path)
    assert poses.dropped == 70
    write(m__amc=motion(x[24:]))
    with pytest.raises(ValueError, match=r"m.amc has 6 usable frame\(s\) of 76, .* needs 10"):
        data.motion.gather(tmp_path)


@ignore_cuts
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


@ignore_cuts
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
    assert data.motion.gather(tmp_path).channels == MOVING


def test_several_skeletons_of_which_none_fits_are_refused(mocap, write):
    write(t__asf=skeleton())
    with pytest.raises(ValueError, match=r"none of the 2 skeletons fits .*: expected a\.asf, or"):
        data.motion.gather(mocap[0])


@pytest.mark.parametrize(
    ("bones", "message"),
    [
        (BONES | {"toes": ("rx",)}, r"5 and 4 \(only one of them has toes\)"),
        (dict(reversed(BONES.items())), r"4 and 4 \(the order differs\)"),
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
    with pytest.raises(ValueError, match=r"a_2\.amc has 9 usable frame\(s\) of 9, .* needs 10 or"):
        data.load_motion(mocap[0])


@pytest.mark.parametrize(
    ("motions", "error", "message"),
    [
        ({"run": ["c_1.amc"]}, FileNotFoundError, "'run' names 'c_1.amc', which is not among the"),
        ({"run": ["s.asf"]}, FileNotFoundError, "'s.asf', which is not among the 3 .amc files of"),
        ({"run": "a_1.amc"}, TypeError, "to a list of files, .*, got {'run': 'a_1.amc'}"),
        ({"run": {"a_1.amc"}}, TypeError, "to a list of files, .*, got {'run': {'a_1.amc'}}"),
        ({"run": [1]}, TypeError, r"to a list of files, .*, got {'run': \[1\]}"),
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


@ignore_cuts
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


@ignore_cuts
def test_files_hidden_by_the_system_and_marks_of_editors_are_passed_over(mocap, write):
    folder, takes = mocap
    expected = data.load_motion(folder).fingerprint()
    write(**{"._a_1__amc": "\0\5", "._s__asf": "\0\5"})
    mark = "\xef\xbb\xbf"
    write(s__asf=mark + skeleton(), a_1__amc=mark + motion(takes["a_1"]))
    assert data.load_motion(folder).fingerprint() == expected


def test_a_path_is_a_word_or_a_path():
    with pytest.raises(TypeError, match="a path is a string or a pathlib.Path, got None"):
        data.load_motion(None)


def test_a_coordinate_that_moves_in_held_out_frames_only_is_reported(tmp_path, write):
    still, moving = walk(30), walk(30, seed=1)
    still[:, 3] *= 1e-3
    write(s__asf=skeleton(), a_1__amc=motion(still), a_2__amc=motion(still))
    write(a_3__amc=motion(moving))
    files = {"run": ["a_1.amc", "a_2.amc", "a_3.amc"]}
    with pytest.warns(data.DataWarning, match=r"shin\.x of a held-out frame is \d+ standard dev"):
        data.load_motion(tmp_path, files)
    data.load_motion(tmp_path, files, leave_out=["shin"])


def test_a_folder_that_lacks_something_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*none; .*download_motion\(\) fetches"
    ):
        data.load_motion(tmp_path / "none")
    (tmp_path / "m.amc").write_text(motion(walk(10)))
    with pytest.raises(FileNotFoundError, match=r"has no skeleton \(\.asf\), which says what"):
        data.load_motion(tmp_path)
    (tmp_path / "m.amc").rename(tmp_path / "m.asf")
    with pytest.raises(FileNotFoundError, match=r"has no motion \(\.amc\)"):
        data.load_motion(tmp_path)
    with pytest.raises(
        ValueError, match=r"give a folder, or a file .npz .* got the file .*m\.asf"
    ):
        data.load_motion(tmp_path / "m.asf")


def recording(frames: int = 12, seed: int = 0) -> np.ndarray:
    """An array of the second form, whose end sites and left hip do not turn."""
    rows = np.cumsum(np.random.default_rng(seed).normal(0, 0.02, (frames, 117)), axis=0)
    for number, joint in enumerate(EXPMAP_JOINTS):
        if joint in ("", "lhipjoint"):
            rows[:, 6 + 3 * number : 9 + 3 * number] = 0
    return rows.astype(np.float32)


THREE = ("train/walk_1", "train/walk_2", "test/walk_1")


@pytest.fixture
def save(tmp_path):
    def write(**arrays: np.ndarray) -> Path:
        np.savez(tmp_path / "cmu_expmap.npz", **arrays)
        return tmp_path / "cmu_expmap.npz"

    return write


def test_rotations_of_the_second_form_have_their_sign_turned_round(save):
    arrays = {name: recording(12 + n, n) for n, name in enumerate(THREE)}
    poses = data.motion.gather(save(**arrays))
    assert (poses.motions, poses.recordings, poses.raw.sizes) == (("walk",), THREE, (12, 13, 14))
    assert (poses.dropped, poses.cut, poses.body, len(poses.joints)) == (0, (), None, 30)
    assert len(poses.channels) == 3 * 27 and not {"lthumb.x", "lhipjoint.x"} & set(poses.channels)
    found = poses.rotations(poses.raw.pixels)[:12, poses.joints.index("rfemur")]
    start = 6 + 3 * EXPMAP_JOINTS.index("rfemur")
    expected = torch.from_numpy(-arrays["train/walk_1"][:, start : start + 3])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="positions need the lengths .* there is no skeleton"):
        poses.positions(poses.raw.pixels)


def test_the_last_training_recording_of_a_motion_is_for_validation(save):
    names = [f"train/slow_run_{n}" for n in (10, 9, 1)] + ["test/slow_run_2", "test/slow_run_1"]
    arrays = {name: recording(10 + n, n) for n, name in enumerate([*names, *THREE])}
    poses = data.motion.gather(save(**arrays))
    assert poses.motions == ("slow_run", "walk")
    assert poses.recordings == (names[2], names[1], names[0], names[4], names[3], *THREE)
    numbers = poses.raw.factors["recording"].split(poses.raw.sizes)
    assert [sorted(set(part.tolist())) for part in numbers] == [[0, 1, 5], [2, 6], [3, 4, 7]]
    folder = data.load_motion(save(**arrays).parent)
    assert torch.equal(folder.train.pixels, poses.raw.pixels[: poses.raw.sizes[0]])
    walks = data.load_motion(save(**arrays), ["walk"])
    assert (walks.class_names, len(walks.test)) == (("walk",), 17)


def test_a_folder_with_both_forms_is_read_as_the_second_unless_files_are_named(save, mocap):
    folder, _ = mocap
    save(**{name: recording(12 + n, n) for n, name in enumerate(THREE)})
    assert data.load_motion(folder).class_names == ("walk",)
    with pytest.warns(data.DataWarning, match="^run has fewer than three recordings"):
        assert data.load_motion(folder, {"run": ["a_1.amc"]}).class_names == ("run",)


def test_the_first_skeleton_of_the_same_joints_gives_the_lengths(save, mocap):
    path = save(**{name: recording(12 + n, n) for n, name in enumerate(THREE)})
    assert data.motion.gather(path).body is None  # s.asf has other joints
    joints = {joint: ("rx",) for joint in EXPMAP_JOINTS if joint}
    for name, length in (("t", 1), ("u", 7)):
        text = skeleton(joints).replace("length 2", f"length {length}")
        (path.parent / f"{name}.asf").write_text(text)
    poses = data.motion.gather(path)
    x = poses.raw.pixels.double()
    assert poses.positions(x).shape == (39, 31, 3)
    assert poses.positions(x).diff(dim=1).norm(dim=-1).max() == pytest.approx(0.0254)


def broken(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    return {key: recording(12 + n, n) for n, key in enumerate(THREE)} | {name: value}


NOT_A_NUMBER = recording()
NOT_A_NUMBER[7, 50] = np.nan


@pytest.mark.parametrize(
    ("arrays", "motions", "error", "message"),
    [
        (broken("walk_3", recording()), None, ValueError, "holds 'walk_3', and recordings have"),
        (broken("train/walk", recording()), None, ValueError, "holds 'train/walk', and recordin"),
        (
            broken("train/walk_3", recording()[:, :116]),
            None,
            ValueError,
            r"real numbers \(T, 117\), got train/walk_3 with float32 numbers \(12, 116\)",
        ),
        (broken("train/walk_3", recording()[0]), None, ValueError, r"float32 numbers \(117,\)"),
        (
            broken("train/walk_3", recording().astype(int)),
            None,
            ValueError,
            r"int64 numbers \(12, 117\)",
        ),
        (broken("train/walk_3", NOT_A_NUMBER), None, ValueError, "frame 7 of train/walk_3 holds"),
        (
            broken("train/walk_3", recording()[:0]),
            None,
            ValueError,
            r"train/walk_3 has 0 usable frame\(s\) of 0, .* needs 10",
        ),
        (broken("train/walk_3", recording()[:1]), None, ValueError, r"1 usable frame\(s\) of 1"),
        ({}, None, ValueError, "holds no recordings"),
        (
            broken("test/run_1", recording()),
            None,
            ValueError,
            "two training recordings, .* one for the test, got 0 and 1 of run",
        ),
        ({name: recording() for name in THREE[:2]}, None, ValueError, "got 2 and 0 of walk"),
        ({THREE[0]: recording(), THREE[2]: recording()}, None, ValueError, "got 1 and 1 of walk"),
        ({name: recording() for name in THREE}, ["run"], ValueError, "no motion 'run'; .* walk"),
        ({name: recording() for name in THREE}, [], ValueError, r"names every motion .* got \[\]"),
        ({name: recording() for name in THREE}, ["walk"] * 2, ValueError, "names every motion on"),
        ({name: recording() for name in THREE}, "walk", TypeError, r"such as \['walk'\], got 'wa"),
        ({name: recording() for name in THREE}, {"walk": ["a"]}, TypeError, "got {'walk': "),
        ({name: recording() for name in THREE}, {"walk"}, TypeError, "got {'walk'}"),
        (broken("train/walk_3", recording() * 90), None, ValueError, r"radians, np.radians\(row"),
        ({name: recording() for name in THREE}, 3, TypeError, "is a list of motions of .* got 3"),
    ],
)
def test_a_wrong_file_of_recordings_is_refused(arrays, motions, error, message, save):
    with pytest.raises(error, match=message) as caught:
        data.load_motion(save(**arrays), motions)
    assert (
        "cmu_expmap.npz" in str(caught.value)
        or "motions=" in str(caught.value)
        or "usable" in (str(caught.value))
    )


def test_a_damaged_file_of_recordings_is_refused(tmp_path):
    path = tmp_path / "some.npz"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(
        ValueError, match=r"some.npz is not a file of arrays \(.npz\), or is damag"
    ):
        data.load_motion(path)


@pytest.fixture(scope="module")
def cmu() -> data.motion.MotionSet:
    folder = Path(os.environ.get("HVAE_DATA", "")) / "cmu"
    if not (folder / "cmu_expmap.npz").is_file():
        pytest.skip("HVAE_DATA names no folder that holds cmu/cmu_expmap.npz")
    return data.motion.gather(folder)


def test_the_benchmark_has_five_motions_without_calibration_poses_and_jumps(cmu):
    assert cmu.motions == ("walking", "running", "jumping", "soccer", "basketball")
    assert (cmu.raw.sizes, len(cmu.channels), cmu.dropped) == ((9332, 1798, 3778), 56, 37)
    recording, turns = cmu.raw.factors["recording"], cmu.rotations(cmu.raw.pixels.double())
    largest = [joint_steps(turns[recording == n]).max() for n in range(30)]
    assert max(largest) < 50  # degrees at 120 frames per second
    assert turns.norm(dim=-1).max() < 2.8  # so no vector is near half a turn, where it would jump


def test_poses_of_the_benchmark_stand_on_their_feet(cmu):
    walking = cmu.raw.pixels[cmu.raw.factors["recording"] == 0]
    places = cmu.positions(walking)
    names = cmu.body.names
    assert places.shape == (343, 31, 3) and not places[:, 0].any()
    head, feet = places[:, names.index("head")], [names.index(f"{side}foot") for side in "lr"]
    assert head[:, 1].min() > 0.5 and places[:, feet, 1].max() < -0.4
    lowest = places[..., 1].amin(dim=1)  # one foot is always on the ground
    assert lowest.std() < 0.03


def test_both_forms_give_the_same_features(cmu):
    folder = Path(os.environ["HVAE_DATA"]) / "cmu"
    with pytest.warns(data.DataWarning, match="walking has fewer"):
        files = data.motion.gather(folder, {"walking": ["02_01.amc"]})
    assert files.joints == cmu.joints
    time = files.raw.factors["time"].argsort()
    first = cmu.raw.factors["recording"] == 0
    ours = rotation_matrix(files.rotations(files.raw.pixels[time].double()))
    theirs = rotation_matrix(cmu.rotations(cmu.raw.pixels[first].double()))
    thumbs = [cmu.joints.index(name) for name in ("lthumb", "rthumb")]
    kept = [j for j in range(30) if j not in thumbs]
    torch.testing.assert_close(ours[:, kept], theirs[:, kept], rtol=0, atol=2e-4)
    assert set(files.channels) <= set(cmu.channels)
