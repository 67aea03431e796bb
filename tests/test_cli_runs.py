"""Runs from the command line: a folder that is complete at any time, and a run that can stop."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from earlier_version import rewrite_folder

import hvae_course
from hvae_course import evaluate, files, fit
from hvae_course.cli import main
from hvae_course.config import Data, Experiment, Model, Training
from hvae_course.data import load
from hvae_course.objectives import FreeBits, WarmUp
from hvae_course.recipes import build
from hvae_course.run_folder import find
from hvae_course.training import Checkpoint, load_checkpoint, loop, save_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("make_accelerator"),  # resets Accelerate's state
]
SMALL = "ladder --latent-sizes 4 3 --hidden 16 --validation-samples 2 --device cpu".split()
# everything that draws random numbers or changes with the epoch
BUSY = (
    "--binarisation dynamic --dropout 0.2 --normalisation layer --prior vamp "
    "--prior-options num_components=5 --warm-up 2 3 --free-bits 0.1 --decay 0.5 "
    "--num-samples 2 --seed 4 --batch-size 500 --epochs 3 --quiet"
).split()
RESULTS = {"result.json", "history.json"}
FILES = {"checkpoint.pt", "config.json", "environment.json", "history.json", "result.json"}


def train(folder: Path, *words: str) -> int:
    AcceleratorState._reset_state(True)
    return main(["train", *changed(SMALL, "--out", str(folder), *words)])


def changed(words: list[str], *changes: str) -> list[str]:
    """The words with other values for some of the options."""
    kept, keep = [], True
    for word in words:
        keep = word not in changes if word.startswith("--") else keep
        kept += [word] if keep else []
    return [*kept, *changes]


def stop(epoch: int, saved: int, folder: Path) -> int:
    """Train until an epoch is saved, or is about to be."""

    def interrupt(checkpoint: Checkpoint, path: Path) -> None:
        if checkpoint.run["epoch"] <= saved:
            save_checkpoint(checkpoint, path)
        if checkpoint.run["epoch"] == epoch:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", interrupt)
        return train(folder, *BUSY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train(folder, *BUSY) == 0
    return folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """Folder of the same run, interrupted after two of three epochs."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    assert stop(2, 2, folder) == 130
    return folder


@pytest.fixture
def copy(tmp_path):
    """Copy a folder to one that the test may change."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "run"))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def assert_same_run(folder: Path, other: Path) -> None:
    """Weights, optimiser, history and bounds are equal bit by bit."""
    a, b = (load_checkpoint(f / "checkpoint.pt") for f in (folder, other))
    found, expected = ((c.weights, c.run["weights"], c.run["optimizer"]) for c in (a, b))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert read(folder, "history.json") == read(other, "history.json")
    assert read(folder, "result.json")["validation"] == read(other, "result.json")["validation"]


# The folder


def test_a_run_is_the_one_of_fit_with_the_same_settings(finished):
    data = load("digits", binarisation="dynamic")
    model = Model(
        recipe="ladder",
        latent_sizes=(4, 3),
        hidden=(16,),
        dropout=0.2,
        normalisation="layer",
        prior="vamp",
        prior_options={"num_components": 5},
    )
    training = Training(num_samples=2, epochs=3, batch_size=500, decay=0.5, seed=4)
    objective = WarmUp((2, 3), FreeBits(0.1))
    model = build(model, data, seed=4)
    history = fit(model, data, training, objective=objective, progress=False)
    checkpoint = load_checkpoint(finished / "checkpoint.pt")
    torch.testing.assert_close(checkpoint.weights, model.state_dict(), rtol=0, atol=0)
    assert checkpoint.config == read(finished, "config.json")["model"] == model.config
    frame = pd.DataFrame(read(finished, "history.json")["rows"]).astype({"level": "Int64"})
    pd.testing.assert_frame_equal(frame, history.frame, check_exact=True)
    result, bound = (
        read(finished, "result.json"),
        evaluate(model, data, split="validation", num_samples=2),
    )
    assert result["validation"]["elbo"]["mean"] == bound.elbo.mean
    assert (result["epochs"], result["best_epoch"]) == (3, history.best_epoch)
    assert result["num_parameters"] == bound.num_parameters
    assert result["seconds"] > 0 and result["resumed_after"] == 0


def test_a_finished_folder_holds_five_files_and_nothing_temporary(finished):
    assert contents(finished).keys() == FILES
    (start,) = read(finished, "environment.json")
    assert start["torch"] == torch.__version__ and start["device"] == "cpu"
    assert start["hvae_course"] == hvae_course.__version__
    assert start["threads"] == torch.get_num_threads() and start["after_epoch"] == 0


def test_the_configuration_repeats_the_run_in_silence(finished, tmp_path, capsys):
    config, again = read(finished, "config.json"), tmp_path / "again"
    words = config["command"].split()[1:]
    assert config["command"].startswith("hvae train ladder --latent-sizes 4 3")
    assert config["settings"]["prior_options"] == {"num_components": 5}
    assert main([str(again) if word == str(finished) else word for word in words]) == 0
    assert_same_run(finished, again)
    assert read(again, "config.json")["settings"] == config["settings"]
    assert capsys.readouterr().err == ""


def test_the_default_folder_names_recipe_data_levels_and_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL, *"--epochs 2 --batch-size 500 --seed 7".split()]) == 0
    assert contents(tmp_path / "runs" / "ladder-digits-4_3-7").keys() == FILES
    out, progress = capsys.readouterr()
    assert "training in runs/ladder-digits-4_3-7" in out and "ELBO" in out
    assert "2/2" in progress and "epoch/s" in progress and "draw/s" in progress


# Interruptions


@pytest.mark.parametrize("saved", [2, 1, 0])
def test_an_interrupted_run_ends_as_one_that_was_not(
    saved, finished, interrupted, copy, tmp_path, capsys
):
    folder = copy(interrupted) if saved == 2 else tmp_path / "run"
    if saved < 2:
        assert stop(saved + 1, saved, folder) == 130
        shown = capsys.readouterr().out
        assert "to resume, give the same command again:\n  hvae train" in shown
    unfinished = {"config.json", "environment.json"} | ({"checkpoint.pt"} if saved else set())
    assert contents(folder).keys() == unfinished
    assert train(folder, *BUSY) == 0
    start = f"resuming {folder} after epoch {saved}" if saved else f"training in {folder}"
    assert start in capsys.readouterr().out
    assert_same_run(folder, finished)
    assert read(folder, "result.json")["resumed_after"] == saved
    assert [start["after_epoch"] for start in read(folder, "environment.json")] == [0, saved]


KILLED = """
import os, signal, sys
from hvae_course.cli import main

saved = []

def replace(source, target):
    saved.append(str(target))
    if sum(name.endswith("checkpoint.pt") for name in saved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(source, target)

whole, os.replace = os.replace, replace
main(sys.argv[1:])
"""


def test_a_process_killed_while_it_saves_ends_as_one_that_was_not(finished, tmp_path):
    folder = tmp_path / "run"
    words = ["train", *SMALL, "--out", str(folder), *BUSY]
    root = Path(hvae_course.__file__).parents[1]
    subprocess.run([sys.executable, "-c", KILLED, *words], cwd=root, capture_output=True)
    assert load_checkpoint(folder / "checkpoint.pt").run["epoch"] == 1
    assert len(list(folder.glob("*.part"))) == 1 and not (folder / "result.json").exists()
    assert train(folder, *BUSY) == 0
    assert_same_run(folder, finished)


DEEP = (
    "train vdvae_vae --latent-sizes 2 2 2 --networks-options stages=[[4,2,8],[2,1,8]] group=2 "
    "--normalisation batch --binarisation dynamic --averaging 0.9 --warm-up 2 --epochs 3 "
    "--batch-size 250 --seed 4 --validation-samples 2 --device cpu --quiet --out"
).split()
KILLED_IN_STEP = """
import os, signal, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from hvae_course.cli import main

steps = []

def count(*_):
    steps.append(None)
    if len(steps) == 6:
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_post_hook(count)
main(sys.argv[1:])
"""


def test_a_deep_run_killed_in_an_epoch_ends_as_one_that_was_not(tmp_path):
    """Killed in the second of three epochs of four steps each."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*DEEP, str(whole)]) == 0
    root = Path(hvae_course.__file__).parents[1]
    command = [sys.executable, "-c", KILLED_IN_STEP, *DEEP, str(killed)]
    ended = subprocess.run(command, cwd=root, capture_output=True)
    assert ended.returncode == -9
    assert load_checkpoint(killed / "checkpoint.pt").run["epoch"] == 1
    AcceleratorState._reset_state(True)
    assert main([*DEEP, str(killed)]) == 0
    assert read(killed, "result.json")["resumed_after"] == 1
    assert_same_run(killed, whole)
    found = read(killed, "config.json")
    stages = {"stages": [[4, 2, 8], [2, 1, 8]], "group": 2}
    assert found["settings"]["networks_options"] == found["model"]["networks_options"] == stages
    model = build(found["model"])
    model.load_state_dict(load_checkpoint(killed / "checkpoint.pt").weights)


def test_a_run_interrupted_after_its_last_epoch_has_only_its_result_to_write(finished, copy):
    folder = copy(finished)
    (folder / "result.json").unlink()
    train(folder, *BUSY)
    assert contents(folder)["checkpoint.pt"] == contents(finished)["checkpoint.pt"]
    assert read(folder, "result.json")["validation"] == read(finished, "result.json")["validation"]


def test_a_finished_run_is_left_alone(finished, capsys):
    before = contents(finished)
    assert train(finished, *BUSY) == 0
    assert "already holds the finished run" in capsys.readouterr().out
    assert contents(finished) == before


def test_an_objective_that_is_no_longer_finite_fails_in_one_line(tmp_path, capsys):
    words = "--epochs 3 --learning-rate 1e30 --normalisation none --batch-size 500 --quiet"
    assert train(tmp_path / "run", *words.split()) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("hvae train: failed: the objective is no longer finite")
    assert not (tmp_path / "run/result.json").exists()
    # before the first epoch has ended, the folder takes other settings, as the message advises
    assert train(tmp_path / "run", "--epochs", "1", "--quiet") == 0
    assert read(tmp_path / "run", "config.json")["settings"]["learning_rate"] == 1e-3


def test_a_result_without_its_checkpoint_is_not_taken_for_one_of_other_settings(
    finished, copy, capsys
):
    folder = copy(finished)
    (folder / "checkpoint.pt").unlink()
    with pytest.raises(SystemExit):
        train(folder, *BUSY, "--learning-rate", "0.5")
    assert "learning_rate was 0.001 and is 0.5" in capsys.readouterr().err


# More epochs

SHORT = "--batch-size 500 --normalisation layer --quiet".split()


@pytest.fixture(scope="module")
def longer(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a run of two epochs, and of one epoch after which another was added."""
    at_once, added = (tmp_path_factory.mktemp("longer") / name for name in ("at_once", "added"))
    assert train(at_once, *SHORT, "--epochs", "2") == 0
    assert train(added, *SHORT, "--epochs", "1") == 0
    (added / "evaluation-test-2.json").write_text("{}")
    assert train(added, *SHORT, "--epochs", "2") == 0
    return at_once, added


def test_an_evaluation_of_fewer_epochs_is_named(longer, copy, capsys):
    folder = copy(longer[1])
    assert train(folder, *SHORT, "--epochs", "3") == 0
    path = folder / "evaluation-test-2.json"
    assert f"{path} is of 2 epochs or fewer; evaluate again" in capsys.readouterr().out


def test_a_finished_run_goes_on_with_more_epochs_as_if_they_had_been_asked_for(longer):
    at_once, added = longer
    assert_same_run(added, at_once)
    assert read(added, "config.json")["settings"] == read(at_once, "config.json")["settings"]
    assert "--epochs 2" in read(added, "config.json")["command"]
    assert read(added, "result.json")["epochs"] == 2
    assert [start["after_epoch"] for start in read(added, "environment.json")] == [0, 1]


def test_a_run_with_more_epochs_is_finished_as_any_other(longer, capsys):
    before = contents(longer[1])
    assert train(longer[1], *SHORT, "--epochs", "2") == 0
    assert "already holds the finished run" in capsys.readouterr().out
    assert contents(longer[1]) == before


def test_fewer_epochs_than_done_are_refused(longer, capsys):
    before = contents(longer[1])
    with pytest.raises(SystemExit, match="2"):
        train(longer[1], *SHORT, "--epochs", "1")
    assert "has seen 2 epochs, more than --epochs 1; give 2 or more" in capsys.readouterr().err
    assert contents(longer[1]) == before


def test_between_more_epochs_and_their_end_the_folder_holds_no_result(longer, copy, monkeypatch):
    def interrupt(checkpoint: Checkpoint, path: Path) -> None:
        raise KeyboardInterrupt

    folder = copy(longer[1])
    monkeypatch.setattr(loop, "save_checkpoint", interrupt)
    assert train(folder, *SHORT, "--epochs", "3", "--patience", "9") == 130
    assert contents(folder).keys() == FILES - RESULTS | {"evaluation-test-2.json"}
    settings = read(folder, "config.json")["settings"]
    assert (settings["epochs"], settings["patience"]) == (3, 9)


# Folders that cannot be written


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "file is a file; name a folder for the run with --out"),
        ("file/run", "cannot write .*checkpoint.pt: a part of the path is a file"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_before_the_training(
    place, message, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="2"):
        train(tmp_path / place, "--quiet")
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert re.search(message, shown.err)


def test_a_disk_without_the_space_for_a_checkpoint_is_named_before_the_training(
    tmp_path, monkeypatch, capsys
):
    usage = SimpleNamespace(free=65_536)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SystemExit, match="2"):
        train(tmp_path / "run", "--quiet")
    shown = capsys.readouterr()
    assert re.search(r"takes about [\d,]+ bytes and the disk has 65,536 left", shown.err)
    assert shown.out == "" and not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_ends_a_training_in_one_line(longer, copy, monkeypatch, capsys):
    folder = copy(longer[1])
    before = contents(folder)["checkpoint.pt"]
    whole = os.replace

    def replace(source: Path, target: Path) -> None:
        if target.name == "checkpoint.pt":
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert train(folder, *SHORT, "--epochs", "3") == 1
    error = capsys.readouterr().err
    assert error.startswith("hvae train: failed: ") and error.count("\n") == 1
    assert "checkpoint.pt: the disk is full; free some space" in error
    assert contents(folder)["checkpoint.pt"] == before
    assert not list(folder.glob("*.part"))


# Folders of earlier versions


def test_a_run_of_an_earlier_version_goes_on(finished, interrupted, copy, capsys):
    folder = rewrite_folder(copy(interrupted))
    assert train(folder, *BUSY) == 0
    assert "after epoch 2" in capsys.readouterr().out
    assert_same_run(folder, finished)


def test_a_finished_run_of_an_earlier_version_is_recognised(finished, copy, capsys):
    folder = rewrite_folder(copy(finished))
    assert train(folder, *BUSY) == 0
    assert "already holds the finished run" in capsys.readouterr().out
    found = find(folder)
    assert found.data == Data(data="digits", binarisation="dynamic")
    expected = load_checkpoint(finished / "checkpoint.pt").weights
    torch.testing.assert_close(found.model.state_dict(), expected, rtol=0, atol=0)


def test_options_of_one_recipe_are_read_from_earlier_versions():
    settings = {"recipe": "ladder_vae", "recipe_options": {"merge_top": True}, "data": "digits"}
    assert Experiment.from_settings(settings).model == Model(recipe="ladder", merge_top=True)
    assert not Experiment.from_settings({"recipe": "ladder_vae", "data": "digits"}).model.merge_top


# Folders of something else


@pytest.mark.parametrize("before", [False, True], ids=["now", "earlier version"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--epochs 2",
            "epochs was 3 and is 2 (the decay of the learning rate depends on epochs). Give",
        ),
        ("--num-samples 3", "num_samples was 2 and is 3"),
        ("--seed 5 --decay 0", "decay was 0.5 and is 0.0, seed was 4 and is 5"),
        ("--latent-sizes 5 3", "latent_sizes was [4, 3] and is [5, 3]"),
        ("--optimiser adamax", "optimiser was 'adam' and is 'adamax'"),
        ("--validation-samples 3", "validation_samples was 2 and is 3"),
    ],
)
def test_a_folder_with_other_settings_is_refused_with_both_values(
    words, message, before, interrupted, copy, capsys
):
    folder = rewrite_folder(copy(interrupted)) if before else interrupted
    files = contents(folder)
    with pytest.raises(SystemExit, match="2"):
        train(folder, *changed(BUSY, *words.split()))
    error = capsys.readouterr().err
    assert "holds a run with other settings" in error and message in error
    assert contents(folder) == files


def test_a_folder_of_a_later_version_is_refused_with_the_option_it_has(interrupted, copy, capsys):
    path = copy(interrupted) / "config.json"
    content = json.loads(path.read_text())
    content["settings"]["annealing"] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match="2"):
        train(path.parent, *BUSY)
    assert "annealing was 0.5 and is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("checkpoint.pt", "", "holds a checkpoint but no config.json"),
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[]", "config.json holds no settings"),
    ],
)
def test_a_folder_that_no_run_made_is_refused(name, content, message, tmp_path, capsys):
    (tmp_path / name).write_text(content)
    with pytest.raises(SystemExit, match="2"):
        train(tmp_path)
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("change", [{"latent_sizes": [5, 3]}, {}], ids=["other", "weights alone"])
def test_a_checkpoint_of_another_run_is_refused(change, interrupted, copy, capsys):
    folder = copy(interrupted)
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    run = checkpoint.run if change else {}
    other = Checkpoint(checkpoint.config | change, checkpoint.weights, run)
    save_checkpoint(other, folder / "checkpoint.pt")
    with pytest.raises(SystemExit, match="2"):
        train(folder, *BUSY)
    assert "checkpoint.pt belongs to another run" in capsys.readouterr().err
