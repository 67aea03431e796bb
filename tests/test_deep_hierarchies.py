"""The tables of chapter 8 hold the runs that their program describes, and a small run works."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from benchmarks import deep_hierarchies as deep
from hvae_course import data, fit
from hvae_course.config import Objective, Training
from hvae_course.recipes import build

pytestmark = pytest.mark.slow

TRAINED = tuple(deep.SETTINGS)


def count(setting: deep.Setting) -> int:
    with torch.device("meta"):
        model = build(setting.model, data.load("digits").spec)
    return sum(parameter.numel() for parameter in model.parameters())


# The tables


@pytest.mark.parametrize("experiment", deep.EXPERIMENTS)
def test_a_table_holds_every_run_of_its_program_once(experiment, monkeypatch, capsys):
    asked = {}

    def read_all(run, jobs, path, *, processes):
        asked["jobs"] = jobs
        return pd.read_csv(path)

    monkeypatch.setattr(deep, "run_all", read_all)
    deep.main(["--experiment", experiment])
    table, jobs = deep.read(experiment), asked["jobs"]
    rows = table[list(jobs[0])].itertuples(index=False, name=None)
    assert sorted(rows) == sorted(tuple(job.values()) for job in jobs)
    assert table.notna().all(axis=None)
    assert "elbo" in capsys.readouterr().out


@pytest.mark.parametrize("experiment", TRAINED)
def test_a_table_is_consistent(experiment):
    table = deep.read(experiment)
    levels = deep.levels_of(experiment).groupby(["setting", "seed"], sort=False)["nats"]
    runs = table.set_index(["setting", "seed"])
    gap = runs["reconstruction"] - runs["elbo"]
    assert (gap - levels.sum()).abs().max() < 0.01
    assert (levels.apply(lambda nats: (nats < deep.IDLE).sum()) == runs["idle"]).all()
    assert (runs["iw"] >= runs["elbo"]).all()
    assert (table["num_samples"] == deep.NUM_SAMPLES).all()
    assert table["data"].str.startswith("digits, ").all()
    assert len(table[["data", "device"]].drop_duplicates()) == 1


@pytest.mark.parametrize("experiment", TRAINED)
def test_what_a_table_says_of_settings_is_what_the_program_says(experiment):
    settings = deep.SETTINGS[experiment]
    sizes = {name: count(setting) for name, setting in settings.items()}
    for row in deep.read(experiment).to_dict("records"):
        training = replace(deep.TRAINING, **settings[row["setting"]].training)
        norms, curve = deep.numbers(row["norms"]), deep.numbers(row["validation_curve"])
        assert row["parameters"] == sizes[row["setting"]]
        assert len(norms) == row["steps"] <= 10 * training.epochs  # 1,000 images in steps of 100
        if not row["failed_epoch"]:
            assert len(curve) == training.epochs and row["steps"] == 10 * training.epochs
            if not settings[row["setting"]].objective.free_bits:  # which choose by their own value
                assert row["best_epoch"] == 1 + curve.index(max(curve))
        for name, value in deep.describe(norms, training).items():
            assert row[name] == pytest.approx(value, rel=1e-3), name


def test_groups_and_splits_have_exactly_as_many_parameters():
    groups = [deep.CHANGES["baseline"], *deep.DEPTHS.values()]
    assert len({count(setting) for setting in groups}) == 1
    assert len({count(setting) for setting in deep.SETTINGS["splits"].values()}) == 1


def test_a_start_is_that_of_the_table():
    table = deep.read("starts")
    for row in table[(table["levels"] == 6) & (table["seed"] == 0)].to_dict("records"):
        found = deep.start(row)
        assert found == pytest.approx({name: row[name] for name in found}, rel=0.01)


# The program


@pytest.fixture
def short(monkeypatch, tiny_data):
    """A few digits, one epoch and few draws."""
    monkeypatch.setattr(deep, "TRAINING", replace(deep.TRAINING, epochs=1, batch_size=20))
    monkeypatch.setattr(deep, "NUM_SAMPLES", 2)
    monkeypatch.setattr(data, "load", lambda name: tiny_data)
    small = deep.Setting(((4, 2, 4), (2, 1, 4)), objective=Objective(warm_up=2))
    settings = {"small": small, "low": replace(small, training={"skip_norm": 1e-3})}
    settings["fails"] = replace(small, training={"learning_rate": 1e30})
    monkeypatch.setitem(deep.SETTINGS, "changes", settings)


@pytest.mark.usefixtures("short")
def test_a_run_reports_bounds_levels_gradients_and_circumstances():
    job = {"setting": "small", "seed": 1}
    row = deep.run(job, "changes")
    assert row == deep.run(job, "changes")
    assert row["iw"] >= row["elbo"] and row["best_epoch"] == 1
    assert {f"information_{level}" for level in (1, 2, 3)} <= row.keys()
    assert len(deep.numbers(row["norms"])) == row["steps"] > 1
    assert deep.numbers(row["norms"])[0] == pytest.approx(row["first_norm"], rel=1e-3)
    assert len(deep.numbers(row["validation_curve"])) == 1
    assert row["device"] == "cpu" and row["skipped"] == row["failed_epoch"] == 0
    columns = [name for name in deep.read("changes") if "information" not in name]
    assert [*job, *(name for name in row if "information" not in name)] == columns


@pytest.mark.usefixtures("short")
@pytest.mark.filterwarnings("ignore:skip_norm=")
def test_a_run_counts_the_steps_that_it_skips():
    row = deep.run({"setting": "low", "seed": 0}, "changes")
    assert row["skipped"] == min(row["steps"], Training().skip_limit)


@pytest.mark.usefixtures("short")
def test_a_run_that_fails_is_judged_with_its_best_weights():
    row = deep.run({"setting": "fails", "seed": 0}, "changes")
    assert row["failed_epoch"] == 1 and row["best_epoch"] == 0
    assert row["validation_curve"] == "" and row["iw"] >= row["elbo"]


def test_recording_the_gradients_changes_no_weight(make_model, tiny_data):
    weights = []
    for limit in (None, deep.TRAINING.clip_norm):
        model = make_model()
        with deep.recording() as (accelerator, norms):
            fit(model, tiny_data, epochs=1, clip_norm=limit, accelerator=accelerator)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights) and len(norms) >= 1


@pytest.mark.parametrize(("limit", "skipped"), [(10, 3), (1, 2), (deep.NO_RECOVERY, 3)])
def test_norms_are_summarised_as_the_training_treats_them(limit, skipped):
    """With a limit of one, the second of two long gradients in a row is taken, scaled down."""
    norms = [1.0, 30.0, 20.0, 1.0, 2.0, float("inf"), 1.0]
    found = deep.describe(norms, Training(skip_norm=5.0, skip_limit=limit))
    assert found["skipped"] == skipped and found["not_finite"] == 1 and found["steps"] == 7
    assert found["first_norm"] == 1.0 and found["median_norm"] == 1.0
    assert found["largest_norm"] == 30.0 and found["spikes"] == 2


def test_epochs_to_a_bound_are_counted_from_one():
    assert deep.epochs_to("-120.00 -101.5 -99.00 -101.00", -100) == 3
    assert deep.epochs_to("-120.00", -120) == 1 and deep.epochs_to("", -120) == float("inf")
