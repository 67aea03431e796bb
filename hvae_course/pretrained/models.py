"""Small trained models that come with the course, and how each was trained.

`load` returns one at once, so that an analysis need not start with training; `train` retrains one
from the same table. The weights are read only if the file has the checksum of the table and its
configuration is that of the table.

The files are checkpoints that hold weights and configuration and nothing else.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator

from hvae_course import data
from hvae_course.config import (
    Data,
    Experiment,
    Machine,
    Model,
    Objective,
    Training,
    differences,
)
from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import make_objective
from hvae_course.recipes import build
from hvae_course.training import History, fit, load_checkpoint
from hvae_course.training.checkpoints import as_recorded, load_weights

FOLDER = Path(__file__).parent
"""Folder of the files, ``NAME.pt`` for each model."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """How a model was trained, and the checksum of its file."""

    experiment: Experiment
    """Data, model, objective and training."""
    spec: DataSpec
    """Specification of the data, so that the model is built without loading them."""
    sha256: str
    """Checksum of the file, 64 hexadecimal digits."""


def _on_shapes(recipe: str) -> Experiment:
    return Experiment(
        data=Data(data="nested_shapes"),
        model=Model(
            recipe=recipe,
            latent_sizes=(12, 6, 3),
            hidden=(128, 64),
            inference_hidden=(128,),
            normalisation="layer",
            activation="gelu",
            state="skip",
        ),
        objective=Objective(warm_up=(40,)),
        training=Training(epochs=120, batch_size=100, learning_rate=1e-3, decay=0.3, seed=0),
    )


PRETRAINED: dict[str, Pretrained] = {
    "shapes_bottom_up": Pretrained(
        experiment=_on_shapes("bottom_up"),
        spec=DataSpec((16, 16), num_values=16, num_classes=4),
        sha256="259678a9eb10c8576a61a64797873bf87d1cf2eb53210f036e9ae7cd026c74ee",
    ),
    "shapes_top_down": Pretrained(
        experiment=_on_shapes("bidirectional"),
        spec=DataSpec((16, 16), num_values=16, num_classes=4),
        sha256="42cdaf96c092fcf8d556cd53e7c9a158b30ba46a2c1d68e63f6f115eddfcdb8e",
    ),
    "digits": Pretrained(
        experiment=Experiment(
            data=Data(data="digits"),
            model=Model(
                recipe="bidirectional",
                latent_sizes=(16, 8, 4),
                hidden=(128,),
                dropout=0.1,
                state="skip",
                likelihood="discretized_logistic",
            ),
            objective=Objective(warm_up=(50,)),
            training=Training(epochs=400, batch_size=100, learning_rate=1e-3, decay=0.3, seed=0),
        ),
        spec=DataSpec((8, 8), num_values=17, num_classes=10),
        sha256="9ce59420924c2de16cec8ff9bdf6ac64a9132184c25a4f3db209e9f031ab5cd6",
    ),
    "mnist_deep": Pretrained(
        experiment=Experiment(
            data=Data(data="mnist", binarisation="dynamic"),
            model=Model(
                recipe="vdvae",
                latent_sizes=(2, 2, 8, 8, 8, 8, 8, 8, 32, 32),
                networks_options={
                    "stages": ((14, 2, 32), (7, 6, 64), (1, 2, 96)),
                    "expansion": 0.5,
                },
                activation="silu",
            ),
            objective=Objective(free_bits=(0.5,)),
            training=Training(
                epochs=40,
                batch_size=100,
                learning_rate=2e-3,
                decay=1.0,
                decay_shape="cosine",
                clip_norm=200.0,
                averaging=0.999,
                seed=0,
            ),
            machine=Machine(precision="bf16"),
        ),
        spec=DataSpec((28, 28), num_values=2, num_classes=10),
        sha256="474acc33563170843b9962fe336117711c3cdf862861e389d5b7317e48b0d2b9",
    ),
}
"""The models by name; the two of the nested shapes share their generative network, and
``mnist_deep`` is that of chapter 8, which trains for three hours on one CPU core.

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
    chosen = entry.experiment
    return build(chosen.model, entry.spec, seed=chosen.training.seed)


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
    stale = differences(as_recorded(checkpoint.config), as_recorded(model.config))
    if stale:
        raise ValueError(
            f"{path} is stale: {stale}; recreate it with python -m benchmarks.pretrained {name}"
        )
    load_weights(model, checkpoint.weights, source=path)
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
    model, chosen = build_untrained(name), PRETRAINED[name].experiment
    training = chosen.training if epochs is None else replace(chosen.training, epochs=epochs)
    history = fit(
        model,
        data.load(chosen.data),
        training,
        objective=make_objective(chosen.objective),
        checkpoint=checkpoint,
        accelerator=accelerator,
        progress=progress,
    )
    return model, history
