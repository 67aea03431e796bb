"""Exercise sheets and their student copies, with right and wrong answers pasted in.

The two main sheets train or load models; here with the small settings of `SMALL`. A wrong answer
is pasted into a copy that has been run before: only what depends on it is run again. One per
exercise is enough here, as `test_checks` runs all that are known.
"""

import functools
import importlib
import re
from pathlib import Path

import claimed_numbers
import nbformat
import pytest
from answers.running import SHEETS, name_of, sources
from notebook_cells import cells, code_cells, run

from hvae_course import checks
from hvae_course.claims import read

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SMALL = {
    "07_hierarchy_depth": {"depths": (1, 2), "seeds": (0, 1), "epochs": 2, "num_samples": 5},
    "08_layer_analysis": {"num_codes": 300},
}
"""Parameters of the main sheets, smaller than in the notebook."""
SMALL_BUILDS = {
    "03_delta_build": {"epochs": 1},
    "05_bidirectional_build": {"epochs": 1},
    "04_ladder_build": {"epochs": 1},
    "06_vhp_build": {"epochs": 1},
    "07_graph_build": {"epochs": 1, "kappa": 1.0},
    "08_deep_build": {"epochs": 1},
}
"""Parameters of the free parts of builds."""
ON_RESULTS = {
    "07_hierarchy_depth": ["assert checks.comparison(table)"],
    "10_codes_build": ["assert checks.works(results)"],
}
"""Checks of what was computed, not of a function."""
pytestmark = pytest.mark.slow
sheets = pytest.mark.parametrize("sheet", SHEETS.values(), ids=lambda path: path.stem)
main_sheets = pytest.mark.parametrize("name", SMALL)


def pasting(pasted):
    """Replace the stubs of some exercises."""

    def change(cell):
        stub = "exercise-stub" in cell.metadata.get("tags", [])
        return pasted.get(name_of(cell.source), cell.source) if stub else cell.source

    return change


def copied_cells(sheet):
    return code_cells(NOTEBOOKS / "student" / sheet.name)


def run_copy(sheet, pasted, **names):
    """Run the student copy of a sheet, and give what it printed and defined."""
    scope, small = names, (SMALL | SMALL_BUILDS).get(sheet.stem)
    return run(copied_cells(sheet), scope, parameters=small, change=pasting(pasted)), scope


@functools.cache
def untouched(sheet):
    return run_copy(sheet, {})


def paste(sheet, pasted, **names):
    """Paste answers into a copy that has been run, and run the answers and the checks again."""
    chosen = copied_cells(sheet)
    answers_and_checks = {"exercise-stub", "exercise-check"}
    chosen = [c for c in chosen if answers_and_checks & set(c.metadata.get("tags", []))]
    return run(chosen, untouched(sheet)[1] | names, change=pasting(pasted))


def verdicts(lines):
    return [line for line in lines if line.startswith(("right - ", "not yet - "))]


@sheets
def test_every_exercise_has_stub_solution_check_and_frame(sheet):
    stubs = [name_of(c.source) for c in cells(sheet, "exercise-stub")]
    solutions = [name_of(c.source) for c in cells(sheet, "solution")]
    checks = [c.source for c in cells(sheet, "exercise-check")]
    assert 2 <= len(stubs) <= (6 if sheet.stem in SMALL or sheet.stem.endswith("_build") else 5)
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
def test_an_untouched_copy_reports_that_nothing_is_written_yet(sheet):
    lines = verdicts(untouched(sheet)[0])
    assert len(lines) == len(cells(sheet, "exercise-check"))
    assert all(line.startswith("not yet - ") and "not written yet" in line for line in lines)


@sheets
def test_a_copy_with_the_solutions_passes(sheet):
    lines, scope = run_copy(sheet, sources(sheet.stem[3:], "solution"))
    assert len(verdicts(lines)) == len(cells(sheet, "exercise-check"))
    assert all(line.startswith("right - ") for line in verdicts(lines)), lines
    assert not [line for line in lines if "waits for" in line]


@pytest.mark.parametrize(
    "sheet", ["delta_build", "ladder_build", "bidirectional_build", "deep_build", "codes_build"]
)
def test_the_free_part_of_a_build_works_with_other_right_answers(sheet):
    others = {
        name: answers[-1]
        for name, answers in importlib.import_module(f"answers.{sheet}").OTHERS.items()
    }
    pasted = {
        name: f"class {name}(others['{name}']):\n    pass"
        if isinstance(other, type)
        else f"def {name}(*inputs):\n    return others['{name}'](*inputs)"
        for name, other in others.items()
    }
    lines, _ = run_copy(SHEETS[sheet], pasted, others=others)
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


EXERCISES = [(sheet, exercise) for sheet in SHEETS for exercise in sources(sheet, "exercise-stub")]


@pytest.mark.parametrize(("sheet", "exercise"), EXERCISES)
def test_a_wrong_answer_brings_its_hint_into_the_notebook(sheet, exercise):
    known = getattr(getattr(checks, sheet), exercise).mistakes[0]
    printed = paste(SHEETS[sheet], {exercise: f"{exercise} = wrong"}, wrong=known.answer)
    (line,) = [line for line in printed if f" - {exercise}: " in line]
    assert line.startswith("not yet - ") and "not written yet" not in line
    assert known.hint in line, line
