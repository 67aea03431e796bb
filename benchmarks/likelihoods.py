"""Likelihoods of the course's models: train, evaluate and diagnose each, one JSON file per run.

Run it with ``python -m benchmarks.likelihoods digits``, or ``mnist``; ``trials`` are variants of
one model on MNIST, evaluated on validation images only. Every run uses the command line of the
package with the words of `benchmarks.likelihood_models`, writes a folder below
``runs/likelihoods``, and ends with ``benchmarks/results/NAME/MODEL-SEED.json``, which holds
everything that the results page shows. The same command resumes interrupted runs and skips
finished ones.
"""

import argparse
import multiprocessing
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

import torch
from tqdm import tqdm

from benchmarks.likelihood_models import BENCHMARKS
from benchmarks.likelihood_run import LOG, Job, run
from hvae_course.cli.files import read_json
from hvae_course.cli.machine import DEVICES

SEEDS = (0, 1, 2)


def is_done(job: Job) -> bool:
    """Check whether the result of a run exists.

    Args:
        job: the run.

    Returns:
        True if it exists and was made with the same words.

    Raises:
        ValueError: if it was made with other words or another number of draws.
    """
    found = read_json(job.result)
    if found is None:
        return False
    draws = BENCHMARKS[job.data].num_samples
    for name, before, wanted in (
        ("words", found["words"], shlex.join(job.words)),
        ("draws", found.get("test", {}).get("num_samples"), draws),
    ):
        if before != wanted:
            raise ValueError(
                f"{job.result} was made with other {name}: {before!r}, and the table says "
                f"{wanted!r}; delete it and {job.folder} to make it again"
            )
    return True


def run_side_by_side(
    work: Callable[[Job], None], jobs: Sequence[Job], *, processes: int
) -> Iterator[tuple[Job, BaseException | None]]:
    """Run jobs side by side; a failure does not stop the others.

    Args:
        work: function at the top level of a module.
        jobs: the jobs.
        processes: largest number at a time; with one, jobs run in this process.

    Yields:
        tuple[Job, BaseException | None]: every job as it ends, with its error.
    """
    if processes == 1:
        for job in jobs:
            try:
                work(job)
                yield job, None
            except (RuntimeError, ValueError, OSError) as error:
                yield job, error
        return
    waiting = iter(jobs)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, torch.set_num_threads, (1,)) as pool:
        # no queue, so that nothing starts after an interruption
        running: dict[Future, Job] = {pool.submit(work, j): j for j in islice(waiting, processes)}
        while running:
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                error = future.exception()
                if isinstance(error, KeyboardInterrupt):
                    raise error
                yield running.pop(future), error
                running |= {pool.submit(work, job): job for job in islice(waiting, 1)}


def main(words: Sequence[str] | None = None) -> int:
    """Run all unfinished jobs.

    Args:
        words: words of the command line; by default those of this program.

    Returns:
        Exit status, 1 if a run failed, 130 after an interruption.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=BENCHMARKS)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--processes", type=int, default=2, help="runs at a time")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--compile", action="store_true", help="train with --compile")
    parser.add_argument("--runs", default=Job.runs, help="folder of all runs")
    parser.add_argument("--results", default=Job.results, help="folder of the JSON files")
    given = parser.parse_args(words)
    known = BENCHMARKS[given.data].models
    if unknown := set(given.models or ()) - known.keys():
        parser.error(f"no model {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    if given.processes < 1:
        parser.error(f"--processes must be at least 1, got {given.processes}")
    places = {"runs": given.runs, "results": given.results}
    machine = {"device": given.device, "compiled": given.compile, "processes": given.processes}
    # one seed of every model before the next
    jobs = [
        Job(given.data, model, seed, **places, **machine)
        for seed in given.seeds
        for model in given.models or known
    ]
    try:
        left = [job for job in jobs if not is_done(job)]
    except ValueError as error:
        parser.error(str(error))
    os.environ["OMP_NUM_THREADS"] = "1"
    failed = 0
    bar = tqdm(total=len(jobs), initial=len(jobs) - len(left), unit="run")
    try:
        with bar:
            for job, error in run_side_by_side(run, left, processes=given.processes):
                if error is not None:
                    failed += 1
                    bar.write(f"{job.folder} failed: {error}; see {job.folder / LOG}")
                bar.update()
    except KeyboardInterrupt:
        print("\ninterrupted; to resume, give the same command again", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
