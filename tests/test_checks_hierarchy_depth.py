"""Checks of the sheet on depth: contradictions in a table are found, and unknown mistakes too."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from answers.running import run_check, solution

from hvae_course.checks import hierarchy_depth as checks
from hvae_course.checks.hierarchy_depth.seeded_runs import (
    chosen,
    difference,
    runs,
    tables_to_choose_from,
)


def results(depths=(1, 2, 3, 5), seeds=(0, 1, 2), comparisons=("equal width", "equal parameters")):
    """A table without contradictions, as training would give it."""
    random, rows = np.random.default_rng(0), []
    models = [("bottom-up", d) for d in depths] + [("top-down", d) for d in depths if d > 1]
    for comparison, (model, levels), seed in itertools.product(comparisons, models, seeds):
        width = 256 if comparison == "equal width" else 256 - 20 * levels
        parameters = 500_000 + 50_000 * levels if width == 256 else 500_000 + 2_000 * levels
        used = random.uniform(0.1, 9.0, levels)
        elbo = -95 + levels + random.normal()
        rows.append(
            {
                **dict(comparison=comparison, model=model, levels=levels, seed=seed, units=32),
                **dict(width=width, parameters=parameters, validation=elbo + 3 + random.normal()),
                **dict(elbo=elbo, iw=elbo + 2.5, reconstruction=elbo + used.sum()),
                **{
                    f"information_{l}": used[l - 1] if l <= levels else np.nan for l in range(1, 6)
                },
            }
        )
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def with_column(name, change):
    """The table with one column replaced by a function of the whole table."""
    return lambda table: table.assign(**{name: change(table)})


def with_value(name, value, *, where="levels == 3 and seed == 1"):
    """The table with one value in some rows of a column."""
    return lambda table: table.assign(
        **{name: table[name].where(~table.eval(where), value).astype(table[name].dtype)}
    )


SWAPPED = {"elbo": "iw", "iw": "elbo"}
SPOILT = {
    "an unmade table": (lambda t: None, "not written yet: the table is made by the cell above"),
    "a list of rows": (lambda t: t.to_dict("records"), "such as pd.DataFrame(rows)"),
    "no rows": (lambda t: t.iloc[:0], "has no rows"),
    "two columns missing": (
        lambda t: t.drop(columns=["iw", "units"]),
        "lacks the columns units, iw",
    ),
    "a level's column missing": (lambda t: t.drop(columns="information_4"), "information_4"),
    "a row missing": (
        lambda t: t.query("not (model == 'top-down' and levels == 5 and seed == 2)"),
        "a row is missing: equal width, top-down, levels 5, seed 2",
    ),
    "a comparison without one depth": (
        lambda t: t.query("not (comparison == 'equal parameters' and levels == 1)"),
        "a row is missing: equal parameters, bottom-up, levels 1",
    ),
    "a row twice": (lambda t: pd.concat([t, t.iloc[:1]]), "there are two rows for"),
    "one depth": (lambda t: t.query("levels == 3"), "one depth only"),
    "an unknown model": (with_column("model", lambda t: "ladder"), "model holds 'ladder'"),
    "another word for a comparison": (
        lambda t: t.replace("equal width", "width"),
        "comparison holds 'width'",
    ),
    "a training that diverged": (
        with_value("iw", np.nan),
        "iw holds something that is not a finite",
    ),
    "an infinite bound": (
        with_value("elbo", -np.inf),
        "elbo holds something that is not a finite",
    ),
    "text in place of a number": (with_column("width", lambda t: "wide"), "width holds something"),
    "swapped bounds": (lambda t: t.rename(columns=SWAPPED), "are the columns swapped?"),
    "one bound of another model": (with_value("iw", -120.0), "is one of another model?"),
    "the loss for the bound": (with_column("elbo", lambda t: -t.elbo), "looks like a loss"),
    "losses throughout": (
        lambda t: t.assign(**{c: -t[c] for c in ("elbo", "iw", "validation", "reconstruction")}),
        "looks like a loss",
    ),
    "a validation loss": (with_column("validation", lambda t: -t.validation), "minus the bound?"),
    "another model's reconstruction": (
        with_column("reconstruction", lambda t: t.reconstruction.to_numpy()[::-1]),
        "one model, one split and one evaluation?",
    ),
    "another estimator": (
        with_column("information_1", lambda t: t.information_1 + 0.2),
        "one model, one split and one evaluation?",
    ),
    "negative information": (
        lambda t: t.assign(**{f"information_{l}": -t[f"information_{l}"] for l in range(1, 6)}),
        "information has the wrong sign",
    ),
    "a level that is not there": (
        with_value("information_5", 0.0, where="levels == 3"),
        "information_5 should be NaN",
    ),
    "a level without information": (
        with_value("information_2", np.nan, where="levels == 3"),
        "information_2 is not finite",
    ),
    "units for every level": (with_column("units", lambda t: 32 * t.levels), "the same total"),
    "other widths": (with_value("width", 200), "widths under equal width are 200 to 256"),
    "unequal parameters": (
        with_value("parameters", 560_000, where="levels == 3"),
        "more than 3 % apart",
    ),
    "a seed without effect": (
        lambda t: t.drop(columns="seed")
        .merge(pd.DataFrame({"seed": [0, 1]}), how="cross")
        .drop_duplicates(["comparison", "model", "levels", "seed"]),
        "the seed has no effect",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_contradiction_in_a_table_is_seen(name, capsys):
    spoil, hint = SPOILT[name]
    verdict = run_check(checks.comparison, spoil(results()), capsys)
    assert not verdict
    assert hint in verdict.message


def test_hints_about_tables_differ():
    assert len({hint for _, hint in SPOILT.values()}) >= len(SPOILT) - 2


@pytest.mark.parametrize(
    "table",
    [
        results(),
        results((1, 4), (7,)),
        results((2, 3), comparisons=("equal width",)),
        results().query("model == 'bottom-up'"),
        results().round(2).astype({"levels": float}),
        results().reset_index(drop=True).astype({"elbo": np.float32, "iw": np.float32}),
        results()
        .assign(elbo=lambda t: t.elbo + 500, iw=lambda t: t.iw + 500)
        .assign(reconstruction=lambda t: t.reconstruction + 500),
        results((2, 3)).drop(columns=["information_4", "information_5"]),
        results().assign(information_note="kept"),
    ],
    ids=[
        *("as asked", "one seed", "one comparison", "one kind of model", "rounded", "float32"),
        *("densities above one", "no columns of other depths", "a further column"),
    ],
)
def test_a_table_without_contradictions_passes_and_stays_as_it_is(table, capsys):
    before = table.copy()
    verdict = run_check(checks.comparison, table, capsys)
    assert verdict, verdict
    assert str(len(table)) in verdict.message
    pd.testing.assert_frame_equal(table, before)


def test_a_top_down_model_of_one_level_may_be_in_the_table_with_every_seed(capsys):
    table = results()
    extra = table.query("levels == 1").assign(model="top-down")
    assert run_check(checks.comparison, pd.concat([table, extra]), capsys)
    assert not run_check(checks.comparison, pd.concat([table, extra.query("seed > 0")]), capsys)


def test_every_depth_is_chosen_once_and_no_choice_hangs_on_rounding():
    torch.manual_seed(0)
    tables = tables_to_choose_from()
    assert {chosen(table) for table in tables} == {1, 2, 3, 5}
    for table in tables:
        for a, b in itertools.combinations(sorted(set(table.levels)), 2):
            mean, error = difference(table, "validation", b, a)
            assert abs(mean - 2 * error) > 1e-3


def test_the_error_of_a_paired_difference_is_that_of_its_draws():
    """Over many tables the squared error is the variance of the mean difference."""
    torch.manual_seed(0)
    pairs = [difference(runs((1, 2), range(4), ["iw"]), "iw", 2, 1) for _ in range(1000)]
    mean, error = torch.tensor(pairs).T
    assert mean.abs().max() > 0.1
    noise = torch.tensor(0.5**2 * 2 / 4)  # of two depths, over four seeds
    squared = error**2
    assert (squared.mean() - noise).abs() < 5 * squared.std() / 1000**0.5


def test_an_experiment_leaves_the_settings_of_the_check_as_they_are(capsys):
    (spoil,) = [k.answer for k in checks.experiment.mistakes if k.hint == "a setting was changed"]
    for _ in range(2):
        assert "a setting was changed" in run_check(checks.experiment, spoil, capsys).message
    right = solution("hierarchy_depth", "experiment")
    assert run_check(checks.experiment, right, capsys)


def constant_width(width):
    return lambda count, budget: width + 0 * sum(count(w) for w in range(1, 5))


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        ("matching_width", constant_width(3), "width 3 fits, but so does 243; the search stops"),
        ("matching_width", constant_width(9999), "parameters, over 500,000"),
        ("experiment", lambda *inputs: 0, "build was called for 0 of 6 runs"),
        ("paired_difference", lambda *inputs: (0.0, 1.0), "the mean should be"),
        ("choose_depth", lambda table: 4, "the number of levels should be"),
        ("levels_in_use", lambda t, _: {d: [5] for d in t.levels}, "are in use where yours are"),
    ],
)
def test_an_unknown_mistake_is_shown_what_is_right(exercise, answer, hint, capsys):
    assert hint in run_check(getattr(checks, exercise), answer, capsys).message
