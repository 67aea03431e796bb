"""Options of flows over the latents of a level."""

from dataclasses import dataclass
from typing import Literal

from hvae_course.config.options import Options


@dataclass(frozen=True, kw_only=True)
class Flow(Options):
    """Autoregressive flow over a latent vector."""

    transform: Literal["affine", "spline"] = "affine"
    """What a step of a prior does to a dimension given those before it; spline needs the package
    zuko (``pip install 'hvae-course[flows]'``). Steps of a posterior are affine."""
    num_steps: int = 2
    """Number of steps; every second one reads the dimensions in reverse."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers of a step."""
    activation: Literal["gelu", "leaky_relu", "relu", "silu", "tanh"] = "gelu"
    """Activation function."""
    positive = ("num_steps", "hidden")
