"""Which numbers a page prints, and which of them its claims assert.

Used by the tests. A page is read as text: the values that it quotes from notebooks are put in
their places, mathematics, code and tables are left out, and what remains is cut into sentences.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hvae_course.claims import Claim

_GLUE = re.compile(r"\{glue:text\}`(?P<path>[^`:]+)::(?P<name>\w+)(?::(?P<format>[^`]+))?`")
_MARK = re.compile(r"\{claim\}`(?P<names>[^`]+)`")
_FENCE = re.compile(r"\s*(?P<fence>`{3,}|:{3,})(?P<info>.*)")
_BOX = re.compile(
    r"\{(?:admonition|exercise|solution|note|tip|hint|warning|caution|important|seealso|dropdown"
    r"|margin|sidebar|prf:\w+)\}"
)
_DISPLAY = re.compile(r"\$\$.*?\$\$(?: *\([\w-]+\))?", re.S)
_END = re.compile(
    r"(?<!\bcf)(?<!\bFig)(?<!\bEq)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bSec)"
    r"[.!?][\"'”*_)\]]*\s+(?=[^\s,;a-z])"
)
"""End of a sentence; an abbreviation does not end one."""
_NUMBER = r"(?:(?<![\d\-\u2212])[-\u2212])?\d+(?:,\d{3})*(?:\.\d+)?"
_JOINED = r"\s*(?:,|--|[-\u2013\u00b1]|,?\s(?:to|and|or)\b)\s*"
"""Stands between numbers that share a unit, as in "4 to 5 nats" and "5, 6 and 7 nats"."""
_LITERAL = re.compile(
    rf"(?<![\w.\-\u2212/])(?P<numbers>{_NUMBER}(?:{_JOINED}{_NUMBER})*)"
    r"(?=[\s*\-]*(?:nats?\b|%|per cent\b|percent\b|times\b|degrees?\b|°))"
)
_OTHER = "\u2026"
"""Stands for mathematics, code and references."""
_OTHER_LINE = re.compile(r"\s*(?:\||#|:\w+:|\([\w-]+\)=)")
"""A row of a table, a title, an option or a label."""
_QUOTED = re.compile(r"\x02(?P<key>[^\x02\x03]+)\x03")


@dataclass
class Sentence:
    """A sentence of a page, with the claims that it names."""

    text: str
    """Without mathematics and code."""
    marks: list[str] = field(default_factory=list)
    """Identifiers of the claims."""
    quoted: list[tuple[Path, str, str]] = field(default_factory=list)
    """Notebook, name and print of the numbers that a notebook computed."""
    literal: list[str] = field(default_factory=list)
    """Numbers with a unit that are written out."""


@cache
def _outputs(notebook: Path) -> dict[str, str]:
    """Values that a notebook shows under a name."""
    values = {}
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                values[name] = "".join(output["data"]["text/plain"])
    return values


def printed(notebook: Path, name: str, form: str | None) -> str:
    """Print a value as the page does.

    Args:
        notebook: the file that computed it.
        name: the name it is shown under.
        form: format specification of the page.

    Returns:
        What a reader sees.
    """
    text = _outputs(notebook)[name]
    if form is None:
        return text.strip("'\"")
    value = int(text) if form.endswith("d") else float(text)
    return format(value, form)


@cache
def settings(notebook: Path) -> set[str]:
    """Names of the values that a notebook shows as settings, not as results.

    Args:
        notebook: the file.

    Returns:
        Keys of the dictionary ``settings`` in its cell of results.
    """
    names: set[str] = set()
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if "results" not in cell["metadata"].get("tags", []):
            continue
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id == "settings"
                and isinstance(node.value, ast.Dict)
            ):
                names |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
    return names


def _unfenced(text: str) -> Iterator[str]:
    """Lines of a page without code, figures and tables; boxes of prose stay."""
    boxes: list[str] = []
    skipped = None
    for line in text.split("\n"):
        match = _FENCE.fullmatch(line)
        if match is None:
            yield "" if skipped else line
            continue
        yield ""
        fence, info = match["fence"], match["info"].strip()
        if skipped:
            skipped = None if not info and fence.startswith(skipped) else skipped
        elif _BOX.match(info):
            boxes.append(fence)
        elif boxes and not info and fence.startswith(boxes[-1]):
            boxes.pop()
        else:
            skipped = fence


def _paragraphs(text: str) -> Iterator[str]:
    """Prose of a page, paragraph by paragraph; list items are paragraphs."""
    text = _DISPLAY.sub("\n\n", "\n".join(_unfenced(text)))
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", text):
        lines = [line for line in block.split("\n") if not _OTHER_LINE.match(line)]
        if lines:
            yield " ".join(lines)


def before_exercises(page: Path) -> str:
    """Read what a student has to read of a page.

    Args:
        page: the Markdown file.

    Returns:
        Its text up to the exercises.
    """
    return page.read_text("utf-8").split("\n## Exercises\n", 1)[0]


def sentences(page: Path, text: str | None = None) -> list[Sentence]:
    """Cut the prose of a page into sentences.

    Args:
        page: the Markdown file.
        text: the part of it that is wanted; all of it if not given.

    Returns:
        Its sentences, those with a mark ending at it.
    """
    found = []
    for paragraph in _paragraphs(page.read_text("utf-8") if text is None else text):
        text = _GLUE.sub(
            lambda m: f"\x02{m['path']}::{m['name']}:{m['format'] or ''}\x03", paragraph
        )
        if "{glue" in text:
            raise ValueError(f"{page.name}: a quoted value is not read: {text[:90]}")
        text = re.sub(rf"\$({_NUMBER})(?:\\(%))?\$", r"\1\2", text)
        text = _MARK.sub(lambda m: f"\x01{m['names']}\x01 ", text)
        text = re.sub(r"\$[^$]+\$|\{[\w:]+\}`[^`]*`|`[^`]*`", _OTHER, text)
        text = re.sub(r"\]\([^)]*\)", "]", text)
        # a full stop right before a mark belongs to the sentence of the mark
        text = re.sub(r"([.!?:;,][\"'”*_)]*)\s*((?:\x01[^\x01]+\x01\s+)+)", r" \2\1 ", text)
        for part in re.split(_END, text):
            rest, marks = part, []
            for match in re.finditer(r"\x01([^\x01]+)\x01", part):
                marks += re.split(r"\s*,\s*", match[1].strip())
            rest = re.sub(r"\x01[^\x01]+\x01", " ", rest)
            sentence = Sentence(rest.strip(), marks)
            for match in _QUOTED.finditer(rest):
                path, _, name_form = match["key"].partition("::")
                name, _, form = name_form.partition(":")
                notebook = (page.parent / path).resolve()
                shown = printed(notebook, name, form or None)
                sentence.quoted.append((notebook, name, shown))
            for match in _LITERAL.finditer(_QUOTED.sub(" ", rest)):
                sentence.literal += re.findall(_NUMBER, match["numbers"])
            if sentence.text:
                found.append(sentence)
    return found


def count_words(page: Path) -> int:
    """Count what a student reads of a page.

    Args:
        page: the Markdown file.

    Returns:
        Words of the prose before the exercises, and five for each displayed formula; code, tables,
        captions and formulas in a line do not count.
    """
    text = before_exercises(page)
    prose = " ".join(_QUOTED.sub("1", sentence.text) for sentence in sentences(page, text))
    return len(re.findall(r"\S*\w\S*", prose)) + 5 * len(_DISPLAY.findall(text))


def count_results(page: Path) -> int:
    """Count the results that a page prints.

    Args:
        page: the Markdown file.

    Returns:
        How many numbers before the exercises are quoted from notebooks, in tables, too, without
        settings, or are written out with a unit in a sentence with a mark.
    """
    text = before_exercises(page)
    quoted = [
        m["name"]
        for m in _GLUE.finditer(text)
        if m["name"] not in settings((page.parent / m["path"]).resolve())
    ]
    return len(quoted) + sum(len(s.literal) for s in sentences(page, text) if s.marks)


def unasserted(page: Path, claims: Mapping[str, Claim]) -> list[str]:
    """Find what a page prints and nothing asserts.

    Args:
        page: the Markdown file.
        claims: all claims by identifier.

    Returns:
        One line for each number of a marked sentence that none of its claims asserts to the
        precision printed, and for each quoted result that stands in an unmarked sentence.
    """
    problems = []
    for sentence in sentences(page):
        shown = re.sub(r"\s+", " ", _QUOTED.sub("#", sentence.text))[:90]
        unknown = [name for name in sentence.marks if name not in claims]
        problems += [f"no claim is named {name!r}: {shown}" for name in unknown]
        asserted = [t for n in sentence.marks if n in claims for t in claims[n].thresholds]
        for notebook, name, number in sentence.quoted:
            if name in settings(notebook):
                continue
            if not sentence.marks:
                problems.append(f"{name} = {number} is quoted without a mark: {shown}")
            elif not any(t.asserts(number) for t in asserted if t.limit is None):
                problems.append(f"{name} = {number} is not asserted by {sentence.marks}: {shown}")
        for number in sentence.literal if sentence.marks else ():
            if not any(t.asserts(number) for t in asserted):
                problems.append(f"{number} is not asserted by {sentence.marks}: {shown}")
    return problems
