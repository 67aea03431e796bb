"""The results page: it is what the committed results give, and its verdicts follow from them."""

import hashlib
import json
import re
import shlex

import matplotlib
import pandas as pd
import pytest

from benchmarks.likelihood_models import BENCHMARKS, Goal
from benchmarks.likelihoods import SEEDS
from benchmarks.page import prose
from benchmarks.page.bounds import close_pairs, gap_text, swaps
from benchmarks.page.generate import BOOK, generate, page
from benchmarks.page.published import beside, goal_lines, last_tenth, reached, shortfalls
from benchmarks.page.records import (
    PLUS_MINUS,
    PUBLISHED,
    RESULTS,
    Row,
    between,
    growth,
    load_published,
    load_results,
    seeds,
    shown,
)
from benchmarks.page.sections import best_depth, front
from benchmarks.page.traps import binarisation_gaps, step_up
from hvae_course import data, evaluate, recipes
from hvae_course.training import load_checkpoint

COMMITTED = sorted(p for p in RESULTS.glob("*/*.json") if p.parent.name != "trials")
MODELS = BENCHMARKS["mnist"].models
MAIN = {name: model for name, model in MODELS.items() if model.group == "main"}


def read(path):
    return json.loads(path.read_text())


def make_row(name, iw, *, elbo=None, seconds=1.0):
    """A row on MNIST with these values of minus the bounds, one per seed."""
    runs = [
        {
            "test": {
                "log_likelihood": {"mean": -value},
                "elbo": {"mean": -(value + 2 if elbo is None else elbo)},
                "information": [{"mean": 9.0}, {"mean": 0.01 if seed else 3.0}],
            },
            "seconds": seconds,
            "epochs": 100,
            "curve": {
                "epoch": [1, 90, 100],
                "validation": [-99.0, -84.5, -84.0],
                "train": [-98.0, -82.5, -82.0],
            },
        }
        for seed, value in enumerate(iw)
    ]
    return Row(name, MODELS[name], tuple(runs))


def make_rows(**rows):
    return {name: make_row(name, *args) for name, args in rows.items()}


@pytest.fixture
def as_mnist(tmp_path):
    """Write rows on MNIST with these values of minus IW, made of a committed row on digits."""

    def write(**values):
        folder = tmp_path / "results"
        (folder / "mnist").mkdir(parents=True)
        for name, nats in values.items():
            for seed, value in enumerate(nats):
                row = read(RESULTS / "digits/chain-0.json")
                row |= {"data": "mnist", "model": name, "seed": seed}
                row["test"]["log_likelihood"]["mean"] = -value
                row["test"]["elbo"]["mean"] = -value - 3.0
                (folder / "mnist" / f"{name}-{seed}.json").write_text(json.dumps(row))
        return folder

    return write


# The committed page


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    book = tmp_path_factory.mktemp("book")
    (book / "figures").mkdir()
    return generate(book=book)


def test_the_committed_page_is_what_the_results_give(generated):
    committed = (BOOK / "results.md").read_text("utf-8")
    assert committed == generated[0].read_text("utf-8"), "run make results"


def test_the_committed_figures_are_what_the_results_give(generated):
    names = {path.name for path in generated[1:]}
    assert names == {path.name for path in (BOOK / "figures").glob("results_*.svg")}
    for path in generated[1:]:
        committed = (BOOK / "figures" / path.name).read_text("utf-8")
        if f"Matplotlib v{matplotlib.__version__}," in committed:  # others draw differently
            assert committed == path.read_text("utf-8"), "run make results"


def test_the_words_around_the_numbers_hold_none():
    texts = [getattr(prose, name) for name in ("INTRODUCTION", "DIGITS", "MNIST", "REPEAT")]
    texts += [*prose.TITLES.values(), *map(" ".join, prose.FIGURES.values())]
    assert not re.findall(r"\d", re.sub(r"\{cite:\w\}`\w+`", "", " ".join(texts)))


def test_every_figure_of_the_page_is_drawn_and_has_alternative_text(generated):
    text = generated[0].read_text("utf-8")
    shown_names = re.findall(r"\{figure\} figures/(results_\w+\.svg)", text)
    assert sorted(shown_names) == sorted(path.name for path in generated[1:])
    assert all(len(alt) > 80 for alt in re.findall(r":alt: (.*)", text))


# The page when rows are missing, single or many


def test_a_page_without_any_result_says_so(tmp_path):
    text = page(load_results(tmp_path), load_published(), speed=None, measured=None)
    assert "No model has been trained on MNIST for this page yet" in text
    assert "No comparison has been trained on digits yet" in text
    assert "{figure}" not in text


def test_rows_on_mnist_come_with_verdicts_and_the_missing_ones_are_named(as_mnist, tmp_path):
    folder = as_mnist(one_level=[84.4], ladder=[81.9], delta=[82.5], concatenation=[82.6])
    (tmp_path / "book/figures").mkdir(parents=True)
    text = generate(results=folder, book=tmp_path / "book")[0].read_text("utf-8")
    assert (
        "Not trained yet: “two levels, bottom-up”, “two levels, VampPrior” and “one level, VHP”."
        in text
    )
    assert "2 of 6 goals are met: one level; ladder of 5 levels, first goal. 2 of them" in text
    assert "| two levels, inferred top-down | 82.4 | 82.50 | missed by 0.10 |" in text
    assert "| one level | **84.40** | VAE, one level | 86.76 {cite:p}`burda2016` |" in text
    assert "one seed" in text and "hvae train" in text


def test_a_page_with_several_seeds_has_their_spread(as_mnist, tmp_path):
    folder = as_mnist(one_level=[84.0, 84.2, 84.4], chain=[83.0, 83.0, 83.3])
    text = page(load_results(folder), load_published(), speed=None, measured=None)
    assert f"**84.20{PLUS_MINUS}0.20**" in text and "three seeds" in text
    assert "| one level | 84.5 | 84.20 | **met**, 0.30 to spare |" in text


@pytest.mark.parametrize(("nats", "met"), [(84.49, True), (84.5, True), (84.51, False)])
def test_a_goal_is_met_by_the_mean_over_the_seeds(nats, met):
    _, verdict = goal_lines(make_rows(one_level=([nats - 0.3, nats + 0.3],)))
    assert verdict.startswith("1 of 6" if met else "0 of 6")


def test_the_best_model_of_a_goal_counts():
    rows = make_rows(delta=([82.5],), concatenation=([82.3],))
    assert reached(Goal("", ("delta", "concatenation"), 82.4), rows) == ("concatenation", 82.3)
    assert reached(Goal("", ("ladder",), 82.0), rows) is None


def test_a_missed_goal_is_explained_by_the_training_of_its_own_model():
    first, rule = shortfalls({"ladder": make_row("ladder", [81.9, 81.9])}, load_published())
    assert "validation ELBO rose by 0.50 nats, and the training ELBO ended 2.0 nats above" in first
    assert "It had 100 epochs, the published row 2,000. 1 of its 2 levels are used." in first
    assert "asks for more epochs" in rule
    below = make_row("ladder", [81.9])
    below.runs[0]["curve"]["train"][-1] = -84.6
    assert "training ELBO ended 0.6 nats below it" in shortfalls({"ladder": below}, [])[0]
    assert shortfalls(make_rows(one_level=([84.0],)), load_published()) == []


def test_what_was_best_before_the_last_tenth_rose_by_nothing_in_it():
    curve = {"epoch": [80, 90, 95, 100], "validation": [3.0, 5.0, 4.0, 4.5], "train": [6.0] * 4}
    assert last_tenth({"curve": curve}) == (0.0, 1.5)


def test_pairs_that_the_bounds_order_differently_are_found():
    rows = {"chain": make_row("chain", [82.0], elbo=86.0), "delta": make_row("delta", [83.0])}
    assert swaps(rows) == (1, ["“two levels, bottom-up” and “two levels, delta”"])
    assert "1 of 1 pairs" in gap_text(rows)
    assert "same order" in gap_text(make_rows(chain=([82.0],), delta=([83.0],)))


def test_pairs_are_ordered_only_if_no_seeds_overlap():
    rows = make_rows(chain=([82.0, 82.2],), delta=([82.1, 82.3],), ladder=([81.0, 81.1],))
    assert close_pairs(rows).startswith("In 2 of 3 pairs")
    assert "from luck" in close_pairs(make_rows(chain=([82.0],), delta=([83.0],)))


def test_nothing_on_the_front_is_dearer_and_worse():
    rows = {
        "one_level": make_row("one_level", [84.0], seconds=1.0),
        "chain": make_row("chain", [84.5], seconds=2.0),
        "delta": make_row("delta", [83.0], seconds=3.0),
    }
    assert [row.name for row in front(rows)] == ["one_level", "delta"]


def test_a_depth_is_best_only_as_far_as_the_seeds_tell():
    rows = {1: make_row("chain", [84.0, 84.2]), 2: make_row("chain", [83.0, 83.3])}
    assert best_depth(rows).endswith("L = 2, below every seed of the other depths")
    rows[3] = make_row("chain", [83.2, 83.6])
    assert best_depth(rows).endswith("L = 2, and seeds of L = 3 reach into its range")


def test_a_straight_line_explains_itself_and_noise_less():
    assert growth([1, 2, 3], [5, 7, 9]) == pytest.approx((2, 1))
    assert growth([1, 2, 3], [4, 4, 4]) == pytest.approx((0, 1))
    slope, explained = growth([0, 1, 2, 3], [0, 1, 0, 1])
    assert (slope, explained) == pytest.approx((0.2, 0.2))


def test_numbers_are_written_with_their_spread():
    assert shown([1.0, 2.0, 3.0]) == f"2.00{PLUS_MINUS}1.00"
    assert between([0.1, 0.1001]) == "0.10"
    rows = make_rows(chain=([82.0],), delta=([82.0, 83.0],))
    assert seeds(rows) == "1 to 2 seeds"


def test_a_level_is_used_only_if_every_seed_uses_it():
    assert make_row("ladder", [82.0]).used_levels == 2
    assert make_row("ladder", [82.0, 82.0]).used_levels == 1


def test_published_rows_are_complete_and_cite_the_bibliography():
    rows, bibliography = load_published(), (BOOK / "references.bib").read_text("utf-8")
    for row in rows:
        assert f"{{{row['cite']}," in bibliography
        assert 70 < row["nats"] < 90 and row["estimator"] in ("IW", "bound", "ELBO")
        assert row["binarisation"] in ("static", "dynamic") and row["read_in"] in (
            "table",
            "quoted",
        )
        assert set((row["beside"] or "").split()) <= MODELS.keys()
        assert row["binarisation"] == "dynamic" or not row["beside"]
    assert {name for row in rows for name in (row["beside"] or "").split()} == MAIN.keys()
    assert list(pd.read_csv(PUBLISHED).columns)[:4] == ["beside", "model", "data", "binarisation"]


def test_every_model_stands_beside_a_published_row():
    lines = beside({}, load_published()).splitlines()[2:]
    titles = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert [t for t in titles if t.strip("| ")] == [model.title for model in MAIN.values()]


def test_the_worth_of_a_level_and_of_a_binarisation_is_taken_from_one_paper():
    rows = load_published()
    assert "83.19 static against 81.24 dynamic" in binarisation_gaps(rows)
    assert step_up(rows) == "; a second level is worth 2.06 in {cite:t}`norouzi2020`"
    assert step_up([row for row in rows if row["cite"] != "norouzi2020"]) == ""


# The committed rows


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_committed_row_is_what_the_table_says_and_consistent(path):
    row = read(path)
    assert path == RESULTS / row["data"] / f"{row['model']}-{row['seed']}.json"
    benchmark, test = BENCHMARKS[row["data"]], row["test"]
    assert row["words"] == shlex.join(benchmark.train_words(row["model"], seed=row["seed"]))
    assert (test["split"], test["num_samples"]) == ("test", benchmark.num_samples)
    assert test["log_likelihood"]["mean"] > test["elbo"]["mean"]
    information = sum(level["mean"] for level in test["information"])
    gap = test["reconstruction"]["mean"] - test["elbo"]["mean"]
    assert gap == pytest.approx(information, abs=1e-3)
    assert row["best_epoch"] in row["curve"]["epoch"]
    assert not any(environment["git_changed"] for environment in row["environments"])


def test_every_model_on_digits_has_its_row_for_every_seed():
    expected = {f"{name}-{seed}" for name in BENCHMARKS["digits"].models for seed in SEEDS}
    assert expected == {path.stem for path in COMMITTED if path.parent.name == "digits"}


def test_a_committed_row_is_computed_again_from_its_weights():
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
