"""The figures of human motion in chapter 7: layouts, poses along paths, and the animation.

Run it after `benchmarks.motion`, as ``make motion`` does. It trains two models of that table
again, with the table's first seed, and writes ``motion_layout.png``, ``motion_poses.png`` and
``motion_paths.json`` to ``book/figures``. The paths are those of the table's first pair for each
of four pairs of motions.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from benchmarks import motion
from benchmarks.motion_player import PlayedPath, player_data
from benchmarks.runs import side_by_side
from hvae_course import plots
from hvae_course.analysis import latent_graph, prune_sparse
from hvae_course.data.kinematics import joint_steps
from hvae_course.files import write_whole

FOLDER = Path(__file__).parent.parent / "book/figures"
MODELS = ("IWAE", "VHP, ReWO")
FROM_TO = (("walking", "running"), ("running", "soccer"), ("jumping", "basketball"))
FROM_TO += (("walking", "jumping"),)
SHOWN = 11
"""Frames of a path in the still."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
"""Of the motions; they differ for every kind of colour vision."""


@torch.no_grad()
def walk(name: str) -> tuple[dict[str, torch.Tensor], list[PlayedPath]]:
    """Train a model, and follow the four paths through its prior: what is drawn."""
    seed = motion.SEEDS[0]
    with torch.enable_grad():
        model, *_ = motion.train({"model": name, "seed": seed})
    motions, poses = motion.recordings()
    torch.manual_seed(0)
    points = prune_sparse(model.top_prior().sample((motion.NODES,)), share=motion.PRUNED)
    codes = model.encode_top(poses.test.pixels).mean
    graph = latent_graph(points, k=motion.NEIGHBOURS)
    labels = poses.test.labels
    pairs = motion.pairs(labels, motion.PAIRS)
    walker = motion.Walker(model, motions, codes[pairs], poses.train.pixels)
    corners, played = {}, []
    for start, end in FROM_TO:
        wanted = torch.tensor([motions.motions.index(start), motions.motions.index(end)])
        same = (labels[pairs].sort(dim=1).values == wanted.sort().values).all(dim=1)
        first = pairs[same][0]
        first = first if labels[first[0]] == wanted[0] else first.flip(0)
        nodes = walker.nodes(graph, codes[first])
        if nodes is None:
            raise ValueError(f"no path of {name} joins {start} and {end}")
        frames = walker.decode(nodes)
        steps = joint_steps(motions.rotations(frames)).amax(dim=1)
        played.append(
            PlayedPath(name, "graph", start, end, motions.positions(frames), steps.double())
        )
        corners[f"path {start} {end}"] = nodes
    edges = torch.tensor(list(graph.graph.edges))
    return {"points": points, "edges": edges, "codes": codes} | corners, played


def draw_layout(axes: Axes, name: str, drawn: dict[str, torch.Tensor]) -> None:
    """The graph on prior samples, codes of the test recordings, and the four paths."""
    motions, poses = motion.recordings()
    paths = [nodes for key, nodes in drawn.items() if key.startswith("path")]
    plots.latent_graph(drawn["points"], drawn["edges"].tolist(), axes=axes)
    for label, (kind, colour) in enumerate(zip(motions.motions, COLOURS, strict=True)):
        codes = drawn["codes"][poses.test.labels == label]
        axes.scatter(*codes.T, s=4, color=colour, label=kind, zorder=2)
    for nodes in paths:
        axes.plot(*nodes.T, color="white", lw=3.2, zorder=3)
        axes.plot(*nodes.T, color="black", lw=1.6, zorder=4)
        axes.plot(*nodes[[0, -1]].T, "o", color="black", mec="white", ms=6, zorder=5)
    axes.set_title(name)


def main() -> None:
    """Train the two models and write the figures."""
    found = {}
    for name, ended in side_by_side(walk, MODELS, processes=len(MODELS)):
        found[name] = ended.result()
    motions, _ = motion.recordings()
    FOLDER.mkdir(exist_ok=True)

    figure, axes = plt.subplots(1, 2, figsize=(7.6, 4.4), layout="constrained")
    for panel, name in zip(axes, MODELS, strict=True):
        draw_layout(panel, name, found[name][0])
    handles, labels = axes[0].get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": len(labels)}
    figure.legend(handles, labels, **place, markerscale=3, frameon=False)
    figure.savefig(FOLDER / "motion_layout.png", dpi=160, facecolor="white")

    played = [path for name in MODELS for path in found[name][1]]
    first = torch.linspace(0, motion.FRAMES - 1, SHOWN).long()
    shown = [found[name][1][i] for i in (1, 2) for name in MODELS]
    marks = []
    for path in shown:  # a box where a joint jumps between this frame and the one before it
        jumped = torch.cat([torch.zeros(1, dtype=torch.bool), path.steps > motion.JUMP])
        parts = zip([0, *(first[:-1] + 1).tolist()], (first + 1).tolist(), strict=True)
        marks.append(torch.stack([jumped[a:b].any() for a, b in parts]))
    body = motions.body
    drawing = plots.stick_figures(
        torch.stack([path.positions[first] for path in shown]),
        body.parents,
        names=body.names,
        marked=torch.stack(marks),
        labels=[f"{path.model}: {path.start} to {path.end}" for path in shown],
    )
    drawing.figure.savefig(FOLDER / "motion_poses.png", dpi=160, facecolor="white")

    content = json.dumps(player_data(played, body.names, body.parents, jump=motion.JUMP)) + "\n"
    write_whole(FOLDER / "motion_paths.json", lambda file: file.write(content.encode()))


if __name__ == "__main__":
    main()
