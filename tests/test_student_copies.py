"""Student copies of the exercise sheets: how they are made, and that none has drifted."""

import importlib.util
import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PROJECT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("copies", PROJECT / ".ci/student_copies.py")
copies = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(copies)
START = "```{exercise-start} One\n:label: one\n```\n\n"
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def tagged(source: str, tag: str):
    output = new_output("stream", name="stdout", text="ran")
    return new_code_cell(
        source, metadata={"tags": [tag]}, execution_count=3, outputs=[output], id=tag
    )


@pytest.fixture
def sheet():
    return new_notebook(
        metadata=KERNEL,
        cells=[
            new_markdown_cell("# A sheet, see {doc}`the page <../../book/a>` and {term}`ELBO`"),
            new_markdown_cell(
                "```{exercise-start} One\n:label: one\n```\n\nBy {eq}`eq-kl-gauss`."
            ),
            new_markdown_cell("```{admonition} Hint\n:class: dropdown\n\nTry $x$.\n```"),
            tagged("def one():\n    raise NotImplementedError", "exercise-stub"),
            new_markdown_cell("```{exercise-end}\n```"),
            new_markdown_cell("```{solution-start} one\n:class: dropdown\n```"),
            new_markdown_cell("The secret is 1."),
            tagged("def one():\n    return 1", "solution"),
            new_markdown_cell("```{solution-end}\n```"),
            tagged("assert checks.one(one)", "exercise-check"),
        ],
    )


def test_a_copy_has_stubs_and_checks_and_no_solution(sheet):
    copied = copies.student(sheet)
    code = [c for c in copied.cells if c.cell_type == "code"]
    assert [c.source for c in code] == [
        "def one():\n    raise NotImplementedError",
        "checks.one(one)",
    ]
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert "secret" not in nbformat.writes(copied) and "return 1" not in nbformat.writes(copied)
    assert nbformat.writes(sheet).count("return 1") == 1  # the sheet is as it was


def test_what_only_the_book_understands_becomes_plain_text(sheet):
    text = [c.source for c in copies.student(sheet).cells if c.cell_type == "markdown"]
    assert text == [
        "# A sheet, see the page and ELBO",
        "### Exercise: One\n\nBy equation *kl gauss*.",
        "<details>\n<summary>Hint</summary>\n\nTry $x$.\n\n</details>",
    ]


def test_a_solution_that_does_not_end_is_refused(sheet):
    sheet.cells = [c for c in sheet.cells if "solution-end" not in c.source]
    with pytest.raises(ValueError, match="a solution starts and does not end"):
        copies.student(sheet)


@pytest.fixture
def project(tmp_path, monkeypatch, sheet):
    """A project with one sheet."""
    monkeypatch.setattr(copies, "PROJECT", tmp_path)
    for name in ("SHEETS", "STUDENT"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setattr(copies, name, folder)
    nbformat.write(sheet, tmp_path / "sheets/a.ipynb")
    return tmp_path


def test_copies_are_written_once_and_then_current(project, capsys):
    assert copies.main(["--check"]) == 1
    assert "a.ipynb is not what its sheet says; run `make exercises`" in capsys.readouterr().out
    assert not list((project / "student").iterdir())
    assert copies.main([]) == 0
    written = (project / "student/a.ipynb").read_text(encoding="utf-8")
    assert copies.main(["--check"]) == 0
    assert copies.main([]) == 0
    assert (project / "student/a.ipynb").read_text(encoding="utf-8") == written


def test_a_copy_that_was_changed_or_has_no_sheet_is_noticed_and_mended(project, capsys):
    copies.main([])
    path = project / "student/a.ipynb"
    changed = json.loads(path.read_text(encoding="utf-8"))
    changed["cells"][0]["source"] = "drifted"
    path.write_text(json.dumps(changed), encoding="utf-8")
    (project / "student/orphan.ipynb").write_text("{}", encoding="utf-8")
    assert copies.main(["--check"]) == 1
    out = capsys.readouterr().out
    assert "student/a.ipynb" in out and "student/orphan.ipynb" in out
    assert copies.main([]) == 0
    assert [p.name for p in (project / "student").iterdir()] == ["a.ipynb"]
    assert copies.main(["--check"]) == 0


def test_the_project_s_copies_are_current():
    assert (copies.SHEETS, copies.STUDENT) == (
        PROJECT / "notebooks/exercises",
        PROJECT / "notebooks/student",
    )
    assert list(copies.SHEETS.glob("*.ipynb"))
    assert copies.main(["--check"]) == 0
