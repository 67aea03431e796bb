"""Sphinx extension: a page shows a figure that a notebook has drawn.

The directive ``notebook-figure`` takes a notebook and the name of one of its figures, as in
``../notebooks/NAME.ipynb::fig-name``. Picture, alternative text and caption are those stored in
the notebook, so that they cannot differ from the results beside them. All options of ``figure``
may be given, and a caption of the page's own as content.
"""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from PIL import Image
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.util.docutils import SphinxDirective


def read_figure(notebook: Path, name: str) -> tuple[bytes, str, str]:
    """Read a figure from the stored outputs of a notebook.

    Args:
        notebook: the file.
        name: name of the figure in the metadata of its cell.

    Returns:
        PNG file, alternative text and caption.

    Raises:
        ValueError: if no cell has drawn a figure of this name, or it lacks a text.
    """
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        shown = cell["metadata"].get("mystnb", {})
        if shown.get("figure", {}).get("name") != name:
            continue
        alt, caption = shown.get("image", {}).get("alt"), shown["figure"].get("caption")
        if not alt or not caption:
            raise ValueError(
                f"{notebook.name}: the figure {name!r} needs an alt text and a caption"
            )
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                picture = b64decode("".join(output["data"]["image/png"]))
                return picture, alt, caption
    raise ValueError(f"{notebook.name} has no stored figure named {name!r}: run it, or name one")


class NotebookFigureDirective(SphinxDirective, Figure):
    """A figure that lies in a notebook."""

    def run(self) -> list[nodes.Node]:  # noqa: D102
        given, _, name = self.arguments[0].partition("::")
        _, path = self.env.relfn2path(given, self.env.docname)
        self.env.note_dependency(path)
        try:
            picture, alt, caption = read_figure(Path(path), name)
        except (OSError, ValueError) as error:
            raise self.error(str(error)) from error
        copy = Path(self.env.srcdir, "_build/notebook_figures", f"{Path(path).stem}-{name}.png")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(picture)
        # drawn at twice the resolution; with a width it is also a link to itself
        with Image.open(copy) as drawn:
            self.options.setdefault("width", f"{drawn.width // 2}px")
        self.arguments[0] = f"/{copy.relative_to(self.env.srcdir).as_posix()}"
        self.options.setdefault("alt", alt)
        if not self.content:
            self.content = StringList([caption], source=path)
        return super().run()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("notebook-figure", NotebookFigureDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
