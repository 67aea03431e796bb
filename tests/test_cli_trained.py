"""Evaluate, sample and diagnose a trained model from the command line."""

import json
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

from hvae_course import analysis, data, evaluate, machine, run_folder
from hvae_course.analysis import bits_per_dim
from hvae_course.cli import Source, main
from hvae_course.config import Data, Machine, plain
from hvae_course.pretrained import load as load_pretrained
from hvae_course.run_folder import find

pytestmark = pytest.mark.usefixtures("make_accelerator")  # resets Accelerate's state


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Folder of a short run on digits whose training pixels are binary."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = "--binarisation threshold --latent-sizes 4 3 --hidden 16 --epochs 2 --batch-size 500 "
    words += f"--device cpu --quiet --validation-samples 2 --out {folder}"
    assert main(["train", "bottom_up", *words.split()]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def threshold() -> data.DataSet:
    """The data of the run."""
    return data.load("digits", binarisation="threshold")


def run(command: str, target: str | Path, words: str) -> int:
    return main([command, str(target), *words.split()])


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


# Evaluation


@pytest.mark.parametrize("target", ["run", "run/checkpoint.pt"])
def test_an_evaluation_is_that_of_the_package_on_the_data_of_the_run(
    target, folder, threshold, capsys
):
    words = "--num-samples 7 --batch-size 50 --max-rows 200 --seed 3 --quiet --device cpu"
    assert run("evaluate", folder.parent / target, words) == 0
    found = find(folder)
    settings = {"num_samples": 7, "batch_size": 50, "max_rows": 200, "seed": 3}
    expected = evaluate(found.model, threshold, **settings)
    written = read(folder / "evaluation-test-7-seed3.json")
    entries = plain(asdict(expected))
    assert {name: written[name] for name in entries} == entries
    assert written["model"] == found.model.config and written["best_epoch"] == found.best_epoch
    assert written["command"].startswith("hvae evaluate") and found.best_epoch in (1, 2)
    assert not found.model.training
    text = capsys.readouterr().out
    assert expected.frame.to_string(float_format="%.3f") in text and str(expected) in text
    assert "binarisation threshold" in text and "bits per dimension" not in text


def test_an_interrupted_evaluation_goes_on_with_the_same_command(folder, monkeypatch, capsys):
    words = "--num-samples 4 --batch-size 100"
    assert run("evaluate", folder, words) == 0
    path = folder / "evaluation-test-4.json"
    expected = read(path)
    path.unlink()
    whole, calls = analysis.evaluation._accumulate, []

    def some(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(analysis.evaluation, "_accumulate", some)
    assert run("evaluate", folder, words) == 130
    assert "interrupted; to resume, give the same command again" in capsys.readouterr().out
    assert not path.exists() and (folder / "evaluation-test-4.part.pt").exists()
    monkeypatch.setattr(run_folder, "tqdm", partial(tqdm, mininterval=0, miniters=1))
    assert run("evaluate", folder, words) == 0
    assert len(calls) == 3 + 3  # two of five batches were kept
    assert "1.79k/1.79k" in capsys.readouterr().err  # their draws among them
    assert expected["max_rows"] > 0
    assert read(path) == expected
    assert not (folder / "evaluation-test-4.part.pt").exists()


def test_an_evaluation_of_another_split_goes_to_the_file_that_was_named(folder, tmp_path):
    path = tmp_path / "a" / "b.json"
    words = f"--split validation --num-samples 2 --json {path} --quiet"
    assert run("evaluate", folder, words) == 0
    assert read(path)["num_examples"] == 350
    assert not list(folder.glob("evaluation-*"))


def test_progress_of_an_evaluation_counts_every_draw(folder, capsys, monkeypatch):
    monkeypatch.setattr(run_folder, "tqdm", partial(tqdm, mininterval=0, miniters=1))
    assert run("evaluate", folder, "--num-samples 100") == 0
    assert "44.7k/44.7k" in capsys.readouterr().err  # 447 test examples, 100 draws each


def test_a_model_of_the_course_is_evaluated_by_its_name_and_leaves_no_file(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", "digits", "--num-samples 2 --quiet --device cpu") == 0
    expected = evaluate(load_pretrained("digits"), data.load("digits"), num_samples=2)
    text = capsys.readouterr().out
    assert str(expected) in text
    assert f"IW-2: {bits_per_dim(expected):.3f} bits per dimension" in text  # 17 grey values

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(analysis.evaluation, "_accumulate", interrupted)
    assert run("evaluate", "digits", "--num-samples 2 --quiet") == 130
    assert "interrupted; nothing was saved; start over" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_on_its_own_asks_for_its_data(folder, tmp_path, capsys):
    path = Path(shutil.copy(folder / "checkpoint.pt", tmp_path / "alone.pt"))
    with pytest.raises(SystemExit, match="2"):
        run("evaluate", path, "--num-samples 2")
    assert "names its training data; give --data" in capsys.readouterr().err
    words = "--data digits --binarisation threshold --num-samples 2 --quiet"
    other = Path(shutil.copy(path, tmp_path / "another.pt"))
    assert run("evaluate", path, words) == run("evaluate", other, words) == 0
    names = {found.name for found in tmp_path.glob("evaluation-*.json")}  # nobody's is overwritten
    assert names == {f"evaluation-{n}-digits-threshold-test-2.json" for n in ("alone", "another")}


def test_named_data_are_made_binary_as_in_training(folder, capsys):
    for words in ("", "--data digits", "--data digits --binarisation threshold"):
        assert run("evaluate", folder, f"--num-samples 2 --quiet {words}") == 0
    assert [path.name for path in folder.glob("evaluation-*")] == ["evaluation-test-2.json"]
    assert capsys.readouterr().out.count("digits, binarisation threshold") == 3


def test_data_in_another_form_go_to_a_file_of_their_own(folder):
    assert run("evaluate", folder, "--num-samples 2 --quiet --binarisation static") == 0
    assert [path.name for path in folder.glob("evaluation-*")] == ["evaluation-static-test-2.json"]


def test_other_data_are_made_binary_as_usual():
    trained = Data(data="mnist", binarisation="static")
    assert Source(data="fashion_mnist").given(trained) == Data(data="fashion_mnist")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num-samples 3", "is not a part of an evaluation, or is damaged"),
        ("--binarisation none", "the model does not take digits"),
    ],
)
def test_an_evaluation_that_cannot_be_made_is_not_begun(words, message, folder, capsys):
    (folder / "evaluation-test-3.part.pt").write_bytes(b"junk")
    with pytest.raises(SystemExit, match="2"):
        run("evaluate", folder, f"--quiet {words}")
    assert message in capsys.readouterr().err


# Samples


@pytest.mark.parametrize("pixels", ["mean", "drawn"])
def test_samples_are_a_picture_that_follows_from_the_seed(pixels, trained, tmp_path):
    def picture(seed: int) -> np.ndarray:
        path = tmp_path / "a.png"
        words = f"--count 7 --pixels {pixels} --seed {seed} --out {path}"
        assert run("sample", trained, words) == 0
        return matplotlib.image.imread(path)

    first = picture(0)
    assert first.min() < 0.5 and first.max() == 1
    assert (len(np.unique(first)) == 2) == (pixels == "drawn")  # black and white
    assert np.array_equal(first, picture(0)) and not np.array_equal(first, picture(1))


@pytest.mark.parametrize("count", [1, 2, 7, 9])
def test_any_number_of_samples_fills_a_grid(count, trained, tmp_path):
    path = tmp_path / "samples.svg"
    assert run("sample", trained, f"--count {count} --out {path}") == 0
    assert "<svg" in path.read_text()


# Diagnosis


def test_a_diagnosis_is_the_table_of_the_package(trained, threshold, tmp_path, capsys):
    path = tmp_path / "levels.json"
    settings = {"split": "validation", "num_samples": 3, "max_examples": 50, "seed": 2}
    settings |= {"threshold": 0.3, "unit_threshold": 1e-4}
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    assert run("diagnose", trained, f"{words} --json {path} --device cpu") == 0
    table = analysis.diagnose(find(trained).model, threshold, **settings)
    assert table.to_string(index=False, float_format="%.3f") in capsys.readouterr().out
    written = read(path)
    pd.testing.assert_frame_equal(pd.DataFrame(written["levels"]), table, check_dtype=False)
    assert written.items() >= settings.items()


def test_an_environment_outside_a_repository_has_no_commit(monkeypatch):
    monkeypatch.setattr(machine, "_git", lambda *_: None)
    found = machine.environment(machine.make_accelerator(Machine(device="cpu")))
    assert found["git_commit"] is None and found["torch"] == torch.__version__
