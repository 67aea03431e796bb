"""Runs from the command line: a folder that is whole at any time, and a run that can be killed."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import hvae_course
from hvae_course import evaluate, fit, recipes
from hvae_course.cli import main
from hvae_course.data import load
from hvae_course.objectives import WarmUp
from hvae_course.training import load_checkpoint, loop

pytestmark = pytest.mark.usefixtures("make_accelerator")  # resets Accelerate's state
SMALL = "ladder --levels 4 3 --hidden 16 --validation-samples 2 --device cpu --quiet".split()
# everything that draws random numbers or changes with the epoch
BUSY = [
    *("--binarisation", "dynamic", "--dropout", "0.2", "--normalisation", "layer"),
    *("--prior", "vamp", "--prior-options", "num_components=5"),
    *("--warm-up", "2", "3", "--free-bits", "0.1", "--decay", "0.5", "--draws", "2"),
]
FILES = {"checkpoint.pt", "config.json", "environment.json", "history.json", "result.json"}


@pytest.fixture
def train(tmp_path):
    """Train in a folder of that name; the folder and the exit status."""

    def run(*words: str, name: str = "run") -> tuple[Path, int]:
        folder = tmp_path / name
        return folder, main(["train", *SMALL, "--out", str(folder), *words])

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def assert_same_run(folder: Path, other: Path) -> None:
    """Weights, optimiser, history and bounds are equal bit by bit."""
    a, b = (load_checkpoint(f / "checkpoint.pt") for f in (folder, other))
    for left, right in ((a.weights, b.weights), (a.run["weights"], b.run["weights"])):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)
    torch.testing.assert_close(a.run["optimizer"], b.run["optimizer"], rtol=0, atol=0)
    assert read(folder, "history.json") == read(other, "history.json")
    assert read(folder, "result.json")["validation"] == read(other, "result.json")["validation"]


# The folder


def test_a_run_is_the_one_of_fit_with_the_same_settings(train):
    words = "--epochs 3 --warm-up 2 --batch-size 50 --learning-rate 0.002 --seed 4"
    folder, status = train(*words.split())
    data = load("digits")
    torch.manual_seed(4)
    model = recipes.ladder_vae(data, latent_sizes=(4, 3), hidden=(16,))
    history = fit(
        model,
        data,
        objective=WarmUp(2),
        epochs=3,
        batch_size=50,
        learning_rate=0.002,
        seed=4,
        progress=False,
    )
    weights = load_checkpoint(folder / "checkpoint.pt").weights
    assert status == 0
    assert all(torch.equal(weights[name], w) for name, w in model.state_dict().items())
    written = read(folder, "history.json")
    frame = pd.DataFrame(written["rows"]).astype({"level": "Int64"})
    pd.testing.assert_frame_equal(frame, history.frame, check_exact=True)
    result = read(folder, "result.json")
    bound = evaluate(model, data, split="validation", num_samples=2)
    assert result["validation"]["elbo"]["mean"] == bound.elbo.mean
    assert result["epochs"] == 3 and result["best_epoch"] == history.best_epoch
    assert result["num_parameters"] == bound.num_parameters
    assert result["seconds"] > 0 and result["resumed_after"] == 0


def test_a_finished_folder_holds_five_files_and_nothing_temporary(train):
    folder, _ = train("--epochs", "1")
    assert names(folder) == FILES
    (start,) = read(folder, "environment.json")
    assert start["torch"] == torch.__version__ and start["device"] == "cpu"
    assert start["hvae_course"] == hvae_course.__version__
    assert start["threads"] == torch.get_num_threads() and start["after_epoch"] == 0


def test_the_configuration_repeats_the_run(train, monkeypatch, tmp_path):
    folder, _ = train("--epochs", "1", *BUSY)
    config = read(folder, "config.json")
    words = config["command"].split()[1:]
    assert config["command"].startswith("hvae train ladder --levels 4 3")
    assert config["settings"]["prior_options"] == {"num_components": 5}
    words[words.index(str(folder))] = str(tmp_path / "again")
    assert main(words) == 0
    assert_same_run(folder, tmp_path / "again")
    assert read(tmp_path / "again", "config.json")["settings"] == config["settings"]
    rebuilt = recipes.build(config["model"])
    rebuilt.load_state_dict(load_checkpoint(folder / "checkpoint.pt").weights)


def test_the_default_folder_names_recipe_data_levels_and_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL, "--epochs", "1", "--seed", "7"]) == 0
    assert names(tmp_path / "runs" / "ladder-digits-4_3-7") == FILES
    shown = capsys.readouterr()
    assert "training in runs/ladder-digits-4_3-7" in shown.out and "ELBO" in shown.out
    assert shown.err == ""  # --quiet


def test_progress_is_shown_with_the_time_left(tmp_path, capsys):
    words = [word for word in SMALL if word != "--quiet"]
    main(["train", *words, "--epochs", "2", "--out", str(tmp_path / "run")])
    shown = capsys.readouterr().err
    assert "2/2" in shown and "epoch/s" in shown and "draw/s" in shown


# Interruptions


@pytest.mark.parametrize("saved", [True, False], ids=["after saving", "before saving"])
def test_an_interrupted_run_ends_as_one_that_was_not(saved, train, monkeypatch, capsys):
    whole, _ = train("--epochs", "4", *BUSY, name="whole")

    def interrupt(checkpoint, path) -> None:
        if saved or checkpoint.run["epoch"] == 1:
            real(checkpoint, path)
        if checkpoint.run["epoch"] == 2:
            raise KeyboardInterrupt

    real = loop.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", interrupt)
    folder, status = train("--epochs", "4", *BUSY)
    assert status == 130
    assert "to resume, give the same command again:\n  hvae train" in capsys.readouterr().out
    assert names(folder) == FILES - {"history.json", "result.json"}
    monkeypatch.setattr(loop, "save_checkpoint", real)
    _, status = train("--epochs", "4", *BUSY)
    done = 2 if saved else 1
    assert status == 0 and f"resuming {folder} after epoch {done}" in capsys.readouterr().out
    assert_same_run(folder, whole)
    assert read(folder, "result.json")["resumed_after"] == done
    assert [start["after_epoch"] for start in read(folder, "environment.json")] == [0, done]


def test_a_run_interrupted_before_its_first_checkpoint_starts_afresh(train, monkeypatch):
    whole, _ = train("--epochs", "2", name="whole")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", interrupt)
        folder, status = train("--epochs", "2")
    assert status == 130 and "checkpoint.pt" not in names(folder)
    train("--epochs", "2")
    assert_same_run(folder, whole)


def test_a_killed_process_ends_as_one_that_was_not(train, tmp_path):
    folder, words = tmp_path / "run", ["--epochs", "40", *BUSY]
    checkpoint = folder / "checkpoint.pt"
    process = subprocess.Popen(
        [sys.executable, "-m", "hvae_course", "train", *SMALL, "--out", str(folder), *words],
        cwd=Path(hvae_course.__file__).parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert 1 <= load_checkpoint(checkpoint).run["epoch"] < 40
    assert not (folder / "result.json").exists()
    train(*words)
    whole, _ = train(*words, name="whole")
    assert_same_run(folder, whole)
    assert read(folder, "result.json")["resumed_after"] >= 1


def test_a_run_interrupted_after_its_last_epoch_has_only_its_result_to_write(train, monkeypatch):
    folder, _ = train("--epochs", "2")
    before = (folder / "checkpoint.pt").read_bytes(), read(folder, "result.json")["validation"]
    (folder / "result.json").unlink()
    train("--epochs", "2")
    assert (folder / "checkpoint.pt").read_bytes() == before[0]
    assert read(folder, "result.json")["validation"] == before[1]


def test_a_finished_run_is_left_alone(train, capsys):
    folder, _ = train("--epochs", "1")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    _, status = train("--epochs", "1")
    assert status == 0 and "already holds the finished run" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_objective_that_is_no_longer_finite_fails_in_one_line(train, capsys):
    folder, status = train("--epochs", "3", "--learning-rate", "1e30", "--normalisation", "none")
    error = capsys.readouterr().err
    assert status == 1 and error.count("\n") == 1
    assert error.startswith("hvae train: failed: the objective is no longer finite")
    assert "result.json" not in names(folder)


# Folders of something else


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "2"], "--epochs was 1 and is 2. Give the same"),
        (["--epochs", "1", "--draws", "3"], "--draws was 1 and is 3"),
        (["--epochs", "1", "--seed", "5", "--decay", "0.5"], "--decay was 0.0 and is 0.5, --seed"),
        (["--epochs", "1", "--levels", "5"], "--levels was [4, 3] and is [5]"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_folder_with_other_settings_is_refused_with_both_values(words, message, train, capsys):
    folder, _ = train("--epochs", "1")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit, match="2"):
        train(*words)
    error = capsys.readouterr().err
    assert "holds a run with other settings" in error and message in error
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("checkpoint.pt", "", "holds a checkpoint but no config.json"),
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[]", "config.json holds no settings"),
    ],
)
def test_a_folder_that_no_run_made_is_refused(name, content, message, train, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(SystemExit, match="2"):
        train("--epochs", "1")
    assert message in capsys.readouterr().err
    assert names(tmp_path / "run") == {name}


def test_a_checkpoint_of_another_model_is_refused(train, capsys):
    folder, _ = train("--epochs", "1")
    other, _ = train("--epochs", "1", "--levels", "5", name="other")
    (folder / "result.json").unlink()
    (other / "checkpoint.pt").replace(folder / "checkpoint.pt")
    with pytest.raises(SystemExit, match="2"):
        train("--epochs", "1")
    assert "checkpoint.pt belongs to another run" in capsys.readouterr().err
