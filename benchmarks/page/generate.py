"""The results page of the book, generated from the committed results: ``make results``.

`page` is a function of the files below ``benchmarks/results`` and of ``benchmarks/published.csv``
alone, so the committed page can be tested against what it gives. No number of the page is typed.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from benchmarks.likelihood_models import BENCHMARKS
from benchmarks.page import figures
from benchmarks.page.bounds import bounds_table, close_pairs, gap_text, validation_text
from benchmarks.page.prose import DIGITS, FIGURES, INTRODUCTION, REPEAT, SPEED, TITLES
from benchmarks.page.published import Published, folded, mnist_section
from benchmarks.page.records import (
    PUBLISHED,
    RESULTS,
    SCALING,
    Results,
    Row,
    by_depth,
    compared,
    group,
    listing,
    load_published,
    load_results,
    load_rows,
)
from benchmarks.page.sections import (
    circumstances,
    commands,
    cost_text,
    depth_section,
    scaling_text,
)
from benchmarks.page.speed import speed_text
from benchmarks.page.traps import traps
from benchmarks.page.trials import trials_text
from hvae_course.atomic import write_whole
from hvae_course.cli.files import read_json

SPEED_FILE = "throughput.json"
BOOK = Path(__file__).parents[2] / "book"


def figure(name: str, *, width: int) -> str:
    """Write a figure of the page.

    Args:
        name: a key of `FIGURES`.
        width: on a wide screen, in pixels.

    Returns:
        The directive.
    """
    alt, caption = FIGURES[name]
    return (
        f"```{{figure}} figures/results_{name}.svg\n:name: fig-results-{name}\n:alt: {alt}\n"
        f":width: {width}px\n\n{caption}\n```"
    )


def digits_section(rows: Mapping[str, Row]) -> str:
    """Write the section on digits.

    Args:
        rows: all rows of digits; may be empty.

    Returns:
        Markdown without the title.
    """
    main = group(rows)
    if len(main) < 2:
        return "No comparison has been trained on digits yet."
    return "\n\n".join(
        [
            DIGITS,
            bounds_table("digits", main),
            close_pairs(main),
            gap_text(main),
            validation_text(main),
        ]
    )


def repeat_section(results: Results, trials: Mapping[str, Row]) -> str:
    """Write how to get every row again.

    Args:
        results: all rows.
        trials: all of them; may be empty.

    Returns:
        Markdown without the title.
    """
    texts = [REPEAT]
    kept = [row.runs[0] for rows in results.values() for row in rows.values()]
    kept = [run for run in kept if "weights" in run]
    for run in kept:
        texts.append(
            f"The weights of one run, `{run['weights']['file']}` ({run['data']}, "
            f"{run['parameters']:,} parameters), lie beside its result, and a test of the course "
            "computes its bounds from them again."
        )
    for data, rows in results.items():
        if rows:
            title = f"Commands for {figures.DATA[data]}"
            texts.append(folded(title, commands(rows)))
    rows = [row for of_data in results.values() for row in of_data.values()]
    if rows:
        texts.append(folded("Machines and versions", circumstances(rows)))
        parts = {figures.DATA[data]: found for data, found in results.items()}
        parts["the trials"] = trials
        minutes = {
            part: sum(run["seconds"] for row in found.values() for run in row.runs) / 60
            for part, found in parts.items()
            if found
        }
        spent = [f"{total:,.0f} for {part}" for part, total in minutes.items()]
        texts.append(f"Minutes of training behind this page, over all runs: {listing(spent)}.")
    return "\n\n".join(texts)


def page(
    results: Results,
    published: Sequence[Published],
    *,
    speed: Mapping[str, Any] | None,
    measured: pd.DataFrame | None,
    trials: Mapping[str, Row] | None = None,
) -> str:
    """Write the page.

    Args:
        results: all rows.
        published: all published rows.
        speed: training beside a textbook loop and the bound; None if it was not timed.
        measured: the time of a step; None if it was not measured.
        trials: variants of one model, by name.

    Returns:
        MyST Markdown.
    """
    mnist, digits = results["mnist"], results["digits"]
    parts = [INTRODUCTION, TITLES["mnist"], mnist_section(mnist, published)]
    if "mnist" in compared(results):
        main = group(mnist)
        parts += [bounds_table("mnist", main), close_pairs(main), gap_text(main)]
    if trials and len(group(trials)) > 1 and "base" in trials:
        parts += [TITLES["trials"], trials_text(trials, mnist)]
    name = "mnist" if "mnist" in compared(results) else "digits"
    example, name = results[name], figures.DATA[name]
    parts += [TITLES["spoils"], traps(group(example), published, data=name)]
    parts += [TITLES["digits"], digits_section(digits)]
    if any(group(rows) for rows in results.values()):
        parts.append(figure("training", width=560))
    if by_depth(digits):
        parts += [TITLES["depth"], depth_section(digits)]
        parts.append(figure("depth", width=640))
    if any(group(rows) for rows in results.values()):
        parts += [TITLES["cost"], cost_text(results)]
    if compared(results):
        parts.append(figure("cost", width=600))
    if speed is not None:
        parts += [TITLES["speed"], SPEED, speed_text(speed)]
    if measured is not None:
        parts += [TITLES["scaling"], scaling_text(measured)]
        parts.append(figure("scaling", width=460))
    parts += [TITLES["repeat"], repeat_section(results, trials or {})]
    return "\n\n".join(parts) + "\n"


def generate(
    *, results: Path = RESULTS, published: Path = PUBLISHED, book: Path = BOOK
) -> list[Path]:
    """Write the page and its figures.

    Args:
        results: folder of the JSON files and of what was timed.
        published: CSV file of the published rows.
        book: folder of the page.

    Returns:
        The files.
    """
    rows = load_results(results)
    table = results / SCALING.name
    measured = pd.read_csv(table) if table.exists() else None
    drawn = figures.draw(rows, measured)
    speed = read_json(results / SPEED_FILE)
    trials = load_rows("trials", results)
    text = page(rows, load_published(published), speed=speed, measured=measured, trials=trials)
    write_whole(book / "results.md", lambda file: file.write(text.encode()))
    return [book / "results.md", *figures.save(drawn, book / "figures")]


def main(words: Sequence[str] | None = None) -> None:
    """Write the page and say where it is.

    Args:
        words: of the command line; by default those of this program.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--published", type=Path, default=PUBLISHED)
    parser.add_argument("--book", type=Path, default=BOOK)
    given = parser.parse_args(words)
    matplotlib.use("Agg")
    for path in generate(results=given.results, published=given.published, book=given.book):
        print(path)
    for data, rows in load_results(given.results).items():
        missing = [name for name in BENCHMARKS[data].models if name not in rows]
        print(f"{data}: {len(rows)} models" + (f", missing {listing(missing)}" if missing else ""))


if __name__ == "__main__":
    main()
