"""What the results page says about variants of one model, and the committed runs behind it."""

import json
import shlex

import pytest

from benchmarks.likelihood_models import BENCHMARKS, WARM_UPS
from benchmarks.page.generate import page
from benchmarks.page.prose import TITLES
from benchmarks.page.records import RESULTS, Row, load_published, load_results, load_rows
from benchmarks.page.trials import (
    extremes,
    handicap,
    training_cost,
    trials_text,
    validation_cost,
    warm_up_text,
)

TRIALS = BENCHMARKS["trials"]
COMMITTED = sorted((RESULTS / "trials").glob("*.json"))
SETTINGS = {
    "epochs": 40,
    "warm_up": [10],
    "hidden": [30, 20],
    "batch_size": 64,
    "learning_rate": 0.005,
    "normalisation": "layer",
}


def make_rows(benchmark=TRIALS, **nats):
    """Rows with these values of minus the validation ELBO, one per seed; IW is 4 nats better."""
    rows = {}
    for name, values in nats.items():
        runs = [
            {
                "validation": {"elbo": {"mean": -value}},
                "test": {"log_likelihood": {"mean": 4.0 - value}},
                "curve": {"train": [-200.0, 1.0 - value]},
                "settings": SETTINGS,
            }
            for value in values
        ]
        rows[name] = Row(name, benchmark.models[name], tuple(runs))
    return rows


def test_costs_are_those_of_the_validation_split_and_of_the_last_epoch():
    row = make_rows(base=[90.0, 92.0])["base"]
    assert (validation_cost(row), training_cost(row)) == (91.0, 90.0)


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (
            89.5,
            93.0,
            "Most is gained by “no warm-up” (0.50 nats), and most is lost by “dropout of 0.1” "
            "(3.00).",
        ),
        (
            90.5,
            91.0,
            "No change gained anything, and most is lost by “dropout of 0.1” (1.00).",
        ),
        (
            88.0,
            89.0,
            "Most is gained by “no warm-up” (2.00 nats), and no change lost anything.",
        ),
    ],
)
def test_the_extremes_are_named_with_what_they_are_worth(low, high, sentence):
    assert extremes(make_rows(base=[90.0], warm_up_none=[low], dropout=[high])) == sentence


def test_the_table_has_every_variant_with_its_difference():
    text = trials_text(make_rows(base=[90.0], warm_up_none=[89.5], dropout=[93.0]), {})
    assert "| nothing | 90.00 |  | 89.00 |" in text
    assert "| no warm-up | 89.50 | −0.50 | 88.50 |" in text
    assert "| dropout of 0.1 | 93.00 | +3.00 | 92.00 |" in text
    assert "40 epochs, 10 of them {term}`warm-up`, hidden layers of 30 and 20 units" in text
    assert "batches of 64, a learning rate of 0.005" in text and "one seed" in text
    assert "may be luck" in text
    several = make_rows(base=[90.0, 90.1], dropout=[93.0, 93.1])
    assert "may be luck" not in trials_text(several, {})


@pytest.mark.parametrize(
    ("nats", "sentence"),
    [
        ((90.0, 89.0, 97.0), "it helps “two levels, concatenation” (2.00 nats) and harms “one l"),
        ((90.0, 90.5, 97.0), "it helps “one level” (0.50 nats) and “two levels, concatenation” ("),
        ((90.0, 89.0, 94.0), "it harms “one level” (1.00 nats) and “two levels, concatenation” ("),
    ],
)
def test_who_gains_by_a_warm_up_is_read_from_the_pairs(nats, sentence):
    one, direct, two = ([value] for value in nats)
    rows = make_rows(one_level=one, one_level_direct=direct, base=[95.0], warm_up_none=two)
    text = warm_up_text(rows, {})
    assert sentence in text
    assert f"| one level | 90.00 | {nats[1]:.2f} | " in text and "VHP" not in text
    assert text in trials_text(rows, {})
    assert warm_up_text(make_rows(one_level=one, warm_up_none=two), {}) == ""


def test_the_same_question_in_full_trainings_is_answered_by_both_rows():
    trials = make_rows(one_level=[90.0], one_level_direct=[89.0])
    full = make_rows(BENCHMARKS["mnist"], one_level=[86.0, 86.2], one_level_warm_up=[87.0])
    text = warm_up_text(trials, full)
    assert "“one level” has a −ELBO of 87.00 with it and 86.10 without on validation" in text
    assert "of 83.00 and 82.10\u00a0±\u00a00.14 on test images" in text
    assert "prefers the other one" not in text
    full["one_level"].runs[0]["test"]["log_likelihood"]["mean"] = -90.0
    assert "importance-weighted bound prefers the other one" in warm_up_text(trials, full)
    del full["one_level_warm_up"]
    assert "Trained in full" not in warm_up_text(trials, full)


def test_settings_that_lost_are_named_where_a_full_training_has_them():
    trials, full = (
        make_rows(base=[90.0], layer=[93.0]),
        make_rows(BENCHMARKS["mnist"], vamp=[87.0]),
    )
    text = handicap(trials, full)
    assert "“two levels, VampPrior” is inferred with the settings of “layer norm" in text
    assert "cost 3.00 nats" in text and text in trials_text(trials, full)
    assert handicap(trials, {}) == handicap(make_rows(base=[90.0]), full) == ""
    assert handicap(make_rows(base=[90.0], layer=[89.0]), full) == ""
    full["vamp"].runs[0]["settings"] = SETTINGS | {"normalisation": "batch"}
    assert handicap(trials, full) == ""


def test_pairs_differ_in_the_warm_up_alone():
    pairs = [(data, names) for data, of_data in WARM_UPS.items() for names in of_data]
    for data, names in pairs:
        words = [BENCHMARKS[data].train_words(name, seed=0) for name in names]
        lengths, rest = [], []
        for of in words:
            at = of.index("--warm-up")
            lengths.append(int(of[at + 1]))
            rest.append(sorted(of[:at] + of[at + 2 :]))
        assert lengths[0] > lengths[1] == 0
        assert rest[0] == rest[1]


@pytest.mark.parametrize(
    "nats",
    [
        {},
        {"one_level": [90.0], "base": [90.0]},
        {"base": [90.0]},
        {"dropout": [90.0], "wide": [91.0]},
    ],
)
def test_without_a_comparison_there_is_no_section(nats, tmp_path):
    rows = load_results(tmp_path)
    text = page(rows, load_published(), speed=None, measured=None, trials=make_rows(**nats))
    assert TITLES["trials"] not in text


def test_the_section_is_on_the_page():
    trials = load_rows("trials")
    text = page(load_results(), load_published(), speed=None, measured=None, trials=trials)
    assert trials_text(trials, load_rows("mnist")) in text


def test_every_trial_is_committed():
    assert {path.stem for path in COMMITTED} == {f"{name}-0" for name in TRIALS.models}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_trial_is_what_the_table_says_and_was_not_judged_on_test_images(path):
    row = json.loads(path.read_text())
    assert path == RESULTS / "trials" / f"{row['model']}-{row['seed']}.json"
    assert row["words"] == shlex.join(TRIALS.train_words(row["model"], seed=row["seed"]))
    assert row["validation"]["split"] == "validation" and "test" not in row
    assert not any(environment["git_changed"] for environment in row["environments"])
    base = json.loads((RESULTS / "trials/base-0.json").read_text())["settings"]
    differing = {key for key in base if row["settings"][key] != base[key]}
    flags = [word for word in shlex.split(TRIALS.models[row["model"]].words) if "--" in word]
    names = {"levels": "latent_sizes"}
    expected = {names.get(f[2:], f[2:].replace("-", "_")) for f in flags}
    recipe = {"recipe"} if shlex.split(row["words"])[1] != "bidirectional" else set()
    assert differing == expected | recipe
