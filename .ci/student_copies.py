"""Make the student copy of every exercise sheet: ``make exercises``, or ``--check`` to compare.

A sheet is one complete notebook, with text, stub, solution and check of each exercise. Its copy in
``notebooks/student/`` leaves the solutions out and runs from top to bottom as it is: a check
reports, it does not stop. What only the book understands becomes plain text.
"""

import argparse
import copy
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from hvae_course.files import write_whole

PROJECT = Path(__file__).parent.parent
SHEETS, STUDENT = PROJECT / "notebooks/exercises", PROJECT / "notebooks/student"
FENCE = re.compile(r"^(`{3,}|:{3,})\{(exercise-start|exercise|solution-start)\}(.*)$")
END = re.compile(r"^(`{3,}|:{3,})(\{(exercise|solution)-end\})?\s*$")
OPTION = re.compile(r"^:[\w-]+:")


def plain(text: str) -> str:
    """Replace the book's own roles by what they show.

    Args:
        text: Markdown of the book.

    Returns:
        Markdown that every viewer knows.
    """
    text = re.sub(r"\{eq\}`eq-([^`]+)`", lambda m: f"equation *{m[1].replace('-', ' ')}*", text)
    text = re.sub(r"\{[\w:]+\}`([^`<]+?)\s*<[^`>]+>`", r"\1", text)  # role with a title
    text = re.sub(r"\{(?:py:)?\w+\}`~?(?:[\w.]+\.)?([^`]+)`", r"\1", text)
    return text


def rewrite_fences(text: str) -> str:
    """Turn the fences of exercises into headings, and their hints into folded blocks.

    Args:
        text: Markdown of one cell.

    Returns:
        The same without directives.
    """
    lines, options, hint = [], False, False
    for line in text.splitlines():
        start = FENCE.match(line)
        if start:
            lines += [f"### Exercise: {start[3].strip()}", ""]
            options = True
        elif re.match(r"^(`{3,}|:{3,})\{admonition\}", line):
            lines += ["<details>", f"<summary>{line.split('}', 1)[1].strip()}</summary>", ""]
            options = hint = True
        elif options and (OPTION.match(line) or not line.strip()):
            continue
        elif END.match(line):
            lines += ["", "</details>"] if hint else []
            options, hint = not hint, False  # what follows a fence's end begins a paragraph
        else:
            options = False
            lines.append(line)
    return plain("\n".join(lines)).strip()


def student(sheet: NotebookNode) -> NotebookNode:
    """Take the solutions out of a sheet.

    Args:
        sheet: the complete notebook.

    Returns:
        The student copy, without outputs.
    """
    cells, inside = [], False
    for cell in sheet.cells:
        if cell.cell_type == "markdown" and "{solution-start}" in cell.source:
            inside = True
        hidden = inside or {"solution", "results"} & set(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown" and "{solution-end}" in cell.source:
            inside = False
        if hidden:
            continue
        cell = copy.deepcopy(cell)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = re.sub(r"^assert (checks\.)", r"\1", cell.source, flags=re.MULTILINE)
        else:
            cell.source = rewrite_fences(cell.source)
        if cell.source:
            cells.append(cell)
    if inside:
        raise ValueError("a solution starts and does not end; add {solution-end}")
    metadata = {"kernelspec": sheet.metadata["kernelspec"], "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def render(sheet: Path) -> str:
    """Text of the student copy of one sheet.

    Args:
        sheet: path of the complete notebook.

    Returns:
        The notebook as it is on disk.
    """
    copied = student(nbformat.read(sheet, as_version=4))
    nbformat.validate(copied)
    return nbformat.writes(copied, version=4) + "\n"


def main(arguments: list[str]) -> int:
    """Write every copy, or compare.

    Args:
        arguments: of the command line.

    Returns:
        0, or 1 if a copy is missing, differs, or has no sheet.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    check = parser.parse_args(arguments).check
    sheets = {path.name: path for path in sorted(SHEETS.glob("*.ipynb"))}
    stale = [path for path in sorted(STUDENT.glob("*.ipynb")) if path.name not in sheets]
    for name, sheet in sheets.items():
        target, text = STUDENT / name, render(sheet)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(target)
            if not check:
                write_whole(target, lambda file, text=text: file.write(text.encode()))
    if not check:
        for path in stale:
            if path.name not in sheets:
                path.unlink()
        return 0
    for path in stale:
        print(f"{path.relative_to(PROJECT)} is not what its sheet says; run `make exercises`")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
