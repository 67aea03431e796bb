"""The table of human motion in chapter 7: how it is made."""

import json
import math
import os
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import motion, motion_figures
from benchmarks.motion import MODELS, SEEDS, SENSITIVITY_SEEDS, VARIATIONS
from hvae_course.analysis import latent_graph
from hvae_course.config import plain
from hvae_course.data import Split
from hvae_course.files import read_json, write_json

FOLDER = Path(motion.__file__).parent


@pytest.fixture
def recordings():
    if not (Path(os.environ.get("HVAE_DATA") or ".") / "cmu").is_dir():
        pytest.skip("HVAE_DATA names no folder that holds cmu/")
    return motion.recordings()


def test_constants_are_chosen_on_other_seeds_and_every_model_has_all_of_the_table():
    assert not set(SEEDS) & set(SENSITIVITY_SEEDS)
    for name, models, seeds in (
        ("motion", MODELS, SEEDS),
        ("motion_sensitivity", VARIATIONS, SENSITIVITY_SEEDS),
    ):
        table = pd.read_csv(FOLDER / f"{name}.csv")
        assert set(zip(table["model"], table["seed"], strict=True)) == {
            (model, seed) for model in models for seed in seeds
        }


def test_the_constants_of_the_table_are_those_of_the_program():
    committed = read_json(FOLDER / "motion.json")
    for name in ("ARCHITECTURE", "BUDGET"):
        assert committed[name.lower()] == plain(getattr(motion, name))
    settings = {name: repr(setting) for name, setting in (MODELS | VARIATIONS).items()}
    assert committed["models"] == settings
    assert committed["measures"]["jump"] == motion.JUMP


def test_the_configuration_is_the_one_in_the_code(recordings, tmp_path):
    write_json(tmp_path / "now.json", motion.configuration())
    committed, now = read_json(FOLDER / "motion.json"), read_json(tmp_path / "now.json")
    assert committed | {"torch": None} == now | {"torch": None}


def test_every_motion_gives_as_many_frames_at_equal_distances():
    labels = torch.tensor([0] * 5 + [1] * 9)
    split = Split(torch.zeros(14, 2), labels, None)
    assert motion.even(split, 3).tolist() == [0, 2, 4, 5, 9, 13]


def test_pairs_join_two_motions_and_every_two_equally_often():
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] * 7)
    chosen = labels[motion.pairs(labels, 30)]
    assert (chosen[:, 0] != chosen[:, 1]).all()
    assert chosen.unique(dim=0, return_counts=True)[1].tolist() == [10, 10, 10]
    assert torch.equal(motion.pairs(labels, 30), motion.pairs(labels, 30))


class _Known:
    """A decoder whose only angle is the first coordinate of z, in radians."""

    class top_down:  # noqa: N801
        @staticmethod
        def likelihood(z):
            class px:  # noqa: N801
                mean = z[:, :1]

            return px


class _Poses:
    """One joint that turns about x."""

    std = torch.ones(1, dtype=torch.float64)

    @staticmethod
    def rotations(x):
        return torch.cat([x, torch.zeros(len(x), 2)], dim=1)[:, None]


def test_steps_jumps_and_distances_of_known_paths():
    ends = torch.tensor([[[0.0, 0.0], [0.49, 0.0]], [[0.0, 0.0], [24.5, 0.0]]])
    walker = motion.Walker(_Known(), _Poses(), ends, torch.tensor([[0.0]]))
    row = walker.judge(None, name="line")
    assert row["line_joined"] == 1
    # 49 equal steps of 0.01 and of 0.5 radians
    assert row["line_joint_step"] == pytest.approx(math.degrees(0.255), rel=1e-4)
    assert row["line_jumps"] == 0.5
    assert row["line_jump_ratio"] == pytest.approx(1, abs=1e-4)
    assert row["line_off_recorded"] == pytest.approx(math.degrees(12.495), rel=1e-4)


def test_pairs_that_no_path_joins_are_counted_and_not_measured():
    points = torch.cat([torch.randn(20, 2), torch.randn(20, 2) + 100])
    ends = torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [100.0, 100.0]]])
    walker = motion.Walker(_Known(), _Poses(), ends, torch.tensor([[0.0]]))
    row = walker.judge(latent_graph(points, k=3), name="codes")
    assert row["codes_joined"] == 0.5
    assert row["codes_joint_step"] < math.degrees(2)


def test_without_recordings_the_program_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set HVAE_DATA to the folder that holds cmu/"):
        motion.folder()


def test_the_animation_plays_the_paths_of_both_models():
    played = json.loads((motion_figures.FOLDER / "motion_paths.json").read_text())
    shown = [(path["model"], path["start"], path["end"]) for path in played["paths"]]
    assert shown == [(m, a, b) for m in motion_figures.MODELS for a, b in motion_figures.FROM_TO]
    assert {len(path["frames"]) for path in played["paths"]} == {motion.FRAMES}
    assert played["jump"] == motion.JUMP
