"""The figures of the results page, drawn from the committed results alone.

The SVG files are the same in every run of one version of Matplotlib: the salt of their names is
fixed, and they carry no date.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.likelihood_models import BENCHMARKS, DEPTHS, FAMILIES
from benchmarks.page.records import Results, Row, by_depth, compared, group
from hvae_course.atomic import write_whole

STYLE = {
    "svg.hashsalt": "results",
    "savefig.facecolor": "white",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DATA = {"digits": "digits", "mnist": "MNIST"}
"""What the page calls the data sets."""
SIZES = {"levels": "levels L", "width": "width of the hidden layers", "batch": "batch size"}
"""What the cost of a step is measured against, by its name in the table."""


def _panels(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure and its axes in reading order."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def _style(name: str) -> dict[str, object]:
    """Colour, line and marker of a model, the same in every figure."""
    number = list(group_names()).index(name)
    colours = [*sns.color_palette("colorblind", len(LINES) - 1), "black"]
    return {"color": colours[number], "linestyle": LINES[number], "marker": MARKERS[number]}


def group_names() -> list[str]:
    """Names of the main models, in the order of the tables."""
    models = BENCHMARKS["digits"].models.items()
    return [name for name, model in models if model.group == "main"]


def mean_curve(row: Row) -> pd.Series:
    """Minus the validation ELBO over training.

    Args:
        row: one model.

    Returns:
        Mean over the seeds, nats per image, at the epochs that all seeds have.
    """
    curves = [pd.Series(r["curve"]["validation"], index=r["curve"]["epoch"]) for r in row.runs]
    return -pd.concat(curves, axis=1, join="inner").mean(axis=1).sort_index()


def training(results: Results) -> Figure:
    """Draw the validation bound of the main models over training.

    Args:
        results: all rows.

    Returns:
        One panel per data set that has rows.
    """
    there = {data: group(rows) for data, rows in results.items() if group(rows)}
    figure, panels = _panels(len(there), 1, width=5.6, height=0.6 + 3.3 * len(there))
    for axes, (data, rows) in zip(panels, there.items(), strict=True):
        curves = {name: mean_curve(row) for name, row in rows.items()}
        for name, curve in curves.items():
            look = _style(name) | {"marker": None, "label": rows[name].model.title}
            axes.plot(curve.index, curve, **look)
        best = min(curve.min() for curve in curves.values())
        start = max(curve.iloc[len(curve) // 5] for curve in curves.values())
        axes.set(xlabel="epoch", ylabel="−ELBO [nats per image]", title=DATA[data])
        axes.set_ylim(best - 0.05 * (start - best), start)
    panels[0].legend(frameon=False, fontsize=9)
    return figure


def depth(results: Results) -> Figure:
    """Draw the information of every level against the number of levels.

    Args:
        results: all rows; those by depth must be complete.

    Returns:
        One panel per way to infer.
    """
    rows = by_depth(results["digits"])
    tables = {recipe: np.full((len(DEPTHS), len(DEPTHS)), np.nan) for recipe in rows}
    for recipe, of_recipe in rows.items():
        for column, row in enumerate(of_recipe.values()):
            for level, nats in enumerate(row.information):
                tables[recipe][level, column] = nats
    top = max(np.nanmax(table) for table in tables.values())
    figure, panels = _panels(1, len(rows), width=6.6, height=3.1)
    for axes, (recipe, table) in zip(panels, tables.items(), strict=True):
        image = axes.imshow(table, origin="lower", cmap="Blues", vmin=0, vmax=top, aspect="auto")
        for (level, column), nats in np.ndenumerate(table):
            if np.isfinite(nats):
                colour = "white" if nats > 0.6 * top else "black"
                axes.text(column, level, f"{nats:.1f}", ha="center", va="center", color=colour)
        ticks = range(len(DEPTHS))
        axes.set_xticks(ticks, [str(d) for d in DEPTHS])
        axes.set_yticks(ticks, [f"$z_{d}$" for d in DEPTHS])
        axes.set(xlabel="number of levels L", title=FAMILIES[recipe])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=panels, label="nats per image")
    return figure


def cost(results: Results) -> Figure:
    """Draw the importance-weighted bound against the seconds of training.

    Args:
        results: all rows.

    Returns:
        One panel per data set with at least two main models; models by depth as connected points.
    """
    there = compared(results)
    figure, panels = _panels(len(there), 1, width=5.6, height=1.5 + 3.3 * len(there))
    for axes, (data, rows) in zip(panels, there.items(), strict=True):
        for (recipe, of_recipe), line in zip(by_depth(rows).items(), ("-", "--"), strict=False):
            points = [(row.seconds, row.best) for row in of_recipe.values()]
            look = {"color": "0.45", "linestyle": line, "marker": ".", "lw": 1}
            label = f"{FAMILIES[recipe]}, L = {DEPTHS[0]} to {DEPTHS[-1]}"
            axes.plot(*zip(*points, strict=True), **look, label=label)
            for number, point in zip(of_recipe, points, strict=True):
                offset = {"xytext": (3, 4), "textcoords": "offset points"}
                axes.annotate(str(number), point, fontsize=8, color="0.45", **offset)
        for name, row in group(rows).items():
            deviation = statistics.stdev(row.iw) if len(row.iw) > 1 else None
            look = _style(name) | {"linestyle": "none", "capsize": 2, "ms": 7}
            axes.errorbar(row.seconds, row.best, yerr=deviation, label=row.model.title, **look)
        draws = BENCHMARKS[data].num_samples
        axes.set(xscale="log", xlabel="seconds of training", title=DATA[data])
        axes.set_ylabel(f"−IW-{draws} [nats per image]")
        axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    known = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    look = {"frameon": False, "fontsize": 9, "ncols": 2}
    figure.legend(known.values(), known.keys(), loc="outside lower center", **look)
    return figure


def scaling(table: pd.DataFrame) -> Figure:
    """Draw the time of a training step against one size at a time.

    Args:
        table: as ``python -m benchmarks.throughput --scaling`` writes it.

    Returns:
        One panel per size.
    """
    figure, panels = _panels(len(SIZES), 1, width=4.8, height=2.2 * len(SIZES) + 0.4)
    for axes, (size, name) in zip(panels, SIZES.items(), strict=True):
        rows = table.query("varied == @size").sort_values(size)
        axes.plot(rows[size], rows["ours_ms"], "C0o-", label="one step of the ladder")
        axes.plot(rows[size], rows["bound_ms"], "s--", color="0.45", label="bare matrix products")
        axes.set(xlabel=name, ylabel="ms per step", ylim=(0, None))
    panels[0].legend(frameon=False)
    return figure


def draw(results: Results, table: pd.DataFrame | None) -> dict[str, Figure]:
    """Draw every figure that there are results for.

    Args:
        results: all rows.
        table: the time of a step; None if it was not measured.

    Returns:
        The figures by name.
    """
    with matplotlib.rc_context(STYLE):
        figures = {}
        if any(group(rows) for rows in results.values()):
            figures = {"training": training(results)}
        if compared(results):
            figures["cost"] = cost(results)
        if by_depth(results["digits"]):
            figures["depth"] = depth(results)
        if table is not None:
            figures["scaling"] = scaling(table)
    return figures


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write the figures as SVG, each whole or not at all.

    Args:
        figures: by name.
        folder: where to.

    Returns:
        The files, ``results_NAME.svg``.
    """
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, figure in figures.items():
            paths.append(folder / f"results_{name}.svg")
            write_whole(
                paths[-1],
                lambda file, figure=figure: figure.savefig(
                    file, format="svg", metadata={"Date": None}
                ),
            )
    return paths
