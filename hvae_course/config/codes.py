"""Options of levels of codes."""

from dataclasses import dataclass
from typing import Literal

from hvae_course.config.options import Options

CodesName = Literal["codebook", "scalars"]


@dataclass(frozen=True, kw_only=True)
class Codebook(Options):
    """Codes that are the nearest of K learned vectors."""

    num_codes: int = 64
    """K, number of codes of every level."""
    commitment: float = 0.25
    """Weight of the squared distance that the encoder pays for."""
    decay: float | None = 0.99
    """Decay of the moving averages that the vectors follow; None to train them by gradient."""
    revival: float = 0.01
    """A code is replaced by an encoding of the batch when its moving count falls below this share
    of the mean count; 0 for never."""
    prior_hidden: tuple[int, ...] | None = None
    """Hidden layers of the masked network through which the prior of a code sees the codes before
    it, in raster order; () for a linear one, None for codes that are independent given the levels
    above."""
    positive = ("num_codes", "prior_hidden")
    not_negative = ("commitment",)
    shares = ("decay", "revival")


@dataclass(frozen=True, kw_only=True)
class Scalars(Options):
    """Codes that are rounded numbers, without a codebook (FSQ)."""

    values: tuple[int, ...] = (5, 5, 3)
    """Number of values of each dimension; their product is the number of codes."""
    prior_hidden: tuple[int, ...] | None = None
    """Hidden layers of the masked network through which the prior of a code sees the codes before
    it, in raster order; () for a linear one, None for codes that are independent given the levels
    above."""
    positive = ("prior_hidden",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.values, default=0) < 2:
            raise ValueError(f"values must be two or more for every dimension, got {self.values}")


CODES: dict[str, type[Options]] = {"codebook": Codebook, "scalars": Scalars}
"""Options of every kind of codes.

:meta hide-value:
"""
