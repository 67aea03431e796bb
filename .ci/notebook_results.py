"""Which notebooks hold the results of the present code: ``python .ci/notebook_results.py``.

`make notebooks` runs every notebook and notes in it a fingerprint of all that its results follow
from: its code, the parts of the package that it imports, the tables that it reads, and the
versions of the libraries. Comments and docstrings do not count. As long as the fingerprint is the
same, another run would give the same results, and the tests run the notebook with small settings
only; otherwise they run it in full.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat

PROJECT = Path(__file__).parent.parent
PACKAGE = "hvae_course"
KEY = "results_of"
"""Name of the fingerprint in a notebook's metadata."""


def notebooks() -> list[Path]:
    """Find all notebooks with results.

    Returns:
        Chapters, results page and exercise sheets.
    """
    folder = PROJECT / "notebooks"
    return sorted(folder.glob("*.ipynb")) + sorted((folder / "exercises").glob("*.ipynb"))


def _without_docstrings(tree: ast.AST) -> str:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            strings = [n for n in body if isinstance(n, ast.Expr) and _is_text(n.value)]
            node.body = [n for n in body if n not in strings] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _file_of(module: str) -> Path | None:
    path = PROJECT.joinpath(*module.split("."))
    for found in (path.with_suffix(".py"), path / "__init__.py"):
        if found.is_file():
            return found
    return None


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those for type checkers."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _running(node)


def _imported(tree: ast.AST) -> Iterator[str]:
    """Modules of the package that some code imports, with the packages they are in."""
    for node in _running(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if node.module == PACKAGE:  # names that the package takes from its parts
                parts = {"fit": "training", "evaluate": "analysis"}
                names += [f"{PACKAGE}.{parts.get(a.name, 'hierarchy')}" for a in node.names]
        for name in names:
            steps = name.split(".")
            if steps[0] == PACKAGE:
                yield from (".".join(steps[: i + 1]) for i in range(1, len(steps)))


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _needed(imported: Iterable[str]) -> list[Path]:
    """Files of some modules and of everything that they import."""
    waiting, found = [*imported], {}
    while waiting:
        module = waiting.pop()
        path = _file_of(module)
        if path is not None and path not in found:
            found[path] = module
            waiting += _imported(_tree(path))
    return sorted(found)


@functools.cache
def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".py":
        content = _without_docstrings(ast.parse(content)).encode()
    return hashlib.sha256(content).hexdigest()


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Hash everything that the results of a notebook follow from.

    Args:
        notebook: the notebook.

    Returns:
        16 hexadecimal digits.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # the set-up cell installs what is missing; no result follows from it
    code = [cell.source for cell in cells if "setup" not in cell.metadata.get("tags", [])]
    magic = re.compile(r"^( *)[%!].*$", re.MULTILINE)
    trees = [ast.parse(magic.sub(r"\1pass", text)) for text in code]
    files = _needed(name for tree in trees for name in _imported(tree))
    if any("benchmarks" in text for text in code):
        tables = (PROJECT / "benchmarks").rglob("*.*")
        files += sorted(path for path in tables if path.suffix in (".csv", ".json"))
    pins = (PROJECT / "requirements.txt").read_text(encoding="utf-8").split("# the book")[0]
    parts = [*map(ast.dump, trees), *map(_digest, files), pins]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def is_current(path: Path) -> bool:
    """Check whether a notebook holds the results of the present code.

    Args:
        path: the notebook.

    Returns:
        Whether its fingerprint is the one that was noted after its last run.
    """
    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get(KEY) == fingerprint(notebook)


if __name__ == "__main__":
    for path in notebooks():
        print("current" if is_current(path) else "to run ", path.relative_to(PROJECT))
