"""Options of the likelihood, and what kind of data each one scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hvae_course.config.options import Options, make_options, plain

LikelihoodName = Literal[
    "autoregressive",
    "bernoulli",
    "categorical",
    "discretized_logistic",
    "gaussian",
    "isotropic_gaussian",
    "logistic_mixture",
    "mixed",
    "negative_binomial",
    "pixel_convolutional",
    "poisson",
]


@dataclass(frozen=True, kw_only=True)
class Fixed(Options):
    """A likelihood without options."""


@dataclass(frozen=True, kw_only=True)
class Scale(Options):
    """Options of the isotropic Gaussian."""

    std: float = 0.2
    """Standard deviation; its initial value if it is learned."""
    learned: bool = False
    """Whether the scale is a parameter."""
    positive = ("std",)


@dataclass(frozen=True, kw_only=True)
class BoundedScale(Options):
    """Options of the Gaussian with a scale per dimension."""

    log_std_bound: float = 7.0
    """Largest magnitude of a log standard deviation."""
    positive = ("log_std_bound",)


@dataclass(frozen=True, kw_only=True)
class BoundedRate(Options):
    """Options of the Poisson likelihood."""

    log_rate_bound: float = 16.0
    """Largest magnitude of the logarithm of a mean count."""
    positive = ("log_rate_bound",)


@dataclass(frozen=True, kw_only=True)
class BoundedDispersion(BoundedRate):
    """Options of the negative binomial."""

    log_dispersion_bound: float = 10.0
    """Largest magnitude of the logarithm of a dispersion."""
    positive = ("log_rate_bound", "log_dispersion_bound")


@dataclass(frozen=True, kw_only=True)
class Components(Options):
    """Options of the mixture of logistics."""

    num_components: int = 10
    """K, number of components per pixel."""
    positive = ("num_components",)


@dataclass(frozen=True, kw_only=True)
class Window(Options):
    """Options of the autoregressive likelihood of a masked network."""

    window: int | None = None
    """w, how many pixels before its own an output sees; None for all, 0 for none."""
    hidden: tuple[int, ...] = (256,)
    """Widths of the hidden layers, best multiples of the number of pixels."""
    not_negative = ("window",)
    positive = ("hidden",)


@dataclass(frozen=True, kw_only=True)
class PixelConvolutions(Options):
    """Options of the autoregressive likelihood of gated convolutions."""

    channels: int = 16
    """Channels of both stacks."""
    num_layers: int = 4
    """Number of layers, each of which reaches (kernel - 1) / 2 pixels further."""
    kernel: int = 5
    """Side of the kernels, an odd number."""
    positive = ("channels", "num_layers", "kernel")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")


@dataclass(frozen=True, kw_only=True)
class Blocks(Options):
    """Options of a table with columns of several kinds."""

    blocks: tuple[Mapping[str, Any], ...] = ()
    """One mapping per block of columns, with ``columns``, their numbers from 0 or their names,
    ``likelihood``, ``num_values`` for categorical, discretized_logistic and logistic_mixture, and
    the options of that likelihood."""

    def __post_init__(self) -> None:
        listed = isinstance(self.blocks, list | tuple) and len(self.blocks) > 0
        if not (listed and all(isinstance(block, Mapping) for block in self.blocks)):
            raise ValueError(
                "blocks must be a list that says which columns have which likelihood, such as "
                f'[{{"columns": [0, 1], "likelihood": "gaussian"}}], got {plain(self.blocks)!r}'
            )
        super().__post_init__()
        seen: dict[Any, int] = {}
        for number, block in enumerate(self.blocks, start=1):
            columns = block.get("columns")
            if not isinstance(columns, tuple) or not columns or not all(map(_is_column, columns)):
                raise ValueError(
                    f"block {number}: columns must be a list of column numbers from 0 on, or of "
                    f"names, got {plain(columns)!r}"
                )
            try:
                block_options(block)
            except ValueError as error:
                shown = ", ".join(map(str, columns))
                raise ValueError(f"block {number} (columns {shown}): {error}") from None
            for column in columns:
                if column in seen:
                    raise ValueError(
                        f"block {number}: column {column!r} is in block {seen[column]} already; "
                        "name every column once"
                    )
                seen[column] = number


def _is_column(column: Any) -> bool:  # noqa: ANN401
    return isinstance(column, str) or (type(column) is int and column >= 0)


def block_options(block: Mapping[str, Any]) -> Options:
    """Check one block of a table and make the options of its likelihood.

    Args:
        block: as in `Blocks`.

    Returns:
        An object of the class in `LIKELIHOODS`.

    Raises:
        ValueError: if the likelihood is unknown, or an option is missing or wrong.
    """
    name, num_values = block.get("likelihood"), block.get("num_values")
    known = [name for name in LIKELIHOODS if name not in ("mixed", *AUTOREGRESSIVE_LIKELIHOODS)]
    if name not in known:
        raise ValueError(f"unknown likelihood {name!r}; choose one of {', '.join(known)}")
    categories = name in GREY_LIKELIHOODS and name not in BINARY_LIKELIHOODS
    if categories and not (type(num_values) is int and num_values >= 2):
        raise ValueError(
            f"the likelihood {name!r} needs num_values, the number V >= 2 of the values 0 to "
            f"V - 1 of these columns, as a whole number, got {num_values!r}"
        )
    if not categories and num_values is not None:
        raise ValueError(f"the likelihood {name!r} takes no num_values, got {num_values!r}")
    others = block.keys() - {"columns", "likelihood", "num_values"}
    given = {option: value for option, value in block.items() if option in others}
    return make_options(LIKELIHOODS, name, given, of="likelihood")


LIKELIHOODS: dict[str, type[Options]] = {
    "autoregressive": Window,
    "bernoulli": Fixed,
    "categorical": Fixed,
    "discretized_logistic": Fixed,
    "gaussian": BoundedScale,
    "isotropic_gaussian": Scale,
    "logistic_mixture": Components,
    "mixed": Blocks,
    "negative_binomial": BoundedDispersion,
    "pixel_convolutional": PixelConvolutions,
    "poisson": BoundedRate,
}
"""Options of every likelihood.

:meta hide-value:
"""
AUTOREGRESSIVE_LIKELIHOODS = ("autoregressive", "pixel_convolutional")
"""Likelihoods whose dimensions depend on each other given z."""
BINARY_LIKELIHOODS = ("autoregressive", "bernoulli", "pixel_convolutional")
"""Likelihoods of binary pixels."""
GREY_LIKELIHOODS = (
    *("autoregressive", "bernoulli", "categorical", "discretized_logistic"),
    *("logistic_mixture", "pixel_convolutional"),
)
"""Likelihoods of grey, colour or binary pixels, which give real values no density."""
COUNT_LIKELIHOODS = ("negative_binomial", "poisson")
"""Likelihoods of counts."""
