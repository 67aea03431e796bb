"""Trained models that come with the course: the files are whole, and made as the table says."""

import functools
import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import pretrained as benchmark
from benchmarks.likelihood_models import BENCHMARKS
from benchmarks.likelihood_run import RESULTS
from hvae_course import data, evaluate
from hvae_course.config import Data
from hvae_course.data import DataSet
from hvae_course.objectives import make_objective
from hvae_course.pretrained import PRETRAINED, build_untrained, load, models, train
from hvae_course.recipes import build
from hvae_course.training import Checkpoint, load_checkpoint, save_checkpoint


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


FILE = models.FOLDER / "digits.pt"
LARGEST = {"mnist_deep": 3_500_000}
"""Most bytes of a file; 2,000,000 for the others."""


@functools.cache
def few(chosen: Data) -> DataSet:
    """A data set with a short test split."""
    raw = Path(os.environ.get("HVAE_DATA", "")) / "MNIST" / "raw"
    if chosen.data == "mnist" and not raw.is_dir():
        pytest.skip("HVAE_DATA names no folder that holds MNIST/raw")
    whole = data.load(chosen)
    return replace(whole, test=whole.test.select(slice(0, 100)))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of files of the test's own, where `load` looks instead."""
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def put(folder, monkeypatch):
    """Write weights of the digits' model, untrained, with a changed configuration."""

    def write(**changes) -> Path:
        path, model = folder / "digits.pt", build_untrained("digits")
        config = {name: v for name, v in (model.config | changes).items() if v is not Ellipsis}
        save_checkpoint(Checkpoint(config, model.state_dict()), path)
        entry = replace(PRETRAINED["digits"], sha256=sha256(path))
        monkeypatch.setitem(PRETRAINED, "digits", entry)
        return path

    return write


# The files that come with the package


def test_the_files_are_those_of_the_table():
    assert {path.stem for path in models.FOLDER.glob("*.pt")} == set(PRETRAINED)


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_file_holds_weights_in_single_precision_and_no_run(name):
    path = models.FOLDER / f"{name}.pt"
    assert sha256(path) == PRETRAINED[name].sha256
    assert path.stat().st_size < LARGEST.get(name, 2_000_000)
    checkpoint = load_checkpoint(path)
    weights = [w for w in checkpoint.weights.values() if w.is_floating_point()]
    assert weights and all(w.dtype == torch.float32 and w.isfinite().all() for w in weights)
    assert checkpoint.run == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("shapes_bottom_up", -340.71), ("shapes_top_down", -336.40), ("digits", -87.65)],
)
def test_a_loaded_model_has_the_bound_and_the_grey_values_of_its_training(name, expected):
    entry, before = PRETRAINED[name], torch.get_rng_state()
    model, spec = load(name), entry.spec
    assert torch.equal(torch.get_rng_state(), before) and not model.training
    bound = evaluate(model, few(entry.experiment.data), num_samples=2).elbo.mean
    assert bound == pytest.approx(expected, abs=0.05)  # its standard error is 1 or more
    level = model.generate(8).px.sample() * (spec.num_values - 1)
    assert level.shape == (8, spec.num_features)
    torch.testing.assert_close(level, level.round().clamp(0, spec.num_values - 1))


@pytest.mark.slow
def test_the_model_on_mnist_has_the_bound_of_its_row_on_the_results_page():
    row = json.loads((RESULTS / "mnist_deep/vdvae-0.json").read_text("utf-8"))
    entry, told = PRETRAINED["mnist_deep"], row["test"]
    few(entry.experiment.data)  # skips without the images
    mnist, model = data.load(entry.experiment.data), load("mnist_deep")
    first, second = (
        evaluate(model, mnist, num_samples=1, seed=seed, per_example=True).per_example
        for seed in (1, 2)
    )
    assert len(first) == told["num_examples"]
    assert first["elbo"].sem() == pytest.approx(told["elbo"]["standard_error"], rel=0.02)
    error = (first["elbo"] - second["elbo"]).sem() / 2  # that of the mean of both
    for name in ("elbo", "reconstruction"):
        mean = (first[name].mean() + second[name].mean()) / 2
        assert mean == pytest.approx(told[name]["mean"], abs=4 * error), name


# The table


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_first_weights_follow_from_the_recipe_and_its_seed_and_are_worse(name):
    entry, before = PRETRAINED[name], torch.get_rng_state()
    chosen, model = entry.experiment, build_untrained(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert entry.spec == few(chosen.data).spec
    torch.manual_seed(chosen.training.seed)
    again = build(chosen.model, entry.spec)
    torch.testing.assert_close(model.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert model.config == again.config
    bounds = (evaluate(m, few(chosen.data), num_samples=2).elbo.mean for m in (model, load(name)))
    assert next(bounds) < next(bounds)


def test_the_models_of_the_shapes_differ_in_their_recipe_alone_and_share_a_generative_network():
    names = ("shapes_bottom_up", "shapes_top_down")
    one, other = (PRETRAINED[name].experiment for name in names)
    assert other == replace(one, model=replace(one.model, recipe="bidirectional"))
    networks = [build_untrained(name).top_down for name in names]
    shapes = [{n: p.shape for n, p in net.named_parameters()} for net in networks]
    assert shapes[0] == shapes[1]


# What is refused


@pytest.mark.parametrize("function", [load, build_untrained, train], ids=lambda f: f.__name__)
def test_an_unknown_name_is_answered_with_the_known_ones(function):
    known = ", ".join(PRETRAINED)
    with pytest.raises(ValueError, match=f"unknown trained model 'mnist'; choose one of {known}"):
        function("mnist")


def test_a_missing_file_says_how_to_get_one(folder):
    with pytest.raises(
        FileNotFoundError, match=r"no weights of 'digits' at .*digits\.pt; reinstall"
    ):
        load("digits")


@pytest.mark.parametrize("place", [0, 0.5, -1], ids=["first", "middle", "last"])
def test_a_changed_byte_is_refused_before_anything_is_unpickled(place, put, monkeypatch):
    path = put()
    expected, content = sha256(path), bytearray(path.read_bytes())
    content[int(place * len(content)) if place > 0 else place] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpickled"))
    with pytest.raises(ValueError, match="is damaged or from another version") as error:
        load("digits")
    assert f"its SHA-256 is {sha256(path)}, expected {expected}" in str(error.value)
    assert "retrain with hvae_course.pretrained.train('digits')" in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [{}, {"generative_normalisation": ...}, {"recipe": "bidirectional_vae"}]
    + [{"shape": ..., "num_features": 64}],
    ids=["same", "younger option", "longer name", "features"],
)
def test_a_file_that_is_as_the_table_says_is_read_weight_for_weight(changes, put):
    put(**changes)
    loaded, untrained = load("digits"), build_untrained("digits")
    torch.testing.assert_close(loaded.state_dict(), untrained.state_dict())
    assert loaded.config == untrained.config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_sizes": [9, 8, 4]}, r"latent_sizes was \[9, 8, 4\] and is \[16, 8, 4\]"),
        ({"activation": "relu"}, "activation was 'relu' and is 'gelu'"),
        ({"recipe": "ladder_vae"}, "recipe was 'ladder' and is 'bidirectional'"),
        ({"num_values": 2}, "num_values was 2 and is 17"),
        ({"shape": [8, 9]}, "num_features was 72 and is 64"),
        ({"state": ...}, "state was 'markov' and is 'skip'"),  # the default
        ({"recipe": ...}, "recipe was missing and is 'bidirectional'"),
        ({"skips": None}, "skips was None and is missing"),
    ],
    ids=["sizes", "activation", "recipe", "values", "shape", "default", "missing", "unknown"],
)
def test_a_file_with_another_configuration_is_stale(changes, message, put):
    put(**changes)
    with pytest.raises(ValueError, match=rf"digits\.pt is stale: .*{message}") as error:
        load("digits")
    assert "python -m benchmarks.pretrained digits" in str(error.value)


# Retraining


@pytest.fixture
def short(monkeypatch, tiny_data) -> None:
    """Train on a few of the digits."""
    monkeypatch.setattr(data, "load", lambda chosen: tiny_data)


@pytest.mark.usefixtures("short")
def test_retraining_gives_the_same_weights(make_accelerator):
    before = torch.get_rng_state()
    settings = {"epochs": 1, "progress": False}
    first, history = train("digits", accelerator=make_accelerator(), **settings)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)  # the caller's random numbers do not matter
    second, _ = train("digits", accelerator=make_accelerator(), **settings)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    assert history.best_epoch == 1 and not first.training


@pytest.mark.usefixtures("short")
def test_training_takes_objective_settings_and_seed_from_the_table(
    monkeypatch, tmp_path, make_accelerator
):
    entry = PRETRAINED["digits"]
    chosen = replace(entry.experiment, training=replace(entry.experiment.training, seed=3))
    monkeypatch.setitem(PRETRAINED, "digits", replace(entry, experiment=chosen))
    path = tmp_path / "run.pt"
    settings = {"epochs": 1, "progress": False, "checkpoint": path}
    train("digits", accelerator=make_accelerator(), **settings)
    run = load_checkpoint(path).run["settings"]
    for name in ("seed", "batch_size", "learning_rate", "decay"):
        assert run[name] == getattr(chosen.training, name)
    assert run["objective"] == repr(make_objective(chosen.objective))
    assert run["data"].startswith("digits")


@pytest.fixture
def run_benchmark(monkeypatch, tmp_path, short, make_accelerator):
    """Run the script for the digits into a folder; the fixture's accelerators are reset after."""

    def run(*arguments: str) -> Path:
        folders = ["--out", str(tmp_path / "out"), "--scratch", str(tmp_path / "scratch")]
        monkeypatch.setattr(sys, "argv", ["pretrained.py", *arguments, *folders])
        benchmark.main()
        return tmp_path / "out/digits.pt"

    return run


def test_the_script_writes_a_file_that_loads_with_the_sum_that_it_prints(
    run_benchmark, monkeypatch, capsys
):
    path = run_benchmark("digits", "--epochs", "1")
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o444 == 0o444  # others than the one who installs it read it
    assert not list((path.parents[1] / "scratch").iterdir())
    assert f'sha256="{sha256(path)}"' in capsys.readouterr().out
    monkeypatch.setattr(models, "FOLDER", path.parent)
    entry = replace(PRETRAINED["digits"], sha256=sha256(path))
    monkeypatch.setitem(PRETRAINED, "digits", entry)
    again, _ = train("digits", epochs=1, progress=False)
    torch.testing.assert_close(load("digits").state_dict(), again.cpu().state_dict())
    content = path.read_bytes()
    assert run_benchmark("digits", "--epochs", "1").read_bytes() == content


def test_the_script_goes_on_where_it_was_interrupted(run_benchmark, tmp_path):
    # an epoch that was done is not done again, and here there was but one
    resumable = tmp_path / "scratch/digits_1_epochs.pt"
    model, _ = train("digits", epochs=1, progress=False, checkpoint=resumable)
    checkpoint = load_checkpoint(resumable)
    checkpoint.weights = {name: w + 1 for name, w in checkpoint.weights.items()}
    save_checkpoint(checkpoint, resumable)
    written = load_checkpoint(run_benchmark("digits", "--epochs", "1")).weights
    torch.testing.assert_close(written, checkpoint.weights)


def test_the_script_trains_the_small_models_unless_others_are_named(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(sys, "argv", ["pretrained.py", "--out", str(tmp_path)])
    monkeypatch.setattr(benchmark, "write", lambda name, out, **_: asked.append(name) or FILE)
    benchmark.main()
    assert asked == ["shapes_bottom_up", "shapes_top_down", "digits"]


def test_the_model_on_mnist_is_that_of_the_benchmark():
    benchmark_entry = BENCHMARKS["mnist_deep"].models["vdvae"]
    ours, theirs = PRETRAINED["mnist_deep"].experiment, benchmark_entry.experiment
    assert ours == theirs
    spec = PRETRAINED["mnist_deep"].spec
    assert build(ours.model, spec, seed=0).config == build_untrained("mnist_deep").config


def test_the_script_names_the_models_that_there_are(run_benchmark, capsys):
    with pytest.raises(SystemExit):
        run_benchmark("mnist")
    assert f"no model mnist; choose among {', '.join(PRETRAINED)}" in capsys.readouterr().err
