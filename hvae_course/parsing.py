"""How the words of a command line become a command: its options and their values.

A command is a dataclass whose fields are its options. What cannot be read is refused in one line.
This module imports neither PyTorch nor NumPy.
"""

import contextlib
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import tyro

from hvae_course import config


class UsageError(Exception):
    """A wrong setting; the user reads the message in one line, and the exit status is 2."""


_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


def parse_pair(word: str) -> tuple[str, Any]:
    """Parse an option of a component, such as a prior.

    Args:
        word: ``KEY=VALUE``.

    Returns:
        The key and its value: a number, a Boolean, None, a JSON list, or else a string.

    Raises:
        ValueError: if there is no key or no equals sign.

    Example:
        >>> parse_pair("num_components=500"), parse_pair("start=random")
        (('num_components', 500), ('start', 'random'))
    """
    key, equals, value = word.partition("=")
    if not (key.isidentifier() and equals):
        raise ValueError(f"expected KEY=VALUE, got {word!r}")
    if value.lower() in _WORDS:
        return key, _WORDS[value.lower()]
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def parse_pairs(words: Sequence[str]) -> dict[str, Any]:
    """Parse the options of a component.

    Args:
        words: each ``KEY=VALUE``.

    Returns:
        Option to value.

    Raises:
        ValueError: if a key is given twice.
    """
    pairs = [parse_pair(word) for word in words]
    if twice := _twice([key for key, _ in pairs]):
        raise ValueError(f"{twice} is given twice; give it once")
    return dict(pairs)


def parse_widths(words: Sequence[str]) -> config.Widths:
    """Parse the widths of hidden layers.

    Args:
        words: integers, or one word per level of integers separated by commas.

    Returns:
        The integers, or one tuple per level; ``"512,"`` is one level with one hidden layer.

    Raises:
        ValueError: if a part is not an integer, or only some words have commas.

    Example:
        >>> parse_widths(["256"]), parse_widths(["512,512", "64,"])
        ((256,), ((512, 512), (64,)))
    """
    levels = []
    for word in words:
        parts = [part for part in word.split(",") if part]
        if not parts or not all(part.lstrip("-").isdigit() for part in parts):
            raise ValueError(
                "expected a width such as 256, or those of one level such as 512,512, got "
                f"{word!r}"
            )
        levels.append(tuple(map(int, parts)) if "," in word else int(parts[0]))
    if len(set(map(type, levels))) > 1:
        raise ValueError(
            "expected a comma in every word or in none, as in 512,512 256, for two levels, got "
            f"{' '.join(words)!r}"
        )
    return tuple(levels)


def _registry() -> tyro.constructors.ConstructorRegistry:
    """How pairs and widths are read and shown."""
    registry = tyro.constructors.ConstructorRegistry()
    spec = tyro.constructors.PrimitiveConstructorSpec

    @registry.primitive_rule
    def pairs(info: tyro.constructors.PrimitiveTypeInfo) -> Any:  # noqa: ANN401
        if get_origin(info.type) is not Mapping:
            return None
        return spec(
            nargs="*",
            metavar="KEY=VALUE",
            instance_from_str=parse_pairs,
            is_instance=lambda value: isinstance(value, Mapping),
            str_from_instance=lambda value: [f"{k}={json.dumps(v)}" for k, v in value.items()],
        )

    @registry.primitive_rule
    def widths(info: tyro.constructors.PrimitiveTypeInfo) -> Any:  # noqa: ANN401
        kinds = set(get_args(info.type)) - {type(None)}
        if kinds != set(get_args(config.Widths)):
            return None
        return spec(
            nargs="*",
            metavar="N[,N...]",
            instance_from_str=lambda words: None if words == ["None"] else parse_widths(words),
            is_instance=lambda value: value is None or isinstance(value, tuple),
            str_from_instance=lambda value: ["None"]
            if value is None
            else [",".join(map(str, e)) + "," if isinstance(e, tuple) else str(e) for e in value],
        )

    @registry.primitive_rule
    def numbers(info: tyro.constructors.PrimitiveTypeInfo) -> Any:  # noqa: ANN401
        kinds = [info.type, *get_args(info.type)]
        kinds = [get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple]
        if len(kinds) != 1 or kinds[0] not in (int, float):
            return None
        optional = get_origin(info.type) is not tuple

        def parse_numbers(words: Sequence[str]) -> tuple[float, ...]:
            if optional and not words:
                raise ValueError("expected one number or more")
            try:
                return tuple(map(kinds[0], words))
            except ValueError:
                whole = (
                    "whole numbers, such as 16 8" if kinds[0] is int else "numbers, such as 1 2"
                )
                raise ValueError(f"expected {whole}, got {' '.join(words)!r}") from None

        letter = "N" if kinds[0] is int else "X"
        return spec(
            nargs="*",
            metavar=f"{letter} [{letter} ...]",
            instance_from_str=parse_numbers,
            is_instance=lambda value: value is None or isinstance(value, tuple),
            str_from_instance=lambda value: ["None"] if value is None else [*map(str, value)],
        )

    return registry


_INSTEAD = {
    "conv_ladder": "ladder --networks convolutional --networks-options shared_features=false",
    "two_level": "bottom_up",
    "vae": "bottom_up --latent-sizes 16",
}
"""The words for functions of `hvae_course.recipes` that are no recipes of their own."""
_ABOUT = "Hierarchical VAEs. Options: hvae COMMAND --help. Version: hvae --version."
_STYLE = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.FlagCreatePairsOff,
)


def _one_line(box: str) -> str:
    """The message of an error box in one line, without its frame, its title and its help."""
    lines = [line.strip(" │") for line in box.splitlines()[1:]]  # framed by dashes without UTF-8
    parts = [" ".join(part.split()) for part in re.split("[╰╯─-]{9,}", " ".join(lines))]
    text, *rest = filter(None, parts)
    text = re.sub(r"^Error parsing (?!--)[\w.]+: ", "", text)
    text = re.sub(r"^Missing from hvae( \w+)?:", "missing", text)
    text = re.sub(r"^(missing (RECIPE|MODEL)) .*", r"\1", text)
    hint = re.match(r"Perhaps you meant: \S+|Available subcommands: .*", rest[0] if rest else "")
    text = f"{text}; {hint[0].lower()}" if hint else text
    text = text.replace("argument 'model.recipe'", "RECIPE")
    named = re.match(r"invalid choice '(\w+)' for RECIPE", text)
    instead = named and _INSTEAD.get(named[1].removesuffix("_vae"))
    return f"{text.rstrip('.')}; perhaps you meant: {instead}" if instead else text


_EARLIER = {
    "--levels": "--latent-sizes",
    "--draws": "--num-samples",
    "--samples": "--num-samples",
    "--examples": "--max-examples",
    "--compile": "--compiled",
}
"""Earlier names of options, in the commands of stored results."""


def _twice(names: Sequence[str]) -> str | None:
    """The first name that occurs more than once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


def parse(words: Sequence[str], commands: Mapping[str, type]) -> Any:  # noqa: ANN401
    """Make the chosen command from the words of the command line.

    Args:
        words: the words after the program's name.
        commands: the class of every subcommand, by name.

    Returns:
        An object of the chosen class.

    Raises:
        UsageError: if the words are wrong.
        SystemExit: after ``--help``, with status 0.
    """
    parts = [word.partition("=") for word in words]
    parts = [(_EARLIER.get(name, name), equals + value) for name, equals, value in parts]
    options = [name.replace("_", "-") for name, _ in parts if name.startswith("--")]
    if twice := _twice(options):
        raise UsageError(f"{twice} is given twice; give it once")
    words = [name + value for name, value in parts]
    for before, word in zip(["", *words], words, strict=False):
        if word == "" or (word.startswith("--") and word.endswith("=")):
            named = (word or before).removesuffix("=")
            raise UsageError(f"the value after {named!r} is empty; give one, or leave it out")
    if words[:1] == ["train"]:
        recipes = {f"{name}_vae": name for name in get_args(config.Recipe)}
        words = [recipes.get(word, word) for word in words]
    name = words[0] if words else "--help"
    if name in commands:
        kind, prog, words = commands[name], f"hvae {name}", words[1:]
    else:
        named = (
            Annotated[command, tyro.conf.subcommand(name=key)] for key, command in commands.items()
        )
        kind, prog = Union[tuple(named)], "hvae"  # noqa: UP007
    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            return tyro.cli(
                kind,
                prog=prog,
                description=_ABOUT if prog == "hvae" else None,
                args=words,
                config=_STYLE,
                registry=_registry(),
            )
    except SystemExit as end:
        if end.code == 2:
            raise UsageError(_one_line(caught.getvalue())) from end
        raise
