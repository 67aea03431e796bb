"""Exercise sheets and their student copies, with right and wrong answers pasted in."""

import ast
import contextlib
import importlib
import io
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SHEETS = sorted((NOTEBOOKS / "exercises").glob("*.ipynb"))
sheets = pytest.mark.parametrize("sheet", SHEETS, ids=lambda path: path.stem)


def answers(sheet):
    return importlib.import_module(f"tests.answers.{sheet.stem[3:]}")


def cells(path, tag):
    notebook = nbformat.read(path, as_version=4)
    return [c for c in notebook.cells if tag in c.metadata.get("tags", [])]


def name_of(stub):
    return re.search(r"^def (\w+)", stub, re.MULTILINE)[1]


def meaning(source):
    """The syntax tree without imports, whatever the line breaks."""
    body = [n for n in ast.parse(source).body if not isinstance(n, ast.Import | ast.ImportFrom)]
    return [ast.dump(node) for node in body]


def run_copy(sheet, pasted):
    """Run the student copy of a sheet with some stubs replaced, and give what it printed."""
    scope, printed = {}, io.StringIO()
    copied = nbformat.read(NOTEBOOKS / "student" / sheet.name, as_version=4)
    for cell in copied.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "setup" in tags:
            continue
        source = cell.source
        if "exercise-stub" in tags:
            source = pasted.get(name_of(source), source)
        with contextlib.redirect_stdout(printed):
            exec(source, scope)
    return printed.getvalue().splitlines()


@sheets
def test_every_exercise_has_stub_solution_check_and_frame(sheet):
    stubs = [name_of(c.source) for c in cells(sheet, "exercise-stub")]
    solutions = [name_of(c.source) for c in cells(sheet, "solution")]
    checks = [c.source for c in cells(sheet, "exercise-check")]
    assert 2 <= len(stubs) <= 4
    assert solutions == stubs
    assert checks == [f"assert checks.{name}({name})" for name in stubs]
    text = nbformat.writes(nbformat.read(sheet, as_version=4))
    for frame in ("exercise-start", "exercise-end", "solution-start", "solution-end", "Hint"):
        assert text.count(f"{{{frame}}}") + text.count(f"}} {frame}") == len(stubs)
    pattern = (
        r"\*\*Difficulty\*\* [1-5] of 5 · \*\*importance\*\* [1-5] of 5 · \*\*minutes\*\* \d+"
    )
    assert len(re.findall(pattern, text)) == len(stubs)


@sheets
def test_the_answers_of_a_sheet_are_those_that_the_checks_are_tested_with(sheet):
    held = answers(sheet)
    solutions = {name_of(c.source): meaning(c.source) for c in cells(sheet, "solution")}
    assert solutions == {name: meaning(source) for name, source in held.SOLUTIONS.items()}
    for name, wrong in held.WRONG.items():
        assert name in held.SOLUTIONS and len(wrong) >= 4


@sheets
def test_an_untouched_copy_reports_that_nothing_is_written_yet(sheet):
    lines = run_copy(sheet, {})
    assert len(lines) == len(cells(sheet, "exercise-stub"))
    assert all(line.startswith("not yet - ") and "not written yet" in line for line in lines)


@sheets
def test_a_copy_with_the_solutions_passes(sheet):
    lines = run_copy(sheet, answers(sheet).SOLUTIONS)
    assert len(lines) == len(cells(sheet, "exercise-stub"))
    assert all(line.startswith("right - ") for line in lines), lines


WRONG = [
    pytest.param(sheet, name, code, hint, id=f"{sheet.stem}-{name}-{number}")
    for sheet in SHEETS
    for name, wrong in answers(sheet).WRONG.items()
    for number, (code, hint) in enumerate(wrong)
]


@pytest.mark.parametrize(("sheet", "name", "code", "hint"), WRONG)
def test_a_wrong_answer_brings_its_hint_into_the_notebook(sheet, name, code, hint):
    (line,) = [line for line in run_copy(sheet, {name: code}) if f" - {name}: " in line]
    assert line.startswith("not yet - ") and "not written yet" not in line
    assert hint in line, line
