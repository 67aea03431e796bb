"""The tables of chapter 5: how they are made, and that the committed ones are whole and fair."""

import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import merge_controls, posterior_rules
from benchmarks.posterior_rules import (
    LIKELIHOODS,
    RULES,
    SEEDS,
    TABLES,
    build_matched,
    num_parameters,
    settings,
)
from benchmarks.runs import run_all
from hvae_course import data
from hvae_course.gaussians import diag_normal

JOBS = [{"rule": "delta", "seed": seed} for seed in (0, 1, 2)]


def square(job):
    """A run that leaves a mark, so that it can be seen to run once."""
    if job["seed"] == 3:
        raise RuntimeError("this run fails")
    return {"square": job["seed"] ** 2 + 0.5}


def mark(job):
    """The same, but slow enough for a failure to be seen, and with a file to show that it ran."""
    results = square(job)
    Path(job["rule"]).touch()
    time.sleep(0.1)
    return results


def read(name):
    return pd.read_csv(TABLES[name])


@pytest.mark.parametrize("name", TABLES)
def test_the_committed_tables_hold_every_run_once(name):
    committed = read(name)
    blocks = settings(name)
    runs = {(*block, rule, seed) for block in blocks for rule in RULES for seed in SEEDS[name]}
    columns = ["state", "warm_up", "rule", "seed"]
    assert sorted(committed[columns].itertuples(index=False, name=None)) == sorted(runs)
    assert committed.drop(columns=columns).notna().all(axis=None)


@pytest.mark.parametrize("name", TABLES)
def test_the_committed_tables_are_consistent(name):
    committed = read(name)
    information = committed[["information_1", "information_2", "information_3"]].sum(axis=1)
    gap = committed["reconstruction"] - committed["elbo"]
    assert (gap - information).abs().max() < 1e-3
    assert (committed["iw"] >= committed["elbo"]).all()
    assert (committed["num_samples"] == 100).all()
    assert committed["data"].str.startswith(f"{name}, ").all()


@pytest.mark.parametrize("state", ["markov", "skip"])
def test_all_rules_have_as_many_parameters_to_within_five_per_cent(state):
    digits = data.load("digits")
    models = {rule: build_matched(rule, state, digits) for rule in RULES}
    sizes = {rule: num_parameters(model) for rule, model in models.items()}
    assert max(sizes.values()) < 1.05 * min(sizes.values())
    shapes = {tuple(p.shape for p in model.top_down.parameters()) for model in models.values()}
    assert len(shapes) == 1  # one generative model
    rows = read("digits").query("state == @state")
    assert (rows["parameters"] == rows["rule"].map(sizes)).all()


@pytest.mark.parametrize("block", settings("mnist"))
def test_all_rules_have_as_many_parameters_on_mnist(block):
    rows = read("mnist").query("state == @block[0] and warm_up == @block[1]")
    assert rows["parameters"].max() < 1.05 * rows["parameters"].min()


def test_the_settings_of_both_data_sets_differ_only_in_what_the_page_lists():
    assert LIKELIHOODS == {"digits": "discretized_logistic", "mnist": "bernoulli"}
    assert [state for state, _ in settings("digits")] == [state for state, _ in settings("mnist")]
    for name, warm_up in posterior_rules.WARM_UPS.items():
        assert [epochs for _, epochs in settings(name)] == [warm_up, warm_up, 0]
        assert warm_up < posterior_rules.BUDGETS[name]["epochs"]


def _short(monkeypatch):
    monkeypatch.setitem(posterior_rules.BUDGETS, "digits", {"epochs": 1, "patience": 1})
    monkeypatch.setitem(posterior_rules.TRAINING, "batch_size", 500)
    monkeypatch.setattr(posterior_rules, "NUM_SAMPLES", 2)


def test_a_run_reports_its_bounds_levels_and_circumstances(monkeypatch):
    _short(monkeypatch)
    row = posterior_rules.run({"rule": "merge", "state": "skip", "warm_up": 2, "seed": 0})
    assert row["iw"] >= row["elbo"]
    assert {"information_3", "informative_units_3", "data", "device", "best_epoch"} <= row.keys()
    assert row == posterior_rules.run({"rule": "merge", "state": "skip", "warm_up": 2, "seed": 0})


@pytest.mark.parametrize("control", merge_controls.CONTROLS)
def test_a_control_reports_the_same_columns(control, monkeypatch):
    _short(monkeypatch)
    row = merge_controls.run({"control": control, "seed": 0})
    table = pd.read_csv(merge_controls.TABLE)
    assert ["control", "seed", *row] == list(table)
    merge = read("digits").query("rule == 'merge' and state == 'markov'")
    assert row["parameters"] == merge["parameters"].iloc[0]


def test_the_committed_controls_hold_every_run_once():
    table = pd.read_csv(merge_controls.TABLE)
    runs = {
        (control, seed) for control in merge_controls.CONTROLS for seed in merge_controls.SEEDS
    }
    assert sorted(table[["control", "seed"]].itertuples(index=False, name=None)) == sorted(runs)


@pytest.mark.parametrize(("log_std", "share"), [(3.0, 0.1), (0.0, 0.5), (-1.0, 0.880797)])
def test_a_floored_merge_keeps_its_least_share(log_std, share):
    rule = merge_controls.FlooredMerge(lambda d: diag_normal(d, torch.full_like(d, log_std)), 0.1)
    d, zero = torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2)
    q = rule(d, zero, diag_normal(zero, zero))
    torch.testing.assert_close(q.mean, share * d, rtol=1e-5, atol=0)
    torch.testing.assert_close(q.variance, torch.full_like(d, 1 - share), rtol=1e-5, atol=0)


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


def test_after_a_failure_no_further_run_is_started(tmp_path):
    jobs = [{"rule": "delta", "seed": 3}]
    jobs += [{"rule": str(tmp_path / f"{i}.mark"), "seed": 1} for i in range(40)]
    with pytest.raises(RuntimeError, match="this run fails"):
        run_all(mark, jobs, tmp_path / "table.csv", processes=2)
    assert len(list(tmp_path.glob("*.mark"))) < 40
