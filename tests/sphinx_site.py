"""A book of one page, built in the process of the test."""

from pathlib import Path

import pytest
from docutils.parsers.rst import directives, roles
from sphinx.application import Sphinx


def build_site(folder: Path, monkeypatch: pytest.MonkeyPatch, *, page: str, settings: str) -> str:
    """Build ``index.rst`` beside what the folder holds already, and return its HTML."""
    # a second Sphinx in one process registers its directives and roles again and says so
    monkeypatch.setattr(directives, "_directives", dict(directives._directives))
    monkeypatch.setattr(roles, "_roles", dict(roles._roles))
    (folder / "conf.py").write_text(f'html_theme = "basic"\n{settings}')
    (folder / "index.rst").write_text(f"Page\n====\n\n{page}")
    out = folder / "_build"
    Sphinx(folder, folder, out, out / "doctrees", "html", status=None, warning=None).build()
    return (out / "index.html").read_text("utf-8")
