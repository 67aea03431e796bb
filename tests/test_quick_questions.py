"""Quick questions of the pages."""

import pytest
from sphinx.errors import ExtensionError
from sphinx_site import build_site

SETTINGS = 'extensions = ["sphinx.ext.mathjax", "quick_questions"]\n'
PAGE = """
.. quick-question:: Is :math:`z` used?

   Yes, *always*
      No. It may be ignored.

   Perhaps
      Right: measure it.
"""


def test_every_choice_opens_its_answer(tmp_path, monkeypatch):
    page = build_site(tmp_path, monkeypatch, page=PAGE, settings=SETTINGS)
    box = page.split('<div class="quick-question">')[1].split("</div>")[0]
    assert "math notranslate" in box.split("</p>")[0]
    wrong, right = box.split("<details class=")[1:]
    assert wrong.startswith('"wrong"><summary>Yes, <em>always</em></summary>')
    assert "<p>No. It may be ignored.</p>" in wrong
    assert right.startswith('"right"><summary>Perhaps</summary>')


@pytest.mark.parametrize(("old", "new"), [("Right", "No"), ("No.", "Right."), ("   Perhaps", "")])
def test_a_question_without_right_and_wrong_choices_is_refused(tmp_path, monkeypatch, old, new):
    page = PAGE.replace(old, new)
    if not new:
        page = page.split("\n\n\n")[0]
    with pytest.raises(ExtensionError, match="needs two choices or more"):
        build_site(tmp_path, monkeypatch, page=page, settings=SETTINGS)
