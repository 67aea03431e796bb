"""The table of chapter 5: how it is made, and that the committed one is complete and fair."""

import pandas as pd
import pytest

from benchmarks import posterior_rules
from benchmarks.posterior_rules import RULES, SEEDS, SETTINGS, TABLE, build_matched, num_parameters
from benchmarks.runs import run_all
from hvae_course import data

JOBS = [{"rule": "delta", "seed": seed} for seed in (0, 1, 2)]


def square(job):
    """A run that leaves a mark, so that it can be seen to run once."""
    if job["seed"] == 3:
        raise RuntimeError("this run fails")
    return {"square": job["seed"] ** 2 + 0.5}


@pytest.fixture(scope="module")
def committed():
    return pd.read_csv(TABLE)


def test_the_committed_table_holds_every_run_once(committed):
    runs = {(*setting, rule, seed) for setting in SETTINGS for rule in RULES for seed in SEEDS}
    columns = ["state", "warm_up", "rule", "seed"]
    assert len(SEEDS) >= 3
    assert sorted(committed[columns].itertuples(index=False, name=None)) == sorted(runs)
    assert committed.drop(columns=columns).notna().all(axis=None)


def test_the_committed_table_is_consistent(committed):
    information = committed[["information_1", "information_2", "information_3"]].sum(axis=1)
    gap = committed["reconstruction"] - committed["elbo"]
    assert (gap - information).abs().max() < 1e-3
    assert (committed["iw"] >= committed["elbo"]).all()


@pytest.mark.parametrize("state", ["markov", "skip"])
def test_all_rules_have_as_many_parameters_to_within_five_per_cent(state, committed):
    digits = data.load("digits")
    models = {rule: build_matched(rule, state, digits) for rule in RULES}
    sizes = {rule: num_parameters(model) for rule, model in models.items()}
    assert max(sizes.values()) < 1.05 * min(sizes.values())
    shapes = {tuple(p.shape for p in model.top_down.parameters()) for model in models.values()}
    assert len(shapes) == 1  # one generative model
    rows = committed.query("state == @state")
    assert (rows["parameters"] == rows["rule"].map(sizes)).all()


def test_a_run_reports_its_bounds_levels_and_circumstances(monkeypatch):
    monkeypatch.setattr(posterior_rules, "BUDGET", {"epochs": 1, "batch_size": 500})
    monkeypatch.setattr(posterior_rules, "NUM_SAMPLES", 2)
    row = posterior_rules.run({"rule": "merge", "state": "skip", "warm_up": 2, "seed": 0})
    assert row["iw"] >= row["elbo"]
    assert {"information_3", "informative_units_3", "data", "device", "best_epoch"} <= row.keys()
    assert row == posterior_rules.run({"rule": "merge", "state": "skip", "warm_up": 2, "seed": 0})


def test_runs_that_the_table_holds_are_not_repeated(tmp_path):
    path = tmp_path / "folder/table.csv"
    first = run_all(square, JOBS[:2], path, processes=1)
    assert first["square"].tolist() == [0.5, 1.5]
    changed = first.assign(square=7.0)
    changed.to_csv(path, index=False)
    both = run_all(square, JOBS[::-1], path, processes=1)
    assert both["seed"].tolist() == [2, 1, 0]
    assert both["square"].tolist() == [4.5, 7.0, 7.0]
    assert not list(path.parent.glob("*.part"))


def test_what_was_finished_before_a_failure_is_kept(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(RuntimeError, match="this run fails"):
        run_all(square, [JOBS[1], {"rule": "delta", "seed": 3}], path, processes=1)
    assert pd.read_csv(path)["square"].tolist() == [1.5]
