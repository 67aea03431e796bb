"""Run cells of a notebook in this process."""

import contextlib
import io
import re

import joblib
import matplotlib.pyplot as plt
import nbformat


def cells(path, tag=None):
    """The cells with a tag, by default all."""
    notebook = nbformat.read(path, as_version=4)
    return [c for c in notebook.cells if tag is None or tag in c.metadata.get("tags", [])]


def code_cells(path):
    return [c for c in cells(path) if c.cell_type == "code"]


def run(chosen, scope, *, parameters=None, change=lambda cell: cell.source):
    """Run code cells, with other parameters and some sources changed; give the printed lines."""
    scope.setdefault("display", lambda figure_or_table: None)
    scope.setdefault("__name__", "__main__")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), joblib.parallel_config(backend="sequential"):
        for cell in chosen:
            source = re.sub(r"^( *)[%!].*$", r"\1pass", change(cell), flags=re.MULTILINE)
            exec(compile(source, "<notebook>", "exec"), scope)
            if "parameters" in cell.metadata.get("tags", []):
                scope.update(parameters or {})
    plt.close("all")
    return printed.getvalue().splitlines()
