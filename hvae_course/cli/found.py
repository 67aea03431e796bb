"""The trained model that a command reads, and the data it is evaluated on.

The model is the folder of a run, a checkpoint file, or a model that comes with the course. Its
data are those it was trained on, unless ``--data`` names others.
"""

from dataclasses import dataclass
from pathlib import Path

from hvae_course.cli.files import read_json
from hvae_course.cli.machine import DEVICES
from hvae_course.cli.options import option
from hvae_course.cli.runs import CHECKPOINT, CONFIG
from hvae_course.compatibility import check_data
from hvae_course.data import BINARISATIONS, NAMES, DataSet, load
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.pretrained import PRETRAINED
from hvae_course.pretrained import load as load_pretrained
from hvae_course.recipes import build
from hvae_course.training import load_checkpoint


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Data and device."""

    data: str | None = option(
        None, "data set", choices=NAMES, shown="the one the model was trained on"
    )
    binarisation: str | None = option(
        None, "how grey pixels become binary", choices=BINARISATIONS, shown="as in training"
    )
    data_root: str | None = option(
        None, "folder of mnist and fashion_mnist", shown="HVAE_DATA, or a cache folder"
    )
    device: str = option("auto", "where to compute", choices=DEVICES)


@dataclass(frozen=True, eq=False)
class Found:
    """A trained model and what is known about it."""

    model: HierarchicalVAE
    """In evaluation mode."""
    checkpoint: Path | None
    """The file; None for a model of the course."""
    data: str | None
    """Name of the data set it was trained on."""
    binarisation: str | None
    """How these data were binarised; None for the default."""
    best_epoch: int | None
    """The epoch its weights come from."""

    def load(self, source: SourceSettings) -> DataSet:
        """Read the data the model is evaluated on.

        Args:
            source: name and binarisation of the data.

        Returns:
            The data set.

        Raises:
            ValueError: if no data set is named, or the data do not fit the model.
        """
        name = source.data or self.data
        if name is None:
            raise ValueError(
                f"no {CONFIG} beside the checkpoint names its training data; give --data"
            )
        usual = self.binarisation if name == self.data else None
        data = load(name, binarisation=source.binarisation or usual, root=source.data_root)
        check_data(self.model, data)
        return data

    def result(self, source: SourceSettings, *words: str | int) -> Path | None:
        """Name the file for a result; results that differ in their settings get different files.

        Args:
            source: the data; part of the name if they are not the training data.
            *words: further parts of the name.

        Returns:
            A JSON file beside the checkpoint; None for a model of the course.
        """
        if self.checkpoint is None:
            return None
        named = [] if self.checkpoint.name == CHECKPOINT else [self.checkpoint.stem]
        for given, usual in (
            (source.data, self.data),
            (source.binarisation, self.binarisation),
        ):
            named += [] if given in (None, usual) else [given]
        name = "-".join(map(str, ("evaluation", *named, *words)))
        return self.checkpoint.parent / f"{name}.json"


def find(target: str) -> Found:
    """Load a trained model.

    Args:
        target: the folder of a run, a checkpoint, or a key of
            `hvae_course.pretrained.models.PRETRAINED`; a path that exists comes first.

    Returns:
        The model in evaluation mode.

    Raises:
        FileNotFoundError: if the target does not exist.
    """
    path = Path(target)
    if not path.exists():
        if target not in PRETRAINED:
            raise FileNotFoundError(
                f"{target} is not a run folder, a checkpoint, or one of the trained models "
                f"{', '.join(PRETRAINED)}"
            )
        return Found(load_pretrained(target), None, PRETRAINED[target].data, None, None)
    path = path / CHECKPOINT if path.is_dir() else path
    checkpoint = load_checkpoint(path)
    settings = (read_json(path.parent / CONFIG) or {}).get("settings", {})
    model = build(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    return Found(
        model.eval(),
        path,
        settings.get("data"),
        settings.get("binarisation"),
        checkpoint.run.get("best_epoch"),
    )
