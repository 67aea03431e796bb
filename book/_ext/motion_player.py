"""Sphinx extension: a figure that plays motions where scripts are on.

The directive ``motion-player`` is a figure, whose image is shown where scripts are off, with the
option ``data``: a JSON file, beside the page, of what ``_static/motion_player.js`` plays. The data
go into the page, so that it works from a server and from the file system; the script is loaded by
these pages only. A figure without alt text or without data that can be read ends the build.
"""

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.errors import ExtensionError

SCRIPT = "motion_player.js"
CLASS = "motion-player"


class MotionPlayer(Figure):
    """A figure with the data of an animation."""

    option_spec = {**Figure.option_spec, "data": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Append the data to the figure."""
        env = self.state.document.settings.env
        for option in ("alt", "data"):
            if option not in self.options:
                raise ExtensionError(f"{env.docname}: motion-player needs the option {option!r}")
        name, path = env.relfn2path(self.options.pop("data"))
        env.note_dependency(name)
        try:
            data = json.loads(Path(path).read_text("utf-8"))
            text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        except (OSError, ValueError) as error:
            raise ExtensionError(f"{env.docname}: cannot play {name}: {error}") from error
        text = text.replace("<", "\\u003c")
        script = f'<script type="application/json">{text}</script>'
        parts = super().run()
        for figure in (part for part in parts if isinstance(part, nodes.figure)):
            figure["classes"].append(CLASS)
            figure += nodes.raw("", script, format="html")
        return parts


def _load(app: Sphinx, _page: str, _template: str, _context: dict, doctree: Any) -> None:  # noqa: ANN401
    figures = doctree.findall(nodes.figure) if doctree else ()
    if any(CLASS in figure["classes"] for figure in figures):
        app.add_js_file(SCRIPT, loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("motion-player", MotionPlayer)
    app.connect("html-page-context", _load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
