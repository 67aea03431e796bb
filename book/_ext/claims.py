"""Sphinx extension: statements about results lead to the cell that computes and asserts them.

A page marks a sentence that reports a result with the role ``claim`` and the identifier of a claim
in a notebook. The reader sees a small mark that leads to the cell. Claims are read from the source
of the notebooks, so building the book runs none of them. A mark without a claim, and an identifier
used twice, end the build.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from page_tables import table
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole

from hvae_course.claims import Claim, read

MARK = "\N{CHECK MARK}"


def collect_claims(project: Path) -> dict[str, tuple[str, Claim]]:
    """Read the claims of all notebooks.

    Args:
        project: folder that holds ``notebooks/``.

    Returns:
        Identifier to the notebook's document name and the claim, in the order of the book.

    Raises:
        ExtensionError: if an identifier is used twice, or a claim cannot be read.
    """
    found: dict[str, tuple[str, Claim]] = {}
    folder = project / "notebooks"
    for path in [*sorted(folder.glob("*.ipynb")), *sorted(folder.glob("exercises/*.ipynb"))]:
        document = path.relative_to(project).with_suffix("").as_posix()
        try:
            claims = read(path)
        except ValueError as error:
            raise ExtensionError(f"{document}: {error}") from error
        for claim in claims:
            if claim.identifier in found:
                first = found[claim.identifier][0]
                raise ExtensionError(f"{first} and {document} both have {claim.identifier!r}")
            found[claim.identifier] = document, claim
    return found


class _Mark(nodes.Inline, nodes.Element):
    """Placeholder for a mark, filled when all claims are known."""


class _ClaimTable(nodes.General, nodes.Element):
    """Placeholder for the table of claims."""


class ClaimRole(SphinxRole):
    """Mark of the claims, separated by commas, that the sentence before it reports."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Leave a placeholder for every identifier."""
        marks = []
        for identifier in re.split(r"\s*,\s*", self.text.strip()):
            mark = _Mark(identifier=identifier)
            mark.source, mark.line = self.get_source_info()
            marks.append(mark)
            used = self.env.claim_marks.setdefault(self.env.docname, [])
            used.append(identifier)
        return marks, []


class ClaimTableDirective(SphinxDirective):
    """Table of all statements, with the cells and thresholds that hold them."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder, on a page that every build reads again."""
        self.env.note_reread()
        return [_ClaimTable()]


def _collect(app: Sphinx) -> None:
    """Read the notebooks once per build."""
    app.claims = collect_claims(Path(app.srcdir))
    if not hasattr(app.env, "claim_marks"):
        app.env.claim_marks = {}


def _forget(_: Sphinx, env: BuildEnvironment, docname: str) -> None:
    env.claim_marks.pop(docname, None)


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """End the build where a mark names no claim."""
    wrong = [
        f"{docname}: no claim is named {identifier!r}"
        for docname, identifiers in sorted(env.claim_marks.items())
        for identifier in identifiers
        if identifier not in app.claims
    ]
    if wrong:
        raise ExtensionError("; ".join(wrong))


def shown_thresholds(claim: Claim) -> str:
    """Write what a claim asserts in one line.

    Args:
        claim: the claim.

    Returns:
        Its conditions, numbers with the tolerance that holds them.
    """
    parts = []
    for (source, text), threshold in zip(
        [c for c in claim.conditions if c[1] is not None], claim.thresholds, strict=True
    ):
        if threshold.limit or "±" in text:
            parts.append(f"{source}: {text}")
        else:
            parts.append(f"{source}: {text} ± {threshold.tolerance:g}")
    parts += [source for source, text in claim.conditions if text is None]
    return "; ".join(parts)


def _link(app: Sphinx, docname: str, identifier: str, text: str, **attributes: Any) -> nodes.Node:  # noqa: ANN401
    where, _ = app.claims[identifier]
    uri = app.builder.get_relative_uri(docname, where) + f"#claim-{identifier}"
    return nodes.reference("", text, refuri=uri, internal=True, **attributes)


def _tables(app: Sphinx, docname: str) -> list[nodes.Node]:
    """One table per notebook, each under its title."""
    quoted: dict[str, list[str]] = {}
    for page, identifiers in sorted(app.env.claim_marks.items()):
        for identifier in dict.fromkeys(identifiers):
            quoted.setdefault(identifier, []).append(page)
    parts: list[nodes.Node] = []
    for document in dict.fromkeys(where for where, _ in app.claims.values()):
        title = nodes.reference(
            "",
            app.env.titles[document].astext(),
            refuri=app.builder.get_relative_uri(docname, document),
            internal=True,
        )
        rows = []
        for identifier, (where, claim) in app.claims.items():
            if where != document:
                continue
            says: list[nodes.Node] = [nodes.Text(claim.statement)]
            for page in quoted.get(identifier, []):
                uri = app.builder.get_relative_uri(docname, page) + f"#mark-{identifier}"
                back = nodes.reference("", "quoted", refuri=uri, internal=True)
                says += [nodes.Text(" ("), back, nodes.Text(")")]
            cell = _link(app, docname, identifier, f"cell {claim.cell}")
            rows.append((says, [cell], [nodes.literal("", shown_thresholds(claim))]))
        parts.append(nodes.paragraph("", "", nodes.strong("", "", title)))
        heads = ("statement", "cell", "what is asserted")
        parts.append(table(heads, (46, 12, 42), rows, "claims"))
    return parts


def show(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fill marks and tables, and give every cell with a claim an anchor."""
    seen: set[str] = set()
    for mark in list(doctree.findall(_Mark)):
        identifier = mark["identifier"]
        _, claim = app.claims[identifier]
        title = f"Computed and asserted: {claim.statement} [{shown_thresholds(claim)}]"
        link = _link(app, docname, identifier, MARK, reftitle=title, classes=["claim-mark"])
        anchor = [] if identifier in seen else [f"mark-{identifier}"]
        seen.add(identifier)
        mark.replace_self(nodes.superscript("", "", link, ids=anchor, classes=["claim"]))
    for placeholder in list(doctree.findall(_ClaimTable)):
        placeholder.replace_self(_tables(app, docname))
    own = [claim for where, claim in app.claims.values() if where == docname]
    cells = {
        node["cell_index"]: node
        for node in doctree.findall(nodes.container)
        if "cell" in node.get("classes", []) and "cell_index" in node
    }
    for claim in own:
        if claim.cell in cells:
            node = cells[claim.cell]
            target = nodes.target("", "", ids=[f"claim-{claim.identifier}"])
            node.parent.insert(node.parent.index(node), target)


def _outdated(app: Sphinx, env: BuildEnvironment, *_: set[str]) -> list[str]:
    """Read every page with a mark again: the notebooks may have changed."""
    return sorted(env.claim_marks.keys() & env.found_docs)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(_Mark)
    app.add_node(_ClaimTable)
    app.add_role("claim", ClaimRole())
    app.add_directive("claim-table", ClaimTableDirective)
    app.connect("builder-inited", _collect)
    app.connect("env-purge-doc", _forget)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-check-consistency", check)
    app.connect("doctree-resolved", show)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
