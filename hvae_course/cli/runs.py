"""A training run as a folder: its settings, its history and its result.

``config.json`` is written before the first step, ``checkpoint.pt`` after every epoch,
``history.json`` and ``result.json`` at the end, each atomically. The same command in the same
folder resumes from the checkpoint and ends with the weights of an uninterrupted run.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hvae_course.analysis import evaluate
from hvae_course.cli.errors import refusing
from hvae_course.cli.files import plain, read_json, write_json
from hvae_course.cli.machine import MachineSettings, environment, make_accelerator
from hvae_course.cli.options import flag_of, option
from hvae_course.cli.progress import counting_draws
from hvae_course.cli.rehearsal import rehearse
from hvae_course.cli.settings import (
    DataSettings,
    ModelSettings,
    ObjectiveSettings,
    TrainingSettings,
    check_draws,
    check_seed,
    find_recipe,
    short_name,
)
from hvae_course.compatibility import check_data
from hvae_course.data import DataSet
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes import build_seeded
from hvae_course.training import History, fit, load_checkpoint

CONFIG, CHECKPOINT, RESULT = "config.json", "checkpoint.pt", "result.json"
HISTORY, ENVIRONMENT = "history.json", "environment.json"
_GROUPS = (DataSettings, ModelSettings, ObjectiveSettings, TrainingSettings, MachineSettings)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Output."""

    out: str | None = option(None, "folder of the run", shown="runs/RECIPE-DATA-LEVELS-SEED")
    validation_samples: int = option(100, "draws per example for the bounds at the end")
    quiet: bool = option(False, "hide the progress bars")


def _compare(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but a run with these settings."""
    found = read_json(folder / CONFIG)
    if found is None:
        if (folder / CHECKPOINT).exists():
            raise ValueError(
                f"{folder} holds a checkpoint but no {CONFIG}, so it is not a run folder; "
                "choose another with --out"
            )
        return
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise ValueError(f"{folder / CONFIG} holds no settings; choose another folder with --out")
    before = found["settings"]
    flags = {entry.name: flag_of(entry) for group in _GROUPS for entry in fields(group)}
    changed = [
        f"{flags.get(name, name)} was {before.get(name)!r} and is {settings.get(name)!r}"
        for name in (*settings, *sorted(before.keys() - settings.keys()))
        if before.get(name) != settings.get(name)
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a run with other settings: {', '.join(changed)}. Give the same "
            "settings to resume it, or choose another folder with --out"
        )


def _epochs_done(path: Path, config: Mapping[str, Any]) -> int:
    """Epochs in a checkpoint, 0 without one; refuse a checkpoint of another model."""
    if not path.exists():
        return 0
    checkpoint = load_checkpoint(path)
    if plain(checkpoint.config) != plain(config) or "epoch" not in checkpoint.run:
        raise ValueError(f"{path} belongs to another run; choose another folder with --out")
    return checkpoint.run["epoch"]


def _note_start(path: Path, after: int, accelerator: Accelerator) -> None:
    """Append the environment of this start to those of earlier starts."""
    started = {"after_epoch": after, **environment(accelerator)}
    write_json(path, [*(read_json(path) or []), started])


def _finish(
    folder: Path,
    model: HierarchicalVAE,
    data: DataSet,
    *,
    history: History,
    run: RunSettings,
    timing: Mapping[str, Any],
) -> str:
    """Write the history and the result; return the bounds as text."""
    rows = history.frame.astype(object).where(history.frame.notna(), None)
    content = {"best_epoch": history.best_epoch, "rows": rows.to_dict("records")}
    write_json(folder / HISTORY, content)
    draws = run.validation_samples
    with counting_draws(model, len(data.validation) * draws, quiet=run.quiet):
        bounds = evaluate(model, data, split="validation", num_samples=draws)
    result = {
        "validation": asdict(bounds),
        "epochs": max(row[0] for row in history.rows),
        "best_epoch": history.best_epoch,
        **timing,
        "num_parameters": bounds.num_parameters,
    }
    write_json(folder / RESULT, result)
    return f"{bounds}\nbest of {result['epochs']} epochs: {history.best_epoch}"


def train(
    target: str,
    *,
    data: DataSettings,
    model: ModelSettings,
    objective: ObjectiveSettings,
    training: TrainingSettings,
    machine: MachineSettings,
    run: RunSettings,
    command: str,
) -> int:
    """Train a model in its own folder, or resume an interrupted run.

    Args:
        target: full or short name of the recipe.
        data: the training data.
        model: the model.
        objective: the objective to maximise.
        training: arguments of `hvae_course.training.loop.fit`.
        machine: device and precision.
        run: output.
        command: the command as typed, for the configuration.

    Returns:
        Exit status, 0, or 130 after an interruption.

    Raises:
        UsageError: if a setting is wrong, before any file is written.
    """
    with refusing():
        recipe = find_recipe(target)
        groups = (data, model, objective, training, machine)
        settings = plain({name: v for group in groups for name, v in asdict(group).items()})
        settings |= {"recipe": recipe, "validation_samples": run.validation_samples}
        del settings["data_root"]  # a location, not a choice
        folder = Path(run.out or _default_folder(recipe, data, model, seed=training.seed))
        if run.validation_samples < 1:
            raise ValueError(
                f"--validation-samples must be at least 1, got {run.validation_samples}"
            )
        check_seed(training.seed)
        arguments, goal = model.arguments(recipe), objective.make()
        check_draws(objective, training)
        accelerator = make_accelerator(machine.device, machine.precision)
        rehearse(
            recipe,
            arguments,
            objective=goal,
            training=asdict(training),
            accelerator=accelerator,
        )
        _compare(folder, settings)
        if read_json(folder / RESULT) is not None:
            print(f"{folder} already holds the finished run; see {folder / RESULT}")
            return 0
        loaded = data.load()
        network = build_seeded(recipe, loaded, arguments, seed=training.seed)
        with torch.random.fork_rng(devices=[]):
            check_data(network, loaded, loaded.train.select(slice(0, training.batch_size)))
        after = _epochs_done(folder / CHECKPOINT, network.config)
    main = accelerator.is_main_process
    try:
        if main:
            config = {"command": command, "settings": settings, "model": network.config}
            if not (folder / CONFIG).exists():
                write_json(folder / CONFIG, config | {"data": str(loaded)})
            _note_start(folder / ENVIRONMENT, after, accelerator)
            print(f"resuming {folder} after epoch {after}" if after else f"training in {folder}")
        start = time.perf_counter()
        with refusing((ValueError, FileNotFoundError)):
            history = fit(
                network,
                loaded,
                objective=goal,
                **asdict(training),
                checkpoint=folder / CHECKPOINT,
                accelerator=accelerator,
                progress=not run.quiet,
            )
        timing = {"seconds": time.perf_counter() - start, "resumed_after": after}
        if main:
            print(_finish(folder, network, loaded, history=history, run=run, timing=timing))
    except KeyboardInterrupt:
        if main:
            several = ", launched as before," if accelerator.num_processes > 1 else ""
            print(f"\ninterrupted; to resume, give the same command{several} again:\n  {command}")
        return 130
    return 0


def _default_folder(recipe: str, data: DataSettings, model: ModelSettings, *, seed: int) -> str:
    levels = "_".join(map(str, model.latent_sizes))
    return f"runs/{short_name(recipe)}-{data.data}-{levels}-{seed}"
