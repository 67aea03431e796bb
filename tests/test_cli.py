"""The command line: its options are the configuration, and what cannot be right is one line."""

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import get_args

import pytest
import torch
from accelerate.commands.launch import launch_command_parser

import hvae_course
from hvae_course import config, run_folder
from hvae_course.cli import COMMANDS, Evaluate, List, main
from hvae_course.objectives import (
    OBJECTIVES,
    FreeBits,
    WarmUp,
    elbo,
    importance_weighted,
    make_objective,
)
from hvae_course.parsing import parse, parse_pair, parse_widths
from hvae_course.pretrained import PRETRAINED
from hvae_course.recipes import read_config

ROOT = Path(hvae_course.__file__).parents[1]
RECIPES = get_args(config.Recipe)
# settings that need neither data nor PyTorch to be refused, with a part of the message
REFUSED = {
    "": "Expected one of {train, evaluate, sample, diagnose, list}",
    "frobnicate": "frobnicate; available subcommands: train, evaluate, sample, diagnose, list",
    "list extra": "Unrecognized options: extra",
    "train": "missing RECIPE$",
    "train pyramid": "invalid choice 'pyramid' for RECIPE. .*'bottom_up', .*'bidirectional'",
    "train conv_ladder": "meant: ladder --networks convolutional --networks-options shared_",
    "train two_level_vae": "'two_level_vae' for RECIPE.*; perhaps you meant: bottom_up$",
    "train ladder extra": "Unrecognized options: extra",
    "train ladder --epoch 3": "Unrecognized options: --epoch, 3; perhaps you meant: --epochs",
    "train ladder --epochs": "Missing value for argument '--epochs'",
    "train ladder --epochs 3 --epochs=4": "--epochs is given twice; give it once",
    "train ladder --latent-sizes 3 --levels 4": "--latent-sizes is given twice",
    "train ladder --batch_size 3 --batch-size 4": "--batch-size is given twice",
    "train ladder --prior mixture --prior-options spread=1 spread=2": "spread is given twice",
    "train ladder --out=": "the value after '--out' is empty; give one, or leave it out",
    "train ladder --data-root here": "digits is not read from the folder data_root='here'",
    "train ladder --epochs 1.5": "--epochs: invalid .*'1.5'",
    "train ladder --epochs 0": "epochs must be positive, got 0",
    "train ladder --batch-size 0": "batch_size must be positive, got 0",
    "train ladder --num-samples 0": "num_samples must be positive, got 0",
    "train ladder --patience 0": "patience must be positive, got 0",
    "train ladder --validation-samples 0": "validation_samples must be positive, got 0",
    "train ladder --seed -1": "seed must be zero or more, got -1",
    "train ladder --learning-rate nan": "learning_rate must be positive, got nan",
    "train ladder --decay 2": "decay is a share of the epochs",
    "train ladder --averaging 1": "averaging must be at least 0 and below 1, got 1.0",
    "train ladder --dropout 1": "dropout must be at least 0 and below 1, got 1.0",
    "train ladder --optimiser sgd": "'sgd' for argument '--optimiser'",
    "train ladder --device tpu": "'tpu' for argument '--device'",
    "train ladder --latent-sizes 16 0": r"latent_sizes must be positive, got \(16, 0\)",
    "train ladder --latent-sizes": "latent_sizes needs one size per level, got none",
    "train ladder --latent-sizes x": "--latent-sizes: expected whole numbers, .*, got 'x'",
    "train ladder --latent-sizes 16,8": "expected whole numbers, such as 16 8, got '16,",
    "train ladder --warm-up 2.5": "expected whole numbers, such as 16 8, got '2.5'",
    "train ladder --free-bits a": "--free-bits: expected numbers, such as 1 2, got 'a'",
    "train ladder --hidden 8,wide": "--hidden: expected a width such as 256, .*'8,wide'",
    "train ladder --hidden 8,8 8": "--hidden: expected a comma in every word or in none",
    "train ladder --hidden 8, 8, 8,": "hidden is one sequence .* each of 2 levels, got 3",
    "train ladder --inference-hidden 0": r"inference_hidden must be positive, got \(0,\)",
    "train ladder --warm-up 5 5 5": "warm_up has 3 values for 2 levels",
    "train ladder --free-bits 1 1 1": "free_bits has 3 values for 2 levels",
    "train ladder --free-bits -1": "free_bits must be zero or more",
    "train ladder --objective iwae": "with num_samples=1 is the ELBO",
    "train ladder --objective iwae --warm-up 5": "'iwae' has no KL terms",
    "train ladder --prior vamp": "normalisation='layer' or 'none' for the prior 'vamp'",
    "train ladder --prior mixture --prior-options n=3": "prior_options of the prior 'mixture'",
    "train vdvae --networks-options width=3": "networks_options of the networks 'convolutional'",
    "train vdvae --networks-options stages=[[4,2]]": "stages is one triple",
    "train vdvae --networks mlp": "leave networks out",
    "train vdvae --hidden 64": "hidden is an option of multilayer perceptrons",
    "train vdvae --dropout 0.1": "dropout is an option of multilayer perceptrons",
    "train ladder --networks-options channels=8": "networks_options of the networks 'mlp'",
    "train ladder --prior-options 3": "--prior-options: expected KEY=VALUE, got '3'",
    "train ladder --likelihood categorical --likelihood-options s=1": "unknown option 's'",
    "train ladder --merge-top=3": "Unrecognized options: 3",
    "train bottom_up --merge-top": "merge_top is an option of the recipe ladder, .*bottom_up",
    "train ladder --no-reads-state": "reads_state is an option of the recipe delta, .*ladder",
    "train ladder --data cifar": "unknown data 'cifar'; choose one of .* ends in .npz",
    "train ladder --data pendulum --binarisation static": "pendulum holds real values",
    "train ladder --data pendulum --likelihood bernoulli": "pendulum holds real ones",
    "evaluate": "missing MODEL",
    "evaluate digits --data cifar": "unknown data 'cifar'; choose one of digits,",
    "evaluate digits --data digits --data-root x": "digits is not read from the folder",
    "evaluate digits --num-samples 0": "num_samples must be positive, got 0",
    "evaluate digits --batch-size 0": "batch_size must be positive, got 0",
    "evaluate digits --max-rows 0": "max_rows must be positive, got 0",
    "evaluate digits --seed -1": "seed must be zero or more, got -1",
    "evaluate digits --json .": "json must end in one of .json, got .",
    "evaluate digits --json model.pt": "json must end in one of .json, got model.pt",
    "evaluate digits --per-example a.json": "per_example must end in one of .csv, got a.json",
    "evaluate digits --split dev": "'dev' for argument '--split'",
    "sample digits --count 0": "count must be positive, got 0",
    "sample digits --out a.txt": "out must end in one of .pdf, .png, .svg, .csv, .npz, got a.txt",
    "sample digits --temperature -1": "temperature must be zero or more, got -1.0",
    "sample digits --label -1": "label must be zero or more, got -1",
    "sample digits --seed -1": "seed must be zero or more, got -1",
    "diagnose digits --num-samples 0": "num_samples must be positive, got 0",
    "diagnose digits --seed -1": "seed must be zero or more, got -1",
}
HELP = {f"{name} --help".strip(): COMMANDS.get(name) for name in ("", *COMMANDS)}
ANSWER = """
import contextlib, io, json, os, sys
import hvae_course
from hvae_course.cli import main

answers = {}
for line in json.load(sys.stdin):
    files = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with contextlib.redirect_stdout(files[0]), contextlib.redirect_stderr(files[1]):
        try:
            status = main(line.split())
        except SystemExit as end:
            status = end.code
    [file.seek(0) for file in files]
    answers[line] = [status, *(file.read() for file in files)]
print(json.dumps({"answers": answers, "imported": list(sys.modules), "files": os.listdir()}))
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> dict:
    """Answers of one process in an empty folder, with what it imported and wrote."""
    env = os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", ANSWER],
        input=json.dumps([*REFUSED, *HELP]),
        cwd=tmp_path_factory.mktemp("empty"),
        env=env,
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    return json.loads(done.stdout)


# What is refused


@pytest.mark.parametrize("line", REFUSED)
def test_wrong_settings_are_refused_in_one_line(line, quick):
    status, shown, error = quick["answers"][line]
    command = line.split()[0] if line.split()[:1] and line.split()[0] in COMMANDS else ""
    assert status == 2 and shown == "" and error.count("\n") == 1
    assert error.startswith(f"{f'hvae {command}'.strip()}: error: ")
    assert re.search(REFUSED[line], error)


def test_refusals_and_help_read_and_write_nothing_and_wait_for_no_import(quick):
    heavy = {"torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "seaborn", "ipywidgets"}
    assert heavy.isdisjoint(quick["imported"]) and quick["files"] == []


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch, make_accelerator):
    """Run a command that is refused; its one line, after checking that it wrote no file."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(line.split())
        shown = capsys.readouterr()
        assert stop.value.code == 2 and shown.out == "" and shown.err.count("\n") == 1
        assert not list(tmp_path.iterdir())
        return shown.err

    return run


no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train ladder --epoch 3", "Unrecognized options: --epoch, 3; perhaps you meant"),  # ASCII
        ("train delta --prior mixture", "relative to a diagonal Gaussian prior"),
        ("train ladder --likelihood-options s=1", "likelihood_options of .*'categorical'"),
        ("train ladder --likelihood bernoulli", "scores binary pixels, got grey values"),
        pytest.param("train ladder --device cuda", "finds no CUDA device", marks=no_cuda),
        pytest.param("evaluate digits --device cuda", "finds no CUDA device", marks=no_cuda),
        pytest.param("train ladder --precision tf32", "tf32 needs a CUDA device", marks=no_cuda),
        pytest.param("train ladder --precision fp16", "fp16 needs a CUDA device", marks=no_cuda),
        ("train ladder --precision fp16 --device cpu", "fp16 needs a CUDA device; choose no or"),
        ("diagnose digits --threshold nan", "threshold must be zero or more, got nan"),
        ("train ladder --warm-up", "--warm-up: expected one number or more"),
        ("train ladder --seed 99999999999999999999", "seed must be below 2..63"),
        ("evaluate nothing", "is not a run folder, a checkpoint, or one of the trained models"),
        ("evaluate digits --data pendulum", "the model does not take pendulum, .*shape"),
        ("evaluate .", "no checkpoint at checkpoint.pt"),
        ("sample .", "no checkpoint at checkpoint.pt"),
        ("diagnose .", "no checkpoint at checkpoint.pt"),
        ("diagnose digits --max-examples 1", "needs at least two examples"),
    ],
)
def test_what_only_data_or_device_show_is_refused_in_one_line(line, message, refused):
    error = refused(line)
    assert error.startswith(f"hvae {line.split()[0]}: error: ") and re.search(message, error)


def test_missing_data_are_named_in_one_line(refused, monkeypatch):
    def read(_: object) -> None:
        raise FileNotFoundError("no MNIST files in here.\nPut them there")

    monkeypatch.setattr(run_folder, "load", read)
    assert "error: no MNIST files in here. Put them there" in refused("train ladder")


def test_an_empty_word_as_of_a_variable_that_is_not_set_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "ladder", "--out", ""])
    assert "error: the value after '--out' is empty" in capsys.readouterr().err


# Options


def options(kind: type) -> Counter:
    """The words by which the fields of a command are set."""
    found = Counter()
    for entry in fields(kind):
        if is_dataclass(entry.type):
            found += options(entry.type)
        elif entry.name not in ("recipe", "model"):
            no = "no-" if entry.default is True else ""
            found[f"--{no}{entry.name.replace('_', '-')}"] += 1
    return found


@pytest.mark.parametrize("line", HELP)
def test_the_help_has_every_field_once_with_its_default_in_80_columns(line, quick):
    status, shown, _ = quick["answers"][line]
    assert status == 0 and max(map(len, shown.splitlines())) <= 80
    if HELP[line] is None:
        assert all(re.search(rf"• {name} +\w", shown) for name in COMMANDS)
        return
    expected = options(HELP[line])
    assert Counter(re.findall(r"^│ (--[a-z-]+)", shown, re.MULTILINE)) == expected
    assert " ".join(shown.split()).count("(default:") == expected.total()


@pytest.mark.parametrize("recipe", RECIPES)
def test_without_options_a_training_has_the_defaults_of_the_configuration(recipe):
    found = parse(["train", recipe], COMMANDS)
    groups = (found.data, found.objective, found.training, found.machine)
    assert groups == (config.Data(), config.Objective(), config.Training(), config.Machine())
    assert asdict(found.model) == asdict(config.Model(recipe=recipe))


@pytest.mark.parametrize("name", ["conv_ladder_vae", "two_level_vae", "vae"])
def test_a_function_that_is_no_recipe_is_said_in_words_of_the_same_model(name, capsys, tiny_data):
    with pytest.raises(SystemExit):
        main(["train", name])
    words = capsys.readouterr().err.partition("perhaps you meant: ")[2].split()
    given = parse(["train", *words], COMMANDS).model
    expected = getattr(hvae_course.recipes, name)(tiny_data).config
    assert asdict(given) == asdict(read_config(expected)[0])


def test_options_are_read_by_the_type_of_their_field():
    words = "--latent-sizes 3 2 1 --hidden 8,9 4, 2, --inference-hidden 16 --merge-top "
    words += "--dropout 0.5 --prior mixture --prior-options num_components=5 spread=0.5 "
    words += "--normalisation none --generative-normalisation None --data mnist --data-root a "
    words += "--warm-up 5 9 9 --free-bits 0.5 --num-samples 2 --learning-rate 1e-2 --compiled "
    words += "--patience 3 --clip-norm None --device cpu --precision bf16 --out b --quiet"
    found = parse(["train", "ladder", *words.split()], COMMANDS)
    model = config.Model(
        recipe="ladder",
        latent_sizes=(3, 2, 1),
        hidden=((8, 9), (4,), (2,)),
        inference_hidden=(16,),
        merge_top=True,
        dropout=0.5,
        prior="mixture",
        prior_options={"num_components": 5, "spread": 0.5},
        normalisation="none",
    )
    training = config.Training(num_samples=2, learning_rate=0.01, compiled=True, patience=3)
    assert asdict(found.model) == asdict(model) and found.training == training
    assert found.data == config.Data(data="mnist", data_root="a")
    assert found.objective == config.Objective(warm_up=(5, 9, 9), free_bits=(0.5,))
    assert found.machine == config.Machine(device="cpu", precision="bf16")
    assert (found.out, found.quiet, found.validation_samples) == ("b", True, 100)
    assert not parse(["train", "delta", "--no-reads-state"], COMMANDS).model.reads_state


@pytest.mark.parametrize("recipe", ["vdvae", "ladder"])
def test_options_of_networks_are_read_as_those_of_priors(recipe):
    words = "--latent-sizes 2 2 2 --networks convolutional --networks-options "
    words += "stages=[[4,2,16],[2,1,24]] group=2 expansion=0.5 zero_priors=false cell=depthwise"
    model = parse(["train", recipe, *words.split()], COMMANDS).model
    options = model.make_networks_options()
    assert options == config.Convolutional(
        stages=((4, 2, 16), (2, 1, 24)),
        group=2,
        expansion=0.5,
        zero_priors=False,
        cell="depthwise",
    )
    assert (model.recipe, model.latent_sizes) == (recipe, (2, 2, 2))


def test_earlier_names_of_options_are_accepted():
    words = ["--levels", "3", "2", "--draws", "2", "--compile"]
    assert parse(["train", "--draws=3", "delta_vae"], COMMANDS).training.num_samples == 3
    found = parse(["train", "ladder_vae", *words], COMMANDS)
    assert (found.model.recipe, found.model.latent_sizes) == ("ladder", (3, 2))
    assert found.training == config.Training(num_samples=2, compiled=True)
    assert parse(["evaluate", "digits", "--samples", "7"], COMMANDS).num_samples == 7
    assert parse(["diagnose", "digits", "--examples", "7"], COMMANDS).max_examples == 7


@pytest.mark.parametrize(
    ("word", "value"),
    [("a=1", 1), ("a=0.5", 0.5), ("a=x=y", "x=y"), ("a=True", True), ("a=none", None)]
    + [("a=[2, 3]", [2, 3]), ("a=", "")],
)
def test_a_pair_has_a_number_a_list_or_a_word(word, value):
    assert parse_pair(word) == ("a", value)


@pytest.mark.parametrize(
    ("words", "widths"),
    [("256", (256,)), ("256 128", (256, 128)), ("8,9 7, 6,5,4", ((8, 9), (7,), (6, 5, 4)))],
)
def test_widths_are_those_of_all_levels_or_of_each(words, widths):
    assert parse_widths(words.split()) == widths


@pytest.mark.parametrize(
    ("parse", "word"),
    [(parse_pair, word) for word in ("num", "=3", "a b=3")]
    + [(parse_widths, [word]) for word in ("", ",", "wide", "256,wide", "25.6")],
)
def test_words_of_another_form_are_refused(parse, word):
    with pytest.raises(ValueError, match="expected (KEY=VALUE, got|a width such as 256, or)"):
        parse(word)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"objective": "iwae"}, importance_weighted),
        ({}, elbo),
        ({"warm_up": (5,)}, WarmUp(5)),
        ({"free_bits": (0.5, 0.25)}, FreeBits((0.5, 0.25))),
        ({"warm_up": (5, 9), "free_bits": (0.5,)}, WarmUp((5, 9), FreeBits(0.5))),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_objectives_are_those_of_the_package(given, expected):
    made = make_objective(config.Objective(**given))
    assert getattr(made, "function", made) == expected


# The program


def test_the_commands_of_the_readme_are_accepted():
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^(hvae|accelerate launch) (.*)", text, re.MULTILINE)
    given, launched = [], 0
    for program, line in commands:
        words = shlex.split(line, comments=True)
        if program != "hvae":
            parsed, launched = launch_command_parser().parse_args(words), launched + 1
            assert parsed.module and parsed.training_script == "hvae_course"
            words = parsed.training_script_args
        given.append(words[0])
        parse(words, COMMANDS)
    assert launched >= 3 and set(given) == COMMANDS.keys()


def test_the_list_has_one_line_for_everything_there_is(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    known = [*RECIPES, *config.DATA_SETS, *config.PRIORS, *config.LIKELIHOODS, *config.NETWORKS]
    known += config.CODES
    for name in (*known, *OBJECTIVES, *PRETRAINED, "--warm-up", "--free-bits"):
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in lines), name
    assert not any(":eq:" in line for line in lines)


def test_the_names_that_can_be_given_are_those_of_the_tables():
    assert set(get_args(config.DataName)) == set(config.DATA_SETS)
    assert set(get_args(config.PriorName)) == set(config.PRIORS)
    assert set(get_args(config.NetworksName)) == set(config.NETWORKS)
    assert set(config.NETWORKS) == set(hvae_course.recipes.NETWORKS)
    assert set(get_args(config.LikelihoodName)) == set(config.LIKELIHOODS)
    assert set(get_args(config.ObjectiveName)) == set(OBJECTIVES)
    assert set(RECIPES) == {name.removesuffix("_vae") for name in hvae_course.recipes.RECIPES}


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hvae {hvae_course.__version__}\n"


def test_a_warning_takes_one_line_and_names_the_command(monkeypatch, capsys):
    def run(self, command: str) -> int:
        print(warnings.formatwarning("the bound\nfalls", UserWarning, "loop.py", 3), end="")
        return 0

    monkeypatch.setattr(List, "run", run)
    before = warnings.formatwarning
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "hvae list: warning: the bound falls\n"
    assert warnings.formatwarning is before


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lack_of_memory_is_told_in_one_line_with_what_to_lower(error, monkeypatch, capsys):
    def run(self, command: str) -> int:
        raise error

    monkeypatch.setattr(Evaluate, "run", run)
    assert main(["evaluate", "digits"]) == 1
    expected = "hvae evaluate: failed: not enough memory; lower --max-rows or --batch-size\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(("rank", "printed"), [("0", True), ("1", False)])
def test_of_several_processes_one_prints_the_error_and_all_report_it_to_the_launcher(
    rank, printed, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(SystemExit, match="2"):
        main(["train", "ladder", "--epochs", "0"])
    line = "hvae train: error: epochs must be positive, got 0"
    assert capsys.readouterr().err == (f"{line}\n" if printed else "")
    report = json.loads((tmp_path / "error.json").read_text())["message"]
    assert report["message"] == report["extraInfo"]["py_callstack"] == line


def test_a_reader_that_has_read_enough_is_no_error():
    program = f"{sys.executable} -m hvae_course train --help | head -1"
    result = subprocess.run(program, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.startswith("usage: hvae train") and result.stderr == ""


def test_threads_wait_without_spinning(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    main(["--version"])
    assert os.environ.pop("OMP_WAIT_POLICY") == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_module_and_the_installed_script_are_the_same_program():
    command = [sys.executable, "-m", "hvae_course", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and result.stdout.startswith("usage: hvae")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.scripts]\nhvae = "hvae_course.cli:main"' in project
