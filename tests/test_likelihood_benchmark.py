"""The likelihood benchmark: every row is a command, and what is finished is not repeated."""

import json
import os
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import likelihood_run, likelihoods
from benchmarks.likelihood_models import BENCHMARKS, DEPTHS, FAMILIES, Benchmark, Model
from benchmarks.likelihood_run import POINTS, Job, note_start, rounded, thin, training_seconds
from benchmarks.likelihoods import run_side_by_side
from hvae_course import recipes
from hvae_course.cli.options import read_options
from hvae_course.cli.program import _make_parser
from hvae_course.cli.settings import ModelSettings, ObjectiveSettings, find_recipe
from hvae_course.data import DataSpec

pytestmark = pytest.mark.usefixtures("make_accelerator")  # resets Accelerate's state
SPECS = {"digits": DataSpec(64, 17), "mnist": DataSpec(784, 2)}
DATA = {"digits": "digits", "mnist": "mnist", "trials": "mnist"}
TRIALS = BENCHMARKS["trials"].models
MAIN = ("one_level", "chain", "delta", "concatenation", "ladder", "vamp", "vhp")
EVERY = [(data, name) for data, benchmark in BENCHMARKS.items() for name in benchmark.models]
TINY = Benchmark(
    shared="--data digits --hidden 8 --epochs 2 --batch-size 500 --validation-samples 2",
    num_samples=4,
    models={
        "one_level": Model("one level", "bottom_up --levels 3"),
        "ladder": Model("ladder", "ladder --levels 3 2"),
    },
    kept=("one_level", 0),
)


def read(path):
    return json.loads(path.read_text())


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Run the tiny benchmark in this process; the folder of its results, and the exit status."""
    monkeypatch.setitem(BENCHMARKS, "digits", TINY)
    places = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]

    def run(*words):
        status = likelihoods.main(["digits", "--seeds", "0", "--processes", "1", *places, *words])
        return tmp_path / "results/digits", status

    yield run
    AcceleratorState._reset_state(True)


@pytest.fixture
def called(monkeypatch):
    """Names of the commands that are given, in their order."""
    names, hvae = [], likelihood_run.hvae

    def note(words):
        names.append(words[0])
        return hvae(words)

    monkeypatch.setattr(likelihood_run, "hvae", note)
    return names


# The table of models


@pytest.mark.parametrize(("name", "model"), EVERY, ids=lambda value: value)
def test_every_model_of_the_tables_is_one_command_that_builds_it(name, model):
    words = BENCHMARKS[name].train_words(model, seed=1)
    flags = [word for word in words if word.startswith("--")]
    assert len(flags) == len(set(flags))
    given = _make_parser()[0].parse_args(words)
    assert (given.data, given.seed) == (DATA[name], 1)
    recipe = find_recipe(given.target)
    arguments = read_options(given, ModelSettings).arguments(recipe)
    read_options(given, ObjectiveSettings).make()
    with torch.device("meta"):
        built = recipes.RECIPES[recipe](SPECS[DATA[name]], **arguments)
    assert built.num_levels == len(given.latent_sizes)


def test_both_data_sets_have_the_same_main_models_under_the_same_titles():
    mains = {
        name: {key: m.title for key, m in benchmark.models.items() if m.group == "main"}
        for name, benchmark in BENCHMARKS.items()
    }
    assert tuple(mains["digits"]) == MAIN
    assert mains["digits"] == mains["mnist"]


def test_an_option_of_a_model_replaces_that_of_all_models():
    model = Model("", "ladder --levels 3 2 --hidden 8 8")
    shared = "--hidden 5 5 --epochs 2 --levels 7 --decay 1.0"
    words = Benchmark(shared=shared, num_samples=4, models={"a": model}).train_words("a", seed=3)
    expected = "train ladder --epochs 2 --decay 1.0 --levels 3 2 --hidden 8 8 --seed 3"
    assert words == expected.split()


def test_every_trial_changes_something_and_the_data_never():
    words = {name: BENCHMARKS["trials"].train_words(name, seed=0) for name in TRIALS}
    assert len(set(map(tuple, words.values()))) == len(TRIALS)
    assert all(of[of.index("--data") + 1] == "mnist" for of in words.values())


def test_models_by_depth_differ_in_their_levels_and_their_inference_alone():
    kept = set()
    for recipe in FAMILIES:
        for depth in DEPTHS:
            words = BENCHMARKS["digits"].train_words(f"depth_{recipe}_{depth}", seed=0)
            first = words.index("--levels") + 1
            assert words[1] == recipe
            assert all(word.isdigit() for word in words[first : first + depth])
            kept.add((*words[2:first], *words[first + depth :]))
    assert len(kept) == 1


# One run


def test_a_run_ends_as_one_file_with_its_bounds_and_their_circumstances(tiny):
    folder, status = tiny()
    assert status == 0
    assert {p.name for p in folder.iterdir()} == {
        "one_level-0.json",
        "one_level-0.pt",
        "ladder-0.json",
    }
    row = read(folder / "ladder-0.json")
    test = row["test"]
    gap = test["reconstruction"]["mean"] - test["elbo"]["mean"]
    assert gap == pytest.approx(sum(level["mean"] for level in test["information"]), abs=1e-4)
    assert test["log_likelihood"]["mean"] > test["elbo"]["mean"]
    assert (test["num_samples"], test["num_examples"]) == (4, 447)
    assert row["settings"]["latent_sizes"] == [3, 2]
    assert row["curve"]["epoch"] == [1, 2]
    (environment,) = row["environments"]
    assert environment["device"] == "cpu" and "platform" not in environment
    assert row["seconds"] > 0 and row["runs_at_a_time"] == 1
    assert len(row["diagnosis"]["levels"]) == 2
    assert row["commands"]["train"].startswith("hvae train ladder --data digits")


def test_a_trial_never_sees_the_test_split(tiny, called, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "digits", replace(TINY, num_samples=None, kept=None))
    folder, status = tiny("--models", "ladder")
    assert (status, called) == (0, ["train"])
    row = read(folder / "ladder-0.json")
    assert row["validation"]["elbo"]["mean"] < 0
    assert not {"test", "diagnosis"} & row.keys()
    assert row["commands"].keys() == {"train"}
    assert tiny("--models", "ladder")[1] == 0 and called == ["train"]


def test_the_stored_commands_give_the_stored_numbers(tiny, tmp_path):
    folder, _ = tiny("--models", "ladder")
    row = read(folder / "ladder-0.json")
    for name in ("train", "evaluate"):
        words = shlex.split(row["commands"][name])[1:]
        moved = [w.replace(str(tmp_path / "runs"), str(tmp_path / "again")) for w in words]
        likelihood_run.call([*moved, "--quiet"])
    again = read(tmp_path / "again/digits/ladder-0/evaluation-test-4.json")
    assert again["elbo"]["mean"] == pytest.approx(row["test"]["elbo"]["mean"], abs=1e-5)


def test_what_is_finished_is_not_repeated(tiny, called, tmp_path):
    folder, _ = tiny("--models", "ladder")
    assert called == ["train", "evaluate", "diagnose"]
    tiny("--models", "ladder")
    assert len(called) == 3
    first = read(folder / "ladder-0.json")
    (folder / "ladder-0.json").unlink()
    (tmp_path / "runs/digits/ladder-0/evaluation-test-4.json").unlink()
    tiny("--models", "ladder")
    assert called[3:] == ["evaluate"]
    assert read(folder / "ladder-0.json") == first


def test_compilation_is_an_option_of_the_training_alone():
    commands = Job("digits", "ladder", 0, compiled=True).commands()
    assert [name for name, words in commands.items() if "--compile" in words] == ["train"]


def test_a_result_of_other_words_is_not_taken_for_done(tiny, monkeypatch, capsys):
    tiny("--models", "ladder")
    changed = replace(TINY, shared=TINY.shared.replace("--epochs 2", "--epochs 3"))
    monkeypatch.setitem(BENCHMARKS, "digits", changed)
    with pytest.raises(SystemExit, match="2"):
        tiny("--models", "ladder")
    assert "was made with other words" in capsys.readouterr().err
    monkeypatch.setitem(BENCHMARKS, "digits", replace(TINY, num_samples=8))
    with pytest.raises(SystemExit, match="2"):
        tiny("--models", "ladder")
    assert "was made with other draws: 4, and the table says 8" in capsys.readouterr().err


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
    broken = replace(TINY.models["one_level"], words="bottom_up --levels 3 --dropout 2")
    monkeypatch.setitem(
        BENCHMARKS, "digits", replace(TINY, models=TINY.models | {"one_level": broken})
    )
    folder, status = tiny()
    assert status == 1
    assert [p.name for p in folder.iterdir()] == ["ladder-0.json"]
    told = capsys.readouterr()
    assert "ended with status 2; see" in told.out + told.err


def test_an_interruption_ends_the_benchmark(tiny, monkeypatch, capsys):
    monkeypatch.setattr(likelihood_run, "hvae", lambda words: 130)
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
        {
            "epoch": e,
            "split": split,
            "quantity": "elbo",
            "level": None,
            "value": -100.0 + e + offset,
        }
        for e in range(1, epochs + 1)
        for split, offset in (("train", 0.0), ("validation", -1.0))
    ]
    curve = thin(rows, epochs - 1)
    assert {epochs - 1, epochs} <= set(curve["epoch"]) and len(curve["epoch"]) <= POINTS + 2
    assert curve["epoch"] == sorted(curve["epoch"])
    assert curve["train"] == [-100.0 + e for e in curve["epoch"]]
    assert curve["validation"] == [-101.0 + e for e in curve["epoch"]]


def test_rounding_reaches_every_number():
    assert rounded({"a": [0.12345678, (1, "b", None)]}) == {"a": [0.123457, [1, "b", None]]}


def leave_a_mark(job):
    """Show how many of these run at once; one of them fails."""
    folder = Path(job.runs)
    mine = folder / f"running-{job.seed}"
    mine.touch()
    (folder / f"seen-{job.seed}").write_text(str(len(list(folder.glob("running-*")))))
    time.sleep(0.2)
    mine.unlink()
    if job.seed == 1:
        raise RuntimeError("this run fails")


def test_never_more_runs_at_once_than_asked_for(tmp_path):
    jobs = [Job("digits", "ladder", seed, runs=str(tmp_path)) for seed in range(5)]
    ended = dict(run_side_by_side(leave_a_mark, jobs, processes=2))
    assert set(ended) == set(jobs)
    assert [str(error) for error in ended.values() if error] == ["this run fails"]
    assert max(int((tmp_path / f"seen-{seed}").read_text()) for seed in range(5)) <= 2
