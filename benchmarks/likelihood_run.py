"""One run of the likelihood benchmark: train, evaluate and diagnose, into one JSON file.

A run folder of the package keeps the training, and a file of finished batches the evaluation, so
an interrupted run resumes where it stopped. The result holds everything that the results page
shows.
"""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.likelihood_models import BENCHMARKS, Benchmark, change
from benchmarks.runs import rounded, side_by_side
from benchmarks.throughput import load_average
from hvae_course.analysis import Evaluation, diagnose, evaluate
from hvae_course.config import Experiment, differences
from hvae_course.files import read_json, write_json
from hvae_course.machine import make_accelerator
from hvae_course.run_folder import CHECKPOINT, CONFIG, ENVIRONMENT, HISTORY, RESULT, Run, find
from hvae_course.training import Checkpoint, load_checkpoint, save_checkpoint

RESULTS = Path(__file__).with_name("results")
POINTS = 100
"""Largest number of points of a stored curve, besides the best and the last epoch."""
DIAGNOSIS = {"split": "test", "num_samples": 10, "max_examples": 1000}
DIAGNOSIS |= {"threshold": 0.1, "unit_threshold": 0.01, "seed": 0}
"""Arguments of the diagnosis."""
CLOCK = "clock.json"


@dataclass(frozen=True)
class Job:
    """One model with one seed: settings and folders."""

    data: str
    """A key of `BENCHMARKS`."""
    model: str
    seed: int
    runs: str = "runs/likelihoods"
    """Folder of all runs."""
    results: str = str(RESULTS)
    device: str = "cpu"
    compiled: bool = False
    """Whether to compile the training step."""
    processes: int = 1
    """Number of runs at a time; the training time depends on it."""

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.runs) / self.data / f"{self.model}-{self.seed}"

    @property
    def result(self) -> Path:
        """The file of the result."""
        return Path(self.results) / self.data / f"{self.model}-{self.seed}.json"

    @property
    def benchmark(self) -> Benchmark:
        """The table that the run belongs to."""
        return BENCHMARKS[self.data]

    @property
    def training(self) -> Run:
        """The training, as a run folder."""
        entry = self.benchmark.models[self.model]
        machine = {"device": self.device, "compiled": self.compiled}
        return Run(
            experiment=change(entry.experiment, seed=self.seed, **machine),
            folder=self.folder,
            validation_samples=entry.validation_samples,
            quiet=True,
        )

    def is_done(self) -> bool:
        """Check whether the result of the run exists.

        Returns:
            True if it exists and was made with the settings of the table.

        Raises:
            ValueError: if it was made with other settings or another number of draws.
        """
        found = read_json(self.result)
        if found is None:
            return False
        stored = found["settings"] | {"device": self.device, "compiled": self.compiled}
        before = Experiment.from_settings(stored).settings()
        before["validation_samples"] = stored["validation_samples"]
        before["draws"] = found.get("test", {}).get("num_samples")
        wanted = self.training.settings | {"draws": self.benchmark.num_samples}
        if other := differences(before, wanted):
            raise ValueError(
                f"{self.result} was made with other settings: {other}; delete it and "
                f"{self.folder} to make it again"
            )
        return True


def note_start(folder: Path) -> None:
    """Record the start of a training, the load of the machine, and the time of the last start.

    An interrupted start counts until the last epoch that it saved.
    """
    starts = read_json(folder / CLOCK) or []
    saved = folder / CHECKPOINT
    if starts and "seconds" not in starts[-1]:
        until = saved.stat().st_mtime if saved.exists() else -math.inf
        starts[-1]["seconds"] = max(0.0, until - starts[-1]["started"])
    write_json(folder / CLOCK, [*starts, {"started": time.time(), "load": load_average()}])


def training_seconds(folder: Path) -> float:
    """Sum the seconds of training over all starts of a finished run.

    Those of the last start are in the result; those of earlier ones are as in `note_start`.
    """
    before = read_json(folder / CLOCK)[:-1]
    return sum(start["seconds"] for start in before) + read_json(folder / RESULT)["seconds"]


def thin(rows: Sequence[Mapping[str, Any]], best_epoch: int) -> dict[str, list[float]]:
    """Thin the rows of a history to at most `POINTS` epochs, plus the best and the last one.

    Returns epochs, and the ELBO of both splits in nats per example.
    """
    frame = pd.DataFrame(rows).query("quantity == 'elbo'")
    table = frame.pivot(index="epoch", columns="split", values="value")
    last, step = int(table.index.max()), max(1, math.ceil(len(table) / POINTS))
    chosen = sorted({*table.index[::step].tolist(), best_epoch, last})
    curve: dict[str, list[float]] = {"epoch": chosen}
    for split in ("train", "validation"):
        curve[split] = table.loc[chosen, split].round(3).tolist()
    return curve


def bounds(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Select the parts of an evaluation that the results page needs, and how it was made."""
    names = ("elbo", "log_likelihood", "reconstruction", "information")
    about = ("measure", "split", "num_examples", "num_samples", "seed", "device")
    about += ("batch_size", "max_rows")
    return {name: evaluation[name] for name in (*names, *about) if name in evaluation}


def keep_weights(job: Job) -> dict[str, str]:
    """Copy the weights of a run beside its result; return name and SHA-256 of the file."""
    checkpoint = load_checkpoint(job.folder / CHECKPOINT)
    path = job.result.with_suffix(".pt")
    save_checkpoint(Checkpoint(checkpoint.config, checkpoint.weights), path)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def score(part: int, job: Job) -> Evaluation:
    """Evaluate a trained model on one part of the test split; its number is the seed."""
    benchmark = job.benchmark
    device = make_accelerator(job.training.experiment.machine).device
    found = find(job.folder)
    model, data = found.model.to(device), found.load(None)
    if job.compiled:
        model.compile()
    first, last = (len(data.test) * edge // benchmark.parts for edge in (part, part + 1))
    half = benchmark.precision == "bf16"
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        return evaluate(
            model,
            replace(data, test=data.test.select(slice(first, last))),
            num_samples=benchmark.num_samples,
            batch_size=100,
            max_rows=2_000 if device.type == "cpu" else 20_000,
            seed=part,
            partial=job.folder / f"evaluation_{part}.pt",
            per_example=True,
        )


def joined(parts: Sequence[Evaluation]) -> dict[str, Any]:
    """Join the evaluations of parts of a split, in nats per example."""
    table = pd.concat([part.per_example for part in parts])
    found = pd.DataFrame({"mean": table.mean(), "standard_error": table.sem()})
    levels = [f"information_{l + 1}" for l in range(len(parts[0].information))]
    names = ("elbo", "log_likelihood", "reconstruction")
    return {
        **bounds(asdict(parts[0])),
        **{name: found.loc[name].to_dict() for name in names},
        "information": found.loc[levels].to_dict("records"),
        "num_examples": len(table),
    }


def judge(job: Job) -> dict[str, Any]:
    """Evaluate and diagnose a trained model on the test split, in nats per example."""
    device = make_accelerator(job.training.experiment.machine).device
    found, benchmark = find(job.folder), job.benchmark
    others = {} if benchmark.num_others is None else {"num_others": benchmark.num_others}
    levels = diagnose(found.model.to(device), found.load(None), **DIAGNOSIS, **others)
    rows = levels.astype(object).where(levels.notna(), None).to_dict("records")
    numbers, work = range(benchmark.parts), partial(score, job=job)
    ended = dict(side_by_side(work, numbers, processes=benchmark.parts))
    test = joined([ended[part].result() for part in numbers])
    how = {"precision": benchmark.precision, "parts": benchmark.parts, "compiled": job.compiled}
    return {"test": test | how, "diagnosis": DIAGNOSIS | others | {"levels": rows}}


def collect(job: Job) -> dict[str, Any]:
    """Collect everything about a finished training that the results page needs."""
    names = (CONFIG, RESULT, HISTORY, ENVIRONMENT, CLOCK)
    config, result, history, starts, clock = (read_json(job.folder / name) for name in names)
    return {
        **{name: getattr(job, name) for name in ("data", "model", "seed")},
        "settings": config["settings"],
        "config": config["model"],
        "data_description": config["data"],
        "environments": [
            {name: value for name, value in start.items() if name != "platform"}
            for start in starts
        ],
        "parameters": result["num_parameters"],
        "epochs": result["epochs"],
        "best_epoch": result["best_epoch"],
        "seconds": training_seconds(job.folder),
        "runs_at_a_time": job.processes,
        "load": [start["load"] for start in clock],
        "validation": bounds(result["validation"]),
        "curve": thin(history["rows"], result["best_epoch"]),
    }


def run(job: Job) -> None:
    """Finish one run and write its result.

    Args:
        job: the run.

    Raises:
        ValueError: if its folder holds another run.
    """
    training = job.training
    training.check_folder()
    if not training.finished:
        prepared = training.prepare()
        note_start(job.folder)
        prepared.train()
    content = collect(job)
    if job.benchmark.num_samples is not None:
        content |= judge(job)
    if job.benchmark.kept == (job.model, job.seed):
        content["weights"] = keep_weights(job)
    write_json(job.result, rounded(content, 6))
