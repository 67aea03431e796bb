"""Sphinx extension: mend what the theme leaves to be mended.

For screen readers, every page gets a name for the arrows that open a chapter in the table of
contents, a landmark for the sidebar, and plain cells for the empty heads of tables; the keyboard
reaches data frames, which may scroll. A formula and the mark that follows it stay on one line, as
do a number and its percent sign. The scripts that connect a page with a kernel are left out: no
page has one, and the theme adds them twice. So is the script that draws icons, which a page waits
for: the theme has the same icons in a font.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

CHANGES = (
    (r"<summary>(?=<span class=\"toctree-toggle\")", '<summary aria-label="Pages of this entry">'),
    (
        r'<div class="bd-sidebar-primary bd-sidebar(?P<more>[^"]*)">',
        r'<div class="bd-sidebar-primary bd-sidebar\g<more>" role="navigation" aria-label="Site">',
    ),
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    (
        r'(?<!<span class="unbroken">)(?P<formula><span class="math notranslate nohighlight">'
        r"(?:(?!</span>).)*</span>)(?P<mark>[.,;:)!?]+)",
        r'<span class="unbroken">\g<formula>\g<mark></span>',
    ),
    (r'<div class="output text_html">', '<div class="output text_html" tabindex="0">'),
    (r'(?P<number><span class="pasted-text">[^<]*</span>) %', r"\g<number>&nbsp;%"),
    (r'\s*<script src="[^"]*/fontawesome/[^"]*"></script>', ""),
    (r"<th(?P<of>\b[^>]*)>(?P<inside>\s*(?:<p>\s*</p>)?\s*)</th>", r"<td\g<of>>\g<inside></td>"),
)


def mend(text: str) -> str:
    """Name what has no name.

    Args:
        text: HTML of a page.

    Returns:
        The same page; a second call changes nothing more.
    """
    for old, new in CHANGES:
        text = re.sub(old, new, text, flags=re.DOTALL)
    return text


def _mend_pages(app: Sphinx, failed: Exception | None) -> None:
    if failed or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text("utf-8")
        mended = mend(text)
        if mended != text:
            path.write_text(mended, "utf-8")


def _leave_out_kernels(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    scripts = context["script_files"]
    context["script_files"] = [s for s in scripts if "thebe" not in str(s).lower()]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("html-page-context", _leave_out_kernels, priority=900)
    app.connect("build-finished", _mend_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
