"""The command line: settings that cannot be right are one line, before any work and any file."""

import re

import pytest
import torch

from hvae_course.cli import main, settings

pytestmark = pytest.mark.usefixtures("make_accelerator")  # resets Accelerate's state


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Run a command that is refused; its one line, after checking that it wrote no file."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(words)
        shown = capsys.readouterr()
        assert stop.value.code == 2 and shown.out == "" and shown.err.count("\n") == 1
        assert not list(tmp_path.iterdir())
        return shown.err

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "pyramid",
            "unknown recipe 'pyramid'; choose one of bottom_up, .*, ladder, bidirectional",
        ),
        ("ladder --data cifar", "--data: invalid choice: 'cifar'"),
        ("ladder --levels 16 0", r"positive size.*latent_sizes=\(16, 0\)"),
        ("ladder --levels x", "--levels: invalid int value: 'x'"),
        ("ladder --epochs 0", "epochs must be at least 1, got 0"),
        ("ladder --batch-size 0", "batch_size must be at least 1, got 0"),
        ("ladder --learning-rate nan", "learning_rate must be positive, got nan"),
        ("ladder --decay 2", "decay is a share of the epochs"),
        ("ladder --dropout 1", r"dropout is a probability in \[0, 1\), got 1.0"),
        ("ladder --seed -1", "--seed must not be negative, got -1"),
        ("ladder --validation-samples 0", "--validation-samples must be at least 1, got 0"),
        ("ladder --draws 0", "num_samples must be at least 1, got 0"),
        ("ladder --warm-up 5 5 5", "has 3 values for 2 levels|3 warm-up times"),
        ("ladder --free-bits 1 1 1", "nats has 3 values for 2 levels"),
        ("ladder --free-bits -1", "nats must be zero or more"),
        ("ladder --objective iwae --warm-up 5", "'iwae' has no KL terms"),
        ("ladder --objective iwae", "bound with one draw is the ELBO; give --draws 10"),
        ("ladder --prior vamp", "normalisation='layer' or 'none' for the prior 'vamp'"),
        ("delta --prior mixture", "relative to a diagonal Gaussian prior"),
        ("ladder --prior mixture --prior-options n=3", "prior_options of the prior 'mixture'"),
        ("ladder --prior-options 3", "expected KEY=VALUE, got '3'"),
        ("ladder --likelihood categorical --likelihood-options s=1", "likelihood_options of"),
        ("ladder --likelihood-options s=1", "likelihood_options of 'categorical'"),
        ("ladder --likelihood bernoulli", "scores binary pixels, got grey values"),
        (
            "ladder --recipe-options top=true",
            "unknown option 'top' of ladder_vae, which has merge",
        ),
        ("ladder --recipe-options merge_top=3", "merge_top of ladder_vae is a bool such as False"),
        ("bottom_up --recipe-options a=1", "of bottom_up_vae, which has no options of its own"),
        ("ladder --data pendulum --binarisation static", "pendulum holds real values"),
        ("ladder --epoch 3", "unrecognized arguments: --epoch 3"),
        ("", "the following arguments are required: RECIPE"),
    ],
)
def test_wrong_settings_of_a_training_are_refused_in_one_line(words, message, refused):
    line = refused("train", *words.split())
    assert line.startswith(("hvae train: error: ", "hvae: error: ")) and re.search(message, line)


def test_wrong_settings_are_refused_before_the_data_are_read(refused, monkeypatch):
    def read(*_: object, **__: object) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr(settings, "load", read)
    for words in ("--decay 2", "--levels 0", "--prior-options n=3", "--warm-up 1 1 1"):
        refused("train", "ladder", *words.split())


def test_data_that_are_missing_are_named_in_one_line(refused, monkeypatch):
    def read(*_: object, **__: object) -> None:
        raise FileNotFoundError("no MNIST files in here.\nPut them there")

    monkeypatch.setattr(settings, "load", read)
    assert "error: no MNIST files in here. Put them there" in refused("train", "ladder")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(refused):
    assert "PyTorch finds no CUDA device" in refused("train", "ladder", "--device", "cuda")
    assert "--precision tf32 needs a CUDA device" in refused(
        "train", "ladder", "--precision", "tf32"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate nothing", "is not a run folder, a checkpoint, or one of the trained models"),
        ("evaluate digits --samples 0", "--samples, --batch-size and --max-rows"),
        ("evaluate digits --seed -1", "--seed must not be negative"),
        ("evaluate digits --data pendulum", "the model takes DataSpec"),
        ("evaluate digits --split dev", "--split: invalid choice: 'dev'"),
        ("sample digits --count 0", "--count must be at least 1, got 0"),
        ("sample digits --out a.txt", "--out must end in one of .pdf, .png, .svg, got a.txt"),
        ("sample digits --seed -1", "--seed must not be negative"),
        ("diagnose digits --examples 1", "needs at least two examples"),
        ("diagnose digits --seed -1", "--seed must not be negative"),
    ],
)
def test_wrong_settings_of_other_commands_are_refused_in_one_line(words, message, refused):
    line = refused(*words.split())
    assert line.startswith(f"hvae {words.split()[0]}: error: ") and message in line
