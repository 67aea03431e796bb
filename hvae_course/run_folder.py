"""A run as a folder: its settings, its history, its result, and its model to read again.

``config.json`` is written before the first step, ``checkpoint.pt`` after every epoch,
``history.json`` and ``result.json`` at the end, each atomically. The same experiment in the same
folder resumes from the checkpoint and ends with the weights of an uninterrupted run. With more
epochs it goes on from there, unless its learning rate has a schedule that ends at the last one.

A second stage, for priors over codes, has its own checkpoint ``prior.pt``, from which the model is
read where it exists. It starts again if the first stage goes on.
"""

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from hvae_course.analysis import evaluate
from hvae_course.compatibility import check_data
from hvae_course.config import DATA_SETS, Data, Experiment, differences
from hvae_course.data import DataSet, DataSpec, Split, load
from hvae_course.data.splits import SPLITS
from hvae_course.files import as_path, check_writable, read_json, write_json
from hvae_course.hierarchy import HierarchicalVAE, Trace
from hvae_course.machine import environment, make_accelerator
from hvae_course.objectives import make_objective
from hvae_course.pretrained import PRETRAINED
from hvae_course.pretrained import load as load_pretrained
from hvae_course.recipes import build, read_config
from hvae_course.training import History, fit, fit_prior, load_checkpoint
from hvae_course.training.checkpoints import as_recorded, load_weights
from hvae_course.training.step import check_compiler

CONFIG, CHECKPOINT, RESULT = "config.json", "checkpoint.pt", "result.json"
HISTORY, ENVIRONMENT, PRIOR = "history.json", "environment.json", "prior.pt"
FIRST_STAGE = ("epochs", "patience")
"""Options of the first stage in which a resumed run may differ from the run before."""
FREE = (*FIRST_STAGE, "prior_epochs")
"""All options in which it may differ."""


def own_file(data: Data) -> Path | None:
    """The absolute path of a user's own data.

    Args:
        data: which data.

    Returns:
        The file; None for a data set that is known by its name.
    """
    return None if data.data in DATA_SETS else as_path(data.data).absolute()


@contextmanager
def counting_draws(
    model: HierarchicalVAE, total: int, *, done: int = 0, quiet: bool
) -> Iterator[None]:
    """Show how many draws of the latents a model has made, and the time left.

    Args:
        model: the model; every pass of data through it is counted while the block runs.
        total: number of draws over all examples.
        done: number of draws made earlier.
        quiet: whether to hide the bar.

    Yields:
        None: nothing.
    """
    bar = tqdm(total=total, initial=done, unit="draw", unit_scale=True, leave=False, disable=quiet)

    def count(_: HierarchicalVAE, __: tuple, trace: Trace) -> None:
        bar.update(len(trace.levels[0].z))

    hook = model.register_forward_hook(count)
    try:
        yield
    finally:
        hook.remove()
        bar.close()


def default_folder(experiment: Experiment) -> Path:
    """Name the folder of a run by recipe, data, levels and seed.

    Args:
        experiment: the run.

    Returns:
        A folder below ``runs``.
    """
    model, seed = experiment.model, experiment.training.seed
    levels = "_".join(map(str, model.latent_sizes))
    data = Path(experiment.data.data).stem  # of a user's own file; other names have no ending
    return Path("runs") / f"{model.recipe}-{data}-{levels}-{seed}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training in its own folder.

    Args:
        experiment: data, model, objective, training and machine.
        folder: the folder.
        validation_samples: draws per example for the bounds at the end.
        prior_epochs: epochs of the second stage, `hvae_course.training.stages.fit_prior`, with the
            settings of the training otherwise; 0 for none.
        command: what the configuration names as the command of the run.
        quiet: whether to hide the progress bars.
    """

    experiment: Experiment
    folder: Path
    validation_samples: int = 100
    prior_epochs: int = 0
    command: str = ""
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.validation_samples < 1:
            raise ValueError(
                f"validation_samples must be at least 1, got {self.validation_samples}"
            )
        recipe = self.experiment.model.recipe
        if self.prior_epochs and recipe != "vq":
            raise ValueError(
                f"prior_epochs is for the recipe vq, whose priors over codes are fitted last, got "
                f"it with {recipe}, whose prior is trained with everything else; leave it out"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that config.json keeps of the settings."""
        settings = {**self.experiment.settings(), "validation_samples": self.validation_samples}
        if self.prior_epochs:
            settings["prior_epochs"] = self.prior_epochs
        file = own_file(self.experiment.data)
        return settings if file is None else settings | {"data": str(file)}

    @cached_property
    def data(self) -> DataSet:
        """The data, on the CPU."""
        return load(self.experiment.data)

    @property
    def finished(self) -> bool:
        """Whether the folder holds the result of as many epochs."""
        files = [CHECKPOINT, PRIOR] if self.prior_epochs else [CHECKPOINT]
        complete = all((self.folder / name).exists() for name in files)
        return complete and bool(read_json(self.folder / RESULT)) and not self._changes(*FREE)

    @property
    def first_stage_goes_on(self) -> bool:
        """Whether the first stage starts, or was asked to end after fewer epochs before."""
        return not (self.folder / CHECKPOINT).exists() or self._changes(*FIRST_STAGE)

    def _changes(self, *names: str) -> bool:
        """Whether some of the settings differ from those in the folder."""
        before = (read_json(self.folder / CONFIG) or {}).get("settings", {})
        before, now = {"prior_epochs": 0} | before, {"prior_epochs": 0} | self.settings
        return any(before.get(name, now[name]) != now[name] for name in names)

    def check_folder(self) -> None:
        """Refuse a folder that holds anything but a run with these settings and data.

        Raises:
            ValueError: if it does.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; name a folder for the run with --out")
        found = read_json(self.folder / CONFIG)
        if found is None:
            if (self.folder / CHECKPOINT).exists():
                raise ValueError(
                    f"{self.folder} holds a checkpoint but no {CONFIG}, so it is not a run "
                    "folder; choose another with --out"
                )
            return
        if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
            raise ValueError(
                f"{self.folder / CONFIG} holds no settings; choose another folder with --out"
            )
        if not (self.folder / CHECKPOINT).exists() and not (self.folder / RESULT).exists():
            return  # that run has ended before its first epoch
        before, now = found["settings"], {"prior_epochs": 0} | self.settings
        unknown = before.keys() - now.keys() - {"recipe_options"}
        # options newer than the folder have their defaults
        known = Experiment.from_settings(before).settings()
        known["validation_samples"] = before.get("validation_samples")
        known["prior_epochs"] = before.get("prior_epochs", 0)
        recorded = known | {name: before[name] for name in unknown}
        file = own_file(self.experiment.data)
        decays = self.experiment.training.decay
        same = [] if decays else [*FREE]
        if not recorded["prior_epochs"]:
            same.append("prior_epochs")
        if file is not None and recorded["data"] not in DATA_SETS:
            same.append("data")  # two files are compared by their content
        changed = differences(recorded, now | {name: recorded[name] for name in same})
        if changed:
            fixed = [name for name in ("epochs", "prior_epochs") if recorded[name] != now[name]]
            about = f" (the decay of the learning rate depends on {' and '.join(fixed)})"
            why = about if decays and fixed else ""
            raise ValueError(
                f"{self.folder} holds a run with other settings: {changed}{why}. Give the same "
                "settings to resume it, or choose another folder with --out"
            )
        if file is not None and self.data.fingerprint() != found.get("fingerprint"):
            raise ValueError(
                f"{self.folder} holds a run on other data than those that {file} holds now; "
                "choose another folder with --out"
            )

    def prepare(self) -> "Prepared":
        """Read the data and build the model, or refuse them before any file is written.

        Returns:
            The run, ready to train.

        Raises:
            ValueError: if the machine, the data or the folder do not fit the settings.
        """
        chosen = self.experiment
        accelerator = make_accelerator(chosen.machine)
        if chosen.training.compiled:
            check_compiler(accelerator.device)
        self.check_folder()
        model = build(chosen.model, self.data, seed=chosen.training.seed)
        with torch.random.fork_rng(devices=[]):
            first = self.data.train.select(slice(0, chosen.training.batch_size))
            check_data(model, self.data, first)
        after = _epochs_done(self.folder / CHECKPOINT, model.config)
        if after > chosen.training.epochs:
            raise ValueError(
                f"{self.folder} has seen {after} epochs, more than --epochs "
                f"{chosen.training.epochs}; give {after} or more, or choose another folder with "
                "--out"
            )
        path = self.folder / PRIOR
        prior_after = 0 if self.first_stage_goes_on else _epochs_done(path, model.config)
        if prior_after > self.prior_epochs:
            raise ValueError(
                f"the prior in {self.folder} has seen {prior_after} epochs, more than "
                f"--prior-epochs {self.prior_epochs}; give {prior_after} or more, or choose "
                "another folder with --out"
            )
        if accelerator.is_main_process:
            # weights, the best of them, and two moments of every gradient
            size = 4 * sum(p.numel() * p.element_size() for p in model.parameters())
            check_writable(self.folder / CHECKPOINT, size=size)
        return Prepared(self, accelerator, self.data, model, after, prior_after)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run with its data and its model, untrained or resumed."""

    run: Run
    accelerator: Accelerator
    data: DataSet
    model: HierarchicalVAE
    after: int
    """Epochs that the checkpoint in the folder has seen."""
    prior_after: int = 0
    """Epochs that the checkpoint of the second stage has seen."""

    @property
    def seen(self) -> str:
        """The epochs of the stage that is resumed, in words."""
        if self.prior_after:
            return f"{self.prior_after} epochs of the prior"
        return f"{self.after} epochs"

    @property
    def outdated(self) -> list[Path]:
        """Evaluations in the folder, which more epochs make those of an earlier state."""
        run = self.run
        if 0 < self.prior_after < run.prior_epochs:
            return sorted(run.folder.glob(f"evaluation-{Path(PRIOR).stem}-*.json"))
        more = 0 < self.after < run.experiment.training.epochs
        return sorted(run.folder.glob("evaluation-*.json")) if more else []

    def train(self) -> str | None:
        """Train, evaluate on the validation split and write all files.

        Returns:
            The bounds as text; None in every process but the main one.
        """
        run, folder, main = self.run, self.run.folder, self.accelerator.is_main_process
        if main:
            if not (folder / CHECKPOINT).exists() or run._changes(*FREE, "data"):
                outdated = [RESULT, HISTORY]  # of fewer epochs
                for name in [*outdated, PRIOR] if run.first_stage_goes_on else outdated:
                    (folder / name).unlink(missing_ok=True)
                about = {"command": run.command, "settings": run.settings}
                about |= {"model": self.model.config, "data": str(self.data)}
                write_json(folder / CONFIG, about | {"fingerprint": self.data.fingerprint()})
            started = {"after_epoch": self.after, **environment(self.accelerator)}
            starts = read_json(folder / ENVIRONMENT) or []
            write_json(folder / ENVIRONMENT, [*starts, started])
        start = time.perf_counter()
        training, prior_history = run.experiment.training, None
        settings = {"accelerator": self.accelerator, "progress": not run.quiet}
        history = fit(
            self.model,
            self.data,
            training,
            objective=make_objective(run.experiment.objective),
            checkpoint=folder / CHECKPOINT,
            **settings,
        )
        if run.prior_epochs:
            training = replace(training, epochs=run.prior_epochs)
            path = folder / PRIOR
            prior_history = fit_prior(self.model, self.data, training, checkpoint=path, **settings)
        timing = {"seconds": time.perf_counter() - start, "resumed_after": self.after}
        return self._finish(history, prior_history, timing) if main else None

    def _finish(
        self, history: History, prior_history: History | None, timing: Mapping[str, Any]
    ) -> str:
        """Write history and result."""
        folder, draws = self.run.folder, self.run.validation_samples
        stages = {"": history} if prior_history is None else {"": history, "prior_": prior_history}
        content = {}
        for stage, of in stages.items():
            rows = of.frame.astype(object).where(of.frame.notna(), None)
            content[f"{stage}best_epoch"] = of.best_epoch
            content[f"{stage}rows"] = rows.to_dict("records")
        write_json(folder / HISTORY, content)
        total = len(self.data.validation) * draws
        with counting_draws(self.model, total, quiet=self.run.quiet):
            bounds = evaluate(self.model, self.data, split="validation", num_samples=draws)
        result: dict[str, Any] = {"validation": asdict(bounds)}
        for stage, of in stages.items():
            result[f"{stage}epochs"] = max(row[0] for row in of.rows)
            result[f"{stage}best_epoch"] = of.best_epoch
        result |= {**timing, "num_parameters": bounds.num_parameters}
        write_json(folder / RESULT, result)
        lines = [str(bounds), f"best of {result['epochs']} epochs: {history.best_epoch}"]
        if prior_history is not None:
            best = prior_history.best_epoch
            lines.append(f"best of {result['prior_epochs']} epochs of the prior: {best}")
        return "\n".join(lines)


def _epochs_done(path: Path, config: Mapping[str, Any]) -> int:
    """Epochs in a checkpoint, 0 without one; refuse a checkpoint of another model."""
    if not path.exists():
        return 0
    checkpoint = load_checkpoint(path)
    other = differences(as_recorded(checkpoint.config), as_recorded(config))
    if other or "epoch" not in checkpoint.run:
        raise ValueError(f"{path} belongs to another run; choose another folder with --out")
    return checkpoint.run["epoch"]


@dataclass(frozen=True, eq=False)
class Found:
    """A trained model and what is known about it."""

    model: HierarchicalVAE
    """In evaluation mode."""
    checkpoint: Path | None
    """The file; None for a model of the course."""
    data: Data | None
    """The data set it was trained on."""
    best_epoch: int | None
    """The epoch its weights come from."""
    shape: tuple[int, ...] | None = None
    """Shape of an example; None for a checkpoint of an earlier version, which has their size."""
    fingerprint: str | None = None
    """Of the data it was trained on; None where it is not known."""

    def load(self, data: Data | None, *, root: str | None = None) -> DataSet:
        """Read the data the model is evaluated on, in the scale of those of the training.

        Args:
            data: other data than those of the training.
            root: folder of the data, for those of the training.

        Returns:
            The data set.

        Raises:
            ValueError: if no data set is named, the user's own file has changed since training,
                or the data do not fit the model.
        """
        chosen = data or self.data
        if chosen is None:
            raise ValueError(
                f"no {CONFIG} beside the checkpoint names its training data; give --data"
            )
        loaded = load(chosen.data, binarisation=chosen.binarisation, root=root or chosen.data_root)
        if data is None and own_file(chosen) and loaded.fingerprint() != self.fingerprint:
            raise ValueError(
                f"{chosen.data} has changed since the model was trained on it; give --data "
                f"{chosen.data} for what it holds now"
            )
        if own_file(chosen):
            loaded = _rescaled(loaded, read_config(self.model.config)[1])
        # one example: what reads a split checks all of it
        check_data(self.model, loaded, loaded.train.select(slice(0, 1)))
        return loaded

    def image_shape(self) -> tuple[int, ...]:
        """Shape of the images that the model makes.

        Returns:
            ``(H, W)``, or ``(C, H, W)`` with one channel or three.

        Raises:
            ValueError: if it does not make images, or nothing names their shape.
        """
        shape = self.shape
        if shape is None and self.data is not None:
            shape = self.load(None).image_shape
        if shape is None:
            raise ValueError(
                "the checkpoint is of an earlier version, which kept the number of pixels and not "
                f"the shape of an image, and no {CONFIG} beside it names its data; write numbers "
                "with --out samples.npz"
            )
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
            raise ValueError(
                f"examples of shape {shape} are not images (H, W), (1, H, W) or (3, H, W); write "
                "numbers with --out samples.csv or --out samples.npz"
            )
        return tuple(shape)

    def result(self, other: Data | None, loaded: DataSet, *words: str | int) -> Path | None:
        """Name the file for a result; results that differ in their settings get different files.

        Args:
            other: the data if they are not those of the training, parts of the name.
            loaded: the same data.
            *words: further parts of the name.

        Returns:
            A JSON file beside the checkpoint; None for a model of the course.
        """
        if self.checkpoint is None:
            return None
        named = [] if self.checkpoint.name == CHECKPOINT else [self.checkpoint.stem]
        if other is not None and own_file(other):
            content = loaded.fingerprint()
            stem = Path(other.data).stem
            named += [] if content == self.fingerprint else [f"{stem}-{content[:8]}"]
        elif other is not None:
            for name in ("data", "binarisation"):
                given, usual = getattr(other, name), getattr(self.data, name, None)
                named += [] if given == usual else [given]
        return (
            self.checkpoint.parent / f"{'-'.join(map(str, ('evaluation', *named, *words)))}.json"
        )


def _rescaled(data: DataSet, spec: DataSpec) -> DataSet:
    """Real values in the scale that a model knows."""
    found, wanted = data.standardisation, spec.standardisation
    real = data.num_values is None and not data.counts
    if found == wanted or not real or data.spec.shape != spec.shape:
        return data  # those of another kind are refused later

    def change(split: Split) -> Split:
        x = split.pixels.double() if found is None else found.undo(split.pixels.double())
        x = x if wanted is None else wanted.apply(x)
        return replace(split, pixels=x.to(split.pixels.dtype))

    splits = {name: change(data.split(name)) for name in SPLITS}
    return replace(data, standardisation=wanted, **splits)


def find(target: str | Path) -> Found:
    """Load a trained model.

    Args:
        target: the folder of a run, a checkpoint, or a key of
            `hvae_course.pretrained.models.PRETRAINED`; a path that exists comes first.

    Returns:
        The model in evaluation mode.

    Raises:
        FileNotFoundError: if the target does not exist.

    Warns:
        UserWarning: if the training of a run is not finished.
    """
    path = as_path(target)
    if not path.exists():
        if target not in PRETRAINED:
            raise FileNotFoundError(
                f"{target} is not a run folder, a checkpoint, or one of the trained models "
                f"{', '.join(PRETRAINED)}"
            )
        trained = PRETRAINED[str(target)]
        model, shape = load_pretrained(str(target)), trained.spec.shape
        return Found(model, None, trained.experiment.data, None, shape)
    if path.is_dir():
        path = path / (PRIOR if (path / PRIOR).exists() else CHECKPOINT)
    checkpoint = load_checkpoint(path)
    if not checkpoint.config:
        raise ValueError(
            f"{path} holds the weights of a model that no recipe built, so only Python can load "
            "them: build the model as before training, then "
            "model.load_state_dict(load_checkpoint(path).weights)"
        )
    about = read_json(path.parent / CONFIG)
    about = about if isinstance(about, dict) else {}
    settings, data = about.get("settings", {}), None
    if "data" in settings:
        data = Data(data=settings["data"], binarisation=settings.get("binarisation"))
    prior = path.name == PRIOR
    epoch, epochs = (
        checkpoint.run.get("epoch"),
        settings.get("prior_epochs" if prior else "epochs"),
    )
    if epoch and epochs and not (path.parent / RESULT).exists():
        stage = " of the prior" if prior else ""
        warnings.warn(
            f"the training in {path.parent} is not finished: {epoch} of {epochs} epochs{stage}",
            stacklevel=2,
        )
    model = build(checkpoint.config)
    load_weights(model, checkpoint.weights, source=path)
    shape = checkpoint.config.get("shape")
    return Found(
        model.eval(),
        path,
        data,
        checkpoint.run.get("best_epoch"),
        None if shape is None else tuple(shape),
        about.get("fingerprint"),
    )
