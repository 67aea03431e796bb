"""The tables of flows and tied steps in chapter 10: what they hold, and that a small run works."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from benchmarks import richer_flows
from hvae_course import data
from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes import build

EXPERIMENTS = tuple(richer_flows.TABLES)


@pytest.fixture
def short(monkeypatch, tiny_data):
    """A few digits for either experiment, one epoch, few draws."""
    monkeypatch.setattr(data, "load", lambda name: tiny_data)
    training = {name: replace(t, epochs=1) for name, t in richer_flows.TRAINING.items()}
    monkeypatch.setattr(richer_flows, "TRAINING", training)
    monkeypatch.setattr(richer_flows, "NUM_SAMPLES", dict.fromkeys(EXPERIMENTS, 2))
    monkeypatch.setattr(richer_flows, "NUM_DRAWS", 400)


def check(row):
    nats = [row[name] for name in row if name.startswith("information_")]
    assert row["rate"] == pytest.approx(sum(nats), abs=1e-3)
    assert -row["elbo"] == pytest.approx(row["rate"] + row["distortion"], abs=1e-3)
    assert row["gap"] == pytest.approx(row["iw"] - row["elbo"], abs=1e-3)
    assert row["gap"] > 0
    if "steps" in row:
        assert len(nats) == row["steps"]
        shared = row["noise"] == "shared"
        assert (row["reported"] > row["elbo"]) if shared else (row["reported"] == row["elbo"])


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("setting", ["MAF prior", "IAF posterior"])
def test_a_run_of_a_flow_reports_both_bounds(setting):
    job = {"setting": setting, "seed": 3}
    row = richer_flows.run_flows(job)
    check(job | row)
    assert row == richer_flows.run_flows(job)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("noise", ["own", "shared"])
def test_a_run_of_draw_is_judged_with_noise_of_every_steps_own(noise):
    row = richer_flows.run_draw({"steps": 2, "tied": "tied", "noise": noise, "seed": 0})
    assert (row["reported"] == row["elbo"]) == (noise == "own")
    assert (row["correlation"] > 19.9) == (noise == "shared")  # sqrt(400) = 20


def size(model: HierarchicalVAE) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_wider_model_has_the_parameters_of_the_one_with_flows_in_its_posteriors():
    spec = DataSpec((8, 8), 17)
    with torch.device("meta"):
        sizes = {
            name: size(build(richer_flows.flow_model(name), spec))
            for name in richer_flows.SETTINGS
        }
    assert sizes["Gaussian, wider"] == pytest.approx(sizes["IAF posterior"], rel=0.05)
    assert sizes["Gaussian"] < sizes["MAF prior"] < sizes["IAF posterior"] < sizes["both"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_jobs_of_an_experiment_differ(experiment):
    asked = [tuple(job.values()) for job in richer_flows.jobs(experiment)]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_committed_table_holds_the_runs_of_its_program_once(experiment, monkeypatch, capsys):
    found = {}

    def read_all(run, jobs, path, *, processes):
        found["jobs"] = jobs
        return pd.read_csv(path)

    monkeypatch.setattr(richer_flows, "run_all", read_all)
    richer_flows.main(["--experiment", experiment])
    table, jobs = richer_flows.read(experiment), found["jobs"]
    rows = table[list(jobs[0])].itertuples(index=False, name=None)
    assert sorted(rows) == sorted(tuple(job.values()) for job in jobs)
    assert (table["num_samples"] == richer_flows.NUM_SAMPLES[experiment]).all()
    assert "elbo" in capsys.readouterr().out
    for row in table.to_dict("records"):
        check({name: value for name, value in row.items() if not pd.isna(value)})


def test_tied_steps_of_any_number_have_the_parameters_of_one():
    table = richer_flows.read("draw").query("noise == 'own'").set_index(["tied", "steps"])
    assert table.loc["tied", "parameters"].nunique() == 1
    untied, (one,) = table.loc["untied", "parameters"], {*table.loc["tied", "parameters"]}
    canvas = 2 * 256  # the empty one, of which every model has one
    for steps, parameters in untied.items():
        assert parameters - canvas == steps * (one - canvas)
