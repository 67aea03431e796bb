"""The tables of codes and of downscaled images: what they hold, and that a small run works."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import richer_codes
from hvae_course import data
from hvae_course.codes import AutoregressiveCodes, Codebook, Codes
from hvae_course.data import DataSpec
from hvae_course.recipes import build

SHAPES = DataSpec((16, 16), 16, num_classes=4)


@pytest.fixture
def short(monkeypatch, tiny_data):
    """A few examples, one epoch, small grids and networks, and few trees."""
    monkeypatch.setattr(data, "load", lambda name: tiny_data)
    monkeypatch.setattr(richer_codes, "STAGES", ((4, 1, 4), (2, 1, 4)))
    for name in ("FIRST", "SECOND", "TRAINING"):
        training = replace(getattr(richer_codes, name), epochs=1)
        monkeypatch.setattr(richer_codes, name, training)
    priors = {"independent": None, "autoregressive": (8,)}
    monkeypatch.setattr(richer_codes, "PRIORS", priors)
    for name, number in (("NUM_SAMPLES", 2), ("NUM_SETS", 2), ("NUM_TREES", 5)):
        monkeypatch.setattr(richer_codes, name, number)


def check_codes(row):
    positions = {1: 16, 2: 4}
    for level, n in positions.items():
        uniform = row[f"rate_uniform_{level}"]
        assert uniform == pytest.approx(n * math.log(richer_codes.NUM_CODES), abs=1e-3)
        assert 1 <= row[f"perplexity_{level}"] <= row[f"live_{level}"] <= richer_codes.NUM_CODES
        assert 0 <= row[f"probe_{level}"] <= 1
    total = sum(row[f"rate_uniform_{level}"] for level in positions)
    assert -row["elbo_uniform"] == pytest.approx(total + row["distortion"], abs=1e-3)
    for prior in richer_codes.PRIORS:
        rate = sum(row[f"rate_{prior}_{level}"] for level in positions)
        assert -row[f"elbo_{prior}"] == pytest.approx(rate + row["distortion"], abs=1e-3)
        assert row[f"reduction_{prior}"] == pytest.approx(100 * (1 - rate / total), abs=1e-3)
        assert row[f"change_{prior}"] == 0  # not one digit of any example


def check_digits(row):
    nats = [row[f"information_{level}"] for level in (1, 2, 3) if f"information_{level}" in row]
    assert row["elbo"] == pytest.approx(row["reconstruction"] - np.nansum(nats), abs=1e-3)
    assert row["iw"] >= row["elbo"] and 0 <= row["told_apart"] <= 1
    assert math.isnan(row["blocks_that_fit"]) == (row["model"] == "plain")


CHECKS = {"codes": check_codes, "downscaled": check_digits}


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", richer_codes.KINDS)
def test_a_run_of_codes_fits_both_priors_and_leaves_the_distortion(kind):
    job = {"kind": kind, "seed": 3}
    row = richer_codes.run_codes(job)
    check_codes(row)
    if kind == "moving average":
        assert row == richer_codes.run_codes(job)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("model", richer_codes.LEVELS)
def test_a_run_of_digits_reports_the_bound_and_what_a_classifier_tells(model):
    job = {"model": model, "seed": 3}
    check_digits(job | richer_codes.run_downscaled(job))


def test_a_kind_differs_from_the_usual_one_in_what_it_says():
    """And all have 32 codes per level."""
    with torch.device("meta"):
        made = {
            kind: build(richer_codes.codes_model(kind, "independent"), SHAPES)
            for kind in richer_codes.KINDS
        }
    for kind, model in made.items():
        quantisers = [rule.head[1] for rule in model.posterior.rules]
        assert {q.num_codes for q in quantisers} == {richer_codes.NUM_CODES}
        books = [q for q in quantisers if isinstance(q, Codebook)]
        assert len(books) == (0 if kind == "scalars" else 2)
        assert all((q.decay is None) == (kind == "gradient") for q in books)
        assert all((q.revival == 0) == (kind == "far start") for q in books)


def test_a_far_start_leaves_every_encoding_the_same_nearest_code():
    torch.manual_seed(0)
    model = build(richer_codes.codes_model("far start", "independent"), SHAPES)
    encodings = torch.randn(20, 16, 4, 4)
    books = [rule.head[1].eval() for rule in model.posterior.rules]
    assert all(len(book(encodings).index.unique()) > 20 for book in books)
    richer_codes.move_far(model)
    assert all(len(book(encodings).index.unique()) == 1 for book in books)
    assert all(torch.equal(book.rows, book.sums) for book in books)


def test_both_priors_get_the_same_first_stage():
    torch.manual_seed(0)
    independent, autoregressive = (
        build(richer_codes.codes_model("moving average", prior), SHAPES, seed=0)
        for prior in richer_codes.PRIORS
    )
    assert isinstance(independent.top_prior(), Codes)
    assert isinstance(autoregressive.top_prior(), AutoregressiveCodes)
    state = richer_codes.posterior_and_decoder(independent)
    left = autoregressive.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith(("prior.", "top_down.conditionals.")) for name in left.missing_keys)
    x = torch.randint(16, (3, 256)) / 15
    given = [model.eval()(x).px.log_prob(x) for model in (independent, autoregressive)]
    assert torch.equal(*given)


def test_a_classifier_tells_what_differs_and_nothing_else():
    generator = np.random.default_rng(0)
    images, others = (generator.normal(size=(200, 4)) for _ in range(2))
    assert abs(richer_codes.told_apart(images, others) - 0.5) < 5 * 0.5 / 400**0.5
    assert richer_codes.told_apart(images, others + 4) > 0.99


@pytest.mark.parametrize("experiment", richer_codes.TABLES)
def test_the_jobs_of_an_experiment_differ(experiment):
    asked = [tuple(job.values()) for job in richer_codes.jobs(experiment)]
    assert len(set(asked)) == len(asked)
    for name in {name for name, _ in asked}:
        repeated = name in richer_codes.REPEATED
        seeds = {seed for other, seed in asked if other == name}
        assert seeds == set(richer_codes.SEEDS if repeated else richer_codes.SEEDS[:1])


@pytest.mark.parametrize("experiment", richer_codes.TABLES)
def test_a_committed_table_holds_the_runs_of_its_program_once(experiment, monkeypatch, capsys):
    if not richer_codes.TABLES[experiment].exists():
        pytest.skip("the table has not been made yet")
    found = {}

    def read_all(run, jobs, path, *, processes):
        found["jobs"] = jobs
        return pd.read_csv(path)

    monkeypatch.setattr(richer_codes, "run_all", read_all)
    richer_codes.main(["--experiment", experiment])
    table, jobs = richer_codes.read(experiment), found["jobs"]
    rows = table[list(jobs[0])].itertuples(index=False, name=None)
    assert sorted(rows) == sorted(tuple(job.values()) for job in jobs)
    assert richer_codes.SHOWN[experiment][0] in capsys.readouterr().out
    for row in table.to_dict("records"):
        CHECKS[experiment](row)
