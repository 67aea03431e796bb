"""An evaluation that is interrupted goes on where it stopped, and ends with the same result."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hvae_course import evaluate
from hvae_course.analysis import evaluation
from hvae_course.analysis.partial import batches_done, fingerprint
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.seeding import restore_generators

SETTINGS = {"num_samples": 7, "batch_size": 6, "max_rows": 20, "seed": 3}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "folder/part.pt"


@pytest.fixture
def interrupt(tiny_data, path) -> Callable[[HierarchicalVAE, int], None]:
    """Evaluate a model, and stop after a number of batches."""
    whole = evaluation._accumulate

    def after(model: HierarchicalVAE, batches: int) -> None:
        calls = []

        def some(*arguments):
            calls.append(1)
            if len(calls) > batches:
                raise KeyboardInterrupt
            return whole(*arguments)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(evaluation, "_accumulate", some)
            evaluate(model, tiny_data, partial=path, **SETTINGS)

    return after


@pytest.mark.parametrize("stops", [(0,), (1,), (3,), (1, 1, 1)], ids=str)
def test_an_interrupted_evaluation_ends_with_the_same_result(
    stops, interrupt, make_model, tiny_data, path
):
    model = make_model()
    expected = evaluate(model, tiny_data, **SETTINGS)
    for batches in stops:
        interrupt(model, batches)
        torch.rand(5)  # the caller's numbers do not matter
    assert path.exists() == (sum(stops) > 0) and batches_done(path) == sum(stops)
    before = torch.get_rng_state()
    assert evaluate(model, tiny_data, partial=path, **SETTINGS) == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert list(path.parent.iterdir() if path.parent.exists() else []) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_samples": 8}, "num_samples was 7 and is 8"),
        ({"batch_size": 5}, "batch_size was 6 and is 5"),
        ({"split": "validation"}, "split was 'test' and is 'validation'"),
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"model": 1}, "weights was"),
        ({"prior": 4}, "prior draws was 1 and is 4"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_part_of_another_evaluation_is_refused(
    change, text, interrupt, make_model, tiny_data, path
):
    interrupt(make_model(), 1)
    other = SETTINGS | change
    model = make_model(seed=other.pop("model", 0))
    model.prior.num_samples = other.pop("prior", 1)
    with pytest.raises(ValueError, match=f"holds part of another evaluation: .*{text}"):
        evaluate(model, tiny_data, partial=path, **other)
    assert path.exists()


def test_a_file_of_something_else_is_refused(make_model, tiny_data, path):
    path.parent.mkdir()
    torch.save({"columns": []}, path)
    with pytest.raises(ValueError, match="does not hold part of an evaluation; choose another"):
        evaluate(make_model(), tiny_data, partial=path, **SETTINGS)


def test_models_that_differ_in_anything_kept_have_different_fingerprints():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    prints = [fingerprint(model)]
    assert fingerprint(copy.deepcopy(model)) == prints[0]
    with torch.no_grad():
        model[0].bias.copy_(model[0].bias.flip(0))  # the same values in another order
        prints.append(fingerprint(model))
        model[1].running_mean += 1
        prints.append(fingerprint(model))
    prints.append(fingerprint(nn.ModuleDict({"first": model[0], "second": model[1]})))
    prints.append(fingerprint(nn.Sequential(*model, nn.ReLU())))  # the same values
    prints.append(fingerprint(nn.Sequential(*model, nn.Tanh())))
    assert len(set(prints)) == 6


def test_a_failing_write_leaves_the_batches_before_it(
    interrupt, make_model, tiny_data, path, monkeypatch
):
    interrupt(make_model(), 2)
    before = path.read_bytes()

    def full(*_) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        evaluate(make_model(), tiny_data, partial=path, **SETTINGS)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_random_numbers_of_another_kind_of_device_are_refused():
    with pytest.raises(ValueError, match="belong to cpu, got the device cuda"):
        restore_generators({"cpu": torch.get_rng_state()}, torch.device("cuda"))
