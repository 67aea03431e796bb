"""Sphinx extension: every labelled equation of the book names the tests that check it.

Tests carry ``@pytest.mark.equation("eq-...")``. The marks are read from the source of the tests,
so building the book runs none of them. A label without a test, or a mark without a label, ends the
build.
"""

import ast
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from page_tables import table
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


@dataclass(frozen=True)
class EquationTest:
    """A test that checks an equation."""

    path: str
    """Relative to the project."""
    name: str
    line: int


def _labels(decorator: ast.expr) -> list[str]:
    """Labels in ``pytest.mark.equation("eq-a", "eq-b")``, else none."""
    if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
        return []
    if decorator.func.attr != "equation":
        return []
    return [a.value for a in decorator.args if isinstance(a, ast.Constant)]


def collect_tests(project: Path) -> dict[str, list[EquationTest]]:
    """Read the marks of all tests.

    Args:
        project: folder that holds ``tests/``.

    Returns:
        Label to its tests, in file order.
    """
    tests = defaultdict(list)
    for path in sorted((project / "tests").glob("**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            where = path.relative_to(project).as_posix()
            for label in (label for d in node.decorator_list for label in _labels(d)):
                tests[label].append(EquationTest(where, node.name, node.lineno))
    return dict(tests)


class _Table(nodes.General, nodes.Element):
    """Placeholder for the table, filled when all labels are known."""


class EquationTestsDirective(SphinxDirective):
    """Table of all labelled equations and their tests."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder, on a page that every build reads again."""
        self.env.note_reread()
        return [_Table()]


def _equations(env: BuildEnvironment) -> dict[str, tuple[str, int]]:
    return env.get_domain("math").equations


def _collect(app: Sphinx) -> None:
    """Read the tests once per build."""
    app.equation_tests = collect_tests(Path(app.srcdir))


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """End the build where labels and marks differ."""
    labels, tests = set(_equations(env)), set(app.equation_tests)
    problems = [f"equation {l} has no test" for l in sorted(labels - tests)]
    problems += [f"no equation has the label {l} of a test" for l in sorted(tests - labels)]
    if problems:
        raise ExtensionError(
            "; ".join(problems) + '. Give each label a test with @pytest.mark.equation("label")'
        )


def _test_links(app: Sphinx, label: str) -> list[nodes.Node]:
    repository = app.config.html_theme_options.get("repository_url", "")
    links: list[nodes.Node] = []
    for test in app.equation_tests.get(label, []):
        if links:
            links.append(nodes.Text(", "))
        uri = f"{repository}/blob/main/{test.path}#L{test.line}"
        text = test.name.removeprefix("test_").replace("_", " ")
        links.append(nodes.reference("", text, refuri=uri, internal=False))
    return links


def _table(app: Sphinx, docname: str) -> nodes.table:
    rows = []
    equations = sorted(_equations(app.env).items(), key=lambda item: (item[1][0], item[1][1]))
    for label, (where, _) in equations:
        uri = app.builder.get_relative_uri(docname, where) + f"#equation-{label}"
        link = nodes.reference("", "", nodes.literal("", label), refuri=uri, internal=True)
        rows.append(([link], _test_links(app, label)))
    return table(("equation", "tests"), (28, 72), rows)


def show(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fill the table, and name the tests under each labelled equation."""
    for placeholder in list(doctree.findall(_Table)):
        placeholder.replace_self(_table(app, docname))
    for block in list(doctree.findall(nodes.math_block)):
        links = _test_links(app, block.get("label") or "")
        if links:
            text = nodes.paragraph("", "", nodes.Text("Checked: "), *links)
            line = nodes.container("", text, classes=["equation-test"])
            block.parent.insert(block.parent.index(block) + 1, line)


def _outdated(app: Sphinx, env: BuildEnvironment, *_: set[str]) -> list[str]:
    """Read every page with an equation again: the tests may have changed."""
    return sorted({where for where, _ in _equations(env).values()} & env.found_docs)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(_Table)
    app.add_directive("equation-tests", EquationTestsDirective)
    app.connect("builder-inited", _collect)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-check-consistency", check)
    app.connect("doctree-resolved", show)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
