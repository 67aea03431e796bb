"""Graphical models of the course as SVG, in one visual language.

Circles are random variables, filled where they are observed; boxes are deterministic features and
diamonds deterministic operations; a dot is a parameter. Solid arrows belong to the prior and to
generation, dashed ones to the posterior and to inference, thin ones to a deterministic path.
Colours come from the classes of ``course.css``, so that a graph follows the theme of its page.

A graphical model is a tuple of panels, and :data:`GRAPHS` holds all of them by name. Rows are
counted from the data upward, columns from the left.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

COLUMN, ROW = 84, 80
"""Distance of two columns and of two rows, pixels."""
RADIUS, NAME_SIZE, LABEL_SIZE = 20, 20, 16
"""Radius of a circle, size of the name in it and size of other text, pixels."""
HEAD, GAP = 9, 2
"""Length of an arrow's head, and its distance from the node it points at, pixels."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Node:
    """A variable of a graph.

    Attributes:
        name: what stands in it, such as ``z_1``; edges refer to it.
        column: from the left.
        row: from the data upward.
        kind: what it is; dots stand for "and so on".
        note: text to the right, such as the density of a variable without parents.
    """

    name: str
    column: float
    row: float
    kind: Literal["latent", "observed", "feature", "operation", "parameter", "dots"] = "latent"
    note: str = ""

    @property
    def centre(self) -> Point:
        """Position in pixels; SVG counts from the top."""
        return COLUMN * self.column, -ROW * self.row

    @property
    def half_width(self) -> float:
        """Half the width of the shape, pixels."""
        sizes = {"parameter": 5, "dots": 12, "operation": RADIUS + 3}
        if self.kind == "feature":
            return max(RADIUS, 0.5 * width(self.name, NAME_SIZE) + 8)
        return sizes.get(self.kind, RADIUS)

    def contains(self, point: Point) -> bool:
        """Whether a point lies in the shape or closer to it than the gap before an arrow.

        Args:
            point: x and y, pixels.
        """
        x, y = (abs(p - c) for p, c in zip(point, self.centre, strict=True))
        if self.kind == "feature":
            return x < self.half_width + GAP and y < RADIUS - 2 + GAP
        if self.kind == "operation":
            return x + y < self.half_width + 1.5 * GAP
        return math.hypot(x, y) < self.half_width + GAP


@dataclass(frozen=True)
class Edge:
    """An arrow from one node to another.

    Attributes:
        kind: prior, posterior or deterministic path.
        start: name of a node.
        end: name of a node.
        label: text beside the arrow.
        side: where the text stands.
        bend: how far the arrow bends to its right, as a share of its length; negative to its left.
    """

    kind: Literal["prior", "posterior", "path"]
    start: str
    end: str
    label: str = ""
    side: Literal["left", "right", "above", "below"] = "right"
    bend: float = 0.0


@dataclass(frozen=True)
class Panel:
    """One graph with its title and its description in words.

    Attributes:
        title: above the graph.
        description: the graph in words, for readers who do not see it.
        nodes: the variables.
        edges: the arrows.
    """

    title: str
    description: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def _runs(text: str) -> list[tuple[str, int]]:
    """Pieces of a formula, and for each whether it stands below (1), above (-1) or on the line."""
    pieces = re.findall(r"([_^])(?:\{(.*?)\}|(.))|([^_^]+)", text)
    below = {"_": 1, "^": -1, "": 0}
    return [(group or single or plain, below[mark]) for mark, group, single, plain in pieces]


def width(text: str, size: float) -> float:
    """Estimated width of a formula.

    Args:
        text: such as ``q(z_1 | x)``.
        size: of the letters, pixels.

    Returns:
        Pixels.
    """
    return sum(0.5 * size * (0.7 if shift else 1) * len(piece) for piece, shift in _runs(text))


def formula(text: str) -> str:
    """A formula as ``tspan`` elements: letters in italics, real subscripts.

    Args:
        text: such as ``q(z_1 | x)`` or ``z_{>l}``.

    Returns:
        SVG.
    """
    parts, lowered = [], 0.0
    for piece, shift in _runs(text):
        level = {0: 0.0, 1: 0.25, -1: -0.35}[shift]
        for letters, signs in re.findall(r"((?:[a-zA-Zα-ω]\u0303?)+)|([^a-zA-Zα-ω]+)", piece):
            style = "" if signs else ' font-style="italic"'
            # a shift is in units of the piece's own size
            size = 0.7 if shift else 1.0
            move = f' dy="{(level - lowered) / size:.3g}em"' if level != lowered else ""
            small = ' font-size="70%"' if shift else ""
            parts.append(f"<tspan{style}{small}{move}>{escape(letters or signs)}</tspan>")
            lowered = level
    return "".join(parts)


def _text(
    text: str, x: float, y: float, *, anchor: str = "start", size: float, look: str = ""
) -> str:
    look = f' class="{look}"' if look else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text{look} {place}>{formula(text)}</text>"


def _draw_node(node: Node) -> str:
    x, y = node.centre
    half = node.half_width
    size = min(NAME_SIZE, round(1.3 * NAME_SIZE * RADIUS / width(node.name, NAME_SIZE)))
    if node.kind == "feature":
        size = NAME_SIZE
    name = _text(node.name, x, y + 6, anchor="middle", size=size)
    note = ""
    if node.note:
        note = _text(node.note, x + half + 8, y + 5, size=LABEL_SIZE, look="prior")
    if node.kind == "parameter":
        dot = f'<circle class="parameter" cx="{x}" cy="{y}" r="{half}"/>'
        return dot + _text(node.name, x, y - 12, anchor="middle", size=NAME_SIZE)
    if node.kind == "dots":
        across = node.name.startswith("⋯")
        dots = (
            f'<circle cx="{x + step * across}" cy="{y + step * (not across)}" r="1.8"/>'
            for step in (-7, 0, 7)
        )
        return f'<g class="dots">{"".join(dots)}</g>'
    if node.kind == "feature":
        high = RADIUS - 2
        size = f'width="{2 * half:.1f}" height="{2 * high}" rx="6"'
        return f'<rect class="feature" x="{x - half:.1f}" y="{y - high}" {size}/>{name}{note}'
    if node.kind == "operation":
        corners = f"{x - half},{y} {x},{y - half} {x + half},{y} {x},{y + half}"
        return f'<polygon class="operation" points="{corners}"/>{name}{note}'
    return f'<circle class="{node.kind}" cx="{x}" cy="{y}" r="{half}"/>{name}{note}'


def _leaves(inside: Callable[[float], bool]) -> float:
    """The share of a way at which it leaves a shape that it starts in."""
    low, high = 0.0, 0.6
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) else (low, middle)
    return high


def _draw_edge(edge: Edge, nodes: dict[str, Node]) -> tuple[str, list[Point]]:
    """An arrow as SVG, and points that its panel has to hold."""
    start, end = nodes[edge.start], nodes[edge.end]
    (x0, y0), (x1, y1) = start.centre, end.centre
    # control point of a quadratic curve; the curve's middle is half as far from the chord
    side = (-(y1 - y0), x1 - x0)
    xc, yc = (
        (a + b) / 2 + 2 * edge.bend * s for a, b, s in zip((x0, y0), (x1, y1), side, strict=True)
    )

    def at(t: float) -> Point:
        weights = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
        return tuple(
            sum(w * p for w, p in zip(weights, places, strict=True))
            for places in ((x0, xc, x1), (y0, yc, y1))
        )

    first = _leaves(lambda t: start.contains(at(t)))
    last = 1 - _leaves(lambda t: end.contains(at(1 - t)))
    tip, before = at(last), at(last - 0.02)
    along = math.dist(tip, before)
    ux, uy = (tip[0] - before[0]) / along, (tip[1] - before[1]) / along
    base = (tip[0] - HEAD * ux, tip[1] - HEAD * uy)
    wings = [(base[0] - s * 4.5 * uy, base[1] + s * 4.5 * ux) for s in (1, -1)]
    begin = at(first)
    # the control point of the part from `first` to `last` lies on both of its tangents
    a, b = first, last
    control = tuple(
        (1 - a) * (1 - b) * p + (a + b - 2 * a * b) * c + a * b * q
        for p, c, q in zip((x0, y0), (xc, yc), (x1, y1), strict=True)
    )
    line = "M{:.1f} {:.1f}Q{:.1f} {:.1f} {:.1f} {:.1f}".format(*begin, *control, *base)
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (tip, *wings))
    parts = [f'<path d="{line}"/><polygon points="{corners}"/>']
    reach = [at(t / 8) for t in range(9)]
    if edge.label:
        x, y = at(0.5)
        space = width(edge.label, LABEL_SIZE)
        # beside a slanting arrow half the height of the text needs room too
        aside = 8 + 9 * min(1, abs(x1 - x0) / max(abs(y1 - y0), 1))
        moves = {
            "left": (-aside, 5, "end"),
            "right": (aside, 5, "start"),
            "above": (0, -9, "middle"),
            "below": (0, 20, "middle"),
        }
        dx, dy, anchor = moves[edge.side]
        parts.append(_text(edge.label, x + dx, y + dy, anchor=anchor, size=LABEL_SIZE))
        left = {"end": space, "start": 0, "middle": space / 2}[anchor]
        reach += [(x + dx - left, y + dy), (x + dx - left + space, y + dy)]
    return f'<g class="{edge.kind}">{"".join(parts)}</g>', reach


def draw(panel: Panel) -> str:
    """A panel as SVG of its natural size.

    Args:
        panel: what to draw.

    Returns:
        SVG text, which takes its colours from the page.

    Raises:
        ValueError: if the panel has no description, or an edge refers to a node that it lacks.
    """
    if not panel.description:
        raise ValueError(
            f"the panel {panel.title!r} has no description: say in words what it shows"
        )
    nodes = {node.name: node for node in panel.nodes}
    for edge in panel.edges:
        for name in {edge.start, edge.end} - nodes.keys():
            raise ValueError(
                f"the panel {panel.title!r} has an edge at {name!r}, which is not among its nodes "
                f"{sorted(nodes)}: add the node, or name another"
            )
    arrows, reach = [], []
    for edge in panel.edges:
        arrow, points = _draw_edge(edge, nodes)
        arrows.append(arrow)
        reach += points
    for node in panel.nodes:
        (x, y), half = node.centre, node.half_width
        noted = width(node.note, LABEL_SIZE) + 8 if node.note else 0
        reach += [(x - half, y - RADIUS), (x + half + noted, y + RADIUS)]
        if node.kind == "parameter":
            reach.append((x, y - RADIUS - 12))
    left, right = min(x for x, _ in reach) - 4, max(x for x, _ in reach) + 4
    top, bottom = min(y for _, y in reach) - 4, max(y for _, y in reach) + 4
    size = f"{left:.0f} {top:.0f} {right - left:.0f} {bottom - top:.0f}"
    return (
        f'<svg role="img" aria-label="{escape(panel.description)}" viewBox="{size}" '
        f'width="{right - left:.0f}" height="{bottom - top:.0f}">'
        f"{''.join(arrows)}{''.join(map(_draw_node, panel.nodes))}</svg>"
    )


KEYS = {
    "latent": ("latent", '<circle class="latent" cx="9" cy="9" r="8"/>'),
    "observed": ("observed", '<circle class="observed" cx="9" cy="9" r="8"/>'),
    "feature": ("feature", '<rect class="feature" x="1" y="2" width="16" height="14" rx="4"/>'),
    "operation": ("product", '<polygon class="operation" points="1,9 9,1 17,9 9,17"/>'),
    "parameter": ("learned input", '<circle class="parameter" cx="9" cy="9" r="4"/>'),
    "prior": ("prior, generation", ""),
    "posterior": ("posterior, inference", ""),
    "path": ("deterministic", ""),
}
"""Entries of the legend: their text and, for nodes, their picture."""
ARROW = '<g class="{}"><path d="M1 9H25"/><polygon points="33,9 24,4.5 24,13.5"/></g>'


def legend(panels: tuple[Panel, ...]) -> str:
    """The legend of a graphical model, in the same words everywhere.

    Args:
        panels: of the graphical model; the legend explains what occurs in them.

    Returns:
        HTML.
    """
    used = {part.kind for panel in panels for part in (*panel.nodes, *panel.edges)}
    operations = {
        node.name for panel in panels for node in panel.nodes if node.kind == "operation"
    }
    entries = []
    for kind, (text, picture) in KEYS.items():
        if kind in used:
            text = "operation" if kind == "operation" and operations != {"×"} else text
            wide = 18 if picture else 34
            picture = picture or ARROW.format(kind)
            svg = f'<svg aria-hidden="true" viewBox="0 0 {wide} 18" width="{wide}" height="18">'
            entries.append(f"<span>{svg}{picture}</svg>{text}</span>")
    return f'<p class="key">{"".join(entries)}</p>'


def graphical_model(name: str) -> str:
    """A graphical model with its legend.

    Args:
        name: one of :data:`GRAPHS`.

    Returns:
        HTML with one SVG for each panel.

    Raises:
        ValueError: if there is no such model.
    """
    if name not in GRAPHS:
        raise ValueError(f"no graphical model is named {name!r}; choose one of {sorted(GRAPHS)}")
    panels = "".join(
        f'<div class="panel"><p class="title">{escape(panel.title)}</p>{draw(panel)}</div>'
        for panel in GRAPHS[name]
    )
    return f'<div class="panels">{panels}</div>{legend(GRAPHS[name])}'


def _latent(name: str, column: float, row: float, note: str = "") -> Node:
    return Node(name, column, row, "latent", note)


def _data(column: float = 0, row: float = 0, name: str = "x") -> Node:
    return Node(name, column, row, "observed")


def _feature(name: str, column: float, row: float) -> Node:
    return Node(name, column, row, "feature")


Z2, Z1 = _latent("z_2", 0, 2), _latent("z_1", 0, 1)
TWO_LEVELS = (_latent("z_2", 0, 2, "p(z_2)"), Z1, _data())
GENERATION = Panel(
    "generation",
    "Generation with two levels: an arrow leads from z 2 down to z 1, p of z 1 given z 2, and "
    "one from z 1 down to the observed x, p of x given z 1. z 2 has the prior p of z 2.",
    TWO_LEVELS,
    (
        Edge("prior", "z_2", "z_1", "p(z_1 | z_2)"),
        Edge("prior", "z_1", "x", "p(x | z_1)"),
    ),
)
BOTTOM_UP = Panel(
    "bottom-up inference",
    "Bottom-up inference: a dashed arrow leads from x up to z 1, q of z 1 given x, and one from "
    "z 1 up to z 2, q of z 2 given z 1. No arrow leads from x to z 2.",
    (Z2, Z1, _data()),
    (
        Edge("posterior", "x", "z_1", "q(z_1 | x)"),
        Edge("posterior", "z_1", "z_2", "q(z_2 | z_1)"),
    ),
)
MEAN_FIELD = Panel(
    "mean field",
    "Mean-field inference: one dashed arrow leads from x to z 1, q of z 1 given x, and another "
    "around z 1 to z 2, q of z 2 given x. No arrow joins z 1 and z 2.",
    (Z2, Z1, _data()),
    (
        Edge("posterior", "x", "z_1", "q(z_1 | x)", "left"),
        Edge("posterior", "x", "z_2", "q(z_2 | x)", bend=0.3),
    ),
)
TOP_DOWN = Panel(
    "top-down inference",
    "Top-down inference: a dashed arrow leads from x around z 1 to z 2, q of z 2 given x. Then z "
    "1 is drawn given both: dashed arrows lead from z 2 down and from x up to z 1.",
    (Z2, Z1, _data()),
    (
        Edge("posterior", "x", "z_2", "q(z_2 | x)", bend=0.3),
        Edge("posterior", "x", "z_1"),
        Edge("posterior", "z_2", "z_1", "q(z_1 | z_2, x)", "left"),
    ),
)

FEATURES = (_feature("d_2", 0, 2), _feature("d_1", 0, 1), _data())
UPWARD = (Edge("path", "x", "d_1"), Edge("path", "d_1", "d_2"))
TOP_DOWN_FEATURES = Panel(
    "top-down inference",
    "Top-down inference through features: thin arrows lead from x up to a box d 1 and on to a "
    "box d 2, without draws. A dashed arrow leads from d 2 to z 2; dashed arrows lead from d 1 "
    "and from z 2 to z 1.",
    (*FEATURES, _latent("z_2", 1.5, 2), _latent("z_1", 1.5, 1)),
    (
        *UPWARD,
        Edge("posterior", "d_2", "z_2", "q(z_2 | x)", "above"),
        Edge("posterior", "d_1", "z_1", "q(z_1 | x, z_2)", "below"),
        Edge("posterior", "z_2", "z_1"),
    ),
)
DELTA_NODES = (
    *FEATURES,
    _feature("Δ_2", 1.1, 2),
    _feature("Δ_1", 1.1, 1),
    _latent("z_2", 2.2, 2, "p(z_2)"),
    _latent("z_1", 2.2, 1),
)
BLIND_EDGES = (
    *UPWARD,
    Edge("path", "d_2", "Δ_2"),
    Edge("path", "d_1", "Δ_1"),
    Edge("posterior", "Δ_2", "z_2"),
    Edge("posterior", "Δ_1", "z_1"),
    Edge("prior", "z_2", "z_1", "p(z_1 | z_2)"),
)
BLIND = Panel(
    "a blind delta",
    "A blind delta: thin arrows lead from x up through the features d 1 and d 2, and from each "
    "to a correction, Delta 1 and Delta 2. z 2 joins its prior with the dashed arrow from Delta "
    "2. z 1 joins the prior of z 1 given z 2 with the dashed arrow from Delta 1, which reads d 1 "
    "alone.",
    DELTA_NODES,
    BLIND_EDGES,
)
DELTA = Panel(
    "inference by deltas",
    "Inference by deltas: thin arrows lead from x up through the features d 1 and d 2, and from "
    "each to a correction, Delta 1 and Delta 2. z 2 joins its prior with the dashed arrow from "
    "Delta 2. z 1 joins the prior of z 1 given z 2 with the dashed arrow from Delta 1, which "
    "reads d 1 and, through one more thin arrow, z 2.",
    DELTA_NODES,
    (*BLIND_EDGES, Edge("path", "z_2", "Δ_1")),
)
LADDER = Panel(
    "inference by a merge",
    "Inference by a merge: thin arrows lead from x up through the features d 1 and d 2, and from "
    "each to a message with mean m and variance v. The upper message gives z 2 directly. At the "
    "lower level a diamond multiplies two Gaussians, the message about z 1, dashed, and the "
    "prior of z 1 given z 2, solid; a dashed arrow leads from the product to z 1.",
    (
        _feature("d_2", 0, 2.3),
        _feature("d_1", 0, 1.15),
        _data(),
        _feature("m_2, v_2", 1.1, 2.3),
        _feature("m_1, v_1", 1.1, 1.15),
        _latent("z_2", 2.9, 2.3),
        Node("×", 2.9, 1.15, "operation"),
        _latent("z_1", 2.9, 0),
    ),
    (
        *UPWARD,
        Edge("path", "d_2", "m_2, v_2"),
        Edge("path", "d_1", "m_1, v_1"),
        Edge("posterior", "m_2, v_2", "z_2", "q(z_2 | x)", "above"),
        Edge("posterior", "m_1, v_1", "×", "q\u0303(z_1 | x)", "above"),
        Edge("prior", "z_2", "×", "p(z_1 | z_2)", "left"),
        Edge("posterior", "×", "z_1", "q(z_1 | x, z_2)", "left"),
    ),
)
CONCATENATION = Panel(
    "concatenation",
    "Concatenation: thin arrows lead from x up through the features d 1 and d 2. One network "
    "computes z 2 from d 2, another z 1 from d 1 and z 2 together, all by dashed arrows.",
    TOP_DOWN_FEATURES.nodes,
    TOP_DOWN_FEATURES.edges,
)

WALK_GENERATION = Panel(
    "generation: the walk down",
    "Generation with three levels and states: z 3 is drawn from its prior and written into the "
    "state h 2, from which z 2 is drawn. h 2 and z 2 lead to the state h 1, from which z 1 is "
    "drawn, h 1 and z 1 to h 0, from which x is drawn. Writing is deterministic, drawing is the "
    "prior's.",
    (
        _latent("z_3", 0, 3),
        _latent("z_2", 0, 2),
        Z1,
        _data(),
        *(_feature(f"h_{l}", 1.1, l) for l in (2, 1, 0)),
    ),
    (
        *(Edge("path", f"z_{l + 1}", f"h_{l}") for l in (2, 1, 0)),
        *(Edge("path", f"h_{l + 1}", f"h_{l}") for l in (1, 0)),
        *(Edge("prior", f"h_{l}", f"z_{l}" if l else "x") for l in (2, 1, 0)),
    ),
)
WALK_INFERENCE = Panel(
    "inference: the way up, then the same walk",
    "Inference with three levels: thin arrows lead from x up through the features d 1, d 2 and d "
    "3. Then the same walk leads down: z 3 is drawn given d 3, z 2 given d 2 and the state h 2, "
    "z 1 given d 1 and the state h 1, by dashed arrows; thin arrows write z 3 into h 2, and h 2 "
    "and z 2 into h 1.",
    (
        *(_feature(f"d_{l}", 0, l) for l in (3, 2, 1)),
        _data(),
        *(_latent(f"z_{l}", 1.1, l) for l in (3, 2, 1)),
        *(_feature(f"h_{l}", 2.2, l) for l in (2, 1)),
    ),
    (
        *UPWARD,
        Edge("path", "d_2", "d_3"),
        *(Edge("posterior", f"d_{l}", f"z_{l}") for l in (3, 2, 1)),
        *(Edge("path", f"z_{l + 1}", f"h_{l}") for l in (2, 1)),
        Edge("path", "h_2", "h_1"),
        *(Edge("posterior", f"h_{l}", f"z_{l}") for l in (2, 1)),
    ),
)

MANY = (
    _latent("z_L", 0, 3.5),
    Node("⋮", 0, 2.75, "dots"),
    Z2,
    Z1,
    _data(),
)
MANY_GENERATION = Panel(
    "generation",
    "Generation with L levels: arrows lead from z L down, level by level, to z 2, from z 2 to z "
    "1, p of z 1 given z 2, and from z 1 to the observed x, p of x given z 1.",
    MANY,
    (
        Edge("prior", "z_L", "⋮"),
        Edge("prior", "⋮", "z_2"),
        Edge("prior", "z_2", "z_1", "p(z_1 | z_2)"),
        Edge("prior", "z_1", "x", "p(x | z_1)"),
    ),
)
MANY_INFERENCE = Panel(
    "bottom-up inference",
    "Bottom-up inference with L levels: dashed arrows lead from x up to z 1, q of z 1 given x, "
    "from z 1 to z 2, q of z 2 given z 1, and on, level by level, to z L.",
    MANY,
    (
        Edge("posterior", "x", "z_1", "q(z_1 | x)"),
        Edge("posterior", "z_1", "z_2", "q(z_2 | z_1)"),
        Edge("posterior", "z_2", "⋮"),
        Edge("posterior", "⋮", "z_L"),
    ),
)
DENOISING = Panel(
    "generation: learned",
    "Generation in a diffusion model: arrows lead from pure noise, z L, down through many levels "
    "to z 2, z 1 and x. Every step is learned.",
    MANY,
    MANY_GENERATION.edges,
)
NOISING = Panel(
    "inference: fixed noise",
    "Inference in a diffusion model: dashed arrows lead from x up through z 1, z 2 and many more "
    "levels to z L. Every step shrinks the level below and adds noise; nothing is learned.",
    MANY,
    MANY_INFERENCE.edges,
)

JOINT_SAMPLE = Panel(
    "a joint sample",
    "A joint sample: dashed arrows lead from x to z 1 and from this z 1 to z 2. A solid arrow "
    "leads from z 2 back to the same z 1, at which p of z 1 given z 2 is evaluated.",
    (Z2, Z1, _data()),
    (
        Edge("posterior", "x", "z_1", "q(z_1 | x)"),
        Edge("posterior", "z_1", "z_2", "q(z_2 | z_1)", bend=0.16),
        Edge("prior", "z_2", "z_1", "p(z_1 | z_2)", "left", bend=0.16),
    ),
)
SECOND_DRAW = Panel(
    "the closed form",
    "The closed form: dashed arrows lead from x to z 1 and from this z 1 to z 2, and another "
    "from x to a second draw, z 1 prime. A solid arrow leads from z 2 to the second draw, at "
    "which p of z 1 given z 2 is evaluated.",
    (_latent("z_2", 0.8, 2), _latent("z_1", 1.6, 1), _latent("z_1′", 0, 1), _data(0.8)),
    (
        Edge("posterior", "x", "z_1", "q(z_1 | x)"),
        Edge("posterior", "z_1", "z_2", "q(z_2 | z_1)"),
        Edge("posterior", "x", "z_1′", "q(z_1 | x)", "left"),
        Edge("prior", "z_2", "z_1′", "p(z_1 | z_2)", "left"),
    ),
)
SHARED_CAUSE = Panel(
    "generation with a shared cause",
    "Generation with a shared cause: arrows lead from one z 2 down to z 1 1, and so on to z 1 D, "
    "and from each of these down to one coordinate of the observed x, x 1 to x D.",
    (
        _latent("z_2", 0.9, 2, "p(z_2)"),
        _latent("z_{1,1}", 0, 1),
        Node("⋯", 0.9, 1, "dots"),
        _latent("z_{1,D}", 1.8, 1),
        _data(0, name="x_1"),
        Node("⋯ ", 0.9, 0, "dots"),
        _data(1.8, name="x_D"),
    ),
    (
        Edge("prior", "z_2", "z_{1,1}"),
        Edge("prior", "z_2", "⋯"),
        Edge("prior", "z_2", "z_{1,D}"),
        Edge("prior", "z_{1,1}", "x_1"),
        Edge("prior", "z_{1,D}", "x_D"),
    ),
)
SKIP_GENERATION = Panel(
    "a decoder that sees both levels",
    "Generation with a skip: arrows lead from z 2 to z 1, from z 1 to x, and from z 2 past z 1 "
    "to x.",
    TWO_LEVELS,
    (
        Edge("prior", "z_2", "z_1"),
        Edge("prior", "z_1", "x"),
        Edge("prior", "z_2", "x", "p(x | z_1, z_2)", bend=-0.3),
    ),
)
SKIP_INFERENCE = Panel(
    "the chain that it needs",
    "Exact bottom-up inference with a skip: dashed arrows lead from x to z 1, from z 1 to z 2, "
    "and from x past z 1 to z 2, q of z 2 given z 1 and x.",
    (Z2, Z1, _data()),
    (
        Edge("posterior", "x", "z_1"),
        Edge("posterior", "z_1", "z_2"),
        Edge("posterior", "x", "z_2", "q(z_2 | z_1, x)", bend=0.3),
    ),
)
BIVA_NODES = (
    _latent("z_2", 0.7, 2),
    _latent("z_1^{BU}", 0, 1),
    _latent("z_1^{TD}", 1.4, 1),
    _data(0.7),
)
BIVA_GENERATION = Panel(
    "generation",
    "Generation in BIVA with two levels: arrows lead from z 2 to both latents of level 1, z 1 "
    "bottom-up and z 1 top-down, and from these and from z 2 to x.",
    BIVA_NODES,
    (
        Edge("prior", "z_2", "z_1^{BU}"),
        Edge("prior", "z_2", "z_1^{TD}"),
        Edge("prior", "z_2", "x"),
        Edge("prior", "z_1^{BU}", "x"),
        Edge("prior", "z_1^{TD}", "x"),
    ),
)
BIVA_INFERENCE = Panel(
    "inference in both directions",
    "Inference in BIVA with two levels: dashed arrows lead up from x to z 1 bottom-up, and from "
    "both to z 2; then down from z 2 to z 1 top-down, to which x and z 1 bottom-up lead as well.",
    BIVA_NODES,
    (
        Edge("posterior", "x", "z_1^{BU}"),
        Edge("posterior", "z_1^{BU}", "z_2"),
        Edge("posterior", "x", "z_2"),
        Edge("posterior", "z_2", "z_1^{TD}"),
        Edge("posterior", "x", "z_1^{TD}"),
        Edge("posterior", "z_1^{BU}", "z_1^{TD}", bend=0.18),
    ),
)

Z = _latent("z", 0, 1)
TOP, ZETA = _latent("i", 0, 2, "π_i"), _latent("ζ", 0, 2, "p(ζ)")
INDEX = _latent("i", 0, 2)
PSEUDO = Node("u_i", 1.1, 1.75, "parameter")
DECODER, ENCODER = (
    Edge("prior", "z", "x", "p(x | z)"),
    Edge("posterior", "x", "z", "q(z | x)"),
)
COMPONENT = Edge("posterior", "u_i", "z", "q(z | u_i)")
ENCODE = Panel(
    "inference",
    "Inference: one dashed arrow leads from x up to z, q of z given x.",
    (Z, _data()),
    (ENCODER,),
)
STANDARD_GENERATION = Panel(
    "generation",
    "Generation with a standard normal prior: an arrow leads from z, whose prior is fixed, down "
    "to the observed x, p of x given z.",
    (_latent("z", 0, 1, "p(z)"), _data()),
    (DECODER,),
)
MIXTURE_GENERATION = Panel(
    "generation",
    "Generation with a mixture prior: an arrow leads from the component i, which has probability "
    "pi i, to z, and one from z to the observed x.",
    (TOP, Z, _data()),
    (Edge("prior", "i", "z", "p(z | i)"), DECODER),
)
VAMP_GENERATION = Panel(
    "generation",
    "Generation with a VampPrior: an arrow leads from the component i to z. The component is the "
    "encoder's: a dashed arrow leads from the learned pseudo-input u i to z, q of z given u i. "
    "An arrow leads from z to the observed x.",
    (INDEX, Z, PSEUDO, _data()),
    (Edge("prior", "i", "z"), COMPONENT, DECODER),
)
VHP_GENERATION = Panel(
    "generation",
    "Generation with a VHP: arrows lead from zeta, with a standard normal prior, down to z, p of "
    "z given zeta, and from z to the observed x, p of x given z.",
    (ZETA, Z, _data()),
    (Edge("prior", "ζ", "z", "p(z | ζ)"), DECODER),
)
VHP_INFERENCE = Panel(
    "inference",
    "Inference with a VHP: dashed arrows lead from x up to z, q of z given x, and from z up to "
    "zeta, q of zeta given z.",
    (_latent("ζ", 0, 2), Z, _data()),
    (ENCODER, Edge("posterior", "z", "ζ", "q(ζ | z)")),
)
BOTH = (Edge("prior", "z", "x", bend=0.14), Edge("posterior", "x", "z", bend=0.14))
PRIORS = (
    Panel(
        "standard normal",
        "Standard normal prior: a solid arrow leads from z down to x and a dashed one back up. "
        "Nothing is above z.",
        (_latent("z", 0, 1, "p(z)"), _data()),
        BOTH,
    ),
    Panel(
        "mixture",
        "Mixture prior: a solid arrow leads from the component i to z; between z and x a solid "
        "arrow leads down and a dashed one up.",
        (TOP, Z, _data()),
        (Edge("prior", "i", "z"), *BOTH),
    ),
    Panel(
        "VampPrior",
        "VampPrior: a solid arrow leads from the component i to z, and a dashed one to z from "
        "the learned pseudo-input u i; between z and x a solid arrow leads down and a dashed one "
        "up.",
        (INDEX, Z, Node("u_i", 0.8, 1.75, "parameter"), _data()),
        (Edge("prior", "i", "z"), Edge("posterior", "u_i", "z"), *BOTH),
    ),
    Panel(
        "VHP",
        "VHP: the continuous zeta stands above z. Between zeta and z, and between z and x, a "
        "solid arrow leads down and a dashed one up.",
        (ZETA, Z, _data()),
        (
            Edge("prior", "ζ", "z", bend=0.14),
            Edge("posterior", "z", "ζ", bend=0.14),
            *BOTH,
        ),
    ),
)

STATE = _feature("h", 0.9, 2)
VDVAE_LEVEL = Panel(
    "one level",
    "One level of a VDVAE. A box h on top is the state, a box d r on the left a feature of x. A "
    "solid arrow, P l, leads from h to z l. Dashed arrows, Q l, lead from d r and from h to z l. "
    "Thin arrows lead to a diamond, a sum: from h, with h + Delta h l, and from z l through W l. "
    "A thin arrow, R l, leads from the sum to a box h prime, the state of the level below.",
    (
        _feature("h", 1, 2.2),
        _feature("d_r", -0.55, 1.15),
        _latent("z_l", 1, 1.15),
        Node("+", 2.3, 1.15, "operation"),
        _feature("h′", 2.3, 0),
    ),
    (
        Edge("posterior", "h", "z_l", "Q_l", "left", bend=0.16),
        Edge("posterior", "d_r", "z_l", "Q_l", "above"),
        Edge("prior", "h", "z_l", "P_l", bend=-0.16),
        Edge("path", "h", "+", "h + Δh_l", bend=-0.14),
        Edge("path", "z_l", "+", "W_l", "below"),
        Edge("path", "+", "h′", "R_l"),
    ),
)
CONV_LADDER = Panel(
    "ladder",
    "Ladder: a solid arrow leads from the state h to a diamond, a product, and a dashed arrow "
    "from the feature d l; a dashed arrow leads from the product to z l. Thin arrows lead from h "
    "and z l to the state h prime below.",
    (
        STATE,
        _feature("d_l", -0.2, 1),
        Node("×", 0.9, 1, "operation"),
        _latent("z_l", 2, 1),
        _feature("h′", 2, 0),
    ),
    (
        Edge("prior", "h", "×"),
        Edge("posterior", "d_l", "×"),
        Edge("posterior", "×", "z_l"),
        Edge("path", "z_l", "h′"),
        Edge("path", "h", "h′", bend=-0.48),
    ),
)
RESNET = Panel(
    "ResNet-VAE",
    "ResNet-VAE with a flow: dashed arrows lead from the feature d l and from the state h to a "
    "diamond, a sum, from there to a diamond f, the flow, and to z l. A solid arrow leads from h "
    "to z l. Thin arrows lead from z l and h to the state h prime below.",
    (
        _feature("h", 1.4, 2),
        _feature("d_l", -0.25, 1),
        Node("+", 0.55, 1, "operation"),
        Node("f", 1.4, 1, "operation"),
        _latent("z_l", 2.3, 1),
        _feature("h′", 2.3, 0),
    ),
    (
        Edge("posterior", "d_l", "+"),
        Edge("posterior", "h", "+"),
        Edge("posterior", "+", "f"),
        Edge("posterior", "f", "z_l"),
        Edge("prior", "h", "z_l"),
        Edge("path", "z_l", "h′"),
        Edge("path", "h", "h′", bend=-0.42),
    ),
)
BIVA_LEVEL = Panel(
    "BIVA",
    "BIVA, two latents per level: solid arrows lead from the state h to z l bottom-up and to z l "
    "top-down. A dashed arrow leads from the feature d l to z l bottom-up, and from there a thin "
    "one to the feature d l+1 above. Dashed arrows lead from h and from d l to z l top-down. "
    "Thin arrows lead from both latents and from h to the state h prime below.",
    (
        _feature("h", 1.3, 2),
        _feature("d_{l+1}", -0.1, 2),
        _feature("d_l", -0.1, 0),
        _latent("z_l^{BU}", 0.5, 1),
        _latent("z_l^{TD}", 2.1, 1),
        _feature("h′", 1.3, 0),
    ),
    (
        Edge("posterior", "d_l", "z_l^{BU}"),
        Edge("path", "z_l^{BU}", "d_{l+1}"),
        Edge("prior", "h", "z_l^{BU}"),
        Edge("prior", "h", "z_l^{TD}", bend=-0.14),
        Edge("posterior", "h", "z_l^{TD}", bend=0.14),
        Edge("posterior", "d_l", "z_l^{TD}"),
        Edge("path", "z_l^{BU}", "h′"),
        Edge("path", "z_l^{TD}", "h′"),
        Edge("path", "h", "h′"),
    ),
)
NVAE_LEVEL = Panel(
    "NVAE",
    "NVAE: a solid arrow leads from the state h to a diamond, a sum, and dashed arrows from a "
    "box, the change Delta, which reads the feature d l and h. A dashed arrow leads from the sum "
    "to z l. Thin arrows lead from z l and h to the state h prime below.",
    (
        _feature("h", 1.3, 2),
        _feature("d_l", -0.25, 2),
        _feature("Δ", 0.3, 1),
        Node("+", 1.3, 1, "operation"),
        _latent("z_l", 2.3, 1),
        _feature("h′", 2.3, 0),
    ),
    (
        Edge("posterior", "d_l", "Δ"),
        Edge("posterior", "h", "Δ"),
        Edge("posterior", "Δ", "+"),
        Edge("prior", "h", "+"),
        Edge("posterior", "+", "z_l"),
        Edge("path", "z_l", "h′"),
        Edge("path", "h", "h′", bend=-0.42),
    ),
)
VDVAE_SHORT = Panel(
    "VDVAE",
    "VDVAE: a solid and a dashed arrow lead from the state h to z l, and a dashed one from the "
    "feature d r, which all levels of a resolution share. Thin arrows lead from z l and h to the "
    "state h prime below.",
    (
        _feature("h", 1, 2),
        _feature("d_r", -0.2, 1),
        _latent("z_l", 1, 1),
        _feature("h′", 1, 0),
    ),
    (
        Edge("posterior", "h", "z_l", bend=0.16),
        Edge("prior", "h", "z_l", bend=-0.16),
        Edge("posterior", "d_r", "z_l"),
        Edge("path", "z_l", "h′"),
        Edge("path", "h", "h′", "h + Δh_l", bend=-0.36),
    ),
)

GRAPHS: dict[str, tuple[Panel, ...]] = {
    "two_level": (GENERATION, BOTTOM_UP),
    "mean_field": (GENERATION, MEAN_FIELD),
    "top_down": (GENERATION, TOP_DOWN_FEATURES),
    "three_families": (BOTTOM_UP, MEAN_FIELD, TOP_DOWN),
    "chain": (MANY_GENERATION, MANY_INFERENCE),
    "trap": (JOINT_SAMPLE, SECOND_DRAW),
    "shared_cause": (SHARED_CAUSE,),
    "delta": (GENERATION, DELTA),
    "blind_delta": (BLIND, replace(DELTA, title="a delta that reads the state")),
    "ladder": (GENERATION, LADDER),
    "bidirectional": (WALK_GENERATION, WALK_INFERENCE),
    "skip": (SKIP_GENERATION, SKIP_INFERENCE),
    "four_rules": (
        replace(BOTTOM_UP, title="chain"),
        CONCATENATION,
        replace(DELTA, title="delta"),
        replace(LADDER, title="merge"),
    ),
    "biva": (BIVA_GENERATION, BIVA_INFERENCE),
    "vdvae_level": (VDVAE_LEVEL,),
    "deep_models": (CONV_LADDER, RESNET, BIVA_LEVEL, NVAE_LEVEL, VDVAE_SHORT),
    "diffusion": (DENOISING, NOISING),
    "standard_prior": (STANDARD_GENERATION, ENCODE),
    "mixture": (MIXTURE_GENERATION, ENCODE),
    "vamp": (VAMP_GENERATION, ENCODE),
    "vhp": (VHP_GENERATION, VHP_INFERENCE),
    "priors": PRIORS,
}
"""The graphical models of the course by name."""
