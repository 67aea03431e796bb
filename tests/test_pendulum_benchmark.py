"""The tables of chapters 6 and 7: how they are made."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import latent_paths, pendulum, pendulum_32, pendulum_steps
from benchmarks.pendulum import MODELS, SEEDS, SENSITIVITY_SEEDS
from hvae_course import data
from hvae_course.files import read_json, write_json
from hvae_course.objectives import Constrained

FOLDER = latent_paths.__file__.rsplit("/", 1)[0]


def test_constants_are_varied_on_other_seeds_and_the_table_has_at_least_five():
    assert not set(SEEDS) & set(SENSITIVITY_SEEDS)
    assert len(SEEDS) >= 5


@pytest.mark.parametrize("name", ["pendulum", "pendulum_sensitivity"])
def test_shares_are_shares_and_only_a_constraint_moves_beta(name):
    rows = pd.read_csv(f"{FOLDER}/{name}.csv")
    shares = rows.filter(like="_jumps")
    assert shares.shape[1] == 4
    assert ((shares >= 0) & (shares <= 1)).all(axis=None)
    assert (rows.loc[rows["met"].isna(), "beta"] == 1).all()


def test_all_graphs_of_the_table_have_one_k_and_the_shares_that_they_join():
    table = pd.read_csv(f"{FOLDER}/pendulum.csv")
    k = table.filter(regex="^(pruned|unpruned|codes)_k$")
    assert (k == latent_paths.NEIGHBOURS).all(axis=None)
    assert table.filter(like="_joined").shape[1] == 4
    assert table.loc[table["model"] == "VAE", "codes_ring"].notna().all()


def test_the_times_of_steps_hold_every_model_in_every_round():
    times = pd.read_csv(pendulum_steps.TABLE)
    assert set(times["model"]) == set(MODELS)
    assert (times.groupby("model")["round"].nunique() == pendulum_steps.ROUNDS).all()
    assert (times["milliseconds"] > 0).all()


def test_a_step_can_be_timed_for_every_model(monkeypatch):
    monkeypatch.setattr(pendulum_steps, "STEPS", 1)
    times = pendulum_steps.measure(rounds=1)
    assert list(times["model"]) == list(MODELS) and (times["milliseconds"] > 0).all()


def test_a_table_of_other_settings_is_not_continued(tmp_path, monkeypatch):
    table, beside = tmp_path / "table.csv", tmp_path / "pendulum.json"
    table.write_text("model,split,seed\n")
    write_json(beside, pendulum.configuration() | {"budget": 3})
    content = beside.read_bytes()
    monkeypatch.setattr(pendulum, "run_all", None)  # is not reached
    with pytest.raises(
        ValueError, match="table.csv was made with other settings .*: budget was 3"
    ):
        pendulum.main(["--table", str(table)])
    assert beside.read_bytes() == content


def test_all_models_share_everything_but_prior_and_objective():
    for setting in MODELS.values():
        assert not setting.architecture
    priors = {name: setting.prior for name, setting in MODELS.items()}
    assert priors["VHP"] == priors["VHP, ReWO"] == priors["VHP, GECO"] == "vhp"
    assert isinstance(MODELS["VHP, ReWO"].objective(), Constrained)
    assert not isinstance(MODELS["VHP"].objective(), Constrained)


def test_a_run_is_reproducible_and_reports_its_constraint(monkeypatch):
    monkeypatch.setattr(pendulum, "BUDGET", {"epochs": 1, "batch_size": 2500})
    monkeypatch.setattr(pendulum, "CONSTRAINT", {"kappa": 1.0})
    monkeypatch.setattr(pendulum, "NUM_SAMPLES", 2)
    monkeypatch.setattr(pendulum, "EVALUATED", 20)
    for name, value in {"NODES": 300, "PAIRS": 3, "CLEAN": 36}.items():
        monkeypatch.setattr(latent_paths, name, value)
    loose = pendulum.Setting("vhp", constraint={"kappa": 1.0})
    monkeypatch.setitem(pendulum.MODELS, "VHP, ReWO", loose)
    job = {"model": "VHP, ReWO", "split": "validation", "seed": 3}
    row = pendulum.run(job)
    assert row["met"] and row["std"] == pytest.approx(0.2)
    assert row["iw"] > row["elbo"] > -math.inf
    assert row == pendulum.run(job)
    assert row["pruned_k"] == row["unpruned_k"] == row["codes_k"] == latent_paths.NEIGHBOURS


@pytest.mark.parametrize("module", [pendulum, pendulum_32], ids=lambda module: module.__name__)
def test_the_configuration_is_the_one_in_the_code(module, tmp_path):
    write_json(tmp_path / "now.json", module.configuration())
    name = module.__name__.rsplit(".", 1)[-1]
    committed, now = read_json(f"{FOLDER}/{name}.json"), read_json(tmp_path / "now.json")
    assert committed | {"torch": None} == now | {"torch": None}


def test_32_dimensions_change_the_latent_size_and_the_resolution_alone():
    for name, setting in pendulum_32.MODELS.items():
        assert setting == replace(MODELS[name], architecture={"latent_size": 32})
    assert not set(pendulum_32.SEEDS) & set(SENSITIVITY_SEEDS)


def test_a_run_with_32_dimensions_reports_paths_edges_and_active_units(monkeypatch):
    monkeypatch.setattr(pendulum, "BUDGET", {"epochs": 1, "batch_size": 2500})
    monkeypatch.setattr(pendulum, "NUM_SAMPLES", 2)
    monkeypatch.setattr(pendulum, "EVALUATED", 20)
    monkeypatch.setattr(pendulum_32, "SIDE", 8)
    monkeypatch.setattr(pendulum_32, "DIAGNOSED", 20)
    for name, value in {"NODES": 300, "PAIRS": 3, "CLEAN": 36}.items():
        monkeypatch.setattr(latent_paths, name, value)
    row = pendulum_32.run({"model": "VAE", "split": "validation", "seed": 3})
    assert "8x8 images" in row["data"] and 0 <= row["active_units"] <= 32
    assert {"pruned_median_edge", "codes_edges", "line_jumps"} <= set(row)
    assert row["pruned_joined"] == 1 and row["pruned_edges"] >= 2


def test_edges_are_measured_against_the_distance_of_the_ends():
    ends = torch.tensor([[[0.0, 0.0], [4.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]])
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [4.0, 1.0], [4.0, 0.0]])
    row = pendulum_32.judge_edges(ends, [latent_paths.Path(corners), None], name="a")
    assert row == {"a_edges": 4, "a_median_edge": 0.25, "a_longest_edge": 0.75}
    none = pendulum_32.judge_edges(ends, [None, None], name="a")
    assert all(math.isnan(value) for value in none.values())


def circle(z):
    """A perfect decoder of a ring: the pendulum at the angle of z."""
    return torch.distributions.Normal(data.pendulum.draw(torch.atan2(z[:, 1], z[:, 0])), 0.2)


MODEL = SimpleNamespace(top_down=SimpleNamespace(likelihood=circle))
"""As much of a model as a path needs."""


def on_the_circle(angle):
    return torch.stack([torch.as_tensor(angle).cos(), torch.as_tensor(angle).sin()], dim=-1)


def test_a_path_around_the_ring_does_not_jump_and_one_across_it_does():
    torch.manual_seed(0)
    points = on_the_circle(2 * math.pi * torch.rand(2000)) + 0.02 * torch.randn(2000, 2)
    graph = latent_paths.latent_graph(points, k=15)
    ends = on_the_circle(torch.tensor([[0.3, 3.42]]))
    (path,) = paths = latent_paths.find_paths(ends, graph)
    around = latent_paths.judge_paths(MODEL, paths, name="around")
    across = latent_paths.judge_paths(MODEL, latent_paths.find_paths(ends, None), name="across")
    assert around["around_jumps"] == 0 and across["across_jumps"] == 1
    assert around["around_angle_step"] < 10 < 60 < across["across_angle_step"]
    assert around["around_off_manifold"] < 0.02
    assert path.longest_edge < 0.5


def test_a_pair_in_different_parts_of_the_graph_is_not_joined_and_k_does_not_grow():
    torch.manual_seed(0)
    angle = torch.tensor([0.5, 3.6])[:, None] + 0.5 * torch.rand(2, 200)  # two arcs
    graph = latent_paths.latent_graph(on_the_circle(angle.flatten()), k=5)
    ends = on_the_circle(torch.tensor([[0.6, 0.9], [0.6, 3.8], [3.7, 4.0]]))
    paths = latent_paths.find_paths(ends, graph)
    assert paths[1] is None and graph.k == 5
    row = latent_paths.judge_paths(MODEL, paths, name="parts")
    assert row["parts_joined"] == pytest.approx(2 / 3)
    assert row["parts_jumps"] == 0 and row["parts_angle_step"] < 20
    alone = latent_paths.judge_paths(MODEL, paths[1:2], name="parts")
    assert alone["parts_joined"] == 0 and math.isnan(alone["parts_jumps"])


def test_equal_sets_cannot_be_told_apart_and_distant_ones_can():
    torch.manual_seed(0)
    a, b = torch.randn(2000, 2), torch.randn(2500, 2)
    standard_error = 0.5 / np.sqrt(4000)
    assert abs(latent_paths.two_sample_accuracy(a, b) - 0.5) < 5 * standard_error
    assert latent_paths.two_sample_accuracy(a, b + 20) == 1
