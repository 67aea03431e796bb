"""The committed results: every file is what its table says, and one is computed again."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.likelihood_models import BENCHMARKS, change
from benchmarks.likelihood_run import Job
from benchmarks.likelihoods import SEEDS
from hvae_course import data, evaluate, recipes
from hvae_course.cli import COMMANDS
from hvae_course.config import Experiment, Model, take
from hvae_course.parsing import parse
from hvae_course.recipes import read_config
from hvae_course.training import load_checkpoint

PROJECT = Path(__file__).parents[1]
RESULTS, PAGE = PROJECT / "benchmarks/results", PROJECT / "book/results.md"
COMMITTED = sorted(RESULTS.glob("*/*.json"))
JUDGED = [path for path in COMMITTED if path.parent.name != "trials"]
TRIALS = [path for path in COMMITTED if path.parent.name == "trials"]


def read(path):
    return json.loads(path.read_text("utf-8"))


def name_of(path):
    return f"{path.parent.name}-{path.stem}"


# The files


@pytest.mark.parametrize("path", COMMITTED, ids=name_of)
def test_a_file_states_its_settings_and_is_the_finished_result_of_its_table(path):
    row = read(path)
    job = Job(row["data"], row["model"], row["seed"])
    assert job.result == path and job.is_done()
    assert row["settings"]["epochs"] == row["epochs"]
    assert read_config(row["config"])[0] == job.training.experiment.model
    assert row["environments"] and row["data_description"] and row["seconds"] > 0
    assert not any(environment["git_changed"] for environment in row["environments"])


@pytest.mark.parametrize("path", JUDGED, ids=name_of)
def test_the_bounds_of_a_file_are_consistent(path):
    row = read(path)
    test, draws = row["test"], BENCHMARKS[row["data"]].num_samples
    assert (test["split"], test["num_samples"]) == ("test", draws)
    assert test["log_likelihood"]["mean"] > test["elbo"]["mean"]
    information = sum(level["mean"] for level in test["information"])
    gap = test["reconstruction"]["mean"] - test["elbo"]["mean"]
    assert gap == pytest.approx(information, abs=1e-3)
    assert row["best_epoch"] in row["curve"]["epoch"]


@pytest.mark.parametrize("path", TRIALS, ids=name_of)
def test_a_trial_sees_no_test_image(path):
    row = read(path)
    assert row["validation"]["split"] == "validation" and "test" not in row


@pytest.mark.parametrize(("name", "seeds"), [("digits", SEEDS), ("mnist", [0]), ("trials", [0])])
def test_every_model_has_its_file_for_every_seed(name, seeds):
    expected = {f"{model}-{seed}" for model in BENCHMARKS[name].models for seed in seeds}
    assert expected == {path.stem for path in COMMITTED if path.parent.name == name}


@pytest.mark.parametrize(
    ("data_set", "names"),
    [
        ("trials", ("one_level", "one_level_direct")),
        ("trials", ("vhp", "vhp_direct")),
        ("trials", ("base", "warm_up_none")),
        ("mnist", ("one_level_warm_up", "one_level")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_what_is_compared_with_and_without_a_warm_up_differs_in_nothing_else(data_set, names):
    with_it, without = (BENCHMARKS[data_set].models[name].experiment for name in names)
    assert with_it.objective.warm_up[0] > 0 == without.objective.warm_up[0]
    assert change(with_it, warm_up=0) == without


def test_a_file_is_computed_again_from_its_weights():
    name, seed = BENCHMARKS["digits"].kept
    row = read(RESULTS / "digits" / f"{name}-{seed}.json")
    path = RESULTS / "digits" / row["weights"]["file"]
    content = path.read_bytes()
    assert len(content) < 400_000
    assert hashlib.sha256(content).hexdigest() == row["weights"]["sha256"]
    checkpoint, test = load_checkpoint(path), row["test"]
    model = recipes.build(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    # chunks as the command line has them: the order of the draws is part of the number
    settings = {name: test[name] for name in ("num_samples", "seed", "batch_size", "max_rows")}
    found = evaluate(model, data.load("digits"), **settings)
    for quantity in ("elbo", "log_likelihood", "reconstruction"):
        mean, error = getattr(found, quantity).mean, getattr(found, quantity).standard_error
        assert mean == pytest.approx(test[quantity]["mean"], abs=2e-4), quantity
        assert error == pytest.approx(test[quantity]["standard_error"], abs=2e-4), quantity


# Published numbers, and the page


def test_published_rows_are_complete_and_cite_the_bibliography():
    table = pd.read_csv(PROJECT / "benchmarks/published.csv")
    bibliography = (PROJECT / "book/references.bib").read_text("utf-8")
    assert all(f"{{{cite}," in bibliography for cite in table["cite"])
    assert table["nats"].between(70, 90).all()
    assert set(table["estimator"]) <= {"IW", "bound", "ELBO"}
    assert set(table["binarisation"]) == {"static", "dynamic"}
    assert set(table["read_in"]) == {"table", "quoted"}
    beside = table.dropna(subset="beside")
    assert (beside["binarisation"] == "dynamic").all()
    main = {n for n, model in BENCHMARKS["mnist"].models.items() if model.group == "main"}
    assert set(beside["beside"].str.split().explode()) == main


def published_bits() -> pd.DataFrame:
    path = PROJECT / "benchmarks/published_bits.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_published_bits_are_complete_and_cite_the_bibliography():
    table = published_bits()
    bibliography = (PROJECT / "book/references.bib").read_text("utf-8")
    assert all(f"{{{cite}," in bibliography for cite in table["cite"])
    assert table["bits"].astype(float).between(0.5, 4).all()
    assert set(table["estimator"]) == {"IW", "bound", "ELBO"}
    assert set(table["read_in"]) == {"repository", "abstract", "quoted"}
    draws = table["samples"].where(table["samples"] != "", "0").astype(int)
    assert (draws[table["estimator"] == "ELBO"] == 1).all()
    assert (draws[table["estimator"] == "IW"] > 1).all()
    assert (draws[table["estimator"] == "bound"] == 0).all()
    assert not table.duplicated(["data", "model", "levels", "estimator"]).any()


IMAGES = {
    "cifar10": "CIFAR-10",
    "imagenet32": "ImageNet, 32 × 32",
    "imagenet32_new": "ImageNet, 32 × 32, the later set",
    "ffhq256": "FFHQ, 256 × 256, 5 bits",
}
READ_IN = {
    "repository": "the authors' repository",
    "abstract": "the paper's abstract",
    "quoted": "later work",
}


def test_the_page_prints_the_published_bits_of_the_file():
    section = PAGE.read_text("utf-8").split("## Colour images", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.split("\n") if line.startswith("| ")]
    printed = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]
    expected = [
        [
            IMAGES[row.data],
            f"{row.model} {{cite:p}}`{row.cite}`",
            row.levels,
            row.bits,
            {"ELBO": "ELBO", "bound": "not stated", "IW": f"IW-{row.samples}"}[row.estimator],
            READ_IN[row.read_in],
        ]
        for row in published_bits().itertuples()
    ]
    assert printed == expected


def test_the_commands_on_the_page_are_a_row_of_the_table():
    text = re.sub(r" \\\n\s+", " ", PAGE.read_text("utf-8"))
    train, evaluation = (
        parse(shlex.split(line)[1:], COMMANDS)
        for line in re.findall(r"^hvae (?:train|evaluate) .*$", text, re.MULTILINE)
    )
    job = Job("digits", "ladder", 0)
    groups = {name: getattr(train, name) for name in ("data", "objective", "training", "machine")}
    chosen = Experiment(model=take(Model, vars(train.model)), **groups)
    assert chosen == job.training.experiment
    assert train.out == evaluation.model == str(job.folder)
    assert evaluation.num_samples == BENCHMARKS["digits"].num_samples
