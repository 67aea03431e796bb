"""Many independent training runs, side by side and resumable; each gives one row of a table."""

import argparse
import contextlib
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from tqdm import tqdm

from hvae_course.files import write_whole
from hvae_course.processes import end_with_parent

Job = TypeVar("Job")
Row = dict[str, Any]
"""Settings of a run, or its settings and results; only numbers and strings."""


def table_parser(about: str) -> argparse.ArgumentParser:
    """Make a parser of the options that all tables have, for a program with this docstring."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", help="by default those of the table")
    parser.add_argument("--table", type=Path, help="CSV file, by default the committed one")
    parser.add_argument("--processes", type=int, help="runs at a time, by default one per core")
    return parser


def rounded(value: Any, digits: int) -> Any:  # noqa: ANN401
    """Round all numbers in nested containers, and make tuples lists."""
    if isinstance(value, Mapping):
        return {name: rounded(entry, digits) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry, digits) for entry in value]
    return round(value, digits) if isinstance(value, float) else value


def side_by_side(
    work: Callable[[Job], Any], jobs: Iterable[Job], *, processes: int
) -> Iterator[tuple[Job, Future]]:
    """Run jobs in processes of one thread each; none starts after the caller stops.

    Args:
        work: function at the top level of a module.
        jobs: what it is called with.
        processes: largest number at a time; with one, jobs run in this process.

    Yields:
        tuple[Job, Future]: every job as it ends, with its result or error.
    """
    waiting = iter(jobs)
    if processes == 1:
        for job in waiting:
            ended: Future = Future()
            try:
                ended.set_result(work(job))
            except Exception as error:  # as in another process
                ended.set_exception(error)
            yield job, ended
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _start_worker) as pool:
        running = {pool.submit(work, job): job for job in islice(waiting, processes)}
        while running:
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(ended), ended
                running |= {pool.submit(work, job): job for job in islice(waiting, 1)}


def _start_worker() -> None:
    torch.set_num_threads(1)
    end_with_parent()


def _as_read(value: Any) -> str:  # noqa: ANN401
    """A setting as text that is the same before and after it was in a table."""
    text = "" if value is None else str(value)
    try:
        number = float(text)
    except ValueError:
        return text
    return "" if math.isnan(number) else repr(number)  # an empty cell is read as NaN


def run_all(
    run: Callable[[Row], Row], jobs: Sequence[Row], path: Path, *, processes: int | None = None
) -> pd.DataFrame:
    """Run the jobs that are missing in a table, and add their rows.

    The table is written after every run, so an interrupted benchmark can be resumed. A row is
    recognised by its settings. What they are names of is in the program: whoever changes that
    deletes the rows, or the program compares it with what it keeps beside the table. The data
    are those of the package, which a name determines: they have a checksum or a seed.

    Args:
        run: function at the top level of a module, from settings to results.
        jobs: settings of the runs, all with the same names.
        path: CSV file of the table, read if it exists; rows of other jobs are kept, before these.
        processes: number of runs at a time; by default one per core, or one on a GPU.

    Returns:
        One row per job, settings first, in the order of the jobs.

    Raises:
        ValueError: if the file holds another table, or several rows with the same settings.
    """

    def key(row: Row) -> tuple[str, ...]:
        return tuple(_as_read(row[name]) for name in jobs[0])

    found = pd.read_csv(path, float_precision="round_trip") if path.exists() else pd.DataFrame()
    if len(found) and (missing := jobs[0].keys() - set(found)):
        raise ValueError(
            f"{path} is another table, without {', '.join(sorted(missing))}; name another file"
        )
    table = {key(row): row for row in found.to_dict("records")}
    if len(table) < len(found):
        raise ValueError(
            f"{path} holds several rows with the same {', '.join(jobs[0])}; name another file"
        )
    asked = {key(job): job for job in jobs}
    left = [job for name, job in asked.items() if name not in table]
    if processes is None:
        processes = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    with contextlib.closing(side_by_side(run, left, processes=processes)) as ended:
        for job, result in tqdm(ended, total=len(left), unit="run"):
            table[key(job)] = job | result.result()
            others = [row for name, row in table.items() if name not in asked]
            frame = pd.DataFrame(others + [table[name] for name in asked if name in table])
            write_whole(path, partial(frame.to_csv, index=False))
    return pd.DataFrame([table[name] for name in asked])
