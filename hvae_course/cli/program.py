"""Parse a command line and run its command."""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from hvae_course.cli.errors import UsageError
from hvae_course.cli.listing import list_command
from hvae_course.cli.machine import MachineSettings
from hvae_course.cli.options import add_options, read_options
from hvae_course.cli.runs import RunSettings, train
from hvae_course.cli.settings import (
    DataSettings,
    ModelSettings,
    ObjectiveSettings,
    TrainingSettings,
)
from hvae_course.cli.trained import (
    DiagnoseSettings,
    EvaluateSettings,
    SampleSettings,
    SourceSettings,
    diagnose_command,
    evaluate_command,
    sample_command,
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand."""

    run: Callable[..., int]
    """The function that carries it out; returns the exit status."""
    about: str
    """One line of help."""
    target: tuple[str, str] | None = None
    """Name and help of its one positional argument."""
    settings: Mapping[str, type] = field(default_factory=dict)
    """Groups of options, by the name of the argument they are passed as."""


_MODEL = ("MODEL", "folder of a run, checkpoint, or trained model of the course")
COMMANDS: dict[str, Command] = {
    "train": Command(
        run=train,
        about="train a model, or resume an interrupted run",
        target=("RECIPE", "how the latents are inferred; hvae list shows all recipes"),
        settings={
            "data": DataSettings,
            "model": ModelSettings,
            "objective": ObjectiveSettings,
            "training": TrainingSettings,
            "machine": MachineSettings,
            "run": RunSettings,
        },
    ),
    "evaluate": Command(
        run=evaluate_command,
        about="bounds on log p(x) of a trained model",
        target=_MODEL,
        settings={"evaluation": EvaluateSettings, "source": SourceSettings},
    ),
    "sample": Command(
        run=sample_command,
        about="draw images from a trained model",
        target=_MODEL,
        settings={"samples": SampleSettings},
    ),
    "diagnose": Command(
        run=diagnose_command,
        about="information and usage of every level of a trained model",
        target=_MODEL,
        settings={"diagnosis": DiagnoseSettings, "source": SourceSettings},
    ),
    "list": Command(run=list_command, about="recipes, data, priors, likelihoods, objectives"),
}
"""The subcommands by name.

:meta hide-value:
"""


class _Parser(argparse.ArgumentParser):
    """A parser that prints one-line errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Make the parser of all commands.

    Returns:
        The parser, and the parser of every command by name.
    """
    parser = _Parser(prog="hvae", description="Hierarchical variational autoencoders.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {}
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name, help=command.about, description=command.about, allow_abbrev=False
        )
        if command.target:
            one.add_argument("target", metavar=command.target[0], help=command.target[1])
        for kind in command.settings.values():
            add_options(one, kind)
        parsers[name] = one
    return parser, parsers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; by default those of the command line.

    Returns:
        0 for success, 1 for a failure while running, 130 after an interruption.

    Raises:
        SystemExit: with status 2 and a one-line message if the command line is wrong, with
            status 0 after ``--help``.

    Example:
        >>> main(["sample", "digits", "--count", "0"])
        Traceback (most recent call last):
        SystemExit: 2
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, parsers = _make_parser()
    given = parser.parse_args(words)
    command = COMMANDS[given.command]
    settings = {name: read_options(given, kind) for name, kind in command.settings.items()}
    target = [given.target] if command.target else []
    typed = shlex.join(["hvae", *words])
    try:
        return command.run(*target, **settings, command=typed)
    except UsageError as error:
        parsers[given.command].error(str(error))
    except (FloatingPointError, OSError) as error:
        print(f"hvae {given.command}: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
