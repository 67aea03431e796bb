"""What every class of options shares: types and ranges are checked where an object is made."""

import contextlib
import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from enum import Enum
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def plain(value: Any) -> Any:  # noqa: ANN401
    """Convert a value to types that every file format has.

    Args:
        value: numbers, strings, paths, enumerations, dataclasses, arrays, and containers of them.

    Returns:
        Lists for tuples and arrays, dictionaries for mappings and dataclasses, Python's numbers
        for those of NumPy, strings for paths; the rest as it is.

    Example:
        >>> plain({"levels": (16, 8)})
        {'levels': [16, 8]}
    """
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "tolist"):  # of NumPy or PyTorch
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [*map(plain, value)]
    return str.__str__(value) if isinstance(value, str) else value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Compare the settings of two runs; two runs are the same if nothing differs.

    Args:
        before: settings that were recorded.
        now: settings that are wanted.

    Returns:
        The differences as text, empty if there is none.

    Example:
        >>> differences({"seed": 0, "levels": [16, 8]}, {"seed": 1, "levels": (16, 8)})
        'seed was 0 and is 1'
    """

    def shown(settings: Mapping[str, Any], name: str) -> str:
        return repr(plain(settings[name])) if name in settings else "missing"

    def both(was: str, is_: str) -> str:
        start = max(0, len(os.path.commonprefix([was, is_])) - 100)  # where long texts differ
        return f"was {cut(was, start)} and is {cut(is_, start)}"

    names = (*now, *sorted(before.keys() - now.keys()))
    pairs = [(name, shown(before, name), shown(now, name)) for name in names]
    return ", ".join(f"{name} {both(was, is_)}" for name, was, is_ in pairs if was != is_)


def cut(text: str, start: int = 0, length: int = 400) -> str:
    """Shorten a text for a message.

    Args:
        text: the text.
        start: first character of what is kept.
        length: number of characters that are kept; a text that is no longer stays as it is.

    Returns:
        The text, with dots for what is left out.
    """
    if len(text) <= length:
        return text
    rest = text[start:]
    return f"{'...' * (start > 0)}{rest[:length]}{'...' * (len(rest) > length)}"


def per_level(value: float | Sequence[Any], num_levels: int, name: str) -> tuple[Any, ...]:
    """Give one value per level, bottom to top, from one for all levels or one for each.

    Args:
        value: a number, or one value per level, bottom to top.
        num_levels: L.
        name: what the value is, for the error message.

    Returns:
        L values.

    Raises:
        ValueError: if a sequence does not hold L values.
    """
    if not isinstance(value, Sequence):
        return (value,) * num_levels
    if len(value) != num_levels:
        raise ValueError(
            f"{name} has {len(value)} values for {num_levels} levels; give one number for all "
            "levels, or one per level from z_1 (next to the data) to z_L"
        )
    return tuple(value)


class _Usual(str):
    """A default that follows from other options, so that a copy with others chooses it anew."""


def _stored(value: Any, kind: Any) -> Any:  # noqa: ANN401
    """A value in the form that a field of a type holds, in Python's own numbers and in tuples."""
    origin, inner = get_origin(kind), get_args(kind)
    if hasattr(value, "tolist"):  # of NumPy or PyTorch
        value = value.tolist()
    anything, number = kind is Any, isinstance(value, Real) and not isinstance(value, bool)
    if origin in (Union, UnionType):
        for one in inner:
            with contextlib.suppress(TypeError):
                return _stored(value, one)
    elif isinstance(value, list | tuple | range) and (anything or origin is tuple):
        return tuple(_stored(entry, Any if anything else inner[0]) for entry in value)
    elif number and origin is tuple:
        return (_stored(value, inner[0]),)
    elif isinstance(value, Mapping) and (anything or origin is Mapping):
        return {_stored(name, str): _stored(one, Any) for name, one in value.items()}
    elif number and (kind is int or anything and isinstance(value, Integral)) and value % 1 == 0:
        return int(value)
    elif number and (anything or kind is float):
        return float(value)
    elif isinstance(value, str | os.PathLike) and (anything or kind is str):
        return str.__str__(os.fspath(value))
    elif isinstance(value, bool) and (anything or kind is bool):
        return value
    elif origin is Literal and value in inner:
        return inner[inner.index(value)]
    elif type(value) is kind or anything and value is None:
        return value
    elif isinstance(kind, type) and issubclass(kind, Options) and isinstance(value, kind):
        return value
    raise TypeError


def _kinds(kind: Any) -> list[str]:  # noqa: ANN401
    """The values that a type allows, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ["one of " + ", ".join(map(repr, inner))]
    if origin in (Union, UnionType):
        return [*dict.fromkeys(words for one in inner for words in _kinds(one))]
    if origin is tuple:
        numbers = {int: "a whole number", float: "a number"}.get(inner[0])
        several = f"a sequence of {numbers.removeprefix('a ')}s" if numbers else None
        return [numbers, several] if numbers else ["one sequence per level"]
    if origin is Mapping:
        return ["a mapping from names to numbers, words and sequences of them"]
    names = {int: "a whole number", float: "a number", str: "a word", bool: "True or False"}
    return [names.get(kind, "None")]


def _describe(kind: Any) -> str:  # noqa: ANN401
    """A type in words, for an error message."""
    *others, last = _kinds(kind)
    return f"{', '.join(others)} or {last}" if others else last


class Options:
    """Base of the configuration classes: checks types, then the ranges that a class names."""

    positive = ()
    """Fields whose numbers must be above zero."""
    not_negative = ()
    """Fields whose numbers must be zero or more."""
    shares = ()
    """Fields whose number lies in [0, 1)."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for entry in fields(self):
            value, kind = getattr(self, entry.name), hints[entry.name]
            value = None if isinstance(value, _Usual) else value
            try:
                object.__setattr__(self, entry.name, _stored(value, kind))
            except TypeError:
                if choices := [name for name in _choices(kind) if name is not None]:
                    raise ValueError(
                        f"unknown {entry.name} {value!r}; choose one of {', '.join(choices)}"
                    ) from None
                raise TypeError(f"{entry.name} must be {_describe(kind)}, got {value!r}") from None
        for names, accept, range_ in (
            (self.positive, lambda number: number > 0, "positive"),
            (self.not_negative, lambda number: number >= 0, "zero or more"),
            (self.shares, lambda number: 0 <= number < 1, "at least 0 and below 1"),
        ):
            for name in names:
                value = getattr(self, name)
                if not all(accept(n) and math.isfinite(n) for n in _numbers(value)):
                    raise ValueError(f"{name} must be {range_}, got {value!r}")

    def _choose_usual(self, **usual: str) -> None:
        """Fill in what was left out and follows from other options."""
        for name, value in usual.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, _Usual(value))


def _choices(kind: Any) -> Iterable[str]:  # noqa: ANN401
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    for inner in get_args(kind):
        yield from _choices(inner)


def _numbers(value: Any) -> Iterable[float]:  # noqa: ANN401
    """All numbers in nested tuples; none in None."""
    if isinstance(value, tuple):
        for entry in value:
            yield from _numbers(entry)
    elif value is not None:
        yield value


def make_options(
    kinds: Mapping[str, type[Options]], name: str, given: Mapping[str, Any], *, of: str
) -> Options:
    """Make the settings of a part that is chosen by name.

    Args:
        kinds: settings class of every part.
        name: the chosen part.
        given: its settings.
        of: kind of part, for the message.

    Returns:
        The settings, with the defaults of what was not given.

    Raises:
        ValueError: if the part has no such setting, or a value is wrong.
    """
    known = [entry.name for entry in fields(kinds[name])]
    if unknown := [key for key in given if key not in known]:
        has = f"it has {', '.join(known)}" if known else "it has no options"
        raise ValueError(
            f"{of}_options of the {of} {name!r}: unknown option {unknown[0]!r}; {has}"
        )
    try:
        return kinds[name](**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{of}_options of the {of} {name!r}: {error}") from error


def named_options(kind: type[Options], given: Mapping[str, Any], *, of: str) -> Any:  # noqa: ANN401
    """Make the options of a function that takes them as keywords.

    Args:
        kind: a configuration class.
        given: its options.
        of: name of the function, for the message.

    Returns:
        An object of the class.

    Raises:
        TypeError: if there is no such option.
    """
    known = [entry.name for entry in fields(kind)]
    if unknown := [name for name in given if name not in known]:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {close[0]}? Its options are" if close else "its options are"
        raise TypeError(f"{of} has no option {unknown[0]!r}; {hint} {', '.join(known)}")
    return kind(**given)


def take(kind: Callable[..., Any], settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Make one group of options from a mapping that may hold others too.

    Args:
        kind: a configuration class.
        settings: option to value.

    Returns:
        The group.
    """
    names = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: settings[name] for name in names if name in settings})
