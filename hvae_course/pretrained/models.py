"""Small trained models that come with the course, and how each was trained.

`load` returns one at once, so that an analysis need not start with training; `train` retrains one
from the same table. The weights are read only if the file has the checksum of the table and its
configuration is the one that the current recipe builds.

The files are checkpoints that hold weights and configuration and nothing else.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from hvae_course import data
from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import WarmUp
from hvae_course.recipes import Architecture, build_seeded
from hvae_course.training import History, Objective, fit, load_checkpoint

FOLDER = Path(__file__).parent
"""Folder of the files, ``NAME.pt`` for each model."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """How a model was trained, and the checksum of its file."""

    data: str
    """Name of the data set, as `hvae_course.data.loading.load` knows it."""
    spec: DataSpec
    """Specification of these data, so that the model is built without loading them."""
    recipe: str
    """A key of `hvae_course.recipes.models.RECIPES`."""
    architecture: Mapping[str, Any]
    """Arguments of the recipe."""
    objective: Objective
    """The objective."""
    settings: Mapping[str, Any]
    """Arguments of `hvae_course.training.loop.fit`, such as epochs and learning rate."""
    seed: int
    """Seed of the initial weights and of the run."""
    sha256: str
    """Checksum of the file, 64 hexadecimal digits."""


_SHAPES: dict[str, Any] = {
    "data": "nested_shapes",
    "spec": DataSpec(num_features=256, num_values=16),
    "architecture": {
        "latent_sizes": (12, 6, 3),
        "hidden": (128, 64),
        "inference_hidden": (128,),
        "normalisation": "layer",
        "activation": "gelu",
        "state": "skip",
    },
    "objective": WarmUp(40),
    "settings": {"epochs": 120, "batch_size": 100, "learning_rate": 1e-3, "decay": 0.3},
    "seed": 0,
}

PRETRAINED: dict[str, Pretrained] = {
    "shapes_bottom_up": Pretrained(
        recipe="bottom_up_vae",
        sha256="259678a9eb10c8576a61a64797873bf87d1cf2eb53210f036e9ae7cd026c74ee",
        **_SHAPES,
    ),
    "shapes_top_down": Pretrained(
        recipe="bidirectional_vae",
        sha256="42cdaf96c092fcf8d556cd53e7c9a158b30ba46a2c1d68e63f6f115eddfcdb8e",
        **_SHAPES,
    ),
    "digits": Pretrained(
        data="digits",
        spec=DataSpec(num_features=64, num_values=17),
        recipe="bidirectional_vae",
        architecture={
            "latent_sizes": (16, 8, 4),
            "hidden": (128,),
            "normalisation": "layer",
            "activation": "gelu",
            "dropout": 0.1,
            "state": "skip",
            "likelihood": "discretized_logistic",
        },
        objective=WarmUp(50),
        settings={"epochs": 400, "batch_size": 100, "learning_rate": 1e-3, "decay": 0.3},
        seed=0,
        sha256="9ce59420924c2de16cec8ff9bdf6ac64a9132184c25a4f3db209e9f031ab5cd6",
    ),
}
"""The models by name; the two of the nested shapes share their generative network.

:meta hide-value:
"""


def _find(name: str) -> Pretrained:
    if name not in PRETRAINED:
        raise ValueError(f"unknown trained model {name!r}; choose one of {', '.join(PRETRAINED)}")
    return PRETRAINED[name]


def build_untrained(name: str) -> HierarchicalVAE:
    """Build a model with its initial weights, leaving the global random state untouched.

    Args:
        name: a key of `PRETRAINED`.

    Returns:
        The untrained model, with weights from the seed of the table.

    Raises:
        ValueError: if the name is unknown.
    """
    entry = _find(name)
    return build_seeded(entry.recipe, entry.spec, entry.architecture, seed=entry.seed)


def _check_sum(name: str, path: Path) -> None:
    """Refuse a missing file or one with another checksum, without unpickling it."""
    remedy = f"reinstall the package, or retrain with hvae_course.pretrained.train({name!r})"
    if not path.is_file():
        raise FileNotFoundError(f"no weights of {name!r} at {path}; {remedy}")
    received = hashlib.sha256(path.read_bytes()).hexdigest()
    if received != PRETRAINED[name].sha256:
        raise ValueError(
            f"{path} is damaged or from another version: its SHA-256 is {received}, expected "
            f"{PRETRAINED[name].sha256}; {remedy}"
        )


def _check_config(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a file whose model differs from the one the recipe builds."""

    def shown(config: Mapping[str, Any], name: str) -> str:
        return repr(config[name]) if name in config else "missing"

    differing = [
        f"{name} is {shown(found, name)} in the file and {shown(expected, name)} in the recipe"
        for name in (*expected, *sorted(found.keys() - expected.keys()))
        if shown(found, name) != shown(expected, name)
    ]
    if differing:
        raise ValueError(
            f"{path} is stale: {', '.join(differing)}; recreate it with "
            f"python -m benchmarks.pretrained {path.stem}"
        )


def load(name: str) -> HierarchicalVAE:
    """Load a trained model, leaving the global random state untouched.

    Args:
        name: a key of `PRETRAINED`.

    Returns:
        The model in evaluation mode, with the weights of its best validation epoch.

    Raises:
        ValueError: if the name is unknown, the file does not have the checksum of the table, or
            its model differs from the one the recipe builds.
        FileNotFoundError: if the file is missing.

    Example:
        >>> load("digits").generate(2).px.mean.shape
        torch.Size([2, 64])
    """
    model = build_untrained(name)
    path = FOLDER / f"{name}.pt"
    _check_sum(name, path)
    checkpoint = load_checkpoint(path)
    # a setting newer than the file has its default
    _check_config(path, asdict(Architecture()) | checkpoint.config, model.config)
    model.load_state_dict(checkpoint.weights)
    return model.eval()


def train(
    name: str,
    *,
    epochs: int | None = None,
    progress: bool = True,
    accelerator: Accelerator | None = None,
    checkpoint: str | Path | None = None,
) -> tuple[HierarchicalVAE, History]:
    """Retrain a model with the settings of the one that `load` returns.

    The seed of the table determines the initial weights and the run, so the same machine gives the
    same weights; another processor, number of threads or version of PyTorch rounds differently.

    Args:
        name: a key of `PRETRAINED`.
        epochs: total number of epochs; None for the number in the table.
        progress: whether to show a progress bar.
        accelerator: device, precision and processes; by default chosen by Accelerate.
        checkpoint: file to save to after every epoch, and to resume from if it exists.

    Returns:
        The model in evaluation mode on the accelerator's device, and the history of its training.

    Raises:
        ValueError: if the name is unknown, the epochs are not positive, or the checkpoint belongs
            to another run.
    """
    model, entry = build_untrained(name), PRETRAINED[name]
    settings = dict(entry.settings) | ({} if epochs is None else {"epochs": epochs})
    history = fit(
        model,
        data.load(entry.data),
        objective=entry.objective,
        **settings,
        seed=entry.seed,
        checkpoint=checkpoint,
        accelerator=accelerator,
        progress=progress,
    )
    return model, history
