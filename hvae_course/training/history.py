"""Recorded values of a training run, in one tidy table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from hvae_course.hierarchy.trace import Trace

QUANTITIES = ("objective", "elbo", "reconstruction", "information")
"""Quantities recorded on both splits."""


def batch_statistics(trace: Trace, x: Tensor, objective: Tensor) -> Tensor:
    """Return everything that is logged about a batch, in one tensor on the device.

    The information of each level is the raw estimate from joint samples, before free bits or KL
    weights, so that a collapsing level is visible.

    Args:
        trace: the model's trace of x.
        x: data ``(B, D)``.
        objective: value of the objective, ``(B,)``.

    Returns:
        ``(3 + L,)``: objective, ELBO, reconstruction, information of z_1, ..., z_L; batch means,
        nats per example.
    """
    with torch.no_grad():
        terms = torch.stack(trace.terms(x)).mean(dim=1)
        return torch.cat([objective.mean()[None], terms])


@dataclass
class History:
    """Bound, reconstruction and information per level of every epoch.

    Args:
        rows: one ``(epoch, split, quantity, level, value)`` each; level is NaN where a quantity
            belongs to no level.
        best_epoch: epoch with the best validation objective, whose weights the model holds.
    """

    rows: list[tuple[int, str, str, float, float]] = field(default_factory=list)
    best_epoch: int = 0

    def record(self, epoch: int, split: str, statistics: Sequence[float]) -> None:
        """Append the statistics of one epoch.

        Args:
            epoch: counted from 1.
            split: ``"train"`` or ``"validation"``.
            statistics: as returned by `batch_statistics`, averaged over the epoch.
        """
        for quantity, value in zip(QUANTITIES, statistics[:3], strict=False):
            self.rows.append((epoch, split, quantity, math.nan, value))
        for level, value in enumerate(statistics[3:], start=1):
            self.rows.append((epoch, split, "information", float(level), value))

    def note(self, epoch: int, values: Mapping[str, float]) -> None:
        """Append values reported by a stateful objective.

        Args:
            epoch: counted from 1.
            values: values by name.
        """
        self.rows += [(epoch, "train", name, math.nan, value) for name, value in values.items()]

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy table with columns epoch, split, quantity, level and value (nats per example)."""
        columns = ["epoch", "split", "quantity", "level", "value"]
        frame = pd.DataFrame(self.rows, columns=columns)
        return frame.astype({"level": "Int64"})

    def last(self, quantity: str, split: str = "train", level: int | None = None) -> float:
        """Return the value of a quantity in the last epoch.

        Args:
            quantity: one of `hvae_course.training.history.QUANTITIES`.
            split: ``"train"`` or ``"validation"``.
            level: the book's number of the level, for the information.

        Returns:
            Nats per example.

        Raises:
            KeyError: if no such value was recorded.
        """
        for _, row_split, row_quantity, row_level, value in reversed(self.rows):
            same_level = row_level == level or (level is None and math.isnan(row_level))
            if (row_split, row_quantity) == (split, quantity) and same_level:
                return value
        raise KeyError(f"no {quantity!r} of level {level} was recorded for split {split!r}")

    def best(self, quantity: str, level: int | None = None) -> float:
        """Return the value of a quantity on the validation set in the best epoch.

        Args:
            quantity: one of `hvae_course.training.history.QUANTITIES`.
            level: the book's number of the level, for the information.

        Returns:
            Nats per example.

        Raises:
            KeyError: if no such value was recorded.
        """
        for epoch, split, row_quantity, row_level, value in self.rows:
            same_level = row_level == level or (level is None and math.isnan(row_level))
            found = (epoch, split, row_quantity) == (self.best_epoch, "validation", quantity)
            if found and same_level:
                return value
        raise KeyError(f"no {quantity!r} of level {level} was recorded in epoch {self.best_epoch}")
