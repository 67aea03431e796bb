"""Claims: what a threshold asserts, how claims are read, and that the pages say no more."""

import json
from pathlib import Path

import claimed_numbers
import claims as extension
import numpy as np
import pandas as pd
import pytest
import torch
from sphinx.errors import ExtensionError
from sphinx_site import build_site

from hvae_course import claims
from hvae_course.claims import ClaimError, Threshold, claim, last_place, read

PROJECT = Path(__file__).parent.parent
PAGES = sorted((PROJECT / "book").glob("*.md"))
MARKED = [page for page in PAGES if page.name[0].isdigit() or page.stem == "results"]


@pytest.fixture(autouse=True)
def _enforced(monkeypatch):
    monkeypatch.setattr(claims, "_record", {})
    claims.enforce(True)
    yield
    claims.enforce(True)


@pytest.fixture(scope="module")
def known():
    return {name: found for name, (_, found) in extension.collect_claims(PROJECT).items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_number_of_a_page_is_asserted_to_the_precision_it_is_printed_with(page, known):
    assert claimed_numbers.unasserted(page, known) == []


@pytest.mark.parametrize(
    "name",
    [
        "06_vhp_priors",
        "07_latent_graphs",
        "08_deep_hierarchies",
        "09_what_likelihood_does_not_see",
        "10_richer_levels",
    ],
)
def test_a_chapter_on_priors_can_be_read_in_one_sitting(name):
    page = PROJECT / f"book/{name}.md"
    assert 1000 < claimed_numbers.count_words(page) <= 2800
    assert 10 < claimed_numbers.count_results(page) <= 60


@pytest.mark.parametrize("page", MARKED, ids=lambda path: path.stem)
def test_every_page_that_reports_results_has_marks(page):
    assert sum(len(s.marks) for s in claimed_numbers.sentences(page)) >= 10


@pytest.mark.parametrize(
    ("threshold", "inside", "outside"),
    [
        ("9.3", [9.25, 9.3, 9.35], [9.24, 9.36, float("nan")]),
        ("-84.4", [-84.44], [84.4, -84.46]),
        ("\N{MINUS SIGN}84.4", [-84.4], [84.4]),
        ("1,200", [1200.4, 1199.5], [1201]),
        ("7 ± 0.5", [6.5, 7.5], [6.4, 7.6]),
        ("0", [0, 0.0], [0.1, 1e-6]),
        ("0.0", [0.04], [0.06]),
        ("< 0.2", [0.19, -3], [0.2]),
        ("<= 0.2", [0.2], [0.21]),
        ("> 4", [4.01], [4]),
        (">= 4", [4], [3.99]),
        ("< 1e-10", [1e-11], [1e-9]),
        ("<= 1e-10", [1e-10], [2e-10]),
        ("1e-10", [1.4e-10], [0, 1.6e-10]),
    ],
)
def test_a_threshold_holds_for_the_values_that_it_names(threshold, inside, outside):
    assert all(Threshold(threshold).holds(value) for value in inside)
    assert not any(Threshold(threshold).holds(value) for value in outside)


@pytest.mark.parametrize(
    "values",
    [[9.3, 9.32], (9.3, [9.31]), np.array([[9.3]]), torch.tensor([9.3, 9.34]), pd.Series([9.27])],
)
def test_all_values_beside_a_threshold_must_meet_it(values):
    assert Threshold("9.3").holds(values)
    assert not Threshold("9.3").holds([9.3, values if not isinstance(values, tuple) else 9.3, 9.5])


def test_a_threshold_without_values_is_refused():
    with pytest.raises(ValueError, match="no value was computed for the threshold '9.3'"):
        Threshold("9.3").holds([])


@pytest.mark.parametrize("text", ["", "about 9", "9.3 +- 1", "< 9 ± 1", "9.3 nats", "1 to 2"])
def test_what_is_not_a_threshold_is_refused(text):
    with pytest.raises(ValueError, match="is not a threshold; write '9.3'"):
        Threshold(text)


def test_the_last_place_of_a_number_is_read_from_its_print():
    printed = {"9": 1.0, "9.30": 0.01, "1,200": 1.0, "2e-3": 1e-3, "2.5e3": 100.0}
    for text, unit in printed.items():
        assert last_place(text) == pytest.approx(unit)


@pytest.mark.parametrize(
    ("threshold", "printed", "expected"),
    [
        ("9.3", "9.3", True),
        ("9.31", "9.3", True),  # more precise than the print
        ("9", "9.0", False),  # less precise
        ("9.5", "9.3", False),
        ("9.3 ± 0.4", "9.6", True),  # the tolerance is stated
        ("9.3 ± 0.4", "9.8", False),
        ("< 0.2", "0.2", True),
        ("< 0.3", "0.2", False),
        ("-84.4", "\N{MINUS SIGN}84.4", True),
        ("3e-10", "1e-10", False),
    ],
)
def test_a_print_is_asserted_by_a_threshold_as_precise(threshold, printed, expected):
    assert Threshold(threshold).asserts(printed) is expected


def test_a_claim_that_holds_is_printed_and_counted(capsys):
    claim("ninety", "it is nine", {"9.0": [8.96, 9.04]}, True, torch.tensor(True))
    assert capsys.readouterr().out == "true:  it is nine\n"
    assert claims.summary() == "1 of 1 claims hold"


def test_a_claim_that_does_not_hold_says_what_was_computed():
    match = r"no longer true \(nine\): it is nine: expected 9.0, computed 8, 9"
    with pytest.raises(ClaimError, match=match):
        claim("nine", "it is nine", {"9.0": [8, 9]})
    with pytest.raises(ClaimError, match="the condition is false"):
        claim("nine", "it is nine", {"9.0": 9}, np.bool_(False))


def test_on_other_data_a_claim_is_reported_only(capsys):
    claims.enforce(False)
    claim("nine", "it is nine", {"9.0": 8})
    assert capsys.readouterr().out == "not so here:  it is nine\n"
    assert claims.summary() == "0 of 1 claims hold; not so here: nine"


@pytest.mark.parametrize("condition", [9.0, 1, "9.3", None, np.array([True, False]), [], {}])
def test_a_condition_that_asserts_nothing_is_refused(condition):
    with pytest.raises(TypeError, match="a condition is a truth value or a table"):
        claim("nine", "it is nine", condition)


def test_a_claim_without_a_condition_is_refused():
    with pytest.raises(TypeError, match="claim 'nine' has no condition"):
        claim("nine", "it is nine")


def write_notebook(path, *sources):
    cells = [{"cell_type": "markdown", "metadata": {}, "source": ["claim(nothing)"]}]
    cells += [{"cell_type": "code", "metadata": {}, "source": s, "outputs": []} for s in sources]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    return path


def test_claims_are_read_without_running_the_notebook(tmp_path):
    path = write_notebook(
        tmp_path / "a.ipynb",
        "%matplotlib inline\nx = 1 / 0",
        'claim(\n    "a",\n    "it is " "nine",\n    {"9.0": y[0], "< 3": y[1]},\n    y > 2,\n)',
    )
    (found,) = read(path)
    assert (found.identifier, found.statement, found.cell) == ("a", "it is nine", 2)
    assert found.conditions == (("y[0]", "9.0"), ("y[1]", "< 3"), ("y > 2", None))
    assert extension.shown_thresholds(found) == "y[0]: 9.0 ± 0.05; y[1]: < 3; y > 2"


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ('claim(f"a{i}", "s", True)', "the identifier of a claim is written out"),
        ('claim("a", s, True)', "the statement of a claim is written out"),
        ('claim("a", "s", {t: 1})', "the threshold of a claim is written out"),
        ('claim("a", "s", {"about 1": 1})', "is not a threshold"),
        ('claim("a", "s", {"1": x, "1": y})', "a table has a threshold twice"),
        ('claim("a", "s", True)\nclaim("a", "t", True)', "two claims are named 'a'"),
    ],
)
def test_a_claim_that_cannot_be_read_is_refused(tmp_path, source, match):
    with pytest.raises(ValueError, match=match):
        read(write_notebook(tmp_path / "a.ipynb", source))


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build a book of one page, with the given text, beside a notebook with the given claims."""

    def run(text, *sources):
        write_notebook(tmp_path / "notebooks/n.ipynb", *sources)
        (tmp_path / "notebooks/n.rst").write_text("Notebook\n========\n")
        page = f"{text}\n\n.. claim-table::\n\n.. toctree::\n\n   notebooks/n\n"
        return build_site(tmp_path, monkeypatch, page=page, settings='extensions = ["claims"]\n')

    return run


def test_a_mark_leads_to_the_cell_and_the_table_back_to_the_mark(build):
    page = build("It is nine.\\ :claim:`a`", 'claim("a", "it is nine", {"9.0": y})')
    assert page.count('href="notebooks/n.html#claim-a"') == 2
    assert 'id="mark-a"' in page and 'href="#mark-a"' in page
    assert "Computed and asserted: it is nine [y: 9.0 ± 0.05]" in page


def test_a_mark_without_a_claim_stops_the_build(build):
    with pytest.raises(ExtensionError, match="index: no claim is named 'b'"):
        build(":claim:`a, b`", 'claim("a", "s", True)')


def test_removing_a_claim_stops_the_next_build_although_no_page_changed(build):
    build(":claim:`a`", 'claim("a", "s", True)')
    with pytest.raises(ExtensionError, match="no claim is named 'a'"):
        build(":claim:`a`", 'claim("b", "s", True)')


def test_an_identifier_used_in_two_notebooks_stops_the_build(tmp_path):
    for name in ("a", "b"):
        write_notebook(tmp_path / f"notebooks/{name}.ipynb", 'claim("same", "s", True)')
    with pytest.raises(ExtensionError, match="notebooks/a and notebooks/b both have 'same'"):
        extension.collect_claims(tmp_path)


PAGE = """
# Title with 5 nats

It has {glue:text}`n.ipynb::size:d` units. The bound is {glue:text}`n.ipynb::bound:.1f` nats for
$K = 7$ and over 3 % larger.{claim}`bound` Chapter 2 says why.

| table | {glue:text}`n.ipynb::bound:.1f` nats |

```{figure} a.png
Caption with {glue:text}`n.ipynb::bound:.1f` nats.
```

```{admonition} Box
Again {glue:text}`n.ipynb::bound:.2f` nats.
```
"""
RESULTS = 'settings = {"size": 3}\nresults = {"bound": -84.44}'


@pytest.mark.parametrize(
    ("conditions", "problems"),
    [
        ('{"-84.4": b, "> 3": c}', []),
        ('{"-84.44": b, "> 3": c}', []),
        ('{"-84 ± 1": b, "> 3": c}', []),
        ('{"-84": b, "> 3": c}', ["bound = -84.4 is not asserted by ['bound']"]),
        ('{"< -84.4": b, "> 3": c}', ["bound = -84.4 is not asserted by ['bound']"]),
        ('{"-84.4": b, "> 2": c}', ["3 is not asserted by ['bound']"]),
        ("b > c", ["bound = -84.4 is not asserted", "3 is not asserted by ['bound']"]),
    ],
)
def test_the_numbers_of_a_marked_sentence_are_held_against_its_claims(
    tmp_path, conditions, problems
):
    page, notebook = tmp_path / "page.md", tmp_path / "n.ipynb"
    page.write_text(PAGE)
    write_notebook(notebook, f'claim("bound", "s", {conditions})')
    found = {c.identifier: c for c in read(notebook)}
    content = json.loads(notebook.read_text())
    outputs = [
        {"data": {"text/plain": text}, "metadata": {"scrapbook": {"name": name}}}
        for name, text in (("size", "3"), ("bound", "-84.44"))
    ]
    cell = {"cell_type": "code", "metadata": {"tags": ["results"]}, "source": RESULTS}
    content["cells"].append(cell | {"outputs": outputs})
    notebook.write_text(json.dumps(content))
    *first, last = claimed_numbers.unasserted(page, found)
    assert last.startswith("bound = -84.44 is quoted without a mark: Again #")
    assert len(first) == len(problems)
    assert all(line.startswith(problem) for line, problem in zip(first, problems, strict=True))


def test_an_unknown_mark_on_a_page_is_a_problem(tmp_path):
    (tmp_path / "page.md").write_text("It is so.{claim}`missing`\n")
    (problem,) = claimed_numbers.unasserted(tmp_path / "page.md", {})
    assert problem.startswith("no claim is named 'missing'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It gains 4 to 5 nats.", ["4", "5"]),
        ("It gains 3\N{EN DASH}5 nats or 2-3 %.", ["3", "5", "2", "3"]),
        ("It has 5, 6, and 7.5 nats.", ["5", "6", "7.5"]),
        ("It has 2 \N{PLUS-MINUS SIGN} 1 nats, **4** nats and a 6-nat gap.", ["2", "1", "4", "6"]),
        ("From -3.1 to \N{MINUS SIGN}2 nats, 1,200 times.", ["-3.1", "\N{MINUS SIGN}2", "1,200"]),
        (r"It is $-84.4$ nats and $5\%$ more; $3 K$ nats.", ["-84.4", "5"]),
        ("It has 5 nats, cf. Table 2, see Fig. 3.", ["5"]),
        ("By IW-100 on 3 seeds, 5 nats.", ["5"]),
        ("````{dropdown} One\n```{seealso}\nIt has 5 nats.{claim}`a`\n```\n````", ["5"]),
        ("```python\n1 nats\n````\n\nIt has 5 nats.", ["5"]),
    ],
)
def test_the_numbers_of_a_sentence_are_those_with_a_unit(tmp_path, text, expected):
    page = tmp_path / "page.md"
    page.write_text(text if "{claim}" in text else text + "{claim}`a`\n")
    (sentence,) = claimed_numbers.sentences(page)
    assert (sentence.literal, sentence.marks) == (expected, ["a"])


def test_words_and_results_are_counted_up_to_the_exercises(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "It has 5 nats for $x$.{claim}`a` Or 4 nats.\n\n| a table |\n\n$$ x = y $$\n\n"
        "## Exercises\n\nOn paper, 6 nats.{claim}`b`\n"
    )
    assert claimed_numbers.count_words(page) == 5 + 3 + 5
    assert claimed_numbers.count_results(page) == 1


def test_two_marks_belong_to_the_sentence_before_them(tmp_path):
    (tmp_path / "page.md").write_text("It has 5 nats.{claim}`a` {claim}`b`\nNext.\n")
    found = claimed_numbers.sentences(tmp_path / "page.md")
    assert [sentence.marks for sentence in found] == [["a", "b"], []]


def test_a_quoted_value_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("It has {glue}`bound` nats.\n")
    with pytest.raises(ValueError, match="page.md: a quoted value is not read: It has"):
        claimed_numbers.sentences(tmp_path / "page.md")
