"""Sphinx extension: a figure that a reader can play with where scripts are on.

The directive ``explorer`` is a figure whose image is shown where scripts are off. Its options are
those of ``figure`` and

- ``script``: the file in ``_static`` that puts the explorer in place of the image, after the files
  that it needs, with spaces between. Only pages with such an explorer load them. The last name,
  without its suffix, is the class of the figure: the script looks for ``figure.NAME``, with
  hyphens for underscores.
- ``data``: a JSON file, beside the page, of what the script shows. It goes into the page, so that
  the explorer works from a server and from the file system.

An explorer without alt text, or without data or a script that can be read, ends the build.
"""

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.errors import ExtensionError

STATIC = Path(__file__).parent.parent / "_static"


class Explorer(Figure):
    """A figure with a script and its data."""

    option_spec = {
        **Figure.option_spec,
        "script": directives.unchanged_required,
        "data": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Append the data to the figure."""
        env = self.state.document.settings.env
        for option in ("alt", "script"):
            if option not in self.options:
                raise ExtensionError(f"{env.docname}: explorer needs the option {option!r}")
        scripts = self.options.pop("script").split()
        for script in scripts:
            if not (STATIC / script).is_file():
                raise ExtensionError(f"{env.docname}: explorer finds no script _static/{script}")
        text = self._data(env, self.options.pop("data")) if "data" in self.options else None
        parts = super().run()
        for figure in (part for part in parts if isinstance(part, nodes.figure)):
            figure["explorer"] = scripts
            figure["classes"].append(Path(scripts[-1]).stem.replace("_", "-"))
            if text is not None:
                text = text.replace("<", "\\u003c")
                raw = f'<script type="application/json">{text}</script>'
                figure += nodes.raw("", raw, format="html")
        return parts

    def _data(self, env: Any, given: str) -> str:  # noqa: ANN401
        name, path = env.relfn2path(given)
        env.note_dependency(name)
        try:
            data = json.loads(Path(path).read_text("utf-8"))
            return json.dumps(data, separators=(",", ":"), allow_nan=False)
        except (OSError, ValueError) as error:
            raise ExtensionError(f"{env.docname}: explorer cannot show {name}: {error}") from error


def _load(app: Sphinx, _page: str, _template: str, _context: dict, doctree: Any) -> None:  # noqa: ANN401
    figures = doctree.findall(nodes.figure) if doctree else ()
    scripts = [script for figure in figures for script in figure.get("explorer", ())]
    for script in dict.fromkeys(scripts):  # once each, in their order, before the formulas
        app.add_js_file(script, loading_method="defer", priority=400)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("explorer", Explorer)
    app.connect("html-page-context", _load)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
