"""Checkpoints: whole or not there, and a resumed run is the run that was not interrupted."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from hvae_course import Trace, fit, recipes
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import elbo, importance_weighted
from hvae_course.training import Checkpoint, History, load_checkpoint, save_checkpoint


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
    save_checkpoint(Checkpoint({"recipe": "x"}, {"w": torch.randn(2, 3)}, run), path)
    again = load_checkpoint(str(path))
    torch.manual_seed(0)
    assert_same(again.weights, {"w": torch.randn(2, 3)})
    assert again.config == {"recipe": "x"} and str(again.run) == str(run)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(path, error, monkeypatch):
    def torn(content: dict, file) -> None:
        file.write(b"half of it")
        raise error

    save_checkpoint(Checkpoint({}, {"w": torch.ones(2)}), path)
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(type(error)):
        save_checkpoint(Checkpoint({}, {"w": torch.zeros(2)}), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_checkpoint_says_who_writes_one(path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*; fit\(.*checkpoint=path"):
        load_checkpoint(path)


def whole(path: Path) -> bytes:
    save_checkpoint(Checkpoint({}, {"w": torch.zeros(2)}), path)
    return path.read_bytes()


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(path, keep):
    content = whole(path)
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match="is not a checkpoint, or is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"", b"Hello\n", b"a text\n", b"hello\n", b"\x89PNG\r\n", bytes(64)], ids=repr
)
def test_a_foreign_file_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a checkpoint, or is damaged"):
        load_checkpoint(path)


class Malicious:
    """Would make a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("plain", [True, False], ids=["pickle", "torch"])
def test_reading_a_checkpoint_runs_none_of_its_code(path, plain):
    path.parent.mkdir()
    content = {"format": 1, "config": Malicious(path.parent / "made")}
    if plain:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="is not a checkpoint, or is damaged"):
        load_checkpoint(path)
    assert not (path.parent / "made").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [({"format": 2, "config": {}, "weights": {}}, "2"), ({"weights": {}}, "None")]
    + [(torch.zeros(2), "'Tensor'"), ([1, 2], "'list'")],
    ids=["newer", "none", "tensor", "list"],
)
def test_another_layout_is_refused(path, content, found):
    path.parent.mkdir()
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"has checkpoint format {found}, this version reads 1"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [{"format": 1}, {"format": 1, "config": {}, "weights": {}, "extra": 1}],
    ids=["too few entries", "too many entries"],
)
def test_a_checkpoint_with_other_entries_is_refused(path, content):
    path.parent.mkdir()
    torch.save(content, path)
    with pytest.raises(ValueError, match=str(path)):
        load_checkpoint(path)


# Runs


@pytest.mark.parametrize("data", ["tiny_data", "tiny_binary"])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(
    data, normalisation, path, make_model, train, request
):
    data = request.getfixturevalue(data)
    settings = {"num_samples": 2, "objective": importance_weighted, "seed": 5, "batch_size": 50}

    def model() -> HierarchicalVAE:
        return make_model(data=data, normalisation=normalisation)

    first, second = model(), model()
    history = train(first, data, epochs=4, **settings)
    train(second, data, epochs=2, checkpoint=path, **settings)
    torch.manual_seed(100)  # neither the generator nor the new model's weights matter
    resumed = recipes.build(second.config)
    resumed_history = train(resumed, data, epochs=4, checkpoint=path, **settings)
    assert_same_run(resumed, resumed_history, first, history)


def test_a_resumed_run_remembers_its_best_bound(path, make_model, train):
    """Better than the epochs before the interruption, not only than those after it."""

    def above(bound: float) -> Callable[[Trace, Tensor], Tensor]:
        def objective(trace: Trace, x: Tensor) -> Tensor:
            return elbo(trace, x) if torch.is_grad_enabled() else elbo(trace, x) * 0 + bound

        return objective

    model, again = make_model(), make_model(seed=1)
    train(model, objective=above(5.0), epochs=1, checkpoint=path)
    history = train(again, objective=above(4.0), epochs=3, checkpoint=path)
    assert history.best_epoch == 1
    assert_same(again.state_dict(), model.state_dict())


def test_a_finished_run_is_given_back_as_it_ended(path, make_model, train):
    model, again = make_model(), make_model(seed=1)
    history = train(model, checkpoint=path)
    assert_same_run(again, train(again, checkpoint=path), model, history)
    assert not again.training


def never_better(trace: Trace, x: Tensor) -> Tensor:
    """A bound that is the same in every validation."""
    return elbo(trace, x) if torch.is_grad_enabled() else torch.zeros(len(x))


def test_a_run_that_ran_out_of_patience_stays_stopped(path, make_model, train):
    settings = {"objective": never_better, "patience": 2, "epochs": 9, "checkpoint": path}
    model, again = make_model(), make_model(seed=1)
    history = train(model, **settings)
    assert (history.best_epoch, history.frame["epoch"].max()) == (1, 3)
    assert_same_run(again, train(again, **settings), model, history)


def test_the_file_holds_the_best_weights_and_the_model_they_belong_to(path, make_model, train):
    model = make_model()
    history = train(model, checkpoint=path)
    checkpoint = load_checkpoint(path)
    again = recipes.build(checkpoint.config)
    again.load_state_dict(checkpoint.weights)
    assert_same(again.state_dict(), model.state_dict())
    assert checkpoint.run["best_epoch"] == history.best_epoch


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("batch_size", 50, 40),
        ("learning_rate", 1e-2, 1e-3),
        ("num_samples", 2, 1),
        ("seed", 1, 0),
        ("objective", importance_weighted, "'elbo'"),
    ],
)
def test_a_run_with_other_settings_is_not_resumed(name, value, before, path, make_model, train):
    train(make_model(), epochs=1, checkpoint=path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="belongs to a run with other settings") as error:
        train(make_model(), checkpoint=path, **{name: value})
    now = "'importance_weighted'" if name == "objective" else value
    assert f"{name} was {before} and is {now}. Resume with the same settings" in str(error.value)
    assert path.read_bytes() == content


def test_a_run_on_other_data_is_not_resumed(path, make_model, train, tiny_data):
    train(make_model(), tiny_data, epochs=1, checkpoint=path)
    with pytest.raises(ValueError, match="data was 'digits, binarisation none.*and is 'others, b"):
        train(make_model(), replace(tiny_data, name="others"), checkpoint=path)


def test_a_run_in_another_precision_is_not_resumed(
    path, make_model, train, make_accelerator, tiny_data
):
    train(make_model(), epochs=1, checkpoint=path)
    half = make_accelerator(mixed_precision="bf16")
    with pytest.raises(ValueError, match="precision was 'no' and is 'bf16'"):
        fit(make_model(), tiny_data, batch_size=40, checkpoint=path, accelerator=half)


@pytest.mark.parametrize(
    "change",
    [{"latent_sizes": (4, 2)}, {"likelihood": "discretized_logistic"}],
    ids=["other shapes", "equal shapes"],
)
def test_a_run_of_another_model_is_not_resumed(change, path, make_model, train):
    settings = {"likelihood": "gaussian"}
    train(make_model(**settings), epochs=1, checkpoint=path)
    with pytest.raises(ValueError, match=str(path)):
        train(make_model(**(settings | change)), checkpoint=path)


def test_weights_alone_cannot_be_resumed(path, make_model, train):
    model = make_model()
    save_checkpoint(Checkpoint(model.config, model.state_dict()), path)
    with pytest.raises(ValueError, match="holds only weights and cannot be resumed"):
        train(model, checkpoint=path)
