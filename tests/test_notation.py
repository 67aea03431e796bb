"""One symbol, one meaning: the symbol tables of the pages against the page that lists them all."""

import re
from pathlib import Path

import pytest

BOOK = Path(__file__).parent.parent / "book"
CHAPTERS = sorted(BOOK.glob("[0-9]*.md"))


def split(symbols: str) -> list[str]:
    """Symbols of a cell such as ``$z_1, z_2$, $p(x \\mid z)$``, without spaces."""
    found = []
    for formula in re.findall(r"\$([^$]+)\$", symbols):
        depth, last = 0, 0
        for place, character in enumerate(formula + ","):
            depth += (character in "([{") - (character in ")]}")
            if character == "," and depth == 0:
                found.append(re.sub(r"\\[,;]|\s", "", formula[last:place]))
                last = place + 1
    return found


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.split("\n") if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [[c.strip() for c in row] for row in cells if row[0].strip() not in ("Symbol", "---")]


@pytest.fixture(scope="module")
def notation():
    return [s for row in rows((BOOK / "notation.md").read_text("utf-8")) for s in split(row[0])]


def symbols_of(chapter):
    text = chapter.read_text("utf-8")
    table = text.split("## Symbols and code", 1)[1].split("\n## ", 1)[0]
    return [symbol for row in rows(table) for symbol in split(row[0])]


def test_no_symbol_has_two_meanings(notation):
    assert len(notation) > 60
    assert sorted(set(notation)) == sorted(notation)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_symbol_of_a_chapter_is_listed(chapter, notation):
    symbols = symbols_of(chapter)
    assert len(symbols) >= 8
    general = [re.sub(r"_[0-9]\b", "_l", symbol) for symbol in symbols]  # d_1 is d_l at level 1
    pairs = zip(symbols, general, strict=True)
    assert [s for s, at_l in pairs if s not in notation and at_l not in notation] == []


def test_a_cell_is_split_into_its_symbols():
    assert split(r"$z_1, z_2$ or $p(x, y \mid z)$, code") == ["z_1", "z_2", r"p(x,y\midz)"]
