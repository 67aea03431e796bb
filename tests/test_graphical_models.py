"""Graphical models of the pages."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import graphical_models  # noqa: F401  makes book/figures importable
import graphs
import pytest
from sphinx.errors import ExtensionError
from sphinx_site import build_site

SETTINGS = 'extensions = ["graphical_models"]\nnumfig = True\n'
PAGE = """
.. graphical-model:: vhp
   :name: fig-vhp

   A *latent* above the latent.

See :numref:`fig-vhp`.
"""
PANELS = [(name, panel) for name, panels in graphs.GRAPHS.items() for panel in panels]


def every_panel(test):
    """Run a test with every panel of every graphical model."""
    names = [f"{name}: {panel.title}" for name, panel in PANELS]
    return pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=names)(test)


def test_a_page_shows_the_graph_with_its_number(tmp_path, monkeypatch):
    page = build_site(tmp_path, monkeypatch, page=PAGE, settings=SETTINGS)
    figure = re.search(r"<figure.*?</figure>", page, re.DOTALL)[0]
    assert 'id="fig-vhp"' in figure and figure.count("<svg role") == 2
    assert "Fig. 1" in figure and "<em>latent</em>" in figure
    assert 'href="#fig-vhp"' in page.split("</figure>")[1]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("vhp", "VHP", "no graphical model is named 'VHP'.*'two_level'"),
        ("   A *latent* above the latent.", "", "needs one paragraph.*got 0.*'two_level'"),
    ],
)
def test_an_unknown_name_and_a_missing_caption_are_refused(tmp_path, monkeypatch, old, new, match):
    page = PAGE.split("See")[0].replace(old, new, 1)
    with pytest.raises(ExtensionError, match=match):
        build_site(tmp_path, monkeypatch, page=page, settings=SETTINGS)


def test_a_panel_without_description_or_with_a_loose_edge_is_refused():
    panel = graphs.GRAPHS["vhp"][0]
    with pytest.raises(ValueError, match="'generation' has no description"):
        graphs.draw(replace(panel, description=""))
    with pytest.raises(ValueError, match="edge at 'ζ', which is not among its nodes"):
        graphs.draw(replace(panel, nodes=panel.nodes[1:]))


@every_panel
def test_a_description_names_every_variable(panel):
    said = panel.description.replace("Delta", "Δ").replace("zeta", "ζ").lower()
    for node in panel.nodes:
        if node.kind in ("latent", "observed"):
            first, *below = re.findall(r"[a-zζ]|\d", re.sub(r"[′]|\^.*", "", node.name.lower()))
            assert re.search(rf"\b{' '.join([first, *below])}\b", said), node.name


@every_panel
def test_a_panel_fits_on_a_phone_with_everything_that_it_shows(panel):
    svg = ET.fromstring(graphs.draw(panel))
    left, top, width, height = map(float, svg.get("viewBox").split())
    assert width <= 340
    for text in svg.iter("text"):
        x, y = float(text.get("x")), float(text.get("y"))
        assert left <= x <= left + width and top <= y - 8 and y <= top + height
        assert float(text.get("font-size")) >= 16 * width / max(width, 320)


@every_panel
def test_arrows_touch_no_circle_but_their_own(panel):
    nodes = {node.name: node for node in panel.nodes}
    for edge in panel.edges:
        svg = ET.fromstring(graphs.draw(replace(panel, edges=(edge,))))
        line = [float(part) for part in re.findall(r"-?[\d.]+", svg.find("g/path").get("d"))]
        start, control, end = zip(line[::2], line[1::2], strict=True)
        for step in range(21):
            t = step / 20
            weights = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
            rows = zip(start, control, end, strict=True)
            point = tuple(sum(w * p for w, p in zip(weights, row, strict=True)) for row in rows)
            inside = {name for name, node in nodes.items() if node.contains(point)}
            assert inside <= {edge.start, edge.end}, (edge, inside)


@pytest.mark.parametrize(
    ("text", "below"), [("q(z_1 | x)", ["1"]), ("z_{>l}", [">", "l"]), ("p(x)", [])]
)
def test_subscripts_are_small_and_the_line_continues_at_its_height(text, below):
    svg = ET.fromstring(f"<text>{graphs.formula(text)}</text>")
    small = [part.text for part in svg if part.get("font-size")]
    assert small == below
    moved = sum(
        float(part.get("dy", "0em")[:-2]) * (0.7 if part.get("font-size") else 1) for part in svg
    )
    ends_below = bool(below) and text.endswith("}")
    assert moved == pytest.approx(0.25 if ends_below else 0, abs=1e-2)
