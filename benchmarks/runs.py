"""Many independent training runs, in parallel and resumable; each gives one row of a table."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from hvae_course.atomic import write_whole

Row = dict[str, Any]
"""Settings of a run, or its settings and results; only numbers and strings."""


def _write(table: Mapping[tuple[str, ...], Row], path: Path) -> None:
    rows = pd.DataFrame(list(table.values()))
    write_whole(path, lambda file: rows.to_csv(file, index=False))


def write_settings(settings: Mapping[str, Any], path: Path) -> None:
    """Write the configuration of a benchmark beside its table, atomically.

    Args:
        settings: plain values by name.
        path: JSON file.
    """
    text = json.dumps(settings, indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def _results(
    run: Callable[[Row], Row], jobs: Sequence[Row], processes: int
) -> Iterator[tuple[Row, Row]]:
    """Yield each job with its result when it is done; run them here if there is one process."""
    if processes == 1 or not jobs:
        yield from ((job, run(job)) for job in jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, torch.set_num_threads, (1,)) as pool:
        futures = {pool.submit(run, job): job for job in jobs}
        try:
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        finally:  # after a failure nothing reads the results of what has not started
            pool.shutdown(cancel_futures=True)


def run_all(
    run: Callable[[Row], Row], jobs: Sequence[Row], path: Path, *, processes: int | None = None
) -> pd.DataFrame:
    """Run the jobs that are missing in a table, and add their rows.

    The table is written after every run, so an interrupted benchmark can be resumed.

    Args:
        run: function of a module (so that it can be pickled), from settings to results.
        jobs: settings of the runs, all with the same names.
        path: CSV file of the table, read if it exists; rows of other jobs are dropped.
        processes: number of runs at a time; by default one per core, or one on a GPU.

    Returns:
        One row per job, settings first, in the order of the jobs.
    """

    def key(row: Row) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in jobs[0])

    before = pd.read_csv(path).to_dict("records") if path.exists() else []
    known = {key(row): row for row in before if jobs[0].keys() <= row.keys()}
    table = {key(job): known[key(job)] for job in jobs if key(job) in known}
    left = [job for job in jobs if key(job) not in table]
    if processes is None:
        processes = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    path.parent.mkdir(parents=True, exist_ok=True)
    for job, result in tqdm(_results(run, left, processes), total=len(left), unit="run"):
        table[key(job)] = job | result
        _write(table, path)
    table = {key(job): table[key(job)] for job in jobs}
    _write(table, path)
    return pd.read_csv(path)
