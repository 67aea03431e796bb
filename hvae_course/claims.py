"""Statements about results, each with an identifier and what it asserts.

A notebook computes a result and then calls `claim`: the identifier names the statement, the
statement says what a reader should believe, and the conditions say what is asserted. A number is
asserted to the precision it is written with:

    claim("first-step", "z_1 starts with 9.3 nats, z_2 with 1.3", {"9.3": born[0], "1.3": born[1]})

A condition is either a truth value or a table from thresholds to computed values. Thresholds are
``"9.3"`` (the value rounds to it; ``"0"`` is exactly zero), ``"9.3 ± 0.4"`` (a wider tolerance,
which the book shows), or a limit, ``"< 0.2"``, ``"<= 0.2"``, ``"> 4"``, ``">= 4"``. Where several
values stand beside one threshold, all of them must meet it. `read` finds the claims of a notebook
without running it, for the page that lists them and for the tests that hold the pages to them.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

Condition = bool | Mapping[str, Any]
"""A truth value, or computed values by threshold."""

_NUMBER = r"[-\u2212]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_THRESHOLD = re.compile(
    rf"(?P<limit><=|>=|<|>)?\s*(?P<number>{_NUMBER})\s*(?:±\s*(?P<tolerance>{_NUMBER}))?"
)


def _slack(number: float, tolerance: float) -> float:
    """Slack for values that lie on the edge of a threshold in decimal, not in binary."""
    return 1e-9 * (max(abs(number), tolerance) or 1.0)


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))


def last_place(text: str) -> float:
    """Size of one unit in the last place of a number as it is printed.

    Args:
        text: a number, such as ``"9.30"`` or ``"1,200"``.

    Returns:
        0.01 or 1 for these two.

    Example:
        >>> last_place("9.3")
        0.1
    """
    mantissa, _, exponent = text.lower().partition("e")
    return float(f"1e{int(exponent or 0) - len(mantissa.partition('.')[2])}")


@dataclass(frozen=True)
class Threshold:
    """What a computed value is held to.

    Args:
        text: the threshold as it is written, see the module's description.

    Raises:
        ValueError: if the text is not a threshold.
    """

    text: str

    def __post_init__(self) -> None:
        match = _THRESHOLD.fullmatch(self.text.strip())
        if match is None or (match["limit"] and match["tolerance"]):
            raise ValueError(
                f"{self.text!r} is not a threshold; write '9.3' for a value that rounds to it, "
                "'9.3 ± 0.4' for a wider tolerance, or a limit such as '< 0.2'"
            )

    @property
    def _match(self) -> re.Match[str]:
        return _THRESHOLD.fullmatch(self.text.strip())

    @property
    def limit(self) -> str | None:
        """The sign of a limit, such as ``"<"``; None for a number with a tolerance."""
        return self._match["limit"]

    @property
    def number(self) -> float:
        """The number itself."""
        return _value(self._match["number"])

    @property
    def tolerance(self) -> float:
        """Largest distance from the number that is accepted; zero for a limit."""
        if self.limit:
            return 0.0
        number, stated = self._match["number"], self._match["tolerance"]
        if stated:
            return abs(_value(stated))
        return 0.0 if number == "0" else 0.5 * last_place(number)

    def holds(self, value: Any) -> bool:  # noqa: ANN401
        """Compare computed values with the threshold.

        Args:
            value: a number, or an array, tensor, series or list of them.

        Returns:
            Whether every one of them meets it; not a number meets none.

        Raises:
            ValueError: if there is no value.
        """
        values = _numbers(value)
        if values.size == 0:
            raise ValueError(f"no value was computed for the threshold {self.text!r}")
        slack = _slack(self.number, self.tolerance)
        comparisons = {
            "<": values < self.number,
            "<=": values <= self.number + slack,
            ">": values > self.number,
            ">=": values >= self.number - slack,
            None: np.abs(values - self.number) <= self.tolerance + slack,
        }
        return bool(comparisons[self.limit].all())

    def asserts(self, printed: str) -> bool:
        """Tell whether a number printed on a page is what this threshold asserts.

        Args:
            printed: the number as the page prints it.

        Returns:
            For a limit, whether it is the limit itself. Otherwise whether the threshold is at
            least as precise as the print, or states its tolerance, and the two agree.
        """
        number, half = _value(printed), 0.5 * last_place(printed)
        slack = _slack(number, half)
        if self.limit:
            return abs(number - self.number) <= _slack(number, 0)
        stated = self._match["tolerance"] is not None
        if not stated and self.tolerance > half + slack:
            return False
        return abs(number - self.number) <= (self.tolerance if stated else half) + slack


def _numbers(value: Any) -> np.ndarray:  # noqa: ANN401
    if isinstance(value, Tensor):
        value = value.detach().cpu()
    elif isinstance(value, list | tuple):
        value = np.concatenate([_numbers(v) for v in value]) if value else []
    return np.asarray(value, dtype=float).ravel()


class ClaimError(AssertionError):
    """A statement of the book that the computed values contradict."""


_record: dict[str, bool] = {}
_enforced = [True]


def enforce(enforced: bool) -> None:
    """Say whether a claim that does not hold stops the notebook; it does by default.

    Args:
        enforced: False to report only, on data that the book does not speak of.
    """
    _enforced[0] = enforced


def _failure(condition: Condition) -> str | None:
    """What contradicts a condition, or None."""
    if isinstance(condition, Mapping) and condition:
        for text, value in condition.items():
            if not Threshold(text).holds(value):
                shown = ", ".join(f"{v:.6g}" for v in _numbers(value)[:6])
                return f"expected {text}, computed {shown}"
        return None
    array = np.asarray(condition.cpu() if isinstance(condition, Tensor) else condition)
    if array.dtype != bool or array.size != 1:
        raise TypeError(
            "a condition is a truth value or a table such as {'9.3': value}, got "
            f"{condition!r}; a number alone asserts nothing"
        )
    return None if array.item() else "the condition is false"


def claim(identifier: str, statement: str, *conditions: Condition) -> None:
    """Assert a statement about a result, record it and print it.

    Args:
        identifier: the statement's name, unique in the book, by which its pages refer to it.
        statement: what holds, one line.
        *conditions: all must hold; a truth value, or a table from thresholds to values.

    Raises:
        ClaimError: if a condition does not hold and claims are enforced.
        TypeError: if there is no condition, or one asserts nothing.
    """
    if not conditions:
        raise TypeError(f"claim {identifier!r} has no condition: say what must hold")
    failures = [f for f in map(_failure, conditions) if f is not None]
    _record[identifier] = not failures
    if failures and _enforced[0]:
        raise ClaimError(f"no longer true ({identifier}): {statement}: {'; '.join(failures)}")
    print("not so here: " if failures else "true: ", statement)


def summary() -> str:
    """Count the claims made so far, and name those that do not hold.

    Returns:
        One line.
    """
    failed = [name for name, holds in _record.items() if not holds]
    rest = f"; not so here: {', '.join(failed)}" if failed else ""
    return f"{len(_record) - len(failed)} of {len(_record)} claims hold{rest}"


@dataclass(frozen=True)
class Claim:
    """A claim as it stands in a notebook."""

    identifier: str
    statement: str
    conditions: tuple[tuple[str, str | None], ...]
    """What is compared, as source, with its threshold; None for a truth value."""
    cell: int
    """Number of the cell, from 0."""

    @property
    def thresholds(self) -> list[Threshold]:
        """All thresholds of the claim."""
        return [Threshold(text) for _, text in self.conditions if text is not None]


def _text(node: ast.expr, what: str) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ValueError(
            f"the {what} of a claim is written out, so that it can be read without running the "
            f"notebook, got {ast.unparse(node)}"
        )
    return node.value


def _read_call(node: ast.Call, cell: int) -> Claim:
    identifier, statement, *conditions = node.args
    pairs: list[tuple[str, str | None]] = []
    for condition in conditions:
        if isinstance(condition, ast.Dict):
            if len({ast.unparse(key) for key in condition.keys if key}) < len(condition.keys):
                raise ValueError(f"a table has a threshold twice: {ast.unparse(condition)}")
            for key, value in zip(condition.keys, condition.values, strict=True):
                pairs.append((ast.unparse(value), _text(key, "threshold")))
        else:
            pairs.append((ast.unparse(condition), None))
    name, says = _text(identifier, "identifier"), _text(statement, "statement")
    return Claim(name, says, tuple(pairs), cell)


def _calls(source: str) -> Iterator[ast.Call]:
    lines = ["" if line.lstrip()[:1] in ("%", "!") else line for line in source.split("\n")]
    for node in ast.walk(ast.parse("\n".join(lines))):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id == "claim":
            yield node


def read(notebook: str | Path) -> list[Claim]:
    """Find the claims of a notebook without running it.

    Args:
        notebook: the file.

    Returns:
        Its claims, in the order of the cells.

    Raises:
        ValueError: if an identifier, a statement or a threshold is not written out, or if an
            identifier is used twice.
    """
    claims: dict[str, Claim] = {}
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "claim(" not in source:
            continue
        for call in sorted(_calls(source), key=lambda call: call.lineno):
            found = _read_call(call, number)
            if found.identifier in claims:
                raise ValueError(f"{notebook}: two claims are named {found.identifier!r}")
            _ = found.thresholds  # refuses what is not one
            claims[found.identifier] = found
    return list(claims.values())
