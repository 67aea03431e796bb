"""The command line: train, evaluate, sample and diagnose a model, and list all choices.

``hvae train ladder --data mnist --latent-sizes 32 16 8`` trains a model and writes a folder,
``hvae evaluate runs/ladder-mnist-32_16_8-0`` reads it. Without the installed script, use
``python -m hvae_course train ...``. The options are the fields of `hvae_course.config`; PyTorch is
imported only when a command runs.
"""

import contextlib
import json
import math
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

import hvae_course
from hvae_course import config
from hvae_course.config import DATA_SETS, Data, Experiment, Machine, Model, Options
from hvae_course.files import as_path, check_writable, write_json, write_whole
from hvae_course.parsing import UsageError, parse

if TYPE_CHECKING:
    from torch import Tensor

    from hvae_course.data import DataSpec

PICTURES = (".pdf", ".png", ".svg")
"""File formats for pictures of samples, by ending."""
NUMBERS = (".csv", ".npz")
"""File formats for samples as numbers."""
Split = Literal["train", "validation", "test"]
Target = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
REFUSALS = (ValueError, TypeError, OSError, ImportError)
"""Errors that the package raises for wrong settings, before any work."""


@contextlib.contextmanager
def _refusing(kinds: tuple[type[Exception], ...] = REFUSALS) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise UsageError(str(error)) from error


def _file(name: str | None, option: str, *endings: str) -> Path | None:
    """The path of a file to be written, refused unless it has one of the endings."""
    if name is None:
        return None
    path = as_path(name)
    if path.suffix.lower() not in endings:
        raise ValueError(f"{option} must end in one of {', '.join(endings)}, got {name}")
    return path


@dataclass(frozen=True, kw_only=True)
class _Model(Model):
    recipe: tyro.conf.Positional[Annotated[config.Recipe, tyro.conf.arg(metavar="RECIPE")]] = (
        field()
    )  # without the default of the base class
    """How the latents are inferred; hvae list describes them."""
    hidden: config.Widths = Model.hidden
    """Widths of the hidden layers of every network, such as 256 256. For other widths in every
    level, one word per level, bottom to top, with commas: 512,512 256, is two levels, with two
    layers and with one."""
    reads_state: Annotated[
        bool,
        tyro.conf.arg(
            help="Let the delta of a level depend on x alone, and not on the levels above "
            "(delta only).",
            help_behavior_hint="(default: it depends on both)",
        ),
    ] = Model.reads_state


_Model.__doc__ = Model.__doc__


@dataclass(frozen=True, kw_only=True)
class Train(Options):
    """Train a model, or resume an interrupted run."""

    model: _Model
    data: Data = field(default_factory=Data)
    objective: config.Objective = field(default_factory=config.Objective)
    training: config.Training = field(default_factory=config.Training)
    machine: Machine = field(default_factory=Machine)
    out: str | None = None
    """Folder of the run; None for runs/RECIPE-DATA-LEVELS-SEED."""
    validation_samples: int = 100
    """Draws per example for the bounds at the end."""
    prior_epochs: int = 0
    """Epochs of a second stage that fits the priors over codes and leaves everything else as it is
    (vq only). The settings of the training apply to it too; its objective is the ELBO."""
    quiet: bool = False
    """Hide the progress bars."""
    positive = ("validation_samples",)
    not_negative = ("prior_epochs",)
    memory: ClassVar[str] = "--batch-size or --num-samples"

    def run(self, command: str) -> int:
        """Train in a folder of its own."""
        given = {entry.name: getattr(self.model, entry.name) for entry in fields(Model)}
        with _refusing():
            experiment = Experiment(
                data=self.data,
                model=Model(**given),
                objective=self.objective,
                training=self.training,
                machine=self.machine,
            )
        from hvae_course.run_folder import RESULT, Run, default_folder

        with _refusing():
            run = Run(
                experiment=experiment,
                folder=as_path(self.out) if self.out else default_folder(experiment),
                validation_samples=self.validation_samples,
                prior_epochs=self.prior_epochs,
                command=command,
                quiet=self.quiet,
            )
            run.check_folder()
            if run.finished:
                result = run.folder / RESULT
                _say(f"{run.folder} already holds the finished run; see {result}")
                return 0
            prepared = run.prepare()
        main, after = prepared.accelerator.is_main_process, prepared.after
        if main:
            prior = f", and epoch {prepared.prior_after} of the prior"
            start = (
                f"resuming {run.folder} after epoch {after}{prior * bool(prepared.prior_after)}"
            )
            print(start if after else f"training in {run.folder}", flush=True)
            for path in prepared.outdated:
                print(f"{path} is of {prepared.seen} or fewer; evaluate again afterwards")
        try:
            with _refusing((ValueError, FileNotFoundError)):
                bounds = prepared.train()
        except KeyboardInterrupt:
            if main:
                several = ", launched as before," if prepared.accelerator.num_processes > 1 else ""
                print(f"\ninterrupted; to resume, give the same command{several} again:")
                print(f"  {command}")
            return 130
        if main:
            print(bounds)
        return 0


@dataclass(frozen=True, kw_only=True)
class Source(Options):
    """Data and device."""

    data: config.DataName | str | None = None
    """Data set, or a file .npz with data of your own; None for what the model was trained on."""
    binarisation: config.Binarisation | None = None
    """How grey pixels become binary; None for as in training."""
    data_root: str | None = None
    """Folder of mnist, fashion_mnist, cifar10, svhn and omniglot; None for HVAE_DATA, or a cache
    folder."""
    device: config.Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None:
            Data(data=self.data, binarisation=self.binarisation, data_root=self.data_root)

    def given(self, trained: Data | None) -> Data | None:
        """Data other than those of the training, or a file that is named; None for the same."""
        name = self.data or (trained and trained.data)
        if name is None or (self.data is None and self.binarisation is None):
            return None
        files = [known not in DATA_SETS for known in (name, trained and trained.data)]
        usual = trained.binarisation if trained and (trained.data == name or all(files)) else None
        chosen = Data(data=name, binarisation=self.binarisation or usual, data_root=self.data_root)
        if self.data is not None and files[0]:
            return chosen  # what the file holds may have changed
        same = trained and (chosen.data, chosen.binarisation) == (name, usual)
        return None if same else chosen


@dataclass(frozen=True, kw_only=True)
class Evaluate(Options):
    """Bounds on log p(x) of a trained model."""

    model: Target
    """Folder of a run, checkpoint, or trained model of the course."""
    split: Split = "test"
    """Part of the data."""
    num_samples: int = 5000
    """Draws per example."""
    batch_size: int = 100
    """Examples at a time."""
    max_rows: int | None = None
    """Largest number of draws in memory at a time; None for as many as the model allows."""
    seed: int = 0
    """Seed of the draws."""
    json: str | None = None
    """File for the result; None for evaluation-SPLIT-SAMPLES.json beside the checkpoint, with
    data, seed and checkpoint in the name where they are not the default."""
    per_example: str | None = None
    """File for the bounds of every example, ending in .csv."""
    quiet: bool = False
    """Hide the progress bar."""
    source: Source = field(default_factory=Source)
    positive = ("num_samples", "batch_size", "max_rows")
    not_negative = ("seed",)
    memory: ClassVar[str] = "--max-rows or --batch-size"

    def __post_init__(self) -> None:
        super().__post_init__()
        _file(self.json, "json", ".json")
        _file(self.per_example, "per_example", ".csv")

    def run(self, command: str) -> int:
        """Print the bounds and write them as JSON."""
        import torch

        from hvae_course.analysis import bits_per_dim, evaluate
        from hvae_course.analysis.partial import batches_done
        from hvae_course.machine import make_accelerator
        from hvae_course.run_folder import counting_draws, find

        names = ("split", "num_samples", "batch_size", "max_rows", "seed")
        settings = {name: getattr(self, name) for name in names}
        draws = self.num_samples
        with _refusing():
            table = _file(self.per_example, "per_example", ".csv")
            device = make_accelerator(Machine(device=self.source.device)).device
            found = find(self.model)
            other = self.source.given(found.data)
            data = found.load(other, root=self.source.data_root)
            seed = [f"seed{self.seed}"] if self.seed else []
            path = _file(self.json, "json", ".json")
            path = path or found.result(other, data, self.split, draws, *seed)
            if table is not None:
                settings["per_example"] = True
            for file in filter(None, (path, table)):
                check_writable(file)
            partial = path and path.with_suffix(".part.pt")
            done = batches_done(partial) * self.batch_size * draws
        model = found.model.to(device)
        total = len(data.split(self.split)) * draws
        try:
            with _refusing(), counting_draws(model, total, done=done, quiet=self.quiet):
                result = evaluate(model, data, **settings, partial=partial)
        except KeyboardInterrupt:
            again = "to resume, give the same command again"
            print(f"\ninterrupted; {again if partial else 'nothing was saved; start over'}:")
            print(f"  {command}")
            return 130
        print(f"{result.frame.to_string(float_format='%.3f')}\n{result}")
        if result.measure == "probability" and (data.spec.num_values or 2) > 2:
            print(f"IW-{draws}: {bits_per_dim(result):.3f} bits per dimension")
        if path is not None:
            about = {
                "command": command,
                "best_epoch": found.best_epoch,
                "batch_size": self.batch_size,
                "torch": torch.__version__,
                "hvae_course": hvae_course.__version__,
                "model": found.model.config,
            }
            write_json(path, asdict(result) | about)
            print(f"written to {path}")
        if table is not None:
            text = result.per_example.to_csv(index_label="example")
            write_whole(table, lambda file: file.write(text.encode()))
            print(f"one row per example written to {table}")
        return 0


def _numbers(values: "Tensor", spec: "DataSpec", *, drawn: bool) -> "Tensor":
    """Samples in the units of the data: grey values from 0 on, or real values as they were."""
    if spec.num_values is not None:
        values = values * (spec.num_values - 1)
    if spec.standardisation is not None:
        values = spec.standardisation.undo(values.double())
    discrete = spec.num_values is not None or spec.counts
    return values.round().long() if drawn and discrete else values


@dataclass(frozen=True, kw_only=True)
class Sample(Options):
    """Draw examples from a trained model."""

    model: Target
    """Folder of a run, checkpoint, or trained model of the course."""
    count: int = 64
    """Number of examples."""
    pixels: Literal["mean", "drawn"] | None = None
    """The mean of p(x | z), or a draw from it; None for the mean in a picture and a draw in a file
    of numbers, where a mean would have too little spread, and be no count and no category, and for
    a draw where an autoregressive likelihood has no mean."""
    temperature: float = 1.0
    """Factor on the standard deviations of the priors; 0 for their means."""
    label: int | None = None
    """Class of the examples, for a model that takes one."""
    seed: int = 0
    """Seed of the draws."""
    out: str = "samples.png"
    """A picture, ending in .pdf, .png or .svg, or numbers in the units of the data: one row each
    in a .csv, or the array x in a .npz."""
    device: config.Device = "auto"
    """Where to compute."""
    positive = ("count",)
    not_negative = ("seed", "temperature", "label")
    memory: ClassVar[str] = "--count"

    def __post_init__(self) -> None:
        super().__post_init__()
        _file(self.out, "out", *PICTURES, *NUMBERS)

    def run(self, command: str) -> int:
        """Draw examples and write them to a file."""
        from hvae_course.analysis import sample
        from hvae_course.machine import make_accelerator
        from hvae_course.recipes import read_config
        from hvae_course.run_folder import find
        from hvae_course.seeding import isolated_random, seed_all

        path = _file(self.out, "out", *PICTURES, *NUMBERS)
        with _refusing():
            device = make_accelerator(Machine(device=self.device)).device
            found = find(self.model)
            training = None if found.data is None else Path(found.data.data)
            if training and path.exists() and training.exists() and path.samefile(training):
                raise ValueError(f"{path} holds the training data; choose another file with --out")
            picture = path.suffix.lower() in PICTURES
            shape = found.image_shape() if picture else found.shape or ()
            check_writable(path)
            model = found.model.to(device)
            if model.num_classes is not None and self.label is None:
                raise ValueError(
                    "the model is of x given its label; give --label, a number from 0 to "
                    f"{model.num_classes - 1}"
                )
            _, spec = read_config(model.config)
            settings = {"seed": self.seed, "temperature": self.temperature, "label": self.label}
            px = sample(model, self.count, **settings).px
            has_mean = model.top_down.likelihood.has_mean
            if self.pixels == "mean" and not has_mean:
                raise ValueError(
                    "this likelihood has no mean in closed form; leave pixels out, or draw them "
                    "with --pixels drawn"
                )
        with isolated_random(model.device):
            seed_all(self.seed, 1)
            pixels = self.pixels or ("mean" if picture and has_mean else "drawn")
            values = (px.mean if pixels == "mean" else px.sample()).float().cpu()
        if picture:
            own = found.data is not None and found.data.data not in DATA_SETS
            self._draw(path, values, shape, white=1 if own else 0)
        else:
            self._write(path, _numbers(values, spec, drawn=pixels == "drawn"), shape, spec)
        print(f"{self.count} sample{'s' * (self.count > 1)} written to {path}")
        return 0

    def _draw(self, path: Path, images: "Tensor", shape: tuple[int, ...], *, white: int) -> None:
        """Write a grid of images, in which a grey value of 1 or of 0 is white."""
        import torch
        from matplotlib.figure import Figure

        from hvae_course.plots import image_grid

        outside = ((images < 0) | (images > 1)).float().mean().item()
        if outside:
            print(
                f"{outside:.1%} of the pixels lie outside [0, 1] and are drawn as 0 or 1; "
                "--out samples.npz keeps their values"
            )
        columns = math.ceil(math.sqrt(self.count))
        missing = -self.count % columns
        blank = images.new_full((missing, images.shape[1]), math.nan)
        rows = torch.cat([images.clamp(0, 1), blank]).unflatten(0, (-1, columns))
        height, width = shape[-2:]
        size = 0.75 * columns * min(1, width / height), 0.75 * len(rows) * min(1, height / width)
        figure = Figure(figsize=size, layout="constrained")
        image_grid(rows, shape, white=white, axes=figure.subplots())
        style = {"format": path.suffix.lower().removeprefix("."), "facecolor": "white", "dpi": 200}
        write_whole(path, lambda file: figure.savefig(file, **style))

    def _write(
        self, path: Path, values: "Tensor", shape: tuple[int, ...], spec: "DataSpec"
    ) -> None:
        """Write numbers, one example per row, or in the shape of the examples."""
        import numpy as np
        import pandas as pd

        if path.suffix.lower() == ".npz":
            arrays = {"x": values.unflatten(1, shape).numpy() if shape else values.numpy()}
            if self.label is not None:
                arrays["y"] = np.full(self.count, self.label)
            write_whole(path, lambda file: np.savez(file, **arrays))
            return
        names = spec.feature_names or [f"x_{d}" for d in range(spec.num_features)]
        table = pd.DataFrame(values.numpy(), columns=list(names))
        if self.label is not None:
            table["y"] = self.label
        text = table.to_csv(index=False)
        write_whole(path, lambda file: file.write(text.encode()))


@dataclass(frozen=True, kw_only=True)
class Diagnose(Options):
    """Information and usage of every level of a trained model."""

    model: Target
    """Folder of a run, checkpoint, or trained model of the course."""
    split: Split = "test"
    """Part of the data."""
    num_samples: int = 10
    """Draws per example."""
    max_examples: int = 1000
    """Number of examples, from the first."""
    threshold: float = 0.1
    """Nats per example above which a level counts as active."""
    unit_threshold: float = 0.01
    """Variance, or nats, above which a unit counts as active, or informative."""
    num_others: int | None = None
    """Other examples that each draw is compared with, for large models; None for all, and for 20
    if the posterior is a flow, which scores a draw of another example slowly."""
    seed: int = 0
    """Seed of the draws."""
    json: str | None = None
    """File for the table."""
    source: Source = field(default_factory=Source)
    positive = ("num_samples", "max_examples", "num_others")
    not_negative = ("seed", "threshold", "unit_threshold")
    memory: ClassVar[str] = "--max-examples or --num-samples"

    def __post_init__(self) -> None:
        super().__post_init__()
        _file(self.json, "json", ".json")

    def run(self, command: str) -> int:
        """Print the table, and write it if a file is named."""
        from hvae_course.analysis import diagnose
        from hvae_course.machine import make_accelerator
        from hvae_course.run_folder import find

        names = ("split", "num_samples", "max_examples", "threshold", "unit_threshold", "seed")
        settings = {name: getattr(self, name) for name in names}
        if self.num_others is not None:
            settings["num_others"] = self.num_others
        path = _file(self.json, "json", ".json")
        with _refusing():
            device = make_accelerator(Machine(device=self.source.device)).device
            found = find(self.model)
            data = found.load(self.source.given(found.data), root=self.source.data_root)
            if path is not None:
                check_writable(path)
            table = diagnose(found.model.to(device), data, **settings)
        print(table.to_string(index=False, float_format="%.3f"))
        if path is not None:
            rows = table.astype(object).where(table.notna(), None).to_dict("records")
            write_json(path, {"command": command, **settings, "levels": rows})
            print(f"written to {path}")
        return 0


@dataclass(frozen=True)
class List:
    """Recipes, networks, data, priors, likelihoods, objectives."""

    def run(self, command: str) -> int:
        """Print everything that can be chosen."""
        sections = choices()
        width = max(len(name) for entries in sections.values() for name in entries)
        blocks = [
            "\n".join([title, *(f"  {name:<{width}}  {line}" for name, line in entries.items())])
            for title, entries in sections.items()
        ]
        print("\n\n".join(blocks))
        return 0


def choices() -> Mapping[str, Mapping[str, str]]:
    """Collect everything that an option of ``hvae train`` can name.

    Returns:
        For each kind, its names with one line about each.
    """
    from hvae_course.objectives import OBJECTIVES, FreeBits, WarmUp
    from hvae_course.pretrained import PRETRAINED
    from hvae_course.recipes import LIKELIHOODS, NETWORKS, RECIPES

    def first_line(documented: object) -> str:
        line = (documented.__doc__ or "").strip().split("\n")[0].rstrip(".")
        return re.sub(r" \(:eq:`[^`]*`\)", "", line)  # only the book numbers its equations

    def module(kind: type) -> object:
        return sys.modules[kind.__module__]

    return {
        "recipes": {name.removesuffix("_vae"): first_line(r) for name, r in RECIPES.items()},
        "networks (--networks)": {name: first_line(kind) for name, kind in NETWORKS.items()},
        "codes (--codes)": {name: first_line(kind) for name, kind in config.CODES.items()},
        "data sets (--data)": {name: info.about for name, info in DATA_SETS.items()},
        "priors (--prior)": {name: first_line(kind) for name, kind in config.PRIORS.items()},
        "likelihoods (--likelihood)": {n: first_line(kind) for n, kind in LIKELIHOODS.items()},
        "objectives (--objective)": {
            **{name: first_line(objective) for name, objective in OBJECTIVES.items()},
            "--warm-up": first_line(module(WarmUp)),
            "--free-bits": first_line(module(FreeBits)),
        },
        "trained models": {
            name: f"{entry.experiment.model.recipe} on "
            f"{entry.experiment.data.data}, levels "
            + " ".join(map(str, entry.experiment.model.latent_sizes))
            for name, entry in PRETRAINED.items()
        },
    }


COMMANDS: dict[str, type] = {
    "train": Train,
    "evaluate": Evaluate,
    "sample": Sample,
    "diagnose": Diagnose,
    "list": List,
}
"""The subcommands by name.

:meta hide-value:
"""


def _say(line: str) -> None:
    """Print a line in the first of the processes that a launcher has started."""
    if os.environ.get("RANK", "0") == "0":
        print(line)


def _fail(line: str) -> None:
    """Print an error; of the processes on one machine, all of which come to it, only the first.

    The launcher of several processes ends with a report of its own, which then has the line too.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(line, file=sys.stderr)
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": line, "timestamp": str(int(time.time()))}
        Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": extra}}))


@contextlib.contextmanager
def _warnings_in_one_line(title: str) -> Iterator[None]:
    """Show every warning once, without the place in the code that it comes from."""
    before, shown = warnings.formatwarning, set()

    def line(message: Warning | str, *_: object, **__: object) -> str:
        text = f"{title}: warning: {' '.join(str(message).split())}\n"
        new = text not in shown
        shown.add(text)
        return text if new else ""

    warnings.formatwarning = line
    try:
        yield
    finally:
        warnings.formatwarning = before


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; by default those of the command line.

    Returns:
        0 for success, 1 for a failure while running, 130 after an interruption.

    Raises:
        SystemExit: with status 2 and a one-line message if the command line is wrong, with
            status 0 after ``--help``.

    Example:
        >>> main(["sample", "digits", "--count", "0"])
        Traceback (most recent call last):
        SystemExit: 2
    """
    # threads that spin while they wait make training ten times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(f"hvae {hvae_course.__version__}")
        return 0
    named = words[0] if words and words[0] in COMMANDS else ""
    title = f"hvae {named}".strip()
    with _warnings_in_one_line(title):
        try:
            command = parse(words, COMMANDS)
            return command.run(shlex.join(["hvae", *words]))
        except UsageError as error:
            _fail(f"{title}: error: {' '.join(str(error).split())}")
            raise SystemExit(2) from None
        except BrokenPipeError:  # whoever read the output, such as head, has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (FloatingPointError, OSError) as error:
            _fail(f"{title}: failed: {' '.join(str(error).split())}")
            return 1
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            _fail(f"{title}: failed: not enough memory; lower {command.memory}")
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return 130


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of NumPy, or of PyTorch on any device, says that the memory is short."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
