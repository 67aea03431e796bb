"""The page that lists all exercises says what the exercises themselves say."""

import re
from pathlib import Path

import nbformat
import pytest

PROJECT = Path(__file__).parent.parent
ROW = re.compile(
    r"^\| \{ref\}`(.+?) <([\w-]+)>` \| (\d+|depth|layers) \| (\d) \| (\d+) \| (.+) \|$",
    re.MULTILINE,
)
EXERCISE = re.compile(
    r"^`+\{exercise(?:-start)?\} (.+)\n:label: ([\w-]+)\n(?:`+\n)?\n"
    r"\*\*Difficulty\*\* ([1-5]) of 5 · \*\*importance\*\* [1-5] of 5 · \*\*minutes\*\* (\d+)",
    re.MULTILINE,
)


def texts():
    """Chapter, or main sheet, and text of every page and sheet."""
    main = {"07_hierarchy_depth": "depth", "08_layer_analysis": "layers"}
    for page in sorted((PROJECT / "book").glob("[0-9]*.md")):
        yield str(int(page.stem[:2])), page.read_text(encoding="utf-8")
    for sheet in sorted((PROJECT / "notebooks/exercises").glob("*.ipynb")):
        cells = nbformat.read(sheet, as_version=4).cells
        yield (
            main.get(sheet.stem, str(int(sheet.stem[:2]))),
            "\n\n".join(c.source for c in cells if c.cell_type == "markdown"),
        )


@pytest.fixture(scope="module")
def exercises():
    return {
        label: (title, chapter, difficulty, minutes)
        for chapter, text in texts()
        for title, label, difficulty, minutes in EXERCISE.findall(text)
    }


def test_the_page_lists_every_exercise_with_its_frame(exercises):
    page = (PROJECT / "book/exercises.md").read_text(encoding="utf-8")
    rows = {label: (title, *frame) for title, label, *frame, _ in ROW.findall(page)}
    assert len(exercises) > 30
    assert rows == exercises


def test_no_exercise_escapes_the_pattern(exercises):
    starts = sum(
        len(re.findall(r"^`+\{exercise(?:-start)?\}", t, re.MULTILINE)) for _, t in texts()
    )
    assert starts == len(exercises)


def test_each_main_sheet_has_exercises_in_code_and_in_words(exercises):
    for name, count in {"depth": 7, "layers": 7}.items():
        assert sum(row[1] == name for row in exercises.values()) == count


def test_every_chapter_has_a_sheet_and_exercises_of_its_own(exercises):
    for chapter in map(str, range(1, 11)):
        labels = [label for label, row in exercises.items() if row[1] == chapter]
        assert sum(label.startswith("sheet-") for label in labels) >= 2
        assert sum(label.startswith("ex-") for label in labels) >= 2


def test_the_page_links_every_sheet_with_its_minutes_and_its_student_copy():
    page = (PROJECT / "book/exercises.md").read_text(encoding="utf-8")
    row = re.compile(
        r"^\| \w+ \| \{doc\}`.+ <\.\./notebooks/exercises/(\w+)>` \| (\d+) \|"
        r" \[Colab\]\(https://colab\S+/notebooks/student/\1\.ipynb\) \|$",
        re.MULTILINE,
    )
    sheets = sorted((PROJECT / "notebooks/exercises").glob("*.ipynb"))
    minutes = {
        sheet.stem: str(sum(int(m) for *_, m in EXERCISE.findall(text)))
        for sheet, (_, text) in zip(sheets, list(texts())[-len(sheets) :], strict=True)
    }
    assert dict(row.findall(page)) == minutes


def test_a_sheet_names_a_section_that_its_chapter_has():
    named = 0
    for sheet in sorted((PROJECT / "notebooks/exercises").glob("*_build.ipynb")):
        text = "\n".join(cell.source for cell in nbformat.read(sheet, as_version=4).cells)
        (page,) = (PROJECT / "book").glob(f"{sheet.stem[:2]}_*.md")
        titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        for title in re.findall(
            r"\*\*You need\*\* chapter \d+ up to (?:and including )?\*(.+?)\*", text
        ):
            assert title in titles, f"{sheet.name} names {title!r}, which {page.name} lacks"
            named += 1
    assert named >= 4
