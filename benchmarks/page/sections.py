"""The parts of the results page on depth, cost, and how to get every row again.

Every number and every verdict is computed from the rows.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.likelihood_models import DEPTH_LATENTS, DEPTHS, FAMILIES
from benchmarks.page.figures import DATA, SIZES
from benchmarks.page.published import folded, table
from benchmarks.page.records import (
    USED,
    Results,
    Row,
    between,
    by_depth,
    compared,
    group,
    growth,
    listing,
    seeds,
    short,
    shown,
)


def best_depth(rows: Mapping[int, Row]) -> str:
    """Say which depth is best, as far as the seeds tell.

    Args:
        rows: by number of levels.

    Returns:
        Part of a sentence.
    """
    best = min(rows, key=lambda depth: rows[depth].best)
    alike = [
        str(depth)
        for depth, row in rows.items()
        if depth != best and min(row.iw) <= max(rows[best].iw)
    ]
    text = f"the lowest mean is that of L = {best}"
    if alike:
        return f"{text}, and seeds of L = {listing(alike)} reach into its range"
    return f"{text}, below every seed of the other depths"


def depth_section(rows: Mapping[str, Row]) -> str:
    """Write the section on depth.

    Args:
        rows: all rows of digits; those by depth must be complete.

    Returns:
        Markdown without title and figure.
    """
    found = by_depth(rows)
    lines = []
    for depth in DEPTHS:
        cells = [str(depth)]
        for recipe in FAMILIES:
            row = found[recipe][depth]
            cells += [shown(row.iw), f"{row.used_levels}\u00a0of\u00a0{depth}"]
        lines.append(cells)
    header = ["L", *(c for name in FAMILIES.values() for c in (f"{name}, −IW", "used"))]
    deepest, texts = DEPTHS[-1], []
    for recipe, name in FAMILIES.items():
        first, last = found[recipe][DEPTHS[0]], found[recipe][deepest]
        gain = first.best - last.best
        texts.append(
            f"**{name.capitalize()}**: from one level to {deepest}, −IW "
            f"{'falls' if gain > 0 else 'rises'} by {abs(gain):.2f} nats; "
            f"{best_depth(found[recipe])}. At L = {deepest}, $z_{deepest}$ carries "
            f"{short(last.information[-1])} nats and $z_1$ {short(last.information[0])} of "
            f"{short(sum(last.information))}."
        )
    latents = listing([str(sum(DEPTH_LATENTS[:depth])) for depth in DEPTHS])
    share = {r: {d: row.parameters for d, row in of.items()} for r, of in found.items()}
    sizes = [f"{share[r][deepest] / share[r][1]:.1f} times in {n}" for r, n in FAMILIES.items()]
    everywhere = seeds({row.name: row for of in found.values() for row in of.values()})
    note = (
        f"Nats per image, {everywhere}. A level counts as used if it carries more than "
        f"{USED} nats in every seed."
    )
    singles = [nats for recipe in FAMILIES for nats in found[recipe][1].iw]
    single_text = (
        f"At L = {DEPTHS[0]} both are the same model and differ in their first weights alone. All "
        f"their runs lie within {max(singles) - min(singles):.2f} nats: what luck is worth here."
    )
    return "\n\n".join(
        [
            f"The same networks, the same recipe, {DEPTHS[0]} to {DEPTHS[-1]} levels, inferred "
            "bottom-up and by a ladder (digits, skip state, {term}`warm-up`). A model of L levels "
            f"has the first L of {DEPTH_LATENTS} latent dimensions from $z_1$ on, so their number "
            f"grows with depth ({latents}), and so do the parameters ({listing(sizes)} from "
            f"L = {DEPTHS[0]} to {deepest}): depth added on top, not a comparison at equal size. "
            "{doc}`The investigation of depth <../notebooks/exercises/07_hierarchy_depth>` makes "
            "the fair one.",
            table(header, lines, right=[1, 2, 3, 4]),
            note,
            *texts,
            single_text,
        ]
    )


def front(rows: Mapping[str, Row]) -> list[Row]:
    """Find the models that nothing beats in both cost and bound.

    Args:
        rows: the models.

    Returns:
        Those models, cheapest first.
    """
    chosen: list[Row] = []
    for row in sorted(rows.values(), key=lambda row: (row.seconds, row.best)):
        if not chosen or row.best < chosen[-1].best:
            chosen.append(row)
    return chosen


def cost_sentences(data: str, main: Mapping[str, Row]) -> str:
    """Say what training costs and where more seconds buy a better bound.

    Args:
        data: name of the data set.
        main: its main rows, at least two.

    Returns:
        One paragraph.
    """
    cheap = min(main.values(), key=lambda row: row.seconds)
    dear = max(main.values(), key=lambda row: row.seconds)
    best = front(main)
    steps = [
        f"“{b.model.title}” ({a.best - b.best:.2f} nats better at "
        f"{b.seconds / a.seconds:.1f} times the seconds)"
        for a, b in zip(best, best[1:], strict=False)
    ]
    text = (
        f"**{DATA[data][:1].upper()}{DATA[data][1:]}.** Training one of the main models takes "
        f"{cheap.seconds:,.0f} seconds (“{cheap.model.title}”) to {dear.seconds:,.0f} "
        f"(“{dear.model.title}”). "
    )
    if not steps:
        return f"{text}The cheapest is also the best."
    return (
        f"{text}From the cheapest on, no other model is both cheaper and better: "
        f"“{best[0].model.title}”, then {listing(steps)}."
    )


def cost_text(results: Results) -> str:
    """Write what a nat costs.

    Args:
        results: all rows, at least one of them.

    Returns:
        Paragraphs, and a folded table.
    """
    texts = [cost_sentences(data, group(rows)) for data, rows in compared(results).items()]
    lines = [
        [
            f"{row.model.title} ({data})",
            f"{row.parameters:,}",
            between(row.values(lambda run: run["best_epoch"]), 0)
            + f" of {row.runs[0]['epochs']:,}",
            f"{row.seconds:,.0f}",
            f"{row.best:.2f}",
        ]
        for data, rows in results.items()
        if group(rows)
        for row in rows.values()
    ]
    header = ["model", "parameters", "best epoch", "seconds", "−IW-S"]
    return "\n\n".join(
        [*texts, folded("Parameters and seconds", table(header, lines, right=[1, 2, 3, 4]))]
    )


def scaling_text(measured: pd.DataFrame) -> str:
    """Write how the cost of a step grows.

    Args:
        measured: as ``python -m benchmarks.throughput --scaling`` writes it.

    Returns:
        Paragraphs.
    """
    by_size = {size: measured.query("varied == @size").sort_values(size) for size in SIZES}
    levels = by_size["levels"]
    slope, explained = growth(levels["levels"].tolist(), levels["ours_ms"].tolist())
    bound, _ = growth(levels["levels"].tolist(), levels["bound_ms"].tolist())
    text = (
        f"A further level costs {slope:.2f} ms per step, of which bare matrix products are "
        f"{bound:.2f} (straight line over L = {levels['levels'].min()} to "
        f"{levels['levels'].max()}, which explains {100 * explained:.0f} % of the variance)."
    )
    for size, what in (("width", "hidden layers"), ("batch", "batches")):
        rows = by_size[size]
        low, high = rows.iloc[0], rows.iloc[-1]
        text += (
            f" {what.capitalize()} {high[size] / low[size]:.0f} times as "
            f"{'wide' if size == 'width' else 'large'} take "
            f"{high['ours_ms'] / low['ours_ms']:.1f} times as long."
        )
    base = {
        size: by_size["levels" if size != "levels" else "width"][size].iloc[0] for size in SIZES
    }
    loads = [load for load in measured["load"].tolist() if pd.notna(load)]
    busy = f", load {between(loads, 1)}" if loads else ""
    threads = between(measured["threads"].astype(float).tolist(), 0)
    return (
        f"{text}\n\nMNIST's shapes; what is not varied is {base['levels']} levels, width "
        f"{base['width']} and batches of {base['batch']}. Measured with {threads} "
        f"thread{'s' if threads != '1' else ''}{busy}."
    )


def commands(rows: Mapping[str, Row]) -> str:
    """List the commands that give every row again.

    Args:
        rows: of one data set.

    Returns:
        A code block per model, for its first seed.
    """
    blocks = []
    for row in rows.values():
        given = row.runs[0]["commands"]
        blocks.append(f"{row.model.title}:\n\n```sh\n{given['train']}\n{given['evaluate']}\n```")
    return "\n\n".join(blocks)


def circumstances(rows: Sequence[Row]) -> str:
    """Say on which machines and versions the rows were made.

    Args:
        rows: all rows.

    Returns:
        A list.
    """
    counted: dict[str, int] = {}
    for run in (run for row in rows for run in row.runs):
        commits: dict[str, list[str]] = {}
        for e in run["environments"]:
            place = (
                f"{e['device_name']} ({e['device']}, {e['threads']} thread"
                f"{'s' if e['threads'] > 1 else ''} of {e['processors']} processors), PyTorch "
                f"{e['torch']}, Python {e['python']}"
            )
            commit = f"{str(e['git_commit'])[:10]}{' with changes' if e['git_changed'] else ''}"
            if commit not in commits.setdefault(place, []):
                commits[place].append(commit)
        known = listing(
            [
                f"{place}, commit{'s' if len(of) > 1 else ''} {listing(of)}"
                for place, of in commits.items()
            ]
        )
        known += f"; {run['runs_at_a_time']} at a time"
        counted[known] = counted.get(known, 0) + 1
    lines = [f"- {number} run{'s' * (number > 1)}: {known}." for known, number in counted.items()]
    loads = [load for row in rows for run in row.runs for load in run["load"] if load is not None]
    if loads:
        lines.append(
            f"- Load of the machine when a run began: {between(loads, 1)} processes that want to "
            "run. Where it exceeds the number of processors, seconds are longer than they need be."
        )
    return "\n".join(lines)
