"""Options of the networks of a model."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from hvae_course.config.options import Options, plain

Widths = tuple[int, ...] | tuple[tuple[int, ...], ...]
"""Widths of hidden layers, ``(256, 256)`` for every level, or ``((512, 512), (256,))``, one
sequence per level, bottom to top."""
NetworksName = Literal["mlp", "convolutional"]
Normalisation = Literal["batch", "layer", "none"]
Activation = Literal["gelu", "glu", "leaky_relu", "relu", "silu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class Perceptrons(Options):
    """Multilayer perceptrons, whose options are those of `hvae_course.config.model.Model`."""


@dataclass(frozen=True, kw_only=True)
class Convolutional(Options):
    """Options of convolutional networks."""

    stages: tuple[tuple[int, ...], ...] | None = None
    """Resolutions from the data upward, each as (height of the maps, number of levels, channels);
    None for half the height of the data and further halves, as far as the width can be halved
    too, with levels shared out evenly."""
    channels: int | None = None
    """Channels of every map, where stages do not name them; None for 32."""
    blocks: int = 1
    """Residual blocks per level on the way up, and after each latent on the way down."""
    cell: Literal["bottleneck", "plain", "depthwise"] | None = None
    """Kind of residual block; None for bottleneck, and with nvae for plain on the way up and
    depthwise on the way down."""
    expansion: float | None = None
    """Channels inside a residual block, as a multiple of those outside; None for 0.25 in a
    bottleneck, 1 in a plain block and 6 in a depthwise one."""
    shared_features: bool | None = None
    """Whether all levels of a resolution read the last bottom-up feature of that resolution; else
    each reads its own, which None means with nvae. Not for bottom_up and biva, in which one
    feature of the data is read."""
    depth_scaled: bool = True
    """Whether the last convolution of each residual block starts divided by the square root of
    the number of blocks that follow each other on its way, up or down, and the one that reads a
    latent on the way down by that of the number of levels."""
    zero_priors: bool = True
    """Whether conditional priors, deltas and residual posteriors start at zero, so that every
    ``p(z_l | z_>l)`` starts as N(0, I), or N(0, 1.01^2 I) with nvae."""
    group: int = 1
    """Number of neighbouring levels that read the state as it was above the first of them. It
    changes depth and no parameter."""
    positive = ("channels", "blocks", "expansion", "group")

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = self.stages or ()
        if stages and self.channels is not None:
            raise ValueError(
                f"the stages name the channels of their maps, got channels={self.channels} too; "
                "leave channels out, or stages"
            )
        if any(len(stage) != 3 or min(stage) < 1 for stage in stages):
            raise ValueError(
                "stages is one triple (height, number of levels, channels) of positive numbers "
                f"per resolution, such as ((14, 3, 64), (7, 3, 96)), got {plain(stages)}"
            )
        heights = [stage[0] for stage in stages]
        if any(low % high or low == high for low, high in pairwise(heights)):
            raise ValueError(
                f"the heights of the stages fall from the data upward, each a multiple of the "
                f"next, got {heights}"
            )


NETWORKS: dict[str, type[Options]] = {"mlp": Perceptrons, "convolutional": Convolutional}
"""Options of every kind of network.

:meta hide-value:
"""
