"""Options of a command from the fields of a frozen dataclass, and back.

A field is made with `option`, which keeps the help text beside the default. Its type determines
how the words of the command line are parsed: a tuple takes several words, a mapping
``KEY=VALUE`` pairs.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field, fields
from typing import Any, TypeVar, get_args, get_origin

Settings = TypeVar("Settings")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


def option(
    default: Any,  # noqa: ANN401
    text: str,
    *,
    flag: str | None = None,
    choices: Iterable[str] | None = None,
    shown: str | None = None,
    read: Callable[[str], Any] | None = None,
) -> Any:  # noqa: ANN401
    """Make a dataclass field that becomes an option.

    Args:
        default: value if the option is not given; an empty dictionary for pairs.
        text: one line of help.
        flag: the option's name; by default that of the field.
        choices: accepted words.
        shown: text for the default in the help; by default its value.
        read: parser of one of several words; by default the field's type.

    Returns:
        The field of a dataclass.
    """
    metadata = {"help": text, "flag": flag, "choices": choices, "shown": shown}
    metadata["read"] = read
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def parse_pair(word: str) -> tuple[str, Any]:
    """Parse a setting of a component, such as a prior.

    Args:
        word: ``KEY=VALUE``.

    Returns:
        The key and its value: a number, a Boolean, None, a JSON list, or else a string.

    Raises:
        argparse.ArgumentTypeError: if there is no key or no equals sign.

    Example:
        >>> parse_pair("num_components=500"), parse_pair("start=random")
        (('num_components', 500), ('start', 'random'))
    """
    key, equals, value = word.partition("=")
    if not (key.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {word!r}")
    if value.lower() in _WORDS:
        return key, _WORDS[value.lower()]
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def parse_widths(word: str) -> int | tuple[int, ...]:
    """Parse a width, or the widths of one level.

    Args:
        word: an integer, or several separated by commas.

    Returns:
        The integer or integers; ``"512,"`` is one level with one hidden layer.

    Raises:
        argparse.ArgumentTypeError: if a part is not an integer.

    Example:
        >>> parse_widths("256"), parse_widths("512,512"), parse_widths("64,")
        (256, (512, 512), (64,))
    """
    parts = [part for part in word.split(",") if part]
    if not parts or not all(part.lstrip("-").isdigit() for part in parts):
        raise argparse.ArgumentTypeError(
            f"expected a width such as 256, or those of one level such as 512,512, got {word!r}"
        )
    return tuple(map(int, parts)) if "," in word else int(word)


def _read_as(entry: Field) -> dict[str, Any]:
    """Arguments with which argparse parses one field."""
    if entry.metadata["read"]:
        return {"type": entry.metadata["read"], "nargs": "+", "metavar": "N[,N...]"}
    kind = entry.type
    alternatives = [a for a in get_args(kind) if a is not type(None)]
    if type(None) in get_args(kind):
        (kind,) = alternatives
    if kind is bool:
        return {"action": "store_true"}
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return {"type": item, "nargs": "+", "metavar": {int: "N", float: "X"}[item]}
    if get_origin(kind) is Mapping:
        return {"type": parse_pair, "nargs": "+", "metavar": "KEY=VALUE"}
    metavar = {int: "N", float: "X"}.get(kind, entry.name.split("_")[-1].upper())
    return {"type": kind, "metavar": metavar}


def _show(value: Any) -> str:  # noqa: ANN401
    """A default as it would be typed."""
    if value is None or value == {} or value == ():
        return "none"
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"


def flag_of(entry: Field) -> str:
    """Name the option that sets a field.

    Args:
        entry: a field made by `option`.

    Returns:
        Its name on the command line, as ``--batch-size``.
    """
    return entry.metadata["flag"] or "--" + entry.name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add one option to a parser for every field of a settings class.

    Args:
        parser: the parser, changed in place.
        kind: a dataclass whose fields are made by `option`; the first line of its docstring is
            the title of the options in the help.
    """
    group = parser.add_argument_group((kind.__doc__ or kind.__name__).splitlines()[0].rstrip("."))
    defaults = kind()
    for entry in fields(kind):
        about, value, how = entry.metadata, getattr(defaults, entry.name), _read_as(entry)
        text = about["help"].replace("%", "%%")
        if "action" not in how:
            text += f" (default: {about['shown'] or _show(value)})"
        if about["choices"]:
            how |= {"choices": tuple(about["choices"])}
            del how["metavar"]
        group.add_argument(flag_of(entry), dest=entry.name, default=value, help=text, **how)


def read_options(given: argparse.Namespace, kind: type[Settings]) -> Settings:
    """Make settings from parsed options.

    Args:
        given: result of a parser with the options of this class.
        kind: the settings class.

    Returns:
        The settings, lists as tuples and pairs as a dictionary.
    """
    values = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        value = getattr(given, entry.name)
        if isinstance(value, list):
            value = dict(value) if get_origin(entry.type) is Mapping else tuple(value)
        values[entry.name] = value
    return kind(**values)
