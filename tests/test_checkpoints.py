"""Checkpoints: a resumed run is the run that was not interrupted, and no other run is resumed."""

import errno
import functools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from earlier_version import rewrite_checkpoint
from torch import Tensor

from hvae_course import Trace, fit
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import Objective, elbo, importance_weighted
from hvae_course.recipes import build
from hvae_course.training import (
    Checkpoint,
    History,
    load_checkpoint,
    load_weights,
    loop,
    save_checkpoint,
)
from hvae_course.training.checkpoints import CONTENTS, NotCompared, checkpoint_file


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "run" / "checkpoint.pt"


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def assert_same_run(model: HierarchicalVAE, history: History, other, other_history) -> None:
    assert_same(model.state_dict(), other.state_dict())
    pd.testing.assert_frame_equal(history.frame, other_history.frame, check_exact=True)
    assert history.best_epoch == other_history.best_epoch


# Files


def test_a_checkpoint_is_read_as_it_was_written(path):
    run = {"epoch": 3, "history": [(1, "train", "elbo", float("nan"), -1.5)], "settings": {"a": 1}}
    weights = {"w": torch.randn(2, 3)}
    save_checkpoint(Checkpoint({"recipe": "x"}, weights, run), path)
    again = load_checkpoint(str(path))
    assert_same(again.weights, weights)
    assert again.config == {"recipe": "x"} and str(again.run) == str(run)


def test_a_missing_checkpoint_says_who_writes_one(path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*; fit\(.*checkpoint=path"):
        load_checkpoint(path)


LAYOUT = {"format": 1, "config": {}, "weights": {}, "run": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAYOUT | {"format": 2}, "has checkpoint format 2, this version reads 1"),
        (
            dict.fromkeys("abcd", torch.zeros(1)),
            r"is not a checkpoint: it holds 'a', 'b', 'c', \.\.\.\. fit.* model.load_state_dict\(",
        ),
        (torch.zeros(2), "is not a checkpoint: it holds Tensor"),
        ([1, 2], "is not a checkpoint: it holds list"),
        ({}, "is not a checkpoint: it holds nothing"),
        (LAYOUT | {"weights": [1]}, "is damaged: weights is a list, not a mapping; train again"),
        ({"format": 1}, r"checkpoint\.pt holds \['format'\], a checkpoint holds"),
        (LAYOUT | {"extra": 1}, r"checkpoint\.pt holds \[.*'extra'.*\], a checkpoint holds"),
        (b"junk", "is not a checkpoint, or is damaged"),
    ],
    ids=["newer", "state", "tensor", "list", "empty", "damaged", "too few", "too many", "foreign"],
)
def test_another_layout_is_refused(path, content, message):
    path.parent.mkdir()
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path)


def test_weights_that_do_not_fit_are_named_and_change_nothing(make_model):
    model, other = make_model(), make_model(latent_sizes=(4, 2), hidden=(20,))
    before = {name: values.clone() for name, values in model.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_weights(model, other.state_dict(), source="run.pt")
    name, values = next(
        (n, v) for n, v in before.items() if v.shape != other.state_dict()[n].shape
    )
    start = f"the weights of run.pt do not fit the model: {name} is "
    start += f"{tuple(other.state_dict()[name].shape)} and not {tuple(values.shape)}, "
    assert str(error.value).startswith(start) and " more. Build the model with" in str(error.value)
    with pytest.raises(ValueError, match=f": {name} is missing and not .*, x is .* not a part of"):
        load_weights(
            model,
            {n: v for n, v in before.items() if n != name} | {"x": torch.ones(1)},
            source="run.pt",
        )
    assert_same(model.state_dict(), before)
    load_weights(model, make_model(seed=1).state_dict(), source="run.pt")
    assert_same(model.state_dict(), make_model(seed=1).state_dict())


@pytest.mark.parametrize("latent_sizes", [np.array([4, 3]), (np.int64(4), 3), [4, np.int32(3)]])
def test_a_checkpoint_of_a_model_with_sizes_of_numpy_is_read_again(
    latent_sizes, path, make_model, train
):
    """It said of its own file that it was damaged."""
    train(make_model(latent_sizes=latent_sizes, hidden=np.array([16])), epochs=1, checkpoint=path)
    config = load_checkpoint(path).config
    assert config["latent_sizes"] == [4, 3] and config["hidden"] == [16]
    assert train(build(config), epochs=2, checkpoint=path).best_epoch > 0


def test_what_a_checkpoint_cannot_hold_is_found_before_it_is_written(path, make_model):
    weights = make_model().state_dict()
    with pytest.raises(TypeError, match=r"config\['blocks'\]\[0\] is <object .* cannot hold"):
        checkpoint_file(path, weights, {"config": {"blocks": [object()]}})
    assert checkpoint_file(path, weights, {"config": {"sizes": np.array([1])}}) == path
    assert not path.exists()


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ("folder", IsADirectoryError, "is a folder"),
        ("file/run.pt", OSError, "a part of the path is a file, not a folder"),
        (3, TypeError, "a path is a string or a pathlib.Path, got 3"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(
    wrong, error, match, tmp_path, make_model, train, monkeypatch
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(loop, "_train_epoch", None)  # is not reached
    with pytest.raises(error, match=match):
        train(make_model(), checkpoint=tmp_path / wrong if isinstance(wrong, str) else wrong)


def test_a_disk_that_is_full_in_training_leaves_the_checkpoint_before_it(
    path, make_model, train, monkeypatch
):
    model = make_model()
    train(model, epochs=1, checkpoint=path)
    content, best = path.read_bytes(), load_checkpoint(path).weights

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=f"^cannot write {path}: the disk is full; free some space"):
        train(model, epochs=3, checkpoint=path)
    assert path.read_bytes() == content and [*path.parent.iterdir()] == [path]
    assert model.state_dict().keys() == best.keys()


def test_a_tilde_in_the_path_of_a_checkpoint_is_the_home_folder(
    tmp_path, make_model, train, monkeypatch
):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir(), here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    train(make_model(), epochs=1, checkpoint="~/run.pt")
    assert load_checkpoint("~/run.pt").run["epoch"] == 1
    train(make_model(), epochs=2, checkpoint="~/run.pt")
    assert load_checkpoint(home / "run.pt").run["epoch"] == 2
    assert not [*here.iterdir()]


def scaled(trace: Trace, x: Tensor, factor: float) -> Tensor:
    return factor * elbo(trace, x)


def scaled_by_one(trace: Trace, x: Tensor) -> Tensor:
    return 1.0 * elbo(trace, x)


def test_a_run_with_another_coefficient_in_a_partial_is_not_resumed(path, make_model, train):
    """Both were known as partial, and the second run gave back the model of the first."""
    first, second = (functools.partial(scaled, factor=factor) for factor in (100.0, 1.0))
    train(make_model(), objective=first, epochs=1, checkpoint=path)
    with pytest.raises(ValueError, match="objective.*factor=100.0.*factor=1.0"):
        train(make_model(), objective=second, epochs=1, checkpoint=path)
    again = functools.partial(scaled, factor=100.0)
    assert train(make_model(), objective=again, epochs=2, checkpoint=path).best_epoch


@pytest.mark.parametrize(
    ("objective", "recorded"),
    [(functools.partial(scaled, factor=1.0), "partial"), (scaled_by_one, "scaled_by_one")],
    ids=["partial", "function"],
)
def test_an_earlier_run_that_knew_only_a_name_goes_on_with_a_warning(
    objective, recorded, path, make_model, train
):
    train(make_model(), objective=objective, epochs=1, checkpoint=path)
    checkpoint = load_checkpoint(path)
    settings = checkpoint.run["settings"]
    settings["objective"] = recorded
    for name in CONTENTS:
        settings.pop(name, None)
    save_checkpoint(checkpoint, path)
    with pytest.warns(NotCompared, match="was written by an earlier version"):
        train(make_model(), objective=objective, epochs=2, checkpoint=path)
    with pytest.raises(ValueError, match="objective was .* and is 'elbo'"):
        train(make_model(), objective=elbo, epochs=3, checkpoint=path)


# Runs


@pytest.mark.parametrize("data", ["tiny_data", "tiny_binary"])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(
    data, normalisation, path, make_model, train, request
):
    data = request.getfixturevalue(data)
    settings = {"num_samples": 2, "objective": importance_weighted, "seed": 5, "batch_size": 50}
    first, second = (make_model(data=data, normalisation=normalisation) for _ in range(2))
    history = train(first, data, epochs=4, **settings)
    train(second, data, epochs=2, checkpoint=path, **settings)
    torch.manual_seed(100)  # neither the generator nor the new model's weights matter
    resumed = build(second.config)
    resumed_history = train(resumed, data, epochs=4, checkpoint=path, **settings)
    assert_same_run(resumed, resumed_history, first, history)


def test_a_run_of_an_earlier_version_goes_on(path, make_model, train):
    first, second = make_model(), make_model()
    history = train(first, epochs=3)
    train(second, epochs=2, checkpoint=path)
    rewrite_checkpoint(path)
    resumed = build(load_checkpoint(path).config)
    assert_same_run(resumed, train(resumed, epochs=3, checkpoint=path), first, history)


def test_a_run_with_settings_of_numpy_goes_on(path, make_model, train):
    settings = {
        "learning_rate": np.logspace(-4, -2, 3)[1],
        "seed": np.arange(3)[1],
        "decay": np.float64(0.5),
        "averaging": np.float64(0.9),
        "batch_size": np.int64(30),
    }
    expected = train(make_model(dropout=np.float64(0.1)), checkpoint=path, **settings).frame
    assert load_checkpoint(path).config["dropout"] == 0.1
    assert train(make_model(dropout=0.1), checkpoint=path, **settings).frame.equals(expected)
    plain = {name: value.item() for name, value in settings.items()}
    assert train(make_model(dropout=0.1), **plain).frame.equals(expected)


def test_a_resumed_run_remembers_its_best_bound(path, make_model, train):
    """Better than the epochs before the interruption, not only than those after it."""

    class Above(Objective):
        identity = "above"  # whatever the bound

        def __init__(self, bound: float) -> None:
            self.bound = bound

        def __call__(self, trace: Trace, x: Tensor) -> Tensor:
            value = elbo(trace, x)
            return value if torch.is_grad_enabled() else value * 0 + self.bound

    model, again = make_model(), make_model(seed=1)
    train(model, objective=Above(5.0), epochs=1, checkpoint=path)
    history = train(again, objective=Above(4.0), epochs=3, checkpoint=path)
    assert history.best_epoch == 1
    assert_same(again.state_dict(), model.state_dict())


def never_better(trace: Trace, x: Tensor) -> Tensor:
    """A bound that is the same in every validation."""
    return elbo(trace, x) if torch.is_grad_enabled() else torch.zeros(len(x))


@pytest.mark.parametrize(
    ("settings", "last"),
    [({}, 2), ({"objective": never_better, "patience": 2, "epochs": 9}, 3)],
    ids=["finished", "out of patience"],
)
def test_a_run_that_ended_is_given_back_as_it_ended(settings, last, path, make_model, train):
    model, again = make_model(), make_model(seed=1)
    history = train(model, checkpoint=path, **settings)
    assert history.frame["epoch"].max() == last
    assert_same_run(again, train(again, checkpoint=path, **settings), model, history)
    assert not again.training
    checkpoint = load_checkpoint(path)  # the best weights, and the model they belong to
    assert_same(checkpoint.weights, model.state_dict())
    assert checkpoint.config == model.config
    assert checkpoint.run["best_epoch"] == history.best_epoch


# What is refused


@pytest.mark.parametrize("earlier", [False, True], ids=["now", "earlier version"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 50}, "batch_size was 40 and is 50"),
        ({"learning_rate": 1e-2}, r"learning_rate was 0\.001 and is 0\.01"),
        ({"num_samples": 2}, "num_samples was 1 and is 2"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"clip_norm": 1.0}, r"clip_norm was None and is 1\.0"),
        ({"objective": never_better}, "objective was 'elbo' and is 'never_better'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_run_with_other_settings_is_not_resumed(
    changes, message, earlier, path, make_model, train
):
    train(make_model(), epochs=1, checkpoint=path)
    if earlier:
        rewrite_checkpoint(path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="belongs to a run with other settings: ") as error:
        train(make_model(), checkpoint=path, **changes)
    error.match(f"{message}.*Resume with the same settings")
    assert path.read_bytes() == content


def test_a_run_on_other_data_or_in_another_precision_is_not_resumed(
    path, make_model, train, make_accelerator, tiny_data
):
    train(make_model(), tiny_data, epochs=1, checkpoint=path)
    with pytest.raises(ValueError, match="data was 'digits, binarisation none.*and is 'others, b"):
        train(make_model(), replace(tiny_data, name="others"), checkpoint=path)
    half = make_accelerator(mixed_precision="bf16")
    with pytest.raises(ValueError, match="precision was 'no' and is 'bf16'"):
        fit(make_model(), tiny_data, batch_size=40, checkpoint=path, accelerator=half)


@pytest.mark.filterwarnings("ignore::hvae_course.compatibility.DensityOfDiscreteValues")
@pytest.mark.parametrize("earlier", [False, True], ids=["now", "earlier version"])
@pytest.mark.parametrize(
    "change",
    [{"latent_sizes": (4, 2)}, {"likelihood": "discretized_logistic"}],
    ids=["other shapes", "equal shapes"],
)
def test_a_run_of_another_model_is_not_resumed(change, earlier, path, make_model, train):
    settings = {"likelihood": "gaussian"}
    train(make_model(**settings), epochs=1, checkpoint=path)
    if earlier:
        rewrite_checkpoint(path)
    with pytest.raises(ValueError, match=f"{path}.*{next(iter(change))} was"):
        train(make_model(**(settings | change)), checkpoint=path)


def test_weights_alone_cannot_be_resumed(path, make_model, train):
    model = make_model()
    save_checkpoint(Checkpoint(model.config, model.state_dict()), path)
    with pytest.raises(ValueError, match="holds only weights and cannot be resumed"):
        train(model, checkpoint=path)
