"""The tables of the chapters are whole, that of chapter 5 is fair, and runs can be resumed."""

import os
from dataclasses import replace
from types import ModuleType, NoneType

import pandas as pd
import pytest
import torch

from benchmarks import merge_controls, pendulum, pendulum_32, posterior_rules, remedies
from benchmarks.posterior_rules import (
    LIKELIHOODS,
    RULES,
    TABLES,
    matched,
    num_parameters,
    settings,
)
from benchmarks.runs import rounded, run_all, side_by_side
from hvae_course import data
from hvae_course.gaussians import diag_normal
from hvae_course.recipes import build

pytestmark = pytest.mark.slow

JOBS = [{"rule": "delta", "seed": seed} for seed in (0, 1, 2)]


def square(job):
    if job["seed"] == 3:
        raise RuntimeError("this run fails")
    return {"square": job["seed"] ** 2 + 0.5}


def read(name):
    return pd.read_csv(TABLES[name])


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (posterior_rules, []),
        (posterior_rules, ["--data", "mnist"]),
        (merge_controls, []),
        (remedies, []),
        (pendulum, []),
        (pendulum, ["--sensitivity"]),
        (pendulum_32, []),
    ],
    ids=lambda value: value.__name__ if isinstance(value, ModuleType) else "".join(value),
)
def test_a_committed_table_holds_every_run_of_its_program_once(module, words, monkeypatch, capsys):
    found = {}

    def read_all(run, jobs, path, *, processes):
        found["jobs"], found["table"] = jobs, pd.read_csv(path)
        return found["table"]

    monkeypatch.setattr(module, "run_all", read_all)
    monkeypatch.setattr(pendulum, "write_json", lambda path, content: None)
    module.main(words)
    jobs, table = found["jobs"], found["table"]
    rows = table[list(jobs[0])].itertuples(index=False, name=None)
    assert sorted(rows) == sorted(tuple(job.values()) for job in jobs)
    optional = ["met", "moving_error", *(name for name in table if name.startswith("codes_"))]
    assert table.drop(columns=optional, errors="ignore").notna().all(axis=None)
    assert (table["iw"] >= table["elbo"]).all()
    assert "iw" in capsys.readouterr().out


@pytest.mark.parametrize("name", TABLES)
def test_the_committed_tables_are_consistent(name):
    committed = read(name)
    information = committed[["information_1", "information_2", "information_3"]].sum(axis=1)
    gap = committed["reconstruction"] - committed["elbo"]
    assert (gap - information).abs().max() < 1e-3
    assert (committed["num_samples"] == 100).all()
    assert committed["data"].str.startswith(f"{name}, ").all()


@pytest.mark.parametrize("state", ["markov", "skip"])
def test_all_rules_have_as_many_parameters_to_within_five_per_cent(state):
    digits = data.load("digits")
    with torch.device("meta"):
        models = {rule: build(matched(rule, state, digits), digits.spec) for rule in RULES}
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
    trainings = posterior_rules.TRAININGS
    changed = {"epochs": trainings["mnist"].epochs, "patience": trainings["mnist"].patience}
    assert replace(trainings["digits"], **changed) == trainings["mnist"]
    for name, warm_up in posterior_rules.WARM_UPS.items():
        assert [epochs for _, epochs in settings(name)] == [warm_up, warm_up, 0]
        assert warm_up < trainings[name].epochs


@pytest.fixture
def short(monkeypatch, tiny_data):
    """A few digits, one epoch, few draws, and small networks."""
    training = replace(posterior_rules.TRAININGS["digits"], epochs=1, patience=1, batch_size=60)
    monkeypatch.setitem(posterior_rules.TRAININGS, "digits", training)
    monkeypatch.setattr(posterior_rules, "NUM_SAMPLES", 2)
    monkeypatch.setattr(data, "load", lambda name: tiny_data)
    small = replace(posterior_rules.SHARED, hidden=(8,))
    monkeypatch.setattr(posterior_rules, "SHARED", small)


@pytest.mark.usefixtures("short")
def test_a_run_reports_its_bounds_levels_and_circumstances():
    job = {"rule": "merge", "state": "skip", "warm_up": 2, "seed": 0}
    row = posterior_rules.run(job)
    assert row["iw"] >= row["elbo"]
    assert [*job, *row] == list(read("digits"))
    assert row == posterior_rules.run(job)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("control", merge_controls.CONTROLS)
def test_a_control_reports_the_same_columns(control):
    row = merge_controls.run({"control": control, "seed": 0})
    assert ["control", "seed", *row] == list(pd.read_csv(merge_controls.TABLE))


def test_the_controls_are_of_the_model_of_the_table():
    table = pd.read_csv(merge_controls.TABLE)
    merge = read("digits").query("rule == 'merge' and state == 'markov'")
    assert set(table["parameters"]) == set(merge["parameters"])


@pytest.mark.parametrize(("log_std", "share"), [(3.0, 0.1), (0.0, 0.5), (-1.0, 0.880797)])
def test_a_floored_merge_keeps_its_least_share(log_std, share):
    rule = merge_controls.FlooredMerge(lambda d: diag_normal(d, torch.full_like(d, log_std)), 0.1)
    d, zero = torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2)
    q = rule(d, zero, diag_normal(zero, zero))
    torch.testing.assert_close(q.mean, share * d, rtol=1e-5, atol=0)
    torch.testing.assert_close(q.variance, torch.full_like(d, 1 - share), rtol=1e-5, atol=0)


def test_runs_that_the_table_holds_are_not_repeated_and_none_is_dropped(tmp_path):
    path = tmp_path / "folder/table.csv"
    first = run_all(square, JOBS[:2], path, processes=1)
    assert first["square"].tolist() == [0.5, 1.5]
    first.assign(square=7.0).to_csv(path, index=False)
    content = path.read_bytes()
    assert run_all(square, JOBS[1:2], path, processes=1)["seed"].tolist() == [1]
    assert path.read_bytes() == content
    both = run_all(square, [JOBS[2], JOBS[0]], path, processes=1)
    assert both["seed"].tolist() == [2, 0]
    assert both["square"].tolist() == [4.5, 7.0]
    assert pd.read_csv(path)["seed"].tolist() == [1, 2, 0]
    assert not list(path.parent.glob("*.part"))


def echo(job):
    return {"result": 1.0}


def test_a_row_is_recognised_whatever_a_table_makes_of_its_settings(tmp_path):
    """An empty cell makes numbers of a column real, and names beside numbers make them text."""
    path, jobs = (
        tmp_path / "table.csv",
        [
            {"beta": 1, "warm_up": None, "sizes": (8, 4), "free": True},
            {"beta": None, "warm_up": 3, "sizes": (8,), "free": False},
            {"beta": "auto", "warm_up": 0.5, "sizes": 8, "free": True},
        ],
    )
    run_all(echo, jobs, path, processes=1)
    before = path.read_bytes()
    run_all(square, jobs, path, processes=1)  # which would fail
    assert path.read_bytes() == before and len(pd.read_csv(path)) == 3


def test_rows_that_the_settings_do_not_tell_apart_are_not_dropped(tmp_path):
    path = tmp_path / "table.csv"
    pd.DataFrame({"rule": ["delta"] * 2, "seed": [0, 0], "depth": [1, 2]}).to_csv(
        path, index=False
    )
    content = path.read_bytes()
    with pytest.raises(ValueError, match="several rows with the same rule, seed; name another"):
        run_all(square, JOBS, path, processes=1)
    assert path.read_bytes() == content


def test_another_table_is_not_overwritten(tmp_path):
    path = tmp_path / "table.csv"
    pd.DataFrame({"rule": ["delta"]}).to_csv(path, index=False)
    with pytest.raises(ValueError, match="is another table, without seed; name another file"):
        run_all(square, JOBS, path, processes=1)


def test_what_was_finished_before_a_failure_is_kept_and_no_further_run_is_started(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(RuntimeError, match="this run fails"):
        run_all(square, [JOBS[1], {"rule": "delta", "seed": 3}, JOBS[0]], path, processes=1)
    assert pd.read_csv(path)["square"].tolist() == [1.5]


def test_in_processes_a_failure_is_told_and_nothing_starts_after_the_caller_stops(tmp_path):
    existing, *folders = [tmp_path / str(number) for number in range(200)]
    existing.mkdir()
    count = 0
    running = side_by_side(os.mkdir, [existing, *folders], processes=2)
    for folder, ended in running:
        count += 1
        assert isinstance(ended.exception(), FileExistsError if folder == existing else NoneType)
        if folder == existing:
            break
    running.close()
    assert len(list(tmp_path.iterdir())) <= count + 2


def test_rounding_reaches_every_number():
    assert rounded({"a": [0.12345678, (1, "b", None)]}, 6) == {"a": [0.123457, [1, "b", None]]}
