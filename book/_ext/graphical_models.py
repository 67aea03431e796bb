"""Sphinx extension: a graphical model of the course as a figure.

The directive ``graphical-model`` takes the name of a graph of ``book/figures/graphs.py`` and a
caption as its content. The graph goes into the page as SVG, so that it follows the page's theme::

    :::{graphical-model} two_level
    :name: fig-two-levels

    Generation goes down, inference goes up.
    :::

An unknown name, or a missing caption, ends the build with the list of names.
"""

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

sys.path.append(str(Path(__file__).parent.parent / "figures"))

import graphs  # noqa: E402


class GraphicalModel(SphinxDirective):
    """A figure with the panels and the legend of a graphical model."""

    required_arguments = 1
    has_content = True
    option_spec = {"name": directives.unchanged}

    def run(self) -> list[nodes.Node]:  # noqa: D102
        self.env.note_dependency(graphs.__file__)
        try:
            html = graphs.graphical_model(self.arguments[0])
        except ValueError as error:
            raise ExtensionError(f"{self.env.docname}: {error}") from error
        content = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, content)
        if len(content) != 1 or not isinstance(content[0], nodes.paragraph):
            raise ExtensionError(
                f"{self.env.docname}: the graphical model {self.arguments[0]!r} needs one "
                f"paragraph of content, its caption, got {len(content)} blocks; the names are "
                f"{sorted(graphs.GRAPHS)}"
            )
        figure = nodes.figure(classes=["graphical-model"])
        figure += nodes.raw("", html, format="html")
        figure += nodes.caption(content[0].rawsource, "", *content[0].children)
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("graphical-model", GraphicalModel)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
