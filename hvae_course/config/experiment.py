"""Everything that is chosen about one run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hvae_course.config.data import DATA_SETS, Data, data_info
from hvae_course.config.likelihoods import COUNT_LIKELIHOODS, GREY_LIKELIHOODS
from hvae_course.config.model import Model
from hvae_course.config.options import per_level, plain, take
from hvae_course.config.training import IWAE_OF_ONE, Machine, Objective, Training


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Data, model, objective and training of one run, checked together."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    objective: Objective = field(default_factory=Objective)
    training: Training = field(default_factory=Training)
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not isinstance(getattr(self, entry.name), entry.type):
                raise TypeError(
                    f"{entry.name} is a hvae_course.config.{entry.type.__name__} object, got "
                    f"{getattr(self, entry.name)!r}"
                )
        if self.objective.objective == "iwae" and self.training.num_samples == 1:
            raise ValueError(IWAE_OF_ONE)
        for name in ("warm_up", "free_bits"):
            values = getattr(self.objective, name)
            if values is not None and len(values) != 1:
                per_level(values, self.model.num_levels, name)
        if data_info(self.data.data).real and self.model.likelihood in GREY_LIKELIHOODS:
            raise ValueError(
                f"the likelihood {self.model.likelihood!r} scores grey values and "
                f"{self.data.data} holds real ones; choose isotropic_gaussian or gaussian"
            )
        if self.data.data in DATA_SETS and self.model.likelihood in ("mixed", *COUNT_LIKELIHOODS):
            scored = "tables" if self.model.likelihood == "mixed" else "counts"
            raise ValueError(
                f"the likelihood {self.model.likelihood!r} scores {scored} and {self.data.data} "
                "holds images; choose another likelihood, or other data"
            )

    def settings(self) -> dict[str, Any]:
        """All options in one flat mapping, in plain types.

        Returns:
            Option to value; where the data lie is no part of it.
        """
        groups = (self.data, self.model, self.objective, self.training, self.machine)
        named = {name: value for group in groups for name, value in plain(group).items()}
        del named["data_root"]
        return named

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Experiment":
        """Read settings, also those of earlier versions, whose new options have their defaults.

        Args:
            settings: as returned by `settings`.

        Returns:
            The experiment.
        """
        old = dict(settings)
        old |= old.pop("recipe_options", None) or {}  # before they were options of the model
        groups = {entry.name: entry.default_factory for entry in fields(cls)}
        return cls(**{name: take(group, old) for name, group in groups.items()})
