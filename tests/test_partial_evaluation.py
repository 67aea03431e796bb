"""An evaluation that is interrupted goes on where it stopped, and ends with the same result."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hvae_course import evaluate
from hvae_course.analysis import evaluation
from hvae_course.analysis.partial import fingerprint
from hvae_course.seeding import restore_generators

SETTINGS = {"num_samples": 7, "batch_size": 6, "max_rows": 20, "seed": 3}


@pytest.fixture
def interrupt(monkeypatch) -> Callable[[int], None]:
    """Interrupt the next evaluation after a number of batches."""
    whole = evaluation._accumulate

    def after(batches: int) -> None:
        calls = []

        def some(*arguments):
            calls.append(1)
            if len(calls) > batches:
                monkeypatch.setattr(evaluation, "_accumulate", whole)
                raise KeyboardInterrupt
            return whole(*arguments)

        monkeypatch.setattr(evaluation, "_accumulate", some)

    return after


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_interrupted_evaluation_ends_with_the_same_result(
    batches, interrupt, make_model, tiny_data, tmp_path
):
    model, path = make_model(), tmp_path / "folder/part.pt"
    expected = evaluate(model, tiny_data, **SETTINGS)
    interrupt(batches)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, tiny_data, partial=path, **SETTINGS)
    assert path.exists() == (batches > 0)
    torch.rand(5)  # the caller's numbers do not matter
    before = torch.get_rng_state()
    assert evaluate(model, tiny_data, partial=path, **SETTINGS) == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert list(path.parent.iterdir() if path.parent.exists() else []) == []


def test_it_may_be_interrupted_again_and_again(interrupt, make_model, tiny_data, tmp_path):
    model, path = make_model(), tmp_path / "part.pt"
    for _ in range(3):
        interrupt(1)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, tiny_data, partial=path, **SETTINGS)
    assert len(torch.load(path)["columns"]) == 3
    assert evaluate(model, tiny_data, partial=path, **SETTINGS) == evaluate(
        model, tiny_data, **SETTINGS
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_samples": 8}, "num_samples was 7 and is 8"),
        ({"batch_size": 5}, "batch_size was 6 and is 5"),
        ({"split": "validation"}, "split was 'test' and is 'validation'"),
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"model": 1}, "weights was"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_part_of_another_evaluation_is_refused(
    change, text, interrupt, make_model, tiny_data, tmp_path
):
    path = tmp_path / "part.pt"
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        evaluate(make_model(), tiny_data, partial=path, **SETTINGS)
    other = SETTINGS | change
    model = make_model(seed=other.pop("model", 0))
    with pytest.raises(ValueError, match="holds part of another evaluation") as error:
        evaluate(model, tiny_data, partial=path, **other)
    assert text in str(error.value)
    assert path.exists()


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
    assert len(set(prints)) == 3


def test_part_with_other_draws_of_the_prior_is_refused(interrupt, make_model, tiny_data, tmp_path):
    model, path = make_model(), tmp_path / "part.pt"
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, tiny_data, partial=path, **SETTINGS)
    model.prior.num_samples = 4
    with pytest.raises(ValueError, match="prior draws was 1 and is 4"):
        evaluate(model, tiny_data, partial=path, **SETTINGS)


def test_a_failing_write_leaves_the_batches_before_it(
    interrupt, make_model, tiny_data, tmp_path, monkeypatch
):
    path = tmp_path / "part.pt"
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(make_model(), tiny_data, partial=path, **SETTINGS)
    before = path.read_bytes()

    def full(*_) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        evaluate(make_model(), tiny_data, partial=path, **SETTINGS)
    assert path.read_bytes() == before
    assert [Path(p) for p in tmp_path.iterdir()] == [path]


def test_random_numbers_of_another_kind_of_device_are_refused():
    with pytest.raises(ValueError, match="belong to cpu, got the device cuda"):
        restore_generators({"cpu": torch.get_rng_state()}, torch.device("cuda"))
