"""The second stage of ``hvae train vq``: the prior over codes in its run folder."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from test_cli_runs import changed, contents

import hvae_course
from hvae_course.cli import main
from hvae_course.config import Experiment, Model, Training
from hvae_course.data import load
from hvae_course.recipes import build
from hvae_course.run_folder import Run, find
from hvae_course.training import fit, fit_prior, load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("make_accelerator"),  # resets Accelerate's state
]
WORDS = (
    "vq_vae --networks-options channels=4 --latent-sizes 3 3 --codes-options num_codes=4 "
    "--epochs 1 --prior-epochs 2 --batch-size 500 --validation-samples 2 --device cpu --quiet"
).split()


def run(command: str, folder: Path, *words: str) -> int:
    AcceleratorState._reset_state(True)
    return main([command, *words, *(["--out", str(folder)] if command == "train" else [])])


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of a run of both stages."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert run("train", folder, *WORDS) == 0
    return folder


def assert_same_prior(folder: Path, other: Path) -> None:
    found, expected = (load_checkpoint(f / "prior.pt") for f in (folder, other))
    torch.testing.assert_close(found.weights, expected.weights, rtol=0, atol=0)
    assert read(folder, "history.json") == read(other, "history.json")
    assert read(folder, "result.json")["validation"] == read(other, "result.json")["validation"]


def test_both_stages_are_those_of_fit_and_fit_prior_and_both_models_are_kept(finished):
    data = load("digits")
    settings = {"networks_options": {"channels": 4}, "codes_options": {"num_codes": 4}}
    model = build(Model(recipe="vq", latent_sizes=(3, 3), **settings), data, seed=0)
    fit(model, data, epochs=1, batch_size=500, progress=False)
    first = load_checkpoint(finished / "checkpoint.pt").weights
    torch.testing.assert_close(dict(model.state_dict()), first, rtol=0, atol=0)
    fit_prior(model, data, epochs=2, batch_size=500, progress=False)
    second = find(finished).model.state_dict()
    torch.testing.assert_close(model.state_dict(), second, rtol=0, atol=0)
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert moved and all(name.startswith(("prior", "top_down.conditionals")) for name in moved)
    assert read(finished, "config.json")["settings"]["prior_epochs"] == 2
    result, history = read(finished, "result.json"), read(finished, "history.json")
    assert (result["epochs"], result["prior_epochs"], result["prior_best_epoch"]) == (1, 2, 2)
    for rows, epochs in (("rows", {1}), ("prior_rows", {1, 2})):
        assert {row["epoch"] for row in history[rows]} == epochs


def test_an_evaluation_of_the_folder_is_one_of_the_fitted_prior(finished, capsys):
    words = ["--split", "validation", "--num-samples", "2", "--device", "cpu", "--quiet"]
    for target in (finished, finished / "checkpoint.pt"):
        assert run("evaluate", target, str(target), *words) == 0
    fitted = read(finished, "evaluation-prior-validation-2.json")
    uniform = read(finished, "evaluation-validation-2.json")
    assert fitted["elbo"] == read(finished, "result.json")["validation"]["elbo"]
    for level, positions in enumerate((64, 16)):
        rates = [found["information"][level]["mean"] for found in (fitted, uniform)]
        assert rates[0] < rates[1] == pytest.approx(positions * math.log(4), abs=1e-3)
    rates = [sum(level["mean"] for level in found["information"]) for found in (fitted, uniform)]
    gain = rates[1] - rates[0]
    assert fitted["elbo"]["mean"] - uniform["elbo"]["mean"] == pytest.approx(gain, abs=1e-3)
    assert "written to" in capsys.readouterr().out


KILLED = """
import os, signal, sys
from hvae_course.cli import main

saved = []

def replace(source, target):
    saved.append(str(target))
    if sum(name.endswith("prior.pt") for name in saved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(source, target)

whole, os.replace = os.replace, replace
main(sys.argv[1:])
"""


def test_a_second_stage_that_was_killed_goes_on_from_its_own_checkpoint(
    finished, tmp_path, capsys
):
    folder = tmp_path / "run"
    root = Path(hvae_course.__file__).parents[1]
    command = [sys.executable, "-c", KILLED, "train", *WORDS, "--out", str(folder)]
    assert subprocess.run(command, cwd=root, capture_output=True).returncode == -9
    assert load_checkpoint(folder / "prior.pt").run["epoch"] == 1
    with pytest.warns(UserWarning, match="is not finished: 1 of 2 epochs of the prior"):
        find(folder)
    assert run("train", folder, *WORDS) == 0
    assert "after epoch 1, and epoch 1 of the prior" in capsys.readouterr().out
    assert_same_prior(folder, finished)


def test_a_prior_is_fitted_longer_or_for_the_first_time_and_again_after_a_longer_first_stage(
    finished, tmp_path, capsys
):
    folder = tmp_path / "run"
    for epochs, seen in (("0", "training in"), ("1", "after epoch 1\n"), ("2", "of the prior\n")):
        assert run("train", folder, *changed(WORDS, "--prior-epochs", epochs)) == 0
        assert seen in capsys.readouterr().out
        assert (folder / "prior.pt").exists() == (epochs != "0")
    assert_same_prior(folder, finished)
    before = contents(folder)
    assert run("train", folder, *WORDS) == 0 and contents(folder) == before
    assert "already holds the finished run" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("train", folder, *changed(WORDS, "--prior-epochs", "1"))
    assert "seen 2 epochs, more than --prior-epochs 1" in capsys.readouterr().err
    (folder / "evaluation-prior-test-9.json").write_text("{}")
    assert run("train", folder, *changed(WORDS, "--epochs", "2")) == 0
    assert "evaluation-prior-test-9.json is of 1 epochs or fewer" in capsys.readouterr().out
    weights = [load_checkpoint(folder / name).weights for name in ("checkpoint.pt", "prior.pt")]
    same = [torch.equal(weights[0][name], value) for name, value in weights[1].items()]
    assert any(same) and not all(same)  # the fitted prior is that of the longer first stage
    encoder = [name for name in weights[0] if name.startswith("bottom_up")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in encoder)


def test_only_priors_over_codes_are_fitted_last(tmp_path):
    experiment = Experiment(model=Model(recipe="downscaled"), training=Training(epochs=1))
    with pytest.raises(ValueError, match="prior_epochs is for the recipe vq.*with downscaled"):
        Run(experiment=experiment, folder=tmp_path, prior_epochs=1)
