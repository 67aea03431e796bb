"""Rotations of joints, and the positions that they lead to."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from acclaim import skeleton
from scipy.spatial.transform import Rotation

from hvae_course.data.asf_amc import read_motion, read_skeleton
from hvae_course.data.kinematics import (
    Body,
    joint_positions,
    joint_steps,
    read_body,
    rotation_matrix,
    rotation_vector,
    rotations_of,
)

ENDS = ("ltoes", "rtoes", "head", "lfingers", "lthumb", "rfingers", "rthumb")
"""Bones that no other hangs on; the other form of the recordings has a joint without motion after
each of them."""


@pytest.fixture(scope="module")
def cmu() -> Path:
    """The folder of the recordings that these tests are checked against."""
    folder = Path(os.environ.get("HVAE_DATA", "")) / "cmu"
    if not (folder / "cmu_expmap.npz").is_file():
        pytest.skip("HVAE_DATA names no folder that holds cmu/cmu_expmap.npz")
    return folder


def vectors(angles: torch.Tensor) -> torch.Tensor:
    """Rotation vectors of these lengths in random directions."""
    direction = torch.randn(*angles.shape, 3, dtype=angles.dtype)
    return angles[..., None] * direction / direction.norm(dim=-1, keepdim=True)


SMALL_AND_LARGE = torch.cat(
    [
        torch.logspace(-160, 0, 60, dtype=torch.float64),
        math.pi - torch.logspace(-7, 0, 60, dtype=torch.float64),
    ]
)


def test_a_rotation_matrix_is_that_of_scipy_at_every_angle():
    v = vectors(torch.cat([SMALL_AND_LARGE, SMALL_AND_LARGE + math.pi]))
    expected = torch.from_numpy(Rotation.from_rotvec(v.numpy()).as_matrix())
    torch.testing.assert_close(rotation_matrix(v), expected, rtol=0, atol=2e-15)


def test_without_a_rotation_the_matrix_is_the_unit_matrix_and_its_gradient_the_cross_product():
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(rotation_matrix(zero), torch.eye(3, dtype=torch.float64))
    slope = torch.autograd.functional.jacobian(rotation_matrix, zero)
    assert torch.equal(
        slope,
        torch.linalg.cross(
            *torch.broadcast_tensors(
                torch.eye(3, dtype=torch.float64)[None], torch.eye(3, dtype=torch.float64)[:, None]
            )
        ).permute(2, 0, 1),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_survive_the_way_through_matrices_to_the_last_digits(dtype):
    v = vectors(SMALL_AND_LARGE.clamp_min(1e-37)).to(dtype)
    v = v[v.norm(dim=-1) < math.pi - 10 * torch.finfo(dtype).eps]  # beyond, opposite vectors
    back = rotation_vector(rotation_matrix(v)).double()
    error = (back - v).norm(dim=-1) / v.double().norm(dim=-1)
    assert error.max() < 10 * torch.finfo(dtype).eps


def test_half_a_turn_has_one_of_two_opposite_vectors():
    for v in vectors(torch.full((50,), math.pi, dtype=torch.float64)):
        back = rotation_vector(rotation_matrix(v))
        assert min((back - v).norm(), (back + v).norm()) < 1e-14
    diagonal = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    torch.testing.assert_close(rotation_vector(diagonal).abs(), torch.tensor([0, math.pi, 0]))


def test_gradients_are_right_and_finite_without_a_rotation():
    v = vectors(torch.tensor([1e-3, 1.0, 3.0]).double()).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: rotation_vector(rotation_matrix(v)), v)
    zero = torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True)
    rotation_vector(rotation_matrix(zero)).sum().backward()
    torch.testing.assert_close(zero.grad, torch.ones_like(zero), rtol=0, atol=0)
    zero.grad = None
    joint_steps(zero).sum().backward()
    assert zero.grad.isfinite().all()


ARM = Body(
    ("root", "upper", "lower", "hand", "leg"),
    (-1, 0, 1, 2, 0),
    torch.tensor([[0, 0, 0], [0, 2, 0], [0, 1, 0], [0, 0.5, 0], [0, -3, 0]]).double(),
)


def test_second_derivatives_are_right_without_a_rotation():
    vectors = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    vectors.data[1] = torch.tensor([0.3, -0.4, 0.5])
    assert torch.autograd.gradgradcheck(rotation_matrix, (vectors,))
    assert torch.autograd.gradgradcheck(lambda v: rotation_vector(rotation_matrix(v)), (vectors,))


def test_positions_of_an_arm_computed_by_hand():
    quarter = math.pi / 2
    turns = torch.zeros(4, 3).double()
    torch.testing.assert_close(
        joint_positions(ARM, turns)[:, 1], torch.tensor([0, 2, 3, 3.5, -3]).double()
    )
    turns[0, 2] = quarter  # the arm to the side, y to -x
    turns[1, 0] = quarter  # the elbow to the front, y to z
    expected = torch.tensor([[0, 0, 0], [-2, 0, 0], [-2, 0, 1], [-2, 0, 1.5], [0, -3, 0]]).double()
    torch.testing.assert_close(joint_positions(ARM, turns), expected)
    root = torch.tensor([10, 20, 30, 0, 0, quarter]).double()  # x to y, y to -x
    place = torch.tensor([10, 20, 30]).double()
    expected = torch.tensor([[0, 0, 0], [0, -2, 0], [0, -2, 1], [0, -2, 1.5], [3, 0, 0]]).double()
    torch.testing.assert_close(joint_positions(ARM, turns, root), place + expected)


def test_bones_keep_their_lengths_in_every_pose_and_batch():
    turns = torch.randn(2, 5, 4, 3)
    positions = joint_positions(ARM, turns, torch.randn(2, 5, 6))
    assert positions.shape == (2, 5, 5, 3) and positions.dtype == torch.float32
    bones = positions[..., 1:, :] - positions[..., list(ARM.parents[1:]), :]
    length = ARM.offsets[1:].norm(dim=-1).float().expand(2, 5, 4)
    torch.testing.assert_close(bones.norm(dim=-1), length)
    one = joint_positions(ARM, turns[1, 3])
    torch.testing.assert_close(one, joint_positions(ARM, turns)[1, 3])


def test_positions_have_the_type_of_the_rotations_whatever_that_of_the_root():
    root, turns = torch.randn(6), torch.randn(4, 3, dtype=torch.float64)
    expected = joint_positions(ARM, turns, root.double())
    assert torch.equal(joint_positions(ARM, turns, root), expected)
    assert joint_positions(ARM, turns.float(), root.double()).dtype == torch.float32


def test_parents_from_an_array_are_python_numbers():
    body = Body(("root", "a"), np.array([-1, 0]), torch.zeros(2, 3))
    assert [type(parent) for parent in body.parents] == [int, int]
    with pytest.raises(TypeError, match="float"):
        Body(("root", "a"), (-1, 0.5), torch.zeros(2, 3))


def test_positions_are_differentiable():
    turns = (torch.randn(2, 4, 3).double()).requires_grad_()
    root = torch.randn(2, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t, r: joint_positions(ARM, t, r), (turns, root))


def test_an_angle_turns_about_the_tilted_axis_of_its_bone(tmp_path):
    """An x axis tilted by 90 degrees about z is the body's y; z by 90 about x is its -y."""
    text = skeleton({"side": ("rx",), "front": ("rz", "rx"), "stiff": ()})
    sides = text.split("axis 0 0 0")
    assert len(sides) == 4
    (tmp_path / "s.asf").write_text(
        "axis".join([sides[0], f" 0 0 90{sides[1].removeprefix('axis')}", f" 90 0 0{sides[2]}"])
        + f"axis 0 0 0{sides[3]}"
    )
    asf = read_skeleton(tmp_path / "s.asf")
    assert asf.channels == ("side.rx", "front.rz", "front.rx")
    only = rotations_of(asf, torch.tensor([[30.0, 50.0, 0.0], [0.0, 0.0, 20.0]]).double())
    expected = torch.tensor([[[0, 30, 0], [0, -50, 0]], [[0, 0, 0], [20, 0, 0]]]).double()
    torch.testing.assert_close(only[:, :2].rad2deg(), expected)
    assert torch.equal(only[:, 2], torch.zeros(2, 3).double())
    both = rotations_of(asf, torch.tensor([0.0, 90.0, 90.0]).double())[1]
    first, second = (Rotation.from_rotvec(v) for v in ([0, -np.pi / 2, 0], [np.pi / 2, 0, 0]))
    np.testing.assert_allclose(both, (second * first).as_rotvec())


def test_a_body_hangs_together_as_its_file_says(tmp_path):
    (tmp_path / "s.asf").write_text(skeleton({"leg": ("rx",), "foot": ()}))
    body = read_body(tmp_path / "s.asf")
    assert (body.names, body.parents) == (("root", "leg", "foot"), (-1, 0, 1))
    two_inches = [[0, 0, 0], [0, -0.0508, 0], [0, -0.0508, 0]]
    torch.testing.assert_close(body.offsets, torch.tensor(two_inches).double())


def test_a_step_is_the_angle_between_two_poses_whichever_vectors_write_them():
    angles = torch.tensor([3.0, 3.2, 3.2 - 2 * math.pi], dtype=torch.float64)
    steps = joint_steps(angles[:, None, None] * torch.tensor([0, 0.6, 0.8], dtype=torch.float64))
    torch.testing.assert_close(steps.deg2rad(), torch.tensor([[0.2], [0.0]], dtype=torch.float64))
    turns = torch.randn(3, 6, 4, 3).double() * 2
    pairs = [Rotation.from_rotvec(turns[:, t].reshape(-1, 3).numpy()) for t in range(6)]
    for t in range(5):
        angle = np.degrees((pairs[t].inv() * pairs[t + 1]).magnitude()).reshape(3, 4)
        np.testing.assert_allclose(joint_steps(turns)[:, t], angle, rtol=1e-12)
    assert joint_steps(turns[:, :1]).shape == (3, 0, 4)


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9])
def test_small_steps_keep_their_digits_beside_large_rotations(angle):
    base = vectors(torch.full((20,), 2.0, dtype=torch.float64))
    small = vectors(torch.full((20,), angle, dtype=torch.float64))
    turned = rotation_vector(rotation_matrix(base) @ rotation_matrix(small))
    steps = joint_steps(torch.stack([base, turned])).deg2rad()
    torch.testing.assert_close(
        steps, torch.full((1, 20), angle, dtype=torch.float64), rtol=0, atol=3e-15
    )


def test_what_is_no_rotation_is_refused():
    with pytest.raises(ValueError, match=r"have 3 coordinates, got the shape \(2, 4\)"):
        rotation_matrix(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="must be a floating-point tensor, got torch.int64"):
        rotation_matrix(torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeError, match="must be a floating-point tensor, got ndarray"):
        rotation_matrix(np.zeros(3))
    with pytest.raises(ValueError, match=r"are \(\.\.\., 3, 3\), got the shape \(4, 3\)"):
        rotation_vector(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"are \(\.\.\., 3, 3\), got the shape \(3,\)"):
        rotation_vector(torch.zeros(3))
    with pytest.raises(ValueError, match=r"has 4 bones, .* \(\.\.\., 4, 3\), got \(7, 5, 3\)"):
        joint_positions(ARM, torch.zeros(7, 5, 3))
    with pytest.raises(ValueError, match=r"has 4 bones, .* got \(3,\)"):
        joint_positions(ARM, torch.zeros(3))
    with pytest.raises(ValueError, match=r"root is \(\.\.\., 6\), .* \(7,\), got \(6,\)"):
        joint_positions(ARM, torch.zeros(7, 4, 3), torch.zeros(6))
    with pytest.raises(TypeError, match="root must be a floating-point tensor, got list"):
        joint_positions(ARM, torch.zeros(4, 3), [0.0] * 6)
    with pytest.raises(ValueError, match=r"a path of poses is .* got the shape \(5, 3\)"):
        joint_steps(torch.zeros(5, 3))


@pytest.mark.parametrize(
    ("names", "parents", "offsets", "message"),
    [
        (("root", "a"), (-1,), [[0.0] * 3] * 2, r"2 points needs 2 parents .* got 1 parents"),
        (("root", "a"), (-1, 0), [[0.0] * 3], r"offsets \(2, 3\), got 2 parents and offsets \(1"),
        (("root", "a"), (-1, 1), [[0.0] * 3] * 2, r"follows the one .* parents \(-1, 1\)"),
        (("root", "a"), (0, 0), [[0.0] * 3] * 2, r"point 0 is the root, .* parents \(0, 0\)"),
        (("root", "a"), (-1, -1), [[0.0] * 3] * 2, r"parents \(-1, -1\); sort the bones"),
    ],
)
def test_a_body_that_does_not_hang_together_is_refused(names, parents, offsets, message):
    with pytest.raises(ValueError, match=message):
        Body(names, parents, torch.tensor(offsets))
    with pytest.raises(ValueError, match=r"point 0 is the root, got the parents \(\)"):
        Body((), (), torch.zeros(0, 3))


def test_angles_that_are_not_those_of_the_skeleton_are_refused(tmp_path):
    (tmp_path / "s.asf").write_text(skeleton())
    with pytest.raises(ValueError, match=r"has 6 channels, got angles \(4, 5\)"):
        rotations_of(read_skeleton(tmp_path / "s.asf"), torch.zeros(4, 5))


def walking(cmu: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Position and rotation of the root as recorded, ``(T, 6)``, and rotations of the bones."""
    with np.load(cmu / "cmu_expmap.npz") as recordings:
        rows = torch.from_numpy(recordings["train/walking_1"][1:]).double()
    rows[:, 3:] *= -1  # this form of the recordings has the vectors of the inverse rotations
    columns, place = [], 6
    for bone in read_skeleton(cmu / "12.asf").bones:
        columns.append(range(place, place + 3))
        place += 6 if bone in ENDS else 3
    return rows[:, :6], rows[:, torch.tensor(columns)]


def test_both_forms_of_a_recording_hold_the_same_rotations(cmu):
    asf = read_skeleton(cmu / "12.asf")
    turns = rotations_of(asf, torch.from_numpy(read_motion(cmu / "02_01.amc", asf)))
    root, expected = walking(cmu)
    assert turns.shape == (343, 30, 3)
    torch.testing.assert_close(turns, expected, rtol=0, atol=1e-5)
    body = read_body(cmu / "12.asf")
    torch.testing.assert_close(
        joint_positions(body, turns), joint_positions(body, expected), rtol=0, atol=1e-5
    )
    first = next(
        line.split()[1:] for line in (cmu / "02_01.amc").read_text().split("\n") if "root" in line
    )
    place, angles = np.split(np.array(first, dtype=float), 2)
    np.testing.assert_allclose(root[0, :3], place, atol=1e-4)
    # this form turns the root about y, then x, then z, where the skeleton says x, y, z
    turn = Rotation.from_euler("yxz", angles[[1, 0, 2]], degrees=True).as_rotvec()
    np.testing.assert_allclose(root[0, 3:], turn, atol=1e-5)


def test_the_foot_that_bears_the_weight_stays_where_it_is(cmu):
    """It moves by about a millimetre per frame, and the other one by three centimetres."""
    root, turns = walking(cmu)
    body = read_body(cmu / "12.asf")
    root[:, :3] *= 0.0254 / 0.45
    balls = [body.names.index(bone) for bone in ("lfoot", "rfoot")]

    def steps(turns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moved = joint_positions(body, turns, root)[:, balls].diff(dim=0).norm(dim=-1)
        slow, fast = moved.sort(dim=1).values.unbind(dim=1)
        return slow.quantile(0.25), fast.quantile(0.9)

    slow, fast = steps(turns)
    assert slow < 0.0015 and 0.03 < fast < 0.04
    assert steps(-turns)[0] > 5 * slow  # of the inverse rotations
