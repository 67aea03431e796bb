"""One run of the likelihood benchmark: through the command line, into one JSON file.

Training, evaluation and diagnosis are commands of the package, with the words of
`benchmarks.likelihood_models`. Each writes a file in the folder of the run and is skipped if that
file exists. The last file is the result, with everything that the results page shows.
"""

import contextlib
import hashlib
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.likelihood_models import BENCHMARKS
from benchmarks.throughput import load_average
from hvae_course.cli.files import read_json, write_json
from hvae_course.cli.program import main as hvae
from hvae_course.cli.runs import CHECKPOINT, CONFIG, ENVIRONMENT, HISTORY, RESULT
from hvae_course.training import Checkpoint, load_checkpoint, save_checkpoint

RESULTS = Path(__file__).with_name("results")
POINTS = 100
"""Largest number of points of a stored curve, besides the best and the last epoch."""
CLOCK, LOG, DIAGNOSIS = "clock.json", "log.txt", "diagnosis.json"


@dataclass(frozen=True)
class Job:
    """One model with one seed: settings and folders."""

    data: str
    """A key of `BENCHMARKS`."""
    model: str
    seed: int
    runs: str = "runs/likelihoods"
    """Folder of all runs, relative to the working directory, as in the stored commands."""
    results: str = str(RESULTS)
    device: str = "cpu"
    compiled: bool = False
    """Whether to train with ``--compile``."""
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
    def evaluation(self) -> Path:
        """The file of the evaluation on the test split, in the folder of the run."""
        return self.folder / f"evaluation-test-{BENCHMARKS[self.data].num_samples}.json"

    @property
    def words(self) -> list[str]:
        """Words of the training that determine its result."""
        return BENCHMARKS[self.data].train_words(self.model, seed=self.seed)

    @property
    def judged(self) -> bool:
        """Whether the run is evaluated on the test split."""
        return BENCHMARKS[self.data].num_samples is not None

    def commands(self) -> dict[str, list[str]]:
        """The commands in order, by name, as the words after ``hvae``."""
        folder, device = str(self.folder), ["--device", self.device]
        train = [*self.words, *device, "--out", folder]
        commands = {"train": [*train, "--compile"] if self.compiled else train}
        if self.judged:
            draws = str(BENCHMARKS[self.data].num_samples)
            commands |= {
                "evaluate": ["evaluate", folder, "--samples", draws, *device],
                "diagnose": ["diagnose", folder, *device, "--json", f"{folder}/{DIAGNOSIS}"],
            }
        return commands


def call(words: Sequence[str]) -> None:
    """Run one command of the package.

    Args:
        words: the words after ``hvae``.

    Raises:
        KeyboardInterrupt: if the command was interrupted.
        RuntimeError: if its exit status was not 0.
    """
    try:
        status: Any = hvae(words)
    except SystemExit as error:
        status = error.code
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise RuntimeError(f"hvae {shlex.join(words)} ended with status {status}")


def note_start(folder: Path) -> None:
    """Record the start of a training, the load of the machine, and the time of the last start.

    An interrupted start counts until the last epoch that it saved.

    Args:
        folder: folder of the run.
    """
    starts = read_json(folder / CLOCK) or []
    saved = folder / CHECKPOINT
    if starts and "seconds" not in starts[-1]:
        until = saved.stat().st_mtime if saved.exists() else -math.inf
        starts[-1]["seconds"] = max(0.0, until - starts[-1]["started"])
    write_json(folder / CLOCK, [*starts, {"started": time.time(), "load": load_average()}])


def training_seconds(folder: Path) -> float:
    """Sum the seconds of training over all starts of a finished run.

    Args:
        folder: folder of the run.

    Returns:
        Seconds of the last start from the run itself, those of earlier starts from `note_start`.
    """
    before = read_json(folder / CLOCK)[:-1]
    return sum(start["seconds"] for start in before) + read_json(folder / RESULT)["seconds"]


def thin(rows: Sequence[Mapping[str, Any]], best_epoch: int) -> dict[str, list[float]]:
    """Thin a history to at most `POINTS` epochs, plus the best and the last one.

    Args:
        rows: as in ``history.json``.
        best_epoch: epoch of the kept weights.

    Returns:
        Epochs, and the ELBO of both splits in nats per example.
    """
    frame = pd.DataFrame(rows).query("quantity == 'elbo'")
    table = frame.pivot(index="epoch", columns="split", values="value")
    last, step = int(table.index.max()), max(1, math.ceil(len(table) / POINTS))
    chosen = sorted({*table.index[::step].tolist(), best_epoch, last})
    curve: dict[str, list[float]] = {"epoch": chosen}
    for split in ("train", "validation"):
        curve[split] = table.loc[chosen, split].round(3).tolist()
    return curve


def rounded(value: Any) -> Any:  # noqa: ANN401
    """Round all numbers in nested containers to six decimals.

    Args:
        value: a JSON value.

    Returns:
        The same, rounded.
    """
    if isinstance(value, Mapping):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    return round(value, 6) if isinstance(value, float) else value


def bounds(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Select the parts of an evaluation that the results page needs.

    Args:
        evaluation: as `hvae_course.analysis.evaluation.Evaluation`, in JSON.

    Returns:
        Bounds, reconstruction and information with standard errors, and the settings of the
        evaluation.
    """
    names = ("elbo", "log_likelihood", "reconstruction", "information")
    about = ("split", "num_examples", "num_samples", "seed", "device", "batch_size", "max_rows")
    return {name: evaluation[name] for name in (*names, *about) if name in evaluation}


def keep_weights(job: Job) -> dict[str, str]:
    """Copy the weights of a run beside its result.

    Args:
        job: the run.

    Returns:
        Name of the file and its SHA-256.
    """
    checkpoint = load_checkpoint(job.folder / CHECKPOINT)
    path = job.result.with_suffix(".pt")
    save_checkpoint(Checkpoint(checkpoint.config, checkpoint.weights), path)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def collect(job: Job) -> dict[str, Any]:
    """Collect everything about a finished run that the results page needs.

    Args:
        job: the run.

    Returns:
        Plain values by name; bounds and information in nats per example.
    """
    folder = job.folder
    config, result = read_json(folder / CONFIG), read_json(folder / RESULT)
    history = read_json(folder / HISTORY)
    content = {
        **{name: getattr(job, name) for name in ("data", "model", "seed")},
        "words": shlex.join(job.words),
        "commands": {name: shlex.join(["hvae", *w]) for name, w in job.commands().items()},
        "settings": config["settings"],
        "config": config["model"],
        "data_description": config["data"],
        "environments": [
            {name: value for name, value in environment.items() if name != "platform"}
            for environment in read_json(folder / ENVIRONMENT)
        ],
        "parameters": result["num_parameters"],
        "epochs": result["epochs"],
        "best_epoch": result["best_epoch"],
        "seconds": rounded(training_seconds(folder)),
        "runs_at_a_time": job.processes,
        "load": rounded([start["load"] for start in read_json(folder / CLOCK)]),
        "validation": rounded(bounds(result["validation"])),
        "curve": thin(history["rows"], result["best_epoch"]),
    }
    if job.judged:
        diagnosis = read_json(folder / DIAGNOSIS)
        content["test"] = rounded(bounds(read_json(job.evaluation)))
        content["diagnosis"] = rounded({n: v for n, v in diagnosis.items() if n != "command"})
    if BENCHMARKS[job.data].kept == (job.model, job.seed):
        content["weights"] = keep_weights(job)
    return content


def run(job: Job) -> None:
    """Finish one run and write its result.

    Args:
        job: the run.

    Raises:
        RuntimeError: if a command failed; see the log in the folder of the run.
    """
    folder, commands = job.folder, job.commands()
    done = {"train": folder / RESULT, "evaluate": job.evaluation, "diagnose": folder / DIAGNOSIS}
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / LOG).open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        for name in commands:
            path = done[name]
            if name == "train" and not path.exists():
                note_start(folder)
            if not path.exists():
                quiet = [] if name == "diagnose" else ["--quiet"]
                call([*commands[name], *quiet])
    write_json(job.result, collect(job))
