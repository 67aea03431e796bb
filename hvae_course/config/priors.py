"""Options of the prior over the top level."""

from dataclasses import dataclass
from typing import Literal

from hvae_course.config.flows import Flow
from hvae_course.config.networks import Activation, Normalisation
from hvae_course.config.options import Options

PriorName = Literal["standard", "normal", "mixture", "vamp", "vhp", "flow"]


@dataclass(frozen=True, kw_only=True)
class Standard(Options):
    """Standard normal, without options."""


@dataclass(frozen=True, kw_only=True)
class Normal(Options):
    """Normal with a learned mean and scale per dimension, without options."""


@dataclass(frozen=True, kw_only=True)
class Mixture(Options):
    """Mixture of Gaussians."""

    num_components: int = 100
    """U, number of components."""
    spread: float = 1.0
    """Standard deviation of the means at the start."""
    positive = ("num_components", "spread")


@dataclass(frozen=True, kw_only=True)
class Vamp(Options):
    """Mixture of the model's own posteriors, the VampPrior."""

    num_components: int = 100
    """U, number of pseudo-inputs."""
    start: Literal["data", "random"] = "data"
    """Where pseudo-inputs start; without data, as when a model is rebuilt, at random."""
    positive = ("num_components",)


@dataclass(frozen=True, kw_only=True)
class VHP(Options):
    """Variational hierarchical prior, with two networks of one architecture."""

    zeta_size: int | None = None
    """Dimensions of zeta; None for Z_L."""
    num_samples: int = 16
    """M, draws of zeta per code."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of p(z | zeta) and q(zeta | z)."""
    activation: Activation = "tanh"
    """Activation function."""
    normalisation: Normalisation = "none"
    """Normalisation."""
    positive = ("zeta_size", "num_samples", "hidden")


PRIORS: dict[str, type[Options]] = {
    "standard": Standard,
    "normal": Normal,
    "mixture": Mixture,
    "vamp": Vamp,
    "vhp": VHP,
    "flow": Flow,
}
"""Options of every prior.

:meta hide-value:
"""
