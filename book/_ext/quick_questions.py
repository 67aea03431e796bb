"""Sphinx extension: quick questions, with an answer to every choice.

The directive ``quick-question`` has the question as its argument and a definition list as its
content: a term is a choice, its definition says whether it is right, and why. One definition at
least begins with "Right", the others do not. A reader opens a choice to see its answer, which
needs no script::

    :::{quick-question} How many nats does an unused level carry?
    None
    : Right: its posterior is its prior, so the KL divergence is zero.

    One
    : No. ...
    :::
"""

from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

RIGHT = "Right"


class question(nodes.General, nodes.Element):  # noqa: N801
    """A question with its choices."""


class prompt(nodes.General, nodes.TextElement):  # noqa: N801
    """What is asked."""


class choice(nodes.General, nodes.Element):  # noqa: N801
    """A choice with its answer."""


class offer(nodes.General, nodes.TextElement):  # noqa: N801
    """The text of a choice."""


class QuickQuestion(SphinxDirective):
    """A question with choices that open."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {"name": directives.unchanged}

    def run(self) -> list[nodes.Node]:  # noqa: D102
        asked, messages = self.state.inline_text(self.arguments[0], self.lineno)
        content = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, content)
        items = list(content.findall(nodes.definition_list_item))
        box = question(classes=["quick-question"])
        box += prompt("", "", *asked)
        for item in items:
            (term,), answer = item.findall(nodes.term), next(item.findall(nodes.definition))
            right = answer.astext().startswith(RIGHT)
            box += choice("", offer("", "", *term.children), *answer.children, right=right)
        marks = [part["right"] for part in box.findall(choice)]
        if len(marks) < 2 or not any(marks) or all(marks):
            raise ExtensionError(
                f"{self.env.docname}: the quick question {self.arguments[0]!r} needs two choices "
                f'or more, of which some begin with "{RIGHT}" and some do not, got {marks}'
            )
        self.add_name(box)
        return [box, *messages]


def _visitors(start: str, end: str) -> tuple:
    return (lambda self, _: self.body.append(start), lambda self, _: self.body.append(end))


def _open_choice(translator: Any, node: choice) -> None:  # noqa: ANN401
    kind = "right" if node["right"] else "wrong"
    translator.body.append(f'<details class="{kind}">')


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("quick-question", QuickQuestion)
    app.add_node(question, html=_visitors('<div class="quick-question">\n', "</div>\n"))
    app.add_node(prompt, html=_visitors('<p class="asked">', "</p>\n"))
    app.add_node(choice, html=(_open_choice, _visitors("", "</details>\n")[1]))
    app.add_node(offer, html=_visitors("<summary>", "</summary>\n"))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
