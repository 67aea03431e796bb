"""The pendulum with 32 latent dimensions, at 32x32 pixels: the last table of chapter 7.

``make pendulum`` runs it after the other tables, or ``python -m benchmarks.pendulum_32``. It
trains models of `benchmarks.pendulum` with a larger latent space and the same constants, judges
the paths through it on the test set, and writes ``benchmarks/pendulum_32.csv``, with its
configuration beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks import pendulum
from benchmarks.latent_paths import (
    NEIGHBOURS,
    PRUNED,
    find_paths,
    judge_paths,
    latents,
    two_sample_accuracy,
)
from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import analysis, data
from hvae_course.analysis import latent_graph, prune_sparse
from hvae_course.config import plain

SIDE = 32
"""Width and height of the images, in pixels."""
LATENT_SIZE = 32
"""Dimensions of z."""
DIAGNOSED = 500
"""Test images in the count of active units and in the marginal KL divergence."""
SEEDS = (10, 11, 12)
"""None of them was used to choose a constant."""
MODELS = {
    name: replace(pendulum.MODELS[name], architecture={"latent_size": LATENT_SIZE})
    for name in ("VAE", "IWAE", "VampPrior", "VHP, ReWO")
}
"""The table's rows; all else is as in `benchmarks.pendulum`."""
TABLE = Path(__file__).with_suffix(".csv")


def images() -> data.DataSet:
    """Generate the pendulum at this resolution; angles and sizes are those of the smaller one."""
    raw = data.pendulum.generate(side=SIDE)
    train, validation, test = raw.pixels.view(-1, *raw.image_shape).split(raw.sizes)
    return data.from_arrays(
        train, validation=validation, test=test, name="pendulum", kind="real", standardise=False
    )


def judge_edges(ends: Tensor, paths: Sequence[analysis.Path | None], *, name: str) -> Row:
    """Measure the edges of paths against the straight distance of the ends.

    Args:
        ends: codes, ``(N, 2, Z)``.
        paths: a path for each pair of codes, None for a pair that is not joined.
        name: start of the columns' names.

    Returns:
        Medians over the joined pairs, NaN without one: number of edges, and median and longest
        edge, both divided by the distance of the ends.
    """
    rows = []
    for (start, end), path in zip(ends, paths, strict=True):
        if path is not None:
            edges = path.edge_lengths / (end - start).norm()
            rows.append([len(edges), edges.median().item(), edges.max().item()])
    names = ("edges", "median_edge", "longest_edge")
    medians = np.median(rows, axis=0).tolist() if rows else [math.nan] * len(names)
    return {f"{name}_{column}": value for column, value in zip(names, medians, strict=True)}


def run(job: Row) -> Row:
    """Train and judge one model: its row of the table."""
    pictures = images()
    model, row = pendulum.train(MODELS[job["model"]], pictures, job)
    level = analysis.diagnose(model, pictures, split=job["split"], max_examples=DIAGNOSED).iloc[0]
    row |= {name: level[name].item() for name in ("information", "marginal_kl", "active_units")}
    found = latents(model, pictures.train, pictures.split(job["split"]))
    row["two_sample"] = two_sample_accuracy(found.prior, found.judged)
    for name, points in {"pruned": found.prior, "codes": found.codes, "line": None}.items():
        graph = None
        if points is not None:
            graph = latent_graph(prune_sparse(points, share=PRUNED), k=NEIGHBOURS)
        paths = find_paths(found.ends, graph)
        row |= judge_paths(model, paths, name=name)
        if graph is not None:
            row |= judge_edges(found.ends, paths, name=name)
    row["data"] = str(pictures)
    return rounded(row, 5)


def configuration() -> dict[str, Any]:
    """Everything that the table depends on, as plain values by name."""
    return pendulum.configuration() | {
        "seeds": SEEDS,
        "side": SIDE,
        "diagnosed": DIAGNOSED,
        "models": {name: repr(setting) for name, setting in MODELS.items()},
    }


def main(words: Sequence[str] | None = None) -> None:
    """Train what the table does not hold yet, and print it."""
    given = table_parser(__doc__).parse_args(words)
    jobs = [
        {"model": model, "split": "test", "seed": seed}
        for model in MODELS
        for seed in given.seeds or SEEDS
    ]
    path = given.table or TABLE
    pendulum.keep_configuration(path, path.with_name("pendulum_32.json"), plain(configuration()))
    table = run_all(run, jobs, path, processes=given.processes)
    shown = ["pruned_jumps", "pruned_angle_step", "codes_jumps", "codes_angle_step"]
    shown += ["line_jumps", "line_angle_step", "pruned_edges", "pruned_median_edge"]
    shown += ["pruned_longest_edge", "two_sample", "marginal_kl", "active_units", "iw"]
    print(table.groupby("model", sort=False)[shown].median().round(3).T.to_string())


if __name__ == "__main__":
    main()
