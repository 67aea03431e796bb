"""Exercise sheets and their student copies, with right and wrong answers pasted in.

The two main sheets train or load models; here with the small settings of `SMALL`. A wrong answer
is pasted into a copy that has been run before: only what depends on it is run again.
"""

import ast
import contextlib
import functools
import importlib
import io
import re
from pathlib import Path

import claimed_numbers
import matplotlib.pyplot as plt
import nbformat
import pytest

from hvae_course.claims import read

PROJECT = Path(__file__).parent.parent
NOTEBOOKS = PROJECT / "notebooks"
SHEETS = sorted((NOTEBOOKS / "exercises").glob("*.ipynb"))
SMALL = {
    "07_hierarchy_depth": {"depths": (1, 2), "seeds": (0, 1), "epochs": 2, "num_samples": 5},
    "08_layer_analysis": {"num_codes": 300},
}
"""Parameters of the main sheets, smaller than in the notebook."""
ON_RESULTS = {"07_hierarchy_depth": ["assert checks.comparison(table)"]}
"""Checks of what was computed, not of a function."""
sheets = pytest.mark.parametrize("sheet", SHEETS, ids=lambda path: path.stem)
main_sheets = pytest.mark.parametrize("name", SMALL)


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


def show(figure_or_table):
    """Stands for the notebook's own way to show something."""


def run(chosen, scope, pasted, parameters):
    """Run some cells in a scope, with some stubs replaced, and give what they printed."""
    printed = io.StringIO()
    for cell in chosen:
        tags = cell.metadata.get("tags", [])
        source = re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE)
        if "exercise-stub" in tags:
            source = pasted.get(name_of(source), source)
        with contextlib.redirect_stdout(printed):
            exec(source, scope)
        if "parameters" in tags:
            scope.update(parameters)
    plt.close("all")
    return printed.getvalue().splitlines()


def copied_cells(sheet):
    notebook = nbformat.read(NOTEBOOKS / "student" / sheet.name, as_version=4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    return [c for c in code if "setup" not in c.metadata.get("tags", [])]


def run_copy(sheet, pasted):
    """Run the student copy of a sheet, and give what it printed and defined."""
    scope = {"display": show}
    return run(copied_cells(sheet), scope, pasted, SMALL.get(sheet.stem, {})), scope


@functools.cache
def untouched(sheet):
    return run_copy(sheet, {})


def paste(sheet, pasted):
    """Paste answers into a copy that has been run, and run the answers and the checks again."""
    chosen = copied_cells(sheet)
    answers_and_checks = {"exercise-stub", "exercise-check"}
    chosen = [c for c in chosen if answers_and_checks & set(c.metadata.get("tags", []))]
    return run(chosen, dict(untouched(sheet)[1]), pasted, {})


def verdicts(lines):
    return [line for line in lines if line.startswith(("right - ", "not yet - "))]


@sheets
def test_every_exercise_has_stub_solution_check_and_frame(sheet):
    stubs = [name_of(c.source) for c in cells(sheet, "exercise-stub")]
    solutions = [name_of(c.source) for c in cells(sheet, "solution")]
    checks = [c.source for c in cells(sheet, "exercise-check")]
    assert 2 <= len(stubs) <= (6 if sheet.stem in SMALL else 4)
    assert solutions == stubs
    expected = [f"assert checks.{name}({name})" for name in stubs]
    assert sorted(checks) == sorted(expected + ON_RESULTS.get(sheet.stem, []))
    text = nbformat.writes(nbformat.read(sheet, as_version=4))
    frames = ("exercise-start", "exercise-end", "solution-start", "solution-end", "Hint")
    counts = {text.count(f"{{{frame}}}") + text.count(f"}} {frame}") for frame in frames}
    in_words = len(re.findall(r":label: sheet-(?:depth|layers)-", text))
    assert counts == {len(stubs) + in_words}
    pattern = (
        r"\*\*Difficulty\*\* [1-5] of 5 · \*\*importance\*\* [1-5] of 5 · \*\*minutes\*\* \d+"
    )
    assert len(re.findall(pattern, text)) == len(stubs) + in_words


@sheets
def test_the_answers_of_a_sheet_are_those_that_the_checks_are_tested_with(sheet):
    held = answers(sheet)
    solutions = {name_of(c.source): meaning(c.source) for c in cells(sheet, "solution")}
    assert solutions == {name: meaning(source) for name, source in held.SOLUTIONS.items()}
    for name, wrong in held.WRONG.items():
        assert name in held.SOLUTIONS and len(wrong) >= 4


@sheets
def test_an_untouched_copy_reports_that_nothing_is_written_yet(sheet):
    lines = verdicts(untouched(sheet)[0])
    assert len(lines) == len(cells(sheet, "exercise-check"))
    assert all(line.startswith("not yet - ") and "not written yet" in line for line in lines)


@sheets
def test_a_copy_with_the_solutions_passes(sheet):
    lines, scope = run_copy(sheet, answers(sheet).SOLUTIONS)
    assert len(verdicts(lines)) == len(cells(sheet, "exercise-check"))
    assert all(line.startswith("right - ") for line in verdicts(lines)), lines
    assert not [line for line in lines if "waits for" in line]


@main_sheets
def test_what_builds_on_answers_waits_for_them(name):
    sheet = NOTEBOOKS / "exercises" / f"{name}.ipynb"
    lines, scope = untouched(sheet)
    waited_for = re.findall(r"this cell waits for (.*)", "\n".join(lines))
    assert {part for line in waited_for for part in line.split(", ")} >= {
        *(["experiment", "choose_depth"] if "depth" in name else ["probe_score", "traverse"])
    }


@main_sheets
def test_the_solutions_quote_every_claim_and_no_number_that_is_not_asserted(name, tmp_path):
    sheet = NOTEBOOKS / "exercises" / f"{name}.ipynb"
    notebook = nbformat.read(sheet, as_version=4)
    page = tmp_path / f"{name}.md"
    page.write_text("\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"))
    known = {claim.identifier: claim for claim in read(sheet)}
    assert claimed_numbers.unasserted(page, known) == []
    quoted = {mark for sentence in claimed_numbers.sentences(page) for mark in sentence.marks}
    assert quoted == set(known)


WRONG = [
    pytest.param(sheet, name, code, hint, id=f"{sheet.stem}-{name}-{number}")
    for sheet in SHEETS
    for name, wrong in answers(sheet).WRONG.items()
    for number, (code, hint) in enumerate(wrong)
]


@pytest.mark.parametrize(("sheet", "name", "code", "hint"), WRONG)
def test_a_wrong_answer_brings_its_hint_into_the_notebook(sheet, name, code, hint):
    (line,) = [line for line in paste(sheet, {name: code}) if f" - {name}: " in line]
    assert line.startswith("not yet - ") and "not written yet" not in line
    assert hint in line, line
