"""What is maximised, how, and where."""

from dataclasses import dataclass
from typing import Literal

from hvae_course.config.options import Options

ObjectiveName = Literal["elbo", "iwae"]
Optimiser = Literal["adam", "adamax", "adamw"]
Decay = Literal["linear", "cosine"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["no", "tf32", "bf16", "fp16"]
IWAE_OF_ONE = (
    "the importance-weighted bound with num_samples=1 is the ELBO; choose num_samples of 2 or "
    "more, or objective elbo"
)
"""What is wrong with the importance-weighted bound of one draw.

:meta hide-value:
"""


@dataclass(frozen=True, kw_only=True)
class Objective(Options):
    """What is maximised."""

    objective: ObjectiveName = "elbo"
    """What to maximise, the ELBO or the importance-weighted bound (iwae)."""
    warm_up: tuple[int, ...] | None = None
    """Epochs until the KL weight reaches 1, one number for all levels or one for each."""
    free_bits: tuple[float, ...] | None = None
    """Free nats per example, one number for all levels or one for each."""
    kl_balancing: bool = False
    """Whether levels with little information per dimension have smaller KL weights until the
    warm-up ends."""
    not_negative = ("warm_up", "free_bits")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective != "elbo" and not (self.warm_up is self.free_bits is None):
            raise ValueError(
                "warm_up and free_bits change the KL terms of the ELBO, and the objective "
                f"{self.objective!r} has no KL terms; omit them, or choose elbo"
            )
        if self.kl_balancing and self.warm_up is None:
            raise ValueError(
                "kl_balancing acts until the KL weights have risen to their final values, and "
                "there is no warm-up; give warm_up, or omit it"
            )


@dataclass(frozen=True, kw_only=True)
class Training(Options):
    """How it is maximised."""

    num_samples: int = 1
    """K, draws of the latents per example."""
    epochs: int = 100
    """Total number of epochs."""
    batch_size: int = 100
    """Examples per step, over all processes; a smaller last batch is dropped (other examples in
    every epoch, because the order is shuffled)."""
    optimiser: Optimiser = "adam"
    """Optimiser."""
    betas: tuple[float, ...] | None = None
    """Two decays of the optimiser's moving averages, of the gradient and of its size; None for
    PyTorch's 0.9 and 0.999."""
    epsilon: float | None = None
    """What the optimiser adds to the size of a gradient, in its units; None for PyTorch's 1e-8."""
    learning_rate: float = 1e-3
    """Step size of the optimiser."""
    prior_learning_rate: float | None = None
    """Step size for the prior over the top level; None for the same one. It changes nothing for a
    prior without parameters, so that one budget serves every prior."""
    weight_decay: float | None = None
    """Weight decay of adamw, decoupled from the gradient, for all weights; None for PyTorch's
    0.01. With adam and adamax it would be an L2 penalty, and is refused."""
    rate_warm_up: int = 0
    """Steps at the start over which both step sizes rise linearly, skipped steps included."""
    decay: float = 0.0
    """Last share of the epochs, over which both step sizes fall towards zero."""
    decay_shape: Decay = "linear"
    """How they fall; without effect if decay is 0, as recorded runs have it."""
    clip_norm: float | None = None
    """Largest norm of the gradient; a longer one is scaled down to it. None for no limit."""
    skip_norm: float | None = None
    """Norm of the gradient, for nats per example, above which a step is skipped; None to skip
    none. Every step then waits for the device."""
    skip_limit: int = 10
    """Most steps that are skipped for their norm before a short enough gradient comes; later ones
    take the gradient scaled down to the norm, until one does. Gradients that are not finite are
    never taken, and more than this many of them in a row end the training."""
    averaging: float = 0.0
    """Decay per step of a moving average of the weights, such as 0.999; the average is validated
    and kept instead of the weights. 0 for none."""
    compiled: bool = False
    """Whether to compile the training step, which takes some seconds at the start and makes later
    steps faster; needs a C++ compiler. Results agree with the plain step up to rounding."""
    patience: int | None = None
    """Stop after this many epochs without a better validation objective, counted from the end of
    the warm-up at the earliest; None never stops early."""
    seed: int = 0
    """Seed of the run, and of the initial weights where the command line builds the model."""
    positive = (
        *("num_samples", "epochs", "batch_size", "learning_rate", "prior_learning_rate"),
        *("clip_norm", "skip_norm", "skip_limit", "epsilon", "patience"),
    )
    not_negative = ("seed", "weight_decay", "rate_warm_up")
    shares = ("averaging",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63, got {self.seed}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay is a share of the epochs in [0, 1], got {self.decay}")
        betas = self.betas
        if betas is not None and not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(
                f"betas are two numbers of at least 0 and below 1, such as (0.9, 0.9), got {betas}"
            )
        if self.weight_decay and self.optimiser != "adamw":
            raise ValueError(
                f"weight_decay={self.weight_decay} with {self.optimiser} would be an L2 penalty, "
                "which its step sizes distort; choose optimiser='adamw'"
            )


@dataclass(frozen=True, kw_only=True)
class Machine(Options):
    """Where, and how precisely."""

    device: Device = "auto"
    """Where to compute."""
    precision: Precision = "no"
    """Precision of the networks, full (no), tf32 (CUDA only), or mixed."""
