"""The command line: its options are the settings of the package, and its lists are complete."""

import argparse
import inspect
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pytest

import hvae_course
from hvae_course import fit
from hvae_course.cli import listing, main, program, settings
from hvae_course.cli.options import add_options, option, parse_pair, parse_widths, read_options
from hvae_course.cli.program import COMMANDS
from hvae_course.data import NAMES
from hvae_course.objectives import FreeBits, WarmUp, elbo, importance_weighted
from hvae_course.pretrained import PRETRAINED
from hvae_course.recipes import LIKELIHOODS, PRIORS, RECIPES, Architecture

ROOT = Path(hvae_course.__file__).parents[1]
NOT_OPTIONS = {"model", "data", "objective", "checkpoint", "accelerator", "progress"}


# Options


def test_the_training_options_are_the_arguments_of_fit():
    arguments = inspect.signature(fit).parameters.values()
    expected = {p.name: p.default for p in arguments if p.name not in NOT_OPTIONS}
    found = asdict(settings.TrainingSettings())
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    assert not missing, f"give cli.settings.TrainingSettings one option for each of {missing}"
    assert not unknown, f"fit has no argument {unknown}"
    assert found == expected


def test_the_model_options_are_the_fields_of_the_architecture():
    expected, found = asdict(Architecture()), asdict(settings.ModelSettings())
    left_to_the_recipe = {"normalisation": "batch", "activation": "silu"}
    assert found.keys() - {"recipe_options"} == expected.keys()
    assert expected == {name: found[name] for name in expected} | left_to_the_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_without_options_a_recipe_has_its_own_defaults(name):
    spec = hvae_course.data.DataSpec(4, 2)
    arguments = settings.ModelSettings().arguments(name)
    assert RECIPES[name](spec, **arguments).config == RECIPES[name](spec).config


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_found_by_its_full_and_its_short_name(name):
    assert settings.find_recipe(name) == name
    assert settings.find_recipe(name.removesuffix("_vae")) == name


def test_options_of_one_recipe_reach_it():
    model = settings.ModelSettings(recipe_options={"merge_top": True})
    assert model.arguments("ladder_vae")["merge_top"] is True


def test_the_commands_of_the_readme_are_accepted():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for line in readme.splitlines() if line.startswith("hvae ")]
    given = [
        program._make_parser()[0].parse_args(shlex.split(l, comments=True)[1:]) for l in lines
    ]
    assert {one.command for one in given} == COMMANDS.keys()


@dataclass(frozen=True)
class Example:
    """An example.

    Not shown.
    """

    count: int = option(3, "100 % of it")
    rate: float | None = option(None, "how fast", shown="the usual rate")
    sizes: tuple[int, ...] = option((4, 2), "widths", flag="--widths")
    parts: Mapping[str, object] = option({}, "parts")
    word: str = option("a", "a word", choices=("a", "b"))
    loud: bool = option(False, "make noise")


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_options(parser, Example)
    return parser


def test_without_options_settings_have_their_defaults(parser):
    assert read_options(parser.parse_args([]), Example) == Example()


def test_options_are_read_by_the_type_of_their_field(parser):
    words = "--count 5 --rate 0.5 --widths 3 2 1 --parts a=1 b=x c=true d=[2] --word b --loud"
    found = read_options(parser.parse_args(words.split()), Example)
    parts = {"a": 1, "b": "x", "c": True, "d": [2]}
    assert found == Example(5, 0.5, (3, 2, 1), parts, "b", True)


def test_the_help_has_every_option_with_its_default(parser):
    text = " ".join(parser.format_help().split())
    assert "An example:" in text and "Not shown" not in text
    assert "100 % of it (default: 3)" in text and "how fast (default: the usual rate)" in text
    assert "--widths" in text and "(default: 4 2)" in text and "parts (default: none)" in text


@pytest.mark.parametrize("word", ["num", "=3", "a b=3"])
def test_a_pair_without_key_or_equals_sign_is_refused(word):
    with pytest.raises(argparse.ArgumentTypeError, match="expected KEY=VALUE, got"):
        parse_pair(word)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_its_defaults(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    number = sum(
        e.type is not bool for kind in COMMANDS[name].settings.values() for e in fields(kind)
    )
    assert text.count("(default: ") == number


# What there is


def test_the_list_has_one_line_for_everything_there_is(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    known = [*(name.removesuffix("_vae") for name in RECIPES), *NAMES, *PRIORS, *LIKELIHOODS]
    for name in (*known, *settings.OBJECTIVES, *PRETRAINED):
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in lines), name
    assert not any(":eq:" in line for line in lines)


def test_every_data_set_is_described():
    assert set(listing.DATA_SETS) == set(NAMES)


def test_the_module_and_the_installed_script_are_the_same_program():
    result = subprocess.run(
        [sys.executable, "-m", "hvae_course", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0 and result.stdout.startswith("usage: hvae")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.scripts]\nhvae = "hvae_course.cli:main"' in project


@pytest.mark.parametrize(
    ("words", "widths"),
    [
        ("256", (256,)),
        ("256 128", (256, 128)),
        ("512,512 256, 8,9,10", ((512, 512), (256,), (8, 9, 10))),
    ],
)
def test_widths_are_those_of_all_levels_or_of_each(words, widths):
    parser = argparse.ArgumentParser()
    add_options(parser, settings.ModelSettings)
    given = parser.parse_args(["--hidden", *words.split(), "--inference-hidden", *words.split()])
    found = read_options(given, settings.ModelSettings)
    assert found.hidden == found.inference_hidden == widths


@pytest.mark.parametrize("word", ["", ",", "wide", "256,wide", "25.6"])
def test_a_word_that_is_no_width_is_refused(word):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a width such as 256, or those"):
        parse_widths(word)


# Objectives


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, elbo),
        ({"objective": "iwae"}, importance_weighted),
        ({"warm_up": (5,)}, WarmUp(5)),
        ({"free_bits": (0.5, 0.25)}, FreeBits((0.5, 0.25))),
        ({"warm_up": (5, 9), "free_bits": (0.5,)}, WarmUp((5, 9), FreeBits(0.5))),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_objectives_are_those_of_the_package(given, expected):
    assert settings.ObjectiveSettings(**given).make() == expected
