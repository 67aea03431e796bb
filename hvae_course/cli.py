"""The command line: train, evaluate, sample and diagnose a model, and list all choices.

``hvae train ladder --data mnist --latent-sizes 32 16 8`` trains a model and writes a folder,
``hvae evaluate runs/ladder-mnist-32_16_8-0`` reads it. Without the installed script, use
``python -m hvae_course train ...``. The options are the fields of `hvae_course.config`; PyTorch is
imported only when a command runs.
"""

import contextlib
import io
import json
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro

from hvae_course import config
from hvae_course.config import DATA_SETS, Data, Experiment, Machine, Model, Options

PICTURES = (".pdf", ".png", ".svg")
"""File formats for samples, by ending."""
Split = Literal["train", "validation", "test"]
Target = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
REFUSALS = (ValueError, TypeError, FileNotFoundError, ImportError)
"""Errors that the package raises for wrong settings."""


class UsageError(Exception):
    """A wrong setting; the user reads the message in one line, and the exit status is 2."""


@contextlib.contextmanager
def _refusing(kinds: tuple[type[Exception], ...] = REFUSALS) -> Any:  # noqa: ANN401
    try:
        yield
    except kinds as error:
        raise UsageError(str(error)) from error


def _check_file(path: Path | None) -> None:
    if path is not None and path.is_dir():
        raise ValueError(f"--json must be a file for the result, but {path} is a folder")


@dataclass(frozen=True, kw_only=True)
class _Model(Model):
    recipe: tyro.conf.Positional[Annotated[config.Recipe, tyro.conf.arg(metavar="RECIPE")]] = (
        field()
    )  # without the default of the base class
    """How the latents are inferred; hvae list describes them."""


_Model.__doc__ = Model.__doc__


@dataclass(frozen=True, kw_only=True)
class Train:
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
    quiet: bool = False
    """Hide the progress bars."""

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
            if self.validation_samples < 1:
                raise ValueError(
                    f"validation_samples must be at least 1, got {self.validation_samples}"
                )
        from hvae_course.run_folder import RESULT, Run, default_folder

        with _refusing():
            run = Run(
                experiment=experiment,
                folder=Path(self.out) if self.out else default_folder(experiment),
                validation_samples=self.validation_samples,
                command=command,
                quiet=self.quiet,
            )
            run.check_folder()
            if run.finished:
                print(f"{run.folder} already holds the finished run; see {run.folder / RESULT}")
                return 0
            prepared = run.prepare()
        main, after = prepared.accelerator.is_main_process, prepared.after
        if main:
            start = f"resuming {run.folder} after epoch {after}" if after else None
            print(start or f"training in {run.folder}")
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

    data: config.DataName | None = None
    """Data set; None for the one the model was trained on."""
    binarisation: config.Binarisation | None = None
    """How grey pixels become binary; None for as in training."""
    data_root: str | None = None
    """Folder of mnist and fashion_mnist; None for HVAE_DATA, or a cache folder."""
    device: config.Device = "auto"
    """Where to compute."""

    def given(self, trained: Data | None) -> Data | None:
        """Data other than those of the training; None for the same."""
        name = self.data or (trained and trained.data)
        if name is None or (self.data is None and self.binarisation is None):
            return None
        usual = trained.binarisation if trained and trained.data == name else None
        chosen = Data(data=name, binarisation=self.binarisation or usual, data_root=self.data_root)
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
    """Largest number of draws in memory at a time; None for 2000 on a CPU, 20000 on a GPU."""
    seed: int = 0
    """Seed of the draws."""
    json: str | None = None
    """File for the result; None for evaluation-SPLIT-SAMPLES.json beside the checkpoint, with
    data, seed and checkpoint in the name where they are not the default."""
    quiet: bool = False
    """Hide the progress bar."""
    source: Source = field(default_factory=Source)
    positive = ("num_samples", "batch_size", "max_rows")
    not_negative = ("seed",)

    def run(self, command: str) -> int:
        """Print the bounds and write them as JSON."""
        import torch

        import hvae_course
        from hvae_course.analysis import evaluate
        from hvae_course.analysis.partial import batches_done
        from hvae_course.files import write_json
        from hvae_course.machine import make_accelerator
        from hvae_course.run_folder import counting_draws, find

        names = ("split", "num_samples", "batch_size", "max_rows", "seed")
        settings = {name: getattr(self, name) for name in names}
        draws = self.num_samples
        with _refusing():
            device = make_accelerator(Machine(device=self.source.device)).device
            if self.max_rows is None:
                settings["max_rows"] = 2_000 if device.type == "cpu" else 20_000
            found = find(self.model)
            other = self.source.given(found.data)
            data = found.load(other, root=self.source.data_root)
            seed = [f"seed{self.seed}"] if self.seed else []
            path = Path(self.json) if self.json else found.result(other, self.split, draws, *seed)
            _check_file(path)
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
        if path is not None:
            about = {
                "command": command,
                "best_epoch": found.best_epoch,
                "batch_size": self.batch_size,
                "max_rows": settings["max_rows"],
                "torch": torch.__version__,
                "hvae_course": hvae_course.__version__,
                "model": found.model.config,
            }
            write_json(path, asdict(result) | about)
            print(f"written to {path}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Sample(Options):
    """Draw images from a trained model."""

    model: Target
    """Folder of a run, checkpoint, or trained model of the course."""
    count: int = 64
    """Number of images."""
    pixels: Literal["mean", "drawn"] = "mean"
    """Show the mean of p(x | z), or a draw from it."""
    seed: int = 0
    """Seed of the draws."""
    out: str = "samples.png"
    """Image file, ending in .pdf, .png or .svg."""
    device: config.Device = "auto"
    """Where to compute."""
    positive = ("count",)
    not_negative = ("seed",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if Path(self.out).suffix.lower() not in PICTURES:
            raise ValueError(f"out must end in one of {', '.join(PICTURES)}, got {self.out}")

    def run(self, command: str) -> int:
        """Draw images and write them to a file."""
        import torch
        from matplotlib.figure import Figure

        from hvae_course.analysis import sample
        from hvae_course.files import write_whole
        from hvae_course.machine import make_accelerator
        from hvae_course.plots import image_grid
        from hvae_course.recipes import read_config
        from hvae_course.run_folder import find
        from hvae_course.seeding import isolated_random, seed_all

        with _refusing():
            device = make_accelerator(Machine(device=self.device)).device
            model = find(self.model).model.to(device)
            _, spec = read_config(model.config)
            side = math.isqrt(spec.num_features)
            shape = spec.shape if len(spec.shape) == 2 else (side, side)
            if math.prod(shape) != spec.num_features:
                raise ValueError(
                    f"cannot draw samples: {spec.num_features} features do not form a square image"
                )
        px = sample(model, self.count, seed=self.seed).px
        with isolated_random(model.device):
            seed_all(self.seed, 1)
            images = (px.mean if self.pixels == "mean" else px.sample()).float().cpu()
        columns = math.ceil(math.sqrt(self.count))
        missing = -self.count % columns
        images = torch.cat([images, images.new_full((missing, images.shape[1]), math.nan)])
        rows = images.unflatten(0, (-1, columns))
        figure = Figure(figsize=(0.75 * columns, 0.75 * len(rows)), layout="constrained")
        image_grid(rows, shape, axes=figure.subplots())
        kind = Path(self.out).suffix.lower().removeprefix(".")
        style = {"format": kind, "facecolor": "white", "dpi": 200}
        write_whole(self.out, lambda file: figure.savefig(file, **style))
        print(f"{self.count} samples written to {self.out}")
        return 0


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
    seed: int = 0
    """Seed of the draws."""
    json: str | None = None
    """File for the table."""
    source: Source = field(default_factory=Source)
    positive = ("num_samples", "max_examples")
    not_negative = ("seed", "threshold", "unit_threshold")

    def run(self, command: str) -> int:
        """Print the table, and write it if a file is named."""
        from hvae_course.analysis import diagnose
        from hvae_course.files import write_json
        from hvae_course.machine import make_accelerator
        from hvae_course.run_folder import find

        names = ("split", "num_samples", "max_examples", "threshold", "unit_threshold", "seed")
        settings = {name: getattr(self, name) for name in names}
        with _refusing():
            _check_file(Path(self.json) if self.json else None)
            device = make_accelerator(Machine(device=self.source.device)).device
            found = find(self.model)
            data = found.load(self.source.given(found.data), root=self.source.data_root)
            table = diagnose(found.model.to(device), data, **settings)
        print(table.to_string(index=False, float_format="%.3f"))
        if self.json:
            rows = table.astype(object).where(table.notna(), None).to_dict("records")
            write_json(self.json, {"command": command, **settings, "levels": rows})
            print(f"written to {self.json}")
        return 0


@dataclass(frozen=True)
class List:
    """Recipes, data, priors, likelihoods, objectives."""

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
    from hvae_course.recipes import LIKELIHOODS, RECIPES

    def first_line(documented: object) -> str:
        line = (documented.__doc__ or "").strip().split("\n")[0].rstrip(".")
        return re.sub(r" \(:eq:`[^`]*`\)", "", line)  # only the book numbers its equations

    def module(kind: type) -> object:
        return sys.modules[kind.__module__]

    return {
        "recipes": {name.removesuffix("_vae"): first_line(r) for name, r in RECIPES.items()},
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


_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


def parse_pair(word: str) -> tuple[str, Any]:
    """Parse an option of a component, such as a prior.

    Args:
        word: ``KEY=VALUE``.

    Returns:
        The key and its value: a number, a Boolean, None, a JSON list, or else a string.

    Raises:
        ValueError: if there is no key or no equals sign.

    Example:
        >>> parse_pair("num_components=500"), parse_pair("start=random")
        (('num_components', 500), ('start', 'random'))
    """
    key, equals, value = word.partition("=")
    if not (key.isidentifier() and equals):
        raise ValueError(f"expected KEY=VALUE, got {word!r}")
    if value.lower() in _WORDS:
        return key, _WORDS[value.lower()]
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def parse_widths(words: Sequence[str]) -> config.Widths:
    """Parse the widths of hidden layers.

    Args:
        words: integers, or one word per level of integers separated by commas.

    Returns:
        The integers, or one tuple per level; ``"512,"`` is one level with one hidden layer.

    Raises:
        ValueError: if a part is not an integer, or only some words have commas.

    Example:
        >>> parse_widths(["256"]), parse_widths(["512,512", "64,"])
        ((256,), ((512, 512), (64,)))
    """
    levels = []
    for word in words:
        parts = [part for part in word.split(",") if part]
        if not parts or not all(part.lstrip("-").isdigit() for part in parts):
            raise ValueError(
                "expected a width such as 256, or those of one level such as 512,512, got "
                f"{word!r}"
            )
        levels.append(tuple(map(int, parts)) if "," in word else int(parts[0]))
    if len(set(map(type, levels))) > 1:
        raise ValueError(
            "expected a comma in every word or in none, as in 512,512 256, for two levels, got "
            f"{' '.join(words)!r}"
        )
    return tuple(levels)


def _registry() -> tyro.constructors.ConstructorRegistry:
    """How pairs and widths are read and shown."""
    registry = tyro.constructors.ConstructorRegistry()
    spec = tyro.constructors.PrimitiveConstructorSpec

    @registry.primitive_rule
    def pairs(info: tyro.constructors.PrimitiveTypeInfo) -> Any:  # noqa: ANN401
        if get_origin(info.type) is not Mapping:
            return None
        return spec(
            nargs="*",
            metavar="KEY=VALUE",
            instance_from_str=lambda words: dict(map(parse_pair, words)),
            is_instance=lambda value: isinstance(value, Mapping),
            str_from_instance=lambda value: [f"{k}={json.dumps(v)}" for k, v in value.items()],
        )

    @registry.primitive_rule
    def widths(info: tyro.constructors.PrimitiveTypeInfo) -> Any:  # noqa: ANN401
        kinds = set(get_args(info.type)) - {type(None)}
        if kinds != set(get_args(config.Widths)):
            return None
        return spec(
            nargs="*",
            metavar="N[,N...]",
            instance_from_str=lambda words: None if words == ["None"] else parse_widths(words),
            is_instance=lambda value: value is None or isinstance(value, tuple),
            str_from_instance=lambda value: ["None"]
            if value is None
            else [",".join(map(str, e)) + "," if isinstance(e, tuple) else str(e) for e in value],
        )

    @registry.primitive_rule
    def one_or_more(info: tyro.constructors.PrimitiveTypeInfo) -> Any:  # noqa: ANN401
        kinds = [kind for kind in get_args(info.type) if get_origin(kind) is tuple]
        if len(kinds) != 1 or type(None) not in get_args(info.type):
            return None
        number, letter = (int, "N") if get_args(kinds[0])[0] is int else (float, "X")

        def parse(words: Sequence[str]) -> tuple[float, ...]:
            if not words:
                raise ValueError("expected one number or more")
            return tuple(map(number, words))

        return spec(
            nargs="*",
            metavar=f"{letter} [{letter} ...]",
            instance_from_str=parse,
            is_instance=lambda value: value is None or isinstance(value, tuple),
            str_from_instance=lambda value: ["None"] if value is None else [*map(str, value)],
        )

    return registry


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
_STYLE = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.FlagCreatePairsOff,
)


def _one_line(box: str) -> str:
    """The message of an error box in one line, without its frame, its title and its help."""
    lines = [line.strip(" │") for line in box.splitlines()[1:]]  # framed by dashes without UTF-8
    parts = [" ".join(part.split()) for part in re.split("[╰╯─-]{9,}", " ".join(lines))]
    text, *rest = filter(None, parts)
    text = re.sub(r"^Error parsing (?!--)[\w.]+: ", "", text)
    text = re.sub(r"^Missing from hvae( \w+)?:", "missing", text)
    hint = re.match(r"Perhaps you meant: \S+|Available subcommands: .*", rest[0] if rest else "")
    text = f"{text}; {hint[0].lower()}" if hint else text
    return text.replace("argument 'model.recipe'", "RECIPE")


_EARLIER = {
    "--levels": "--latent-sizes",
    "--draws": "--num-samples",
    "--samples": "--num-samples",
    "--examples": "--max-examples",
    "--compile": "--compiled",
}
"""Earlier names of options, in the commands of stored results."""


def _parse(words: Sequence[str]) -> Any:  # noqa: ANN401
    """Make the chosen command from the words of the command line."""
    parts = [word.partition("=") for word in words]
    words = [_EARLIER.get(name, name) + equals + value for name, equals, value in parts]
    if words[:1] == ["train"]:
        recipes = {f"{name}_vae": name for name in get_args(config.Recipe)}
        words = [recipes.get(word, word) for word in words]
    name = words[0] if words else "--help"
    if name in COMMANDS:
        kind, prog, words = COMMANDS[name], f"hvae {name}", words[1:]
    else:
        named = (
            Annotated[command, tyro.conf.subcommand(name=key)] for key, command in COMMANDS.items()
        )
        kind, prog = Union[tuple(named)], "hvae"  # noqa: UP007
    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            return tyro.cli(kind, prog=prog, args=words, config=_STYLE, registry=_registry())
    except SystemExit as end:
        if end.code == 2:
            raise UsageError(_one_line(caught.getvalue())) from end
        raise


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
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = words[0] if words and words[0] in COMMANDS else ""
    title = f"hvae {named}".strip()
    try:
        return _parse(words).run(shlex.join(["hvae", *words]))
    except UsageError as error:
        print(f"{title}: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except (FloatingPointError, OSError) as error:
        print(f"{title}: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
