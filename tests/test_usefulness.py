"""The linear probe, and the tables of chapter 9: what they hold, and that a small run works."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import usefulness
from hvae_course import data
from hvae_course.analysis import least_information, linear_probe
from hvae_course.config import Training
from hvae_course.data import DataSet, DataSpec, Split
from hvae_course.recipes import build, vae

# The probe


def labelled(n, *, seed):
    """Binary images whose first two pixels are the label, one of four."""
    labels = torch.randint(4, (n,), generator=torch.Generator().manual_seed(seed))
    pixels = torch.zeros(n, 4, dtype=torch.uint8)
    pixels[:, 0], pixels[:, 1] = labels // 2, labels % 2
    return Split(pixels, labels, 1)


@pytest.fixture(scope="module")
def four():
    splits = (labelled(400, seed=seed) for seed in range(3))
    return DataSet("four", (2, 2), 2, "none", *splits, num_classes=4)


def telling(scale):
    """A VAE whose posterior mean is the label's two bits times a factor, with unit variance."""
    model = vae(DataSpec((2, 2), 2), latent_size=2, hidden=())
    (net,) = [m for m in model.posterior.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        net.weight.zero_(), net.bias.zero_()
        net.weight[0, 0] = net.weight[1, 1] = scale
    return model.eval()


def test_a_probe_reads_a_label_that_the_means_hold(four):
    found = linear_probe(telling(6.0), four)
    assert found.accuracy == 1.0 and found.standard_error == 0.0
    assert torch.equal(found.labels, four.test.labels)
    torch.testing.assert_close(found.log_posterior.exp().sum(dim=1), torch.ones(400).double())
    counts = torch.bincount(four.train.labels)
    torch.testing.assert_close(found.prior, counts.double() / 400)


def test_draws_tell_no_more_than_their_noise_lets_through(four):
    """Each bit is read right with the probability Phi(scale / 2), and means are read always."""
    scale = 2.0
    right = 0.5 * (1 + math.erf(scale / 2 / math.sqrt(2)))
    error = math.sqrt(right**2 * (1 - right**2) / 400)
    model = telling(scale)
    assert linear_probe(model, four).accuracy == 1.0
    found = linear_probe(model, four, draws=True).accuracy
    assert right**2 - 6 * error < found < right**2 + 5 * error
    assert found == linear_probe(model, four, draws=True).accuracy
    assert found != linear_probe(model, four, draws=True, seed=1).accuracy


def test_a_probe_of_means_without_content_predicts_the_most_frequent_class(four):
    found = linear_probe(telling(0.0), four)
    most = torch.bincount(four.train.labels).argmax()
    assert (found.predicted == most).all()


def test_a_probe_leaves_the_model_and_the_random_numbers_as_they_are(make_model, tiny_data):
    model = make_model().train()
    before, state = [p.clone() for p in model.parameters()], torch.get_rng_state()
    found = linear_probe(model, tiny_data, levels=(2,), draws=True, split="validation")
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert len(found.predicted) == 60 and found.log_posterior.shape == (60, 10)
    same = linear_probe(
        model, tiny_data, levels=(2,), draws=True, split="validation", batch_size=7
    )
    assert same.log_posterior.shape == found.log_posterior.shape


@pytest.mark.parametrize("levels", [(), (0,), (1, 3)])
def test_a_level_that_a_model_lacks_cannot_be_probed(levels, make_model, tiny_data):
    with pytest.raises(ValueError, match=r"levels are numbers from 1 .* to 2, got"):
        linear_probe(make_model(), tiny_data, levels=levels)


def test_what_cannot_be_probed_is_refused(make_model, tiny_data):
    with pytest.raises(ValueError, match="a conditional model is given the label"):
        linear_probe(make_model(conditional=True), tiny_data)
    bare = replace(tiny_data, test=replace(tiny_data.test, labels=None))
    with pytest.raises(ValueError, match="a probe predicts labels, and these data have none"):
        linear_probe(make_model(), bare)


# What an accuracy needs


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("error", [0.0, 0.1, 0.4])
def test_the_least_information_is_that_of_a_channel_with_equal_errors(num_classes, error):
    """Fano's inequality is an equality there: I = H(y) - H(y | prediction)."""
    channel = np.full((num_classes, num_classes), error / (num_classes - 1))
    np.fill_diagonal(channel, 1 - error)
    joint = channel / num_classes
    outer = np.outer(joint.sum(1), joint.sum(0))
    used = joint > 0
    exact = (joint[used] * np.log(joint[used] / outer[used])).sum()
    assert least_information(1 - error, num_classes) == pytest.approx(exact, abs=1e-12)


def test_guessing_needs_no_information():
    assert least_information(0.25, 4) == least_information(0.1, 4) == 0.0


@pytest.mark.parametrize(("accuracy", "num_classes"), [(1.2, 10), (-0.1, 10), (0.5, 1)])
def test_what_is_no_accuracy_is_refused(accuracy, num_classes):
    with pytest.raises(ValueError, match="an accuracy is between 0 and 1, and there are"):
        least_information(accuracy, num_classes)


# The tables


@pytest.fixture
def short(monkeypatch, tiny_data):
    """A few digits, one epoch, few draws and small networks."""
    parts = {name: black_and_white(tiny_data, name) for name in SPLITS}
    binary = replace(tiny_data, num_values=2, binarisation="threshold", **parts)
    named = {None: tiny_data, "threshold": binary}
    monkeypatch.setattr(data, "load", lambda name, binarisation=None: named[binarisation])
    monkeypatch.setattr(usefulness, "TRAINING", replace(usefulness.TRAINING, epochs=1))
    monkeypatch.setattr(usefulness, "NUM_SAMPLES", 2)
    training = Training(epochs=1)
    monkeypatch.setattr(
        usefulness,
        "MODELS",
        {name: replace(usefulness.RICHER[name], training=training) for name in SHORT},
    )


SHORT = ("draw_1", "codes_uniform", "codes_fitted")
SPLITS = ("train", "validation", "test")


def black_and_white(digits, name):
    part = digits.split(name)
    pixels = (2 * part.pixels >= part.max_value).to(torch.uint8)
    return replace(part, pixels=pixels, max_value=1)


def check(row):
    nats = [row[name] for name in row if name.startswith("information_")]
    assert row["rate"] == pytest.approx(sum(nats), abs=1e-3)
    assert -row["elbo"] == pytest.approx(row["rate"] + row["distortion"], abs=1e-3)
    assert row["iw"] >= row["elbo"] and 0 <= row["probe"] <= 1 and 0 <= row["probe_draws"] <= 1


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_run_of_a_model_reports_rate_distortion_and_probe():
    draw, uniform, fitted = map(usefulness.run_model, usefulness.jobs("models", [3]))
    for row in (draw, uniform, fitted):
        check(row)
    assert draw == usefulness.run_model({"model": "draw_1", "seed": 3})
    # a second stage changes the prior over codes and nothing else
    assert fitted["rate"] < uniform["rate"] == pytest.approx(20 * math.log(16), abs=1e-3)
    for name in ("distortion", "probe", "probe_draws"):
        assert fitted[name] == uniform[name]


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("remedy", usefulness.REMEDIES)
def test_a_run_of_a_decoder_reports_the_same_columns(remedy):
    job = {"levels": 2, "window": 1, "beta": 1.0, "remedy": remedy, "seed": 0}
    row = usefulness.run_decoder(job)
    check(row)
    assert {"information_1", "information_2"} <= row.keys()
    assert ("final_beta" in row) == (remedy == "constraint")


def test_a_window_and_a_number_of_levels_name_one_model():
    spec = DataSpec((8, 8), 2)
    with torch.device("meta"):
        sizes = {
            (levels, window): sum(
                p.numel()
                for p in build(usefulness.decoder_model(levels, window), spec).parameters()
            )
            for levels in usefulness.LEVELS
            for window in usefulness.WINDOWS
        }
    for levels in usefulness.LEVELS:  # windows differ in masks alone
        assert len({sizes[levels, window] for window in usefulness.WINDOWS}) == 1


@pytest.mark.parametrize("experiment", usefulness.TABLES)
def test_the_jobs_of_an_experiment_differ(experiment):
    asked = [tuple(job.values()) for job in usefulness.jobs(experiment)]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("experiment", usefulness.TABLES)
def test_a_committed_table_holds_the_runs_of_its_program_once(experiment, monkeypatch, capsys):
    found = {}

    def read_all(run, jobs, path, *, processes):
        found["jobs"] = jobs
        return pd.read_csv(path)

    monkeypatch.setattr(usefulness, "run_all", read_all)
    usefulness.main(["--experiment", experiment])
    table, jobs = usefulness.read(experiment), found["jobs"]
    rows = table[list(jobs[0])].itertuples(index=False, name=None)
    assert sorted(rows) == sorted(tuple(job.values()) for job in jobs)
    assert (table["num_samples"] == usefulness.NUM_SAMPLES).all()
    assert "elbo" in capsys.readouterr().out
    for row in table.to_dict("records"):
        check({name: value for name, value in row.items() if not pd.isna(value)})


def test_the_constraint_asks_for_a_distortion_of_the_validation_split():
    table = usefulness.read("decoders").set_index(["levels", "window", "beta", "remedy", "seed"])
    reference = table.loc[(1, 0, 1.0, "none", 0), "validation_distortion"]
    assert round(reference) == usefulness.DISTORTION
