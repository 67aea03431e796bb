"""Likelihoods of the course's models: train, evaluate and diagnose each, one JSON file per run.

Run it with ``python -m benchmarks.likelihoods digits``, or ``mnist``; ``trials`` are variants of
one model on MNIST, evaluated on validation images only. Every run trains an experiment of
`benchmarks.likelihood_models` in a folder below ``runs/likelihoods``, and ends with
``benchmarks/results/NAME/MODEL-SEED.json``. The same command resumes interrupted runs and skips
finished ones.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from tqdm import tqdm

from benchmarks.likelihood_models import BENCHMARKS
from benchmarks.likelihood_run import Job, run
from benchmarks.runs import side_by_side
from hvae_course.config import Device

SEEDS = (0, 1, 2)


def main(words: Sequence[str] | None = None) -> int:
    """Run all unfinished jobs; a failure does not stop the others.

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
    parser.add_argument("--device", choices=get_args(Device), default="cpu")
    parser.add_argument("--compiled", action="store_true", help="compile the training step")
    parser.add_argument("--runs", default=Job.runs, help="folder of all runs")
    parser.add_argument("--results", default=Job.results, help="folder of the JSON files")
    given = vars(parser.parse_args(words))
    data, models, seeds = (given.pop(name) for name in ("data", "models", "seeds"))
    known = BENCHMARKS[data].models
    if unknown := set(models or ()) - known.keys():
        parser.error(f"no model {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    if given["processes"] < 1:
        parser.error(f"--processes must be at least 1, got {given['processes']}")
    # one seed of every model before the next
    jobs = [Job(data, model, seed, **given) for seed in seeds for model in models or known]
    try:
        left = [job for job in jobs if not job.is_done()]
    except ValueError as error:
        parser.error(str(error))
    failed = 0
    try:
        with tqdm(total=len(jobs), initial=len(jobs) - len(left), unit="run") as bar:
            for job, ended in side_by_side(run, left, processes=given["processes"]):
                if error := ended.exception():
                    if isinstance(error, KeyboardInterrupt):
                        raise error
                    failed += 1
                    bar.write(f"{job.folder} failed: {error!r}")
                bar.update()
    except KeyboardInterrupt:
        print("\ninterrupted; to resume, give the same command again", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
