"""Commands that read a trained model: evaluate, sample and diagnose."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

import hvae_course
from hvae_course.analysis import diagnose, evaluate, sample
from hvae_course.analysis.partial import batches_done
from hvae_course.atomic import write_whole
from hvae_course.cli.errors import refusing
from hvae_course.cli.files import write_json
from hvae_course.cli.found import SourceSettings, find
from hvae_course.cli.machine import DEVICES, make_accelerator
from hvae_course.cli.options import option
from hvae_course.cli.progress import counting_draws
from hvae_course.cli.settings import SPLITS, check_seed
from hvae_course.plots import image_grid
from hvae_course.seeding import isolated_random, seed_all

PICTURES = (".pdf", ".png", ".svg")
"""File formats for samples, by ending."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Evaluation."""

    split: str = option("test", "part of the data", choices=SPLITS)
    num_samples: int = option(5000, "draws per example", flag="--samples")
    batch_size: int = option(100, "examples at a time")
    max_rows: int | None = option(
        None,
        "largest number of draws in memory at a time",
        shown="2000 on a CPU, 20000 on a GPU",
    )
    seed: int = option(0, "seed of the draws")
    json: str | None = option(
        None,
        "file for the result",
        shown="evaluation-SPLIT-SAMPLES.json beside the checkpoint; the name also has data, seed "
        "and checkpoint where they are not the default",
    )
    quiet: bool = option(False, "hide the progress bar")


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Samples."""

    count: int = option(64, "number of images")
    pixels: str = option(
        "mean", "show the mean of p(x | z) or a draw from it", choices=("mean", "drawn")
    )
    seed: int = option(0, "seed of the draws")
    out: str = option("samples.png", f"image file, ending in {', '.join(PICTURES)}")
    device: str = option("auto", "where to compute", choices=DEVICES)


@dataclass(frozen=True, kw_only=True)
class DiagnoseSettings:
    """Diagnosis."""

    split: str = option("test", "part of the data", choices=SPLITS)
    num_samples: int = option(10, "draws per example", flag="--samples")
    max_examples: int = option(1000, "number of examples, from the first", flag="--examples")
    threshold: float = option(0.1, "nats per example above which a level counts as active")
    unit_threshold: float = option(
        0.01, "variance, or nats, above which a unit counts as active, or informative"
    )
    seed: int = option(0, "seed of the draws")
    json: str | None = option(None, "file for the table")


def evaluate_command(
    target: str, *, evaluation: EvaluateSettings, source: SourceSettings, command: str
) -> int:
    """Print the bounds on log p(x) of a trained model and write them as JSON.

    Args:
        target: see `hvae_course.cli.found.find`.
        evaluation: split, draws and output.
        source: data and device.
        command: the command as typed, for the file.

    Returns:
        Exit status.
    """
    settings = {name: v for name, v in asdict(evaluation).items() if name not in ("json", "quiet")}
    with refusing():
        # refuse wrong numbers before reading anything
        rows = evaluation.max_rows
        if min(evaluation.num_samples, evaluation.batch_size, 1 if rows is None else rows) < 1:
            raise ValueError("--samples, --batch-size and --max-rows must be at least 1")
        check_seed(evaluation.seed)
        accelerator = make_accelerator(source.device)
        usual = 2_000 if accelerator.device.type == "cpu" else 20_000
        settings["max_rows"] = usual if rows is None else rows
        found = find(target)
        data = found.load(source)
        draws = evaluation.num_samples
        seed = [f"seed{evaluation.seed}"] if evaluation.seed else []
        path = found.result(source, evaluation.split, draws, *seed)
        path = Path(evaluation.json) if evaluation.json else path
        if path is not None and path.is_dir():
            raise ValueError(f"--json must be a file for the result, but {path} is a folder")
        partial = path and path.with_suffix(".part.pt")
        done = batches_done(partial) * evaluation.batch_size * draws
    model = found.model.to(accelerator.device)
    total = len(data.split(evaluation.split)) * draws
    try:
        with refusing(), counting_draws(model, total, done=done, quiet=evaluation.quiet):
            result = evaluate(model, data, **settings, partial=partial)
    except KeyboardInterrupt:
        kept = (
            "to resume, give the same command again"
            if partial
            else "nothing was saved; start over"
        )
        print(f"\ninterrupted; {kept}:\n  {command}")
        return 130
    print(f"{result.frame.to_string(float_format='%.3f')}\n{result}")
    if path is not None:
        about = {
            "command": command,
            "best_epoch": found.best_epoch,
            "batch_size": evaluation.batch_size,
            "max_rows": settings["max_rows"],
            "torch": torch.__version__,
            "hvae_course": hvae_course.__version__,
            "model": found.model.config,
        }
        write_json(path, asdict(result) | about)
        print(f"written to {path}")
    return 0


def sample_command(target: str, *, samples: SampleSettings, command: str) -> int:
    """Draw images from a trained model and write them to a file.

    Args:
        target: see `hvae_course.cli.found.find`.
        samples: number of images and output.
        command: not used.

    Returns:
        Exit status.
    """
    path = Path(samples.out)
    with refusing():
        if samples.count < 1:
            raise ValueError(f"--count must be at least 1, got {samples.count}")
        if path.suffix.lower() not in PICTURES:
            raise ValueError(f"--out must end in one of {', '.join(PICTURES)}, got {path}")
        check_seed(samples.seed)
        accelerator = make_accelerator(samples.device)
        model = find(target).model.to(accelerator.device)
        side = math.isqrt(model.config["num_features"])
        if side**2 != model.config["num_features"]:
            raise ValueError(
                f"cannot draw samples: {model.config['num_features']} features do not form a "
                "square image"
            )
    px = sample(model, samples.count, seed=samples.seed).px
    with isolated_random(model.device):
        seed_all(samples.seed, 1)
        images = (px.mean if samples.pixels == "mean" else px.sample()).float().cpu()
    columns = math.ceil(math.sqrt(samples.count))
    missing = -samples.count % columns
    images = torch.cat([images, images.new_full((missing, side**2), math.nan)])
    rows = images.unflatten(0, (-1, columns))
    figure = Figure(figsize=(0.75 * columns, 0.75 * len(rows)), layout="constrained")
    image_grid(rows, (side, side), axes=figure.subplots())
    kind = path.suffix.lower().removeprefix(".")
    write_whole(path, lambda file: figure.savefig(file, format=kind, facecolor="white", dpi=200))
    print(f"{samples.count} samples written to {path}")
    return 0


def diagnose_command(
    target: str, *, diagnosis: DiagnoseSettings, source: SourceSettings, command: str
) -> int:
    """Print the information and usage of every level of a trained model.

    Args:
        target: see `hvae_course.cli.found.find`.
        diagnosis: split, draws, thresholds and output.
        source: data and device.
        command: the command as typed, for the file.

    Returns:
        Exit status.
    """
    settings = {name: value for name, value in asdict(diagnosis).items() if name != "json"}
    with refusing():
        check_seed(diagnosis.seed)
        accelerator = make_accelerator(source.device)
        found = find(target)
        table: pd.DataFrame = diagnose(
            found.model.to(accelerator.device), found.load(source), **settings
        )
    print(table.to_string(index=False, float_format="%.3f"))
    if diagnosis.json:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        content: dict[str, Any] = {"command": command, **settings, "levels": rows}
        write_json(Path(diagnosis.json), content)
        print(f"written to {diagnosis.json}")
    return 0
