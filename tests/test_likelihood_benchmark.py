"""The likelihood benchmark: every row is an experiment, and what is finished is not repeated."""

import json
import os
import time
from concurrent.futures import Future
from dataclasses import replace
from unittest import mock

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import likelihood_run, likelihoods
from benchmarks.likelihood_models import BENCHMARKS, DEPTHS, FAMILIES, Benchmark, Entry, change
from benchmarks.likelihood_run import POINTS, note_start, thin, training_seconds
from hvae_course import data
from hvae_course.analysis import evaluate
from hvae_course.config import Experiment, Model, Training
from hvae_course.data import DataSpec
from hvae_course.objectives import make_objective
from hvae_course.recipes import build
from hvae_course.run_folder import find

pytestmark = pytest.mark.usefixtures("make_accelerator")  # resets Accelerate's state
SPECS = {"digits": DataSpec((8, 8), 17), "mnist": DataSpec((28, 28), 2)}
DATA = {"digits": "digits", "mnist": "mnist", "mnist_deep": "mnist", "trials": "mnist"}
MAIN = ("one_level", "chain", "delta", "concatenation", "ladder", "vamp", "vhp")
BASE = Experiment(
    model=Model(latent_sizes=(3,), hidden=(8,)), training=Training(epochs=2, batch_size=500)
)
LADDER = change(BASE, recipe="ladder", latent_sizes=(3, 2))
TINY = Benchmark(
    num_samples=4,
    models={
        "one_level": Entry("one level", BASE, validation_samples=2),
        "ladder": Entry("ladder", LADDER, validation_samples=2),
    },
    kept=("one_level", 0),
)


def read(path):
    return json.loads(path.read_text())


def _ended(value):
    ended = Future()
    ended.set_result(value)
    return ended


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Run the tiny benchmark in this process; the folder of its results, and the exit status."""
    monkeypatch.setitem(BENCHMARKS, "digits", TINY)
    monkeypatch.setitem(likelihood_run.DIAGNOSIS, "max_examples", 20)

    def run(*words, models=("ladder",), runs="runs"):
        places = ["--runs", str(tmp_path / runs), "--results", str(tmp_path / "results")]
        words = [
            "digits",
            "--seeds",
            "0",
            "--processes",
            "1",
            *places,
            "--models",
            *models,
            *words,
        ]
        return tmp_path / "results/digits", likelihoods.main(words)

    yield run
    AcceleratorState._reset_state(True)


@pytest.fixture
def called(monkeypatch):
    """Names of the functions that a run calls, in their order."""
    calls = mock.Mock()
    for name in ("note_start", "evaluate", "diagnose"):
        calls.attach_mock(mock.Mock(wraps=getattr(likelihood_run, name)), name)
        monkeypatch.setattr(likelihood_run, name, getattr(calls, name))
    return lambda: [name for name, _, _ in calls.mock_calls]


# The table of models


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_model_of_the_tables_can_be_built_and_trained(name):
    for entry in BENCHMARKS[name].models.values():
        chosen = entry.experiment
        assert chosen.data.data == DATA[name]
        make_objective(chosen.objective)
        with torch.device("meta"):
            build(chosen.model, SPECS[DATA[name]])


def test_both_data_sets_have_the_same_main_models_under_the_same_titles():
    mains = {
        name: {key: m.title for key, m in benchmark.models.items() if m.group == "main"}
        for name, benchmark in BENCHMARKS.items()
    }
    assert tuple(mains["digits"]) == MAIN
    assert mains["digits"] == mains["mnist"]


def test_a_change_reaches_the_option_wherever_it_is_and_no_other():
    options = {"latent_sizes": [5], "epochs": 7, "warm_up": [3], "device": "cpu"}
    assert change(LADDER, **options).settings() == LADDER.settings() | options
    with pytest.raises(TypeError, match="no option levels"):
        change(LADDER, levels=(5,))


def test_every_trial_differs_from_every_other():
    trials = BENCHMARKS["trials"].models.values()
    assert len({json.dumps(entry.experiment.settings()) for entry in trials}) == len(trials)


def test_models_by_depth_differ_in_their_levels_and_their_inference_alone():
    for recipe in FAMILIES:
        for depth in DEPTHS:
            chosen = BENCHMARKS["digits"].models[f"depth_{recipe}_{depth}"].experiment
            assert (chosen.model.recipe, chosen.model.num_levels) == (recipe, depth)
            first = BENCHMARKS["digits"].models["depth_bottom_up_1"].experiment
            own = {"recipe": "bottom_up", "latent_sizes": first.model.latent_sizes}
            assert change(chosen, **own) == first


# One run


def test_a_run_ends_as_one_file_with_its_bounds_and_their_circumstances(tiny, called):
    folder, status = tiny(models=TINY.models)
    assert status == 0 and called() == 2 * ["note_start", "diagnose", "evaluate"]
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["ladder-0.json", "one_level-0.json", "one_level-0.pt"]
    row = read(folder / "ladder-0.json")
    test = row["test"]
    gap = test["reconstruction"]["mean"] - test["elbo"]["mean"]
    assert gap == pytest.approx(sum(level["mean"] for level in test["information"]), abs=1e-4)
    assert test["log_likelihood"]["mean"] > test["elbo"]["mean"]
    assert (test["num_samples"], test["num_examples"], test["max_rows"]) == (4, 447, 2000)
    assert row["validation"]["num_samples"] == 2
    experiment = change(LADDER, device="cpu")
    assert row["settings"] == experiment.settings() | {"validation_samples": 2}
    assert row["curve"]["epoch"] == [1, 2]
    (environment,) = row["environments"]
    assert environment["device"] == "cpu" and "platform" not in environment
    assert row["seconds"] > 0 and row["runs_at_a_time"] == 1
    assert len(row["diagnosis"]["levels"]) == 2 and row["diagnosis"]["max_examples"] == 20


def test_a_trial_never_sees_the_test_split(tiny, called, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "digits", replace(TINY, num_samples=None, kept=None))
    folder, status = tiny()
    assert (status, called()) == (0, ["note_start"])
    row = read(folder / "ladder-0.json")
    assert row["validation"]["elbo"]["mean"] < 0
    assert not {"test", "diagnosis"} & row.keys()
    assert tiny()[1] == 0 and called() == ["note_start"]


def test_what_is_finished_is_not_repeated_and_what_is_repeated_gives_the_same(tiny, called):
    path = tiny()[0] / "ladder-0.json"
    first = read(path)
    tiny("--compiled")  # neither this nor the device determines the result
    assert called() == ["note_start", "diagnose", "evaluate"]
    path.unlink()
    tiny()
    assert called()[3:] == ["diagnose", "evaluate"] and read(path) == first
    path.unlink()
    tiny(runs="elsewhere")
    assert called()[5:] == ["note_start", "diagnose", "evaluate"]
    again = read(path)
    assert (again["test"], again["curve"]) == (first["test"], first["curve"])


def test_parts_of_the_test_split_are_evaluated_apart_and_joined(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "digits", replace(TINY, parts=2, precision="bf16"))
    apart = mock.Mock(
        side_effect=lambda work, parts, processes: [(n, _ended(work(n))) for n in parts]
    )
    monkeypatch.setattr(likelihood_run, "side_by_side", apart)
    folder, status = tiny()
    assert status == 0 and apart.call_args.kwargs == {"processes": 2}
    test = read(folder / "ladder-0.json")["test"]
    assert (test["precision"], test["parts"], test["num_examples"]) == ("bf16", 2, 447)
    found = find(tmp_path / "runs/digits/ladder-0")
    digits = found.load(None)
    halves = []
    for seed, rows in enumerate([slice(223), slice(223, 447)]):
        half = replace(digits, test=digits.test.select(rows))
        with torch.autocast("cpu", torch.bfloat16):
            halves.append(evaluate(found.model, half, num_samples=4, max_rows=2000, seed=seed))
    for name in ("elbo", "log_likelihood", "reconstruction"):
        means = [getattr(half, name).mean for half in halves]
        mean = (223 * means[0] + 224 * means[1]) / 447
        assert test[name]["mean"] == pytest.approx(mean, abs=1e-5)
    assert [len(test["information"]), test["seed"]] == [2, 0]


def test_joined_parts_are_the_evaluation_of_the_whole():
    digits = data.load("digits")
    model = build(LADDER.model, digits, seed=0)
    whole = evaluate(model, digits, num_samples=2, per_example=True)
    joined = likelihood_run.joined([whole])
    assert joined["elbo"]["mean"] == pytest.approx(whole.elbo.mean, abs=1e-6)
    assert joined["elbo"]["standard_error"] == pytest.approx(whole.elbo.standard_error, rel=1e-6)
    for level, found in zip(whole.information, joined["information"], strict=True):
        assert found["mean"] == pytest.approx(level.mean, abs=1e-6)


def test_compilation_and_device_are_those_of_the_job():
    chosen = likelihood_run.Job("digits", "ladder", 3, compiled=True, device="cuda").training
    table = BENCHMARKS["digits"].models["ladder"].experiment
    assert chosen.experiment == change(table, compiled=True, device="cuda", seed=3)


def test_a_result_of_other_settings_is_not_taken_for_done(tiny, monkeypatch, capsys):
    tiny()
    longer = {"ladder": replace(TINY.models["ladder"], experiment=change(LADDER, epochs=3))}
    for other, message in (
        (replace(TINY, models=longer), "other settings: epochs was 2 and is 3"),
        (replace(TINY, num_samples=8), "other settings: draws was 4 and is 8"),
    ):
        monkeypatch.setitem(BENCHMARKS, "digits", other)
        with pytest.raises(SystemExit, match="2"):
            tiny()
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "lader"], "no model lader; choose from one_level"),
        (["--processes", "0"], "at least 1, got 0"),
    ],
    ids=["model", "processes"],
)
def test_wrong_words_are_refused(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        likelihoods.main(["digits", *words])
    assert message in capsys.readouterr().err


def test_a_failure_is_told_and_stops_no_other_run(tiny, monkeypatch, capsys):
    broken = replace(TINY.models["one_level"], experiment=change(BASE, likelihood="bernoulli"))
    models = TINY.models | {"one_level": broken}
    monkeypatch.setitem(BENCHMARKS, "digits", replace(TINY, models=models))
    folder, status = tiny(models=models)
    assert status == 1
    assert [p.name for p in folder.iterdir()] == ["ladder-0.json"]
    told = capsys.readouterr()
    assert "one_level-0 failed: ValueError" in told.out + told.err


def test_an_interruption_ends_the_benchmark(tiny, monkeypatch, capsys):
    monkeypatch.setattr(likelihood_run, "note_start", mock.Mock(side_effect=KeyboardInterrupt))
    folder, status = tiny()
    assert status == 130 and not folder.exists()
    assert "to resume, give the same command again" in capsys.readouterr().err


# The parts


def test_seconds_count_every_start_up_to_its_last_saved_epoch(tmp_path):
    note_start(tmp_path)
    began = read(tmp_path / "clock.json")[0]["started"]
    assert began == pytest.approx(time.time(), abs=60)
    (tmp_path / "checkpoint.pt").touch()
    os.utime(tmp_path / "checkpoint.pt", (began + 50, began + 50))
    note_start(tmp_path)
    (tmp_path / "result.json").write_text('{"seconds": 30.0}')
    assert training_seconds(tmp_path) == pytest.approx(80.0, abs=1e-3)


def test_a_start_that_saved_nothing_counts_nothing(tmp_path):
    for _ in range(2):
        note_start(tmp_path)
    (tmp_path / "result.json").write_text('{"seconds": 30.0}')
    assert training_seconds(tmp_path) == 30.0


@pytest.mark.parametrize("epochs", [3, 100, 1234])
def test_a_thinned_curve_keeps_the_best_and_the_last_epoch(epochs):
    rows = [
        {"epoch": e, "split": split, "quantity": "elbo", "value": -100.0 + e + offset}
        for e in range(1, epochs + 1)
        for split, offset in (("train", 0.0), ("validation", -1.0))
    ]
    curve = thin(rows, epochs - 1)
    assert {epochs - 1, epochs} <= set(curve["epoch"]) and len(curve["epoch"]) <= POINTS + 2
    assert curve["epoch"] == sorted(curve["epoch"])
    assert curve["train"] == [-100.0 + e for e in curve["epoch"]]
    assert curve["validation"] == [-101.0 + e for e in curve["epoch"]]
