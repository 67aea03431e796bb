"""Evaluate, sample and diagnose from the command line, and the files that all commands write."""

import json
import math
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from hvae_course import analysis, evaluate, recipes
from hvae_course.cli import files, machine, main, progress
from hvae_course.data import load
from hvae_course.pretrained import load as load_pretrained
from hvae_course.training import load_checkpoint

pytestmark = pytest.mark.usefixtures("make_accelerator")  # resets Accelerate's state


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Folder of a short run on digits whose training pixels are binary."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = "--binarisation threshold --levels 4 3 --hidden 16 --epochs 2 --device cpu --quiet"
    words += f" --validation-samples 2 --out {folder}"
    assert main(["train", "bottom_up", *words.split()]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def model(folder):
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    model = recipes.build(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    return model.eval()


# Evaluation


def test_an_interrupted_evaluation_goes_on_with_the_same_command(folder, monkeypatch, capsys):
    words = ["evaluate", str(folder), *"--samples 4 --batch-size 100 --quiet".split()]
    assert main(words) == 0
    path = folder / "evaluation-test-4.json"
    expected = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    whole, calls = analysis.evaluation._accumulate, []

    def some(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(analysis.evaluation, "_accumulate", some)
    assert main(words) == 130
    assert "interrupted; to resume, give the same command again" in capsys.readouterr().out
    assert not path.exists() and (folder / "evaluation-test-4.part.pt").exists()
    assert main(words) == 0
    assert len(calls) == 3 + 3  # two of five batches were kept
    assert expected["max_rows"] == 2000  # the usual number on a CPU
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert not (folder / "evaluation-test-4.part.pt").exists()


@pytest.mark.parametrize("target", ["folder", "checkpoint"])
def test_an_evaluation_is_that_of_the_package_on_the_data_of_the_run(
    target, folder, model, capsys
):
    path = folder if target == "folder" else folder / "checkpoint.pt"
    words = "--samples 7 --batch-size 50 --max-rows 200 --seed 3 --quiet --device cpu"
    assert main(["evaluate", str(path), *words.split()]) == 0
    data = load("digits", binarisation="threshold")
    expected = evaluate(model, data, num_samples=7, batch_size=50, max_rows=200, seed=3)
    written = json.loads((folder / "evaluation-test-7-seed3.json").read_text())
    fields = files.plain(asdict(expected))
    assert {name: written[name] for name in fields} == fields
    assert written["model"] == files.plain(model.config)
    assert written["command"].startswith("hvae evaluate") and written["best_epoch"] in (1, 2)
    text = capsys.readouterr().out
    assert expected.frame.to_string(float_format="%.3f") in text and str(expected) in text
    assert "binarisation threshold" in text


def test_an_evaluation_of_another_split_goes_to_the_file_that_was_named(folder, tmp_path):
    words = ["--split", "validation", "--samples", "2", "--json", str(tmp_path / "a" / "b.json")]
    assert main(["evaluate", str(folder), *words, "--quiet"]) == 0
    assert json.loads((tmp_path / "a" / "b.json").read_text())["num_examples"] == 350
    assert not list(folder.glob("evaluation-*"))


def test_progress_of_an_evaluation_counts_every_draw(folder, capsys, monkeypatch):
    monkeypatch.setattr(progress, "tqdm", partial(tqdm, mininterval=0, miniters=1))
    assert main(["evaluate", str(folder), "--samples", "100"]) == 0
    assert "44.7k/44.7k" in capsys.readouterr().err  # 447 test examples, 100 draws each


def test_a_model_of_the_course_is_evaluated_by_its_name_and_leaves_no_file(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["--samples", "2", "--quiet", "--device", "cpu"]
    assert main(["evaluate", "digits", *words]) == 0
    expected = evaluate(load_pretrained("digits"), load("digits"), num_samples=2)
    assert str(expected) in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_on_its_own_asks_for_its_data(folder, tmp_path, capsys):
    path = Path(shutil.copy(folder / "checkpoint.pt", tmp_path / "alone.pt"))
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(path), "--samples", "2"])
    assert "names its training data; give --data" in capsys.readouterr().err
    words = ["--data", "digits", "--binarisation", "threshold", "--samples", "2", "--quiet"]
    assert main(["evaluate", str(path), *words]) == 0
    assert (tmp_path / "evaluation-alone-digits-threshold-test-2.json").exists()
    path = Path(shutil.copy(path, tmp_path / "another.pt"))
    assert main(["evaluate", str(path), *words]) == 0
    assert len(list(tmp_path.glob("evaluation-*.json"))) == 2  # nobody overwrites anybody


def test_named_data_are_made_binary_as_in_training(folder, capsys):
    words = ["evaluate", str(folder), "--samples", "2", "--quiet"]
    assert main(words) == 0 and main([*words, "--data", "digits"]) == 0
    assert [path.name for path in folder.glob("evaluation-*")] == ["evaluation-test-2.json"]
    assert capsys.readouterr().out.count("digits, binarisation threshold") == 2


def test_an_evaluation_that_cannot_be_kept_is_not_begun(folder, tmp_path, capsys):
    (folder / "evaluation-test-3.part.pt").write_bytes(b"junk")
    for words, message in (
        (["--samples", "3"], r"is not a part of an evaluation, or is damaged"),
        (["--json", str(tmp_path)], f"--json must be a file for the result, but {tmp_path} is a"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["evaluate", str(folder), "--quiet", *words])
        assert message in capsys.readouterr().err


def test_an_interruption_does_not_promise_what_was_not_kept(monkeypatch, capsys):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(analysis.evaluation, "_accumulate", interrupted)
    assert main(["evaluate", "digits", "--samples", "2", "--quiet"]) == 130
    assert "interrupted; nothing was saved; start over" in capsys.readouterr().out


def test_data_that_the_model_was_not_built_for_are_refused(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(folder), "--binarisation", "none"])
    error = capsys.readouterr().err
    assert "the model takes DataSpec(num_features=64, num_values=2)" in error


@pytest.mark.parametrize("command", ["evaluate", "sample", "diagnose"])
def test_a_folder_without_a_checkpoint_is_refused(command, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([command, str(tmp_path)])
    assert f"hvae {command}: error: no checkpoint at {tmp_path}" in capsys.readouterr().err


# Samples


@pytest.mark.parametrize("pixels", ["mean", "drawn"])
def test_samples_are_a_picture_that_follows_from_the_seed(pixels, folder, tmp_path):
    def picture(seed: int, name: str) -> np.ndarray:
        path = tmp_path / name
        words = ["--count", "7", "--pixels", pixels, "--seed", str(seed), "--out", str(path)]
        assert main(["sample", str(folder), *words]) == 0
        return matplotlib.image.imread(path)

    first = picture(0, "a.png")
    assert first.min() < 0.5 and first.max() == 1
    assert np.array_equal(first, picture(0, "b.png"))
    assert not np.array_equal(first, picture(1, "c.png"))


@pytest.mark.parametrize("count", [1, 2, 7, 9])
def test_any_number_of_samples_fills_a_grid(count, folder, tmp_path):
    path = tmp_path / "samples.svg"
    assert main(["sample", str(folder), "--count", str(count), "--out", str(path)]) == 0
    assert "<svg" in path.read_text()


# Diagnosis


def test_a_diagnosis_is_the_table_of_the_package(folder, model, tmp_path, capsys):
    path = tmp_path / "levels.json"
    words = ["--samples", "3", "--examples", "50", "--split", "validation", "--json", str(path)]
    assert main(["diagnose", str(folder), *words, "--device", "cpu"]) == 0
    data = load("digits", binarisation="threshold")
    table = analysis.diagnose(model, data, split="validation", num_samples=3, max_examples=50)
    assert table.to_string(index=False, float_format="%.3f") in capsys.readouterr().out
    written = json.loads(path.read_text())
    pd.testing.assert_frame_equal(pd.DataFrame(written["levels"]), table, check_dtype=False)
    assert written["max_examples"] == 50 and written["split"] == "validation"


# Files


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failing_write_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "result.json"
    files.write_json(path, {"a": 1})

    def torn(file) -> None:
        file.write(b'{"a"')
        raise error

    with pytest.raises(type(error)):
        files.write_whole(path, torn)
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_json_holds_no_number_that_is_not_finite(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": (1.5, math.nan, -math.inf)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1.5, None, None]}


def test_a_damaged_file_is_refused_and_a_missing_one_is_none(tmp_path):
    assert files.read_json(tmp_path / "config.json") is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        files.read_json(tmp_path / "config.json")


def test_an_environment_outside_a_repository_has_no_commit(monkeypatch):
    monkeypatch.setattr(machine, "_git", lambda *_: None)
    found = machine.environment(machine.make_accelerator("cpu"))
    assert found["git_commit"] is None and found["torch"] == torch.__version__
