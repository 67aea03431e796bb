"""Everything that can be chosen about an experiment: each option, its default, check and meaning.

Recipes, `hvae_course.training.loop.fit`, checkpoints, run folders, benchmarks and the command line
read these classes, and none of them repeats a default. A wrong value is refused where the object
is made. This module imports neither PyTorch nor any other part of the package.

>>> Training(epochs=60).learning_rate
0.001
>>> Training(learning_rate=-1.0)
Traceback (most recent call last):
ValueError: learning_rate must be positive, got -1.0
"""

import contextlib
import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from itertools import pairwise
from numbers import Integral, Real
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

Widths = tuple[int, ...] | tuple[tuple[int, ...], ...]
"""Widths of hidden layers, ``(256, 256)`` for every level, or ``((512, 512), (256,))``, one
sequence per level, bottom to top."""
Recipe = Literal[
    "bottom_up",
    "mean_field",
    "delta",
    "ladder",
    "bidirectional",
    "vdvae",
    "nvae",
    "biva",
    "resnet",
    "draw",
    "flow_ladder",
    "vq",
    "downscaled",
]
NetworksName = Literal["mlp", "convolutional"]
DataName = Literal[
    "digits",
    "mnist",
    "fashion_mnist",
    "pendulum",
    "nested_shapes",
    "patches",
    "cifar10",
    "svhn",
    "omniglot",
]
Binarisation = Literal["dynamic", "static", "threshold", "none"]
Normalisation = Literal["batch", "layer", "none"]
Activation = Literal["gelu", "glu", "leaky_relu", "relu", "silu", "tanh"]
State = Literal["markov", "skip"]
CodesName = Literal["codebook", "scalars"]
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
PriorName = Literal["standard", "normal", "mixture", "vamp", "vhp", "flow"]
ObjectiveName = Literal["elbo", "iwae"]
Optimiser = Literal["adam", "adamax", "adamw"]
Decay = Literal["linear", "cosine"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["no", "tf32", "bf16", "fp16"]


def plain(value: Any) -> Any:  # noqa: ANN401
    """Convert a value to types that every file format has.

    Args:
        value: numbers, strings, paths, enumerations, dataclasses, arrays, and containers of them.

    Returns:
        Lists for tuples and arrays, dictionaries for mappings and dataclasses, Python's numbers
        for those of NumPy, strings for paths; the rest as it is.

    Example:
        >>> plain({"levels": (16, 8)})
        {'levels': [16, 8]}
    """
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "tolist"):  # of NumPy or PyTorch
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [*map(plain, value)]
    return str.__str__(value) if isinstance(value, str) else value


IWAE_OF_ONE = (
    "the importance-weighted bound with num_samples=1 is the ELBO; choose num_samples of 2 or "
    "more, or objective elbo"
)
"""What is wrong with the importance-weighted bound of one draw.

:meta hide-value:
"""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Compare the settings of two runs; two runs are the same if nothing differs.

    Args:
        before: settings that were recorded.
        now: settings that are wanted.

    Returns:
        The differences as text, empty if there is none.

    Example:
        >>> differences({"seed": 0, "levels": [16, 8]}, {"seed": 1, "levels": (16, 8)})
        'seed was 0 and is 1'
    """

    def shown(settings: Mapping[str, Any], name: str) -> str:
        return repr(plain(settings[name])) if name in settings else "missing"

    def both(was: str, is_: str) -> str:
        start = max(0, len(os.path.commonprefix([was, is_])) - 100)  # where long texts differ
        return f"was {cut(was, start)} and is {cut(is_, start)}"

    names = (*now, *sorted(before.keys() - now.keys()))
    pairs = [(name, shown(before, name), shown(now, name)) for name in names]
    return ", ".join(f"{name} {both(was, is_)}" for name, was, is_ in pairs if was != is_)


def cut(text: str, start: int = 0, length: int = 400) -> str:
    """Shorten a text for a message.

    Args:
        text: the text.
        start: first character of what is kept.
        length: number of characters that are kept; a text that is no longer stays as it is.

    Returns:
        The text, with dots for what is left out.
    """
    if len(text) <= length:
        return text
    rest = text[start:]
    return f"{'...' * (start > 0)}{rest[:length]}{'...' * (len(rest) > length)}"


def per_level(value: float | Sequence[Any], num_levels: int, name: str) -> tuple[Any, ...]:
    """Give one value per level, bottom to top, from one for all levels or one for each.

    Args:
        value: a number, or one value per level, bottom to top.
        num_levels: L.
        name: what the value is, for the error message.

    Returns:
        L values.

    Raises:
        ValueError: if a sequence does not hold L values.
    """
    if not isinstance(value, Sequence):
        return (value,) * num_levels
    if len(value) != num_levels:
        raise ValueError(
            f"{name} has {len(value)} values for {num_levels} levels; give one number for all "
            "levels, or one per level from z_1 (next to the data) to z_L"
        )
    return tuple(value)


class _Usual(str):
    """A default that follows from other options, so that a copy with others chooses it anew."""


class _UsualSizes(tuple):
    """Latent sizes that follow from the recipe, because none were given."""


def _stored(value: Any, kind: Any) -> Any:  # noqa: ANN401
    """A value in the form that a field of a type holds, in Python's own numbers and in tuples."""
    origin, inner = get_origin(kind), get_args(kind)
    if hasattr(value, "tolist"):  # of NumPy or PyTorch
        value = value.tolist()
    anything, number = kind is Any, isinstance(value, Real) and not isinstance(value, bool)
    if origin in (Union, UnionType):
        for one in inner:
            with contextlib.suppress(TypeError):
                return _stored(value, one)
    elif isinstance(value, list | tuple | range) and (anything or origin is tuple):
        return tuple(_stored(entry, Any if anything else inner[0]) for entry in value)
    elif number and origin is tuple:
        return (_stored(value, inner[0]),)
    elif isinstance(value, Mapping) and (anything or origin is Mapping):
        return {_stored(name, str): _stored(one, Any) for name, one in value.items()}
    elif number and (kind is int or anything and isinstance(value, Integral)) and value % 1 == 0:
        return int(value)
    elif number and (anything or kind is float):
        return float(value)
    elif isinstance(value, str | os.PathLike) and (anything or kind is str):
        return str.__str__(os.fspath(value))
    elif isinstance(value, bool) and (anything or kind is bool):
        return value
    elif origin is Literal and value in inner:
        return inner[inner.index(value)]
    elif type(value) is kind or anything and value is None:
        return value
    elif isinstance(kind, type) and issubclass(kind, Options) and isinstance(value, kind):
        return value
    raise TypeError


def _kinds(kind: Any) -> list[str]:  # noqa: ANN401
    """The values that a type allows, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ["one of " + ", ".join(map(repr, inner))]
    if origin in (Union, UnionType):
        return [*dict.fromkeys(words for one in inner for words in _kinds(one))]
    if origin is tuple:
        numbers = {int: "a whole number", float: "a number"}.get(inner[0])
        several = f"a sequence of {numbers.removeprefix('a ')}s" if numbers else None
        return [numbers, several] if numbers else ["one sequence per level"]
    if origin is Mapping:
        return ["a mapping from names to numbers, words and sequences of them"]
    names = {int: "a whole number", float: "a number", str: "a word", bool: "True or False"}
    return [names.get(kind, "None")]


def _describe(kind: Any) -> str:  # noqa: ANN401
    """A type in words, for an error message."""
    *others, last = _kinds(kind)
    return f"{', '.join(others)} or {last}" if others else last


class Options:
    """Base of the configuration classes: checks types, then the ranges that a class names."""

    positive: ClassVar[tuple[str, ...]] = ()
    """Fields whose numbers must be above zero."""
    not_negative: ClassVar[tuple[str, ...]] = ()
    """Fields whose numbers must be zero or more."""
    shares: ClassVar[tuple[str, ...]] = ()
    """Fields whose number lies in [0, 1)."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for entry in fields(self):
            value, kind = getattr(self, entry.name), hints[entry.name]
            value = None if isinstance(value, _Usual) else value
            try:
                object.__setattr__(self, entry.name, _stored(value, kind))
            except TypeError:
                if choices := [name for name in _choices(kind) if name is not None]:
                    raise ValueError(
                        f"unknown {entry.name} {value!r}; choose one of {', '.join(choices)}"
                    ) from None
                raise TypeError(f"{entry.name} must be {_describe(kind)}, got {value!r}") from None
        for names, accept, range_ in (
            (self.positive, lambda number: number > 0, "positive"),
            (self.not_negative, lambda number: number >= 0, "zero or more"),
            (self.shares, lambda number: 0 <= number < 1, "at least 0 and below 1"),
        ):
            for name in names:
                value = getattr(self, name)
                if not all(accept(n) and math.isfinite(n) for n in _numbers(value)):
                    raise ValueError(f"{name} must be {range_}, got {value!r}")

    def _choose_usual(self, **usual: str) -> None:
        """Fill in what was left out and follows from other options."""
        for name, value in usual.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, _Usual(value))


def _choices(kind: Any) -> Iterable[str]:  # noqa: ANN401
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    for inner in get_args(kind):
        yield from _choices(inner)


def _numbers(value: Any) -> Iterable[float]:  # noqa: ANN401
    """All numbers in nested tuples; none in None."""
    if isinstance(value, tuple):
        for entry in value:
            yield from _numbers(entry)
    elif value is not None:
        yield value


def make_options(
    kinds: Mapping[str, type[Options]], name: str, given: Mapping[str, Any], *, of: str
) -> Options:
    """Make the settings of a part that is chosen by name.

    Args:
        kinds: settings class of every part.
        name: the chosen part.
        given: its settings.
        of: kind of part, for the message.

    Returns:
        The settings, with the defaults of what was not given.

    Raises:
        ValueError: if the part has no such setting, or a value is wrong.
    """
    known = [entry.name for entry in fields(kinds[name])]
    if unknown := [key for key in given if key not in known]:
        has = f"it has {', '.join(known)}" if known else "it has no options"
        raise ValueError(
            f"{of}_options of the {of} {name!r}: unknown option {unknown[0]!r}; {has}"
        )
    try:
        return kinds[name](**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{of}_options of the {of} {name!r}: {error}") from error


def named_options(kind: type[Options], given: Mapping[str, Any], *, of: str) -> Any:  # noqa: ANN401
    """Make the options of a function that takes them as keywords.

    Args:
        kind: a configuration class.
        given: its options.
        of: name of the function, for the message.

    Returns:
        An object of the class.

    Raises:
        TypeError: if there is no such option.
    """
    known = [entry.name for entry in fields(kind)]
    if unknown := [name for name in given if name not in known]:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {close[0]}? Its options are" if close else "its options are"
        raise TypeError(f"{of} has no option {unknown[0]!r}; {hint} {', '.join(known)}")
    return kind(**given)


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


@dataclass(frozen=True, kw_only=True)
class Perceptrons(Options):
    """Multilayer perceptrons, whose options are those of `Model`."""


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
CODES: dict[str, type[Options]] = {"codebook": Codebook, "scalars": Scalars}
"""Options of every kind of codes.

:meta hide-value:
"""
DEEP_RECIPES = ("vdvae", "nvae", "biva", "resnet", "vq", "downscaled")
"""Recipes of convolutional networks alone."""
PLAIN_RECIPES = ("vdvae", "biva", "resnet", "vq", "downscaled")
"""Recipes whose usual networks have no normalisation."""
VECTOR_RECIPES = ("flow_ladder",)
"""Recipes of multilayer perceptrons alone."""
FLOW_RECIPES = ("bidirectional", "flow_ladder")
"""Recipes whose latent vectors may have flows."""
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


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known about a data set before it is read."""

    about: str
    """One line."""
    binarisation: Binarisation = "none"
    """The usual one."""
    real: bool = False
    """Whether its values are real numbers."""
    folder: bool = False
    """Whether it is read from the folder ``data_root``."""


DATA_SETS: dict[str, DataInfo] = {
    "digits": DataInfo(about="8x8 handwritten digits, 17 grey values, from scikit-learn"),
    "mnist": DataInfo(
        about="28x28 handwritten digits, binarised dynamically, through torchvision",
        binarisation="dynamic",
        folder=True,
    ),
    "fashion_mnist": DataInfo(
        about="28x28 pieces of clothing, binarised dynamically, through torchvision",
        binarisation="dynamic",
        folder=True,
    ),
    "pendulum": DataInfo(about="16x16 images of a pendulum, real values, generated", real=True),
    "nested_shapes": DataInfo(
        about="16x16 shapes with factors on three levels, 16 grey values, generated"
    ),
    "patches": DataInfo(
        about="16x16 colour patches of two photographs, 256 values, from scikit-learn"
    ),
    "cifar10": DataInfo(
        about="32x32 colour images of ten classes, 256 values, through torchvision", folder=True
    ),
    "svhn": DataInfo(
        about="32x32 colour images of house numbers, 256 values, through torchvision", folder=True
    ),
    "omniglot": DataInfo(
        about="28x28 handwritten characters, binarised dynamically, through torchvision",
        binarisation="dynamic",
        folder=True,
    ),
}
"""The known data sets.

:meta hide-value:
"""
FILE_ENDING = ".npz"
"""How the name of a file with data of your own ends."""


def data_info(name: str) -> DataInfo:
    """Say what is known about a data set before it is read.

    Args:
        name: a key of `DATA_SETS`, or a file that ends in ``.npz``, whether or not it exists.

    Returns:
        What is known; of a file, that its pixels are binarised only if you say so.

    Raises:
        ValueError: if the name is neither.
    """
    if name.endswith(FILE_ENDING):
        return DataInfo(about=f"your own data, from {name}")
    if name not in DATA_SETS:
        raise ValueError(
            f"unknown data {name!r}; choose one of {', '.join(DATA_SETS)}, or give a file that "
            f"ends in {FILE_ENDING}"
        )
    return DATA_SETS[name]


@dataclass(frozen=True, kw_only=True)
class Data(Options):
    """Which data, and how their pixels become binary."""

    data: DataName | str = "digits"
    """Data set, or a file .npz with data of your own."""
    binarisation: Binarisation | None = None
    """How grey pixels become binary; None for dynamic with mnist, fashion_mnist and omniglot, none
    with the others."""
    data_root: str | None = None
    """Folder of mnist, fashion_mnist, cifar10, svhn and omniglot; None for HVAE_DATA, or a cache
    folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        info = data_info(self.data)
        self._choose_usual(binarisation=info.binarisation)
        if self.data_root is not None and not info.folder:
            raise ValueError(
                f"{self.data} is not read from the folder data_root={self.data_root!r}; leave it "
                "out"
            )
        if info.real and self.binarisation != "none":
            raise ValueError(
                f"{self.data} holds real values, which binarisation={self.binarisation!r} cannot "
                "make binary; leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class Model(Options):
    """How the latents are inferred, and by which networks."""

    recipe: Recipe = "bottom_up"
    """How the latents are inferred; the name of the function in recipes will do as well."""
    latent_sizes: tuple[int, ...] = _UsualSizes((16, 8))
    """Latent dimensions Z_1, ..., Z_L, bottom to top; with convolutional networks the channels of
    each latent map, and with vq the dimensions of each code. Those of biva are an odd number, two
    for each level below the top, by default (16, 16, 8); those of draw are one per step, by
    default eight times 16. Those of downscaled are three, of which the second is the number of
    colours, by default (16, 1, 8)."""
    networks: NetworksName | None = None
    """What the networks are made of; None for convolutional with the recipes that need it, mlp
    otherwise."""
    networks_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of convolutional networks, such as channels=64."""
    hidden: Widths = (256,)
    """Widths of the hidden layers of every network, or one sequence per level, bottom to top.
    Those of level l apply to its posterior and to the generative network that reads z_l. With draw
    one number, the units of an LSTM."""
    inference_hidden: Widths | None = None
    """Widths in the inference networks; None for those of the generative networks."""
    normalisation: Normalisation | None = None
    """Normalisation in every network; None for none with vdvae, biva, resnet, draw, vq and
    downscaled, layer with bidirectional and flow_ladder, batch otherwise."""
    generative_normalisation: Normalisation | None = None
    """Normalisation in the generative networks; None for the same as in the others."""
    activation: Activation | None = None
    """Activation function; None for gelu with bidirectional, flow_ladder, vdvae, biva, resnet,
    vq and downscaled, tanh with draw, silu otherwise."""
    dropout: float = 0.0
    """Probability of dropping a hidden unit in training."""
    state: State = "markov"
    """What a generative network sees, z_l alone (markov), or all latents above it too (skip)."""
    likelihood: LikelihoodName | None = None
    """Likelihood p(x | z); None for Bernoulli on binary pixels, categorical up to 32 grey values,
    discretised logistic above, negative binomial for counts, isotropic Gaussian for real
    values."""
    likelihood_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the likelihood, such as std=0.1 for the isotropic Gaussian; those of mixed are
    blocks=[{"columns": [0, 1], "likelihood": "gaussian"}, ...], see `Blocks`."""
    prior: PriorName | None = None
    """Prior over the top level; None for normal with vdvae and resnet, standard otherwise, which
    with vq stands for the uniform prior over codes."""
    prior_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the prior, such as num_components=500."""
    reads_state: bool = True
    """Whether the delta of a level depends on the levels above, or on x alone (delta only)."""
    merge_top: bool = False
    """Whether the top level is merged with N(0, I) as well (ladder only)."""
    iaf: bool = False
    """Whether an inverse autoregressive flow follows every level's posterior (resnet, and
    bidirectional and flow_ladder with perceptrons)."""
    flow_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the flows of bidirectional and flow_ladder, such as num_steps=1, see `Flow`."""
    tied: bool = True
    """Whether all steps share their weights (draw only)."""
    attention: int | None = None
    """N, for windows of N x N filters through which each step reads and writes an image; None for
    the whole image (draw only)."""
    codes: CodesName = "codebook"
    """What the codes of a level are (vq only)."""
    codes_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the codes, such as num_codes=512 (vq only)."""
    conditional: bool = False
    """Whether the model is of x given its label."""
    positive = ("latent_sizes", "hidden", "inference_hidden", "attention")
    shares = ("dropout",)

    def __post_init__(self) -> None:
        if isinstance(self.recipe, str):
            name = str.__str__(self.recipe).removesuffix("_vae")  # also of a constant of one's own
            object.__setattr__(self, "recipe", name)
        usual = isinstance(self.latent_sizes, _UsualSizes)
        super().__post_init__()
        if usual:
            known = {"biva": (16, 16, 8), "draw": (16,) * 8, "downscaled": (16, 1, 8)}
            sizes = known.get(self.recipe, (16, 8))
            if self.recipe == "vq":
                scalars = self.codes == "scalars"
                sizes = (len(self.make_codes_options().values) if scalars else 16,) * 2
            object.__setattr__(self, "latent_sizes", _UsualSizes(sizes))
        bidirectional, plain_maps = self.recipe in FLOW_RECIPES, self.recipe in PLAIN_RECIPES
        deep, draws = self.recipe in DEEP_RECIPES, self.recipe == "draw"
        bare = plain_maps or draws
        self._choose_usual(
            normalisation="none" if bare else "layer" if bidirectional else "batch",
            activation="tanh" if draws else "gelu" if bidirectional or plain_maps else "silu",
            prior="normal" if self.recipe in ("vdvae", "resnet") else "standard",
            networks="convolutional" if deep else "mlp",
        )
        if deep and self.networks == "mlp":
            raise ValueError(
                f"the recipe {self.recipe} is one of convolutional networks, got networks='mlp'; "
                "leave networks out"
            )
        if self.recipe in VECTOR_RECIPES and self.networks == "convolutional":
            raise ValueError(
                f"the recipe {self.recipe} is one of multilayer perceptrons, because its flows "
                "are over vectors, got networks='convolutional'; leave networks out"
            )
        self.make_networks_options()
        if self.networks == "convolutional":
            self._check_convolutional()
        if draws:
            self._check_steps()
        if not self.latent_sizes:
            raise ValueError("latent_sizes needs one size per level, got none; give (16,) for one")
        for name in ("hidden", "inference_hidden"):
            self._check_widths(getattr(self, name) or (), name)
        for name, recipe, usual in (
            ("reads_state", "delta", True),
            ("merge_top", "ladder", False),
            ("tied", "draw", True),
            ("attention", "draw", None),
            ("codes", "vq", "codebook"),
            ("codes_options", "vq", {}),
        ):
            if getattr(self, name) != usual and self.recipe != recipe:
                raise ValueError(
                    f"{name} is an option of the recipe {recipe}, got it with {self.recipe}"
                )
        self._check_flows()
        if self.prior == "vamp" and self.conditional:
            raise ValueError(
                "the pseudo-inputs of the prior 'vamp' have no labels, so a conditional model "
                "cannot read them; choose 'standard' or 'normal', or 'mixture' or 'vhp' with "
                "perceptrons"
            )
        if self.prior == "vamp" and self.normalisation == "batch":
            raise ValueError(
                "with batch normalisation q(z_L | u) depends on the other pseudo-inputs; choose "
                "normalisation='layer' or 'none' for the prior 'vamp'"
            )
        if self.prior == "vamp" and self.iaf:
            raise ValueError(
                "the prior 'vamp' mixes diagonal Gaussians q(z_L | u), and with iaf=True the "
                "posterior of the top level is a flow; leave iaf out, or choose 'standard' or "
                "'normal'"
            )
        if self.recipe in ("vq", "downscaled"):
            self._check_discrete()
        self.make_prior_options()
        if self.likelihood is not None:
            self.make_likelihood_options(self.likelihood)

    def _check_flows(self) -> None:
        """Refuse flows where the recipe has none."""
        flows = self.recipe in FLOW_RECIPES and self.networks == "mlp"
        if self.iaf and not (flows or self.recipe == "resnet"):
            raise ValueError(
                "iaf is an option of the recipe resnet, and of bidirectional and flow_ladder with "
                f"perceptrons, got it with {self.recipe} and networks={self.networks!r}"
            )
        if self.flow_options and not (self.recipe == "flow_ladder" or flows and self.iaf):
            raise ValueError(
                "flow_options are those of the recipe flow_ladder, and of bidirectional with "
                f"iaf=True, got them with {self.recipe}; the options of the prior 'flow' are "
                "prior_options"
            )
        if self.make_flow_options().transform != "affine" and self.recipe != "flow_ladder":
            raise ValueError(
                "splines are for priors alone, because a posterior scores its own draws; choose "
                "transform='affine', or the recipe flow_ladder"
            )

    def _check_widths(self, widths: Widths, name: str) -> None:
        """Require one sequence of widths for all levels, or exactly one per level."""
        if widths and isinstance(widths[0], tuple) and len(widths) != self.num_levels:
            raise ValueError(
                f"{name} is one sequence of widths, or one for each of {self.num_levels} levels, "
                f"got {len(widths)} sequences"
            )

    def _check_convolutional(self) -> None:
        """Refuse options of perceptrons."""
        usual = {entry.name: entry.default for entry in fields(self)}
        for name in ("hidden", "inference_hidden", "dropout", "state"):
            if getattr(self, name) != usual[name]:
                raise ValueError(
                    f"{name} is an option of multilayer perceptrons, got it with convolutional "
                    "networks; their sizes are in networks_options"
                )
        if self.activation == "glu":
            raise ValueError(
                "the activation 'glu' doubles layers and is not built into convolutional "
                "networks; choose 'gelu' or 'silu'"
            )
        if self.recipe in ("bottom_up", "biva"):
            self._check_one_feature()
        stages = self.make_networks_options().stages
        levels = sum(stage[1] for stage in stages or ())
        if stages and levels != self.num_levels:
            raise ValueError(
                f"the stages have {levels} levels and latent_sizes {self.num_levels}; give one "
                "latent size per level, from the data upward"
            )
        if self.recipe == "biva":
            self._check_pairs()

    def _check_one_feature(self) -> None:
        """Refuse to say which feature a level reads where there is one."""
        if self.make_networks_options().shared_features is not None:
            raise ValueError(
                f"{self.recipe} reads one bottom-up feature, so levels have none to share; leave "
                "shared_features out"
            )

    def _check_pairs(self) -> None:
        """Require two latents per level below the top."""
        if self.num_levels % 2 == 0:
            raise ValueError(
                "biva has two latents for each level below the top and one at the top, so an odd "
                f"number of latent sizes, got {self.latent_sizes}; give those of the levels in "
                "pairs, such as (16, 16, 8)"
            )
        options = self.make_networks_options()
        numbers = [stage[1] for stage in options.stages or ()]
        if any(number % 2 for number in numbers[:-1]):
            raise ValueError(
                "the two latents of a level of biva have one resolution, so every stage but the "
                f"highest has an even number of them, got {numbers}"
            )
        if options.group != 1:
            raise ValueError(
                "the two latents of a level of biva are a group already; leave group out"
            )

    def _check_steps(self) -> None:
        """Refuse what the LSTM cells of draw do not have, and tied steps of different sizes."""
        for name, usual in (
            ("networks", "mlp"),
            ("normalisation", "none"),
            ("generative_normalisation", None),
            ("activation", "tanh"),
            ("dropout", 0.0),
            ("state", "markov"),
            ("conditional", False),
        ):
            if (value := getattr(self, name)) != usual:
                raise ValueError(
                    f"draw is a model of x alone, made of plain LSTM cells, got {name}={value!r}; "
                    f"leave {name} out"
                )
        if self.likelihood in AUTOREGRESSIVE_LIKELIHOODS:
            raise ValueError(
                "the encoder of draw compares x with the mean of p(x | z), which the likelihood "
                f"{self.likelihood!r} does not have; choose 'bernoulli'"
            )
        for name in ("hidden", "inference_hidden"):
            widths = getattr(self, name)
            if widths is not None and not (len(widths) == 1 and isinstance(widths[0], int)):
                raise ValueError(
                    f"each LSTM of draw has one layer of units for all steps, got {name}="
                    f"{widths}; give one number, such as (256,)"
                )
        if self.attention == 1:
            raise ValueError(
                "a window has at least 2 x 2 filters, got attention=1; give 2 or more"
            )
        if self.tied and len({*self.latent_sizes}) > 1:
            raise ValueError(
                f"tied steps have latents of one size, got latent_sizes={self.latent_sizes}; give "
                "the same size for every step, or tied=False"
            )

    def _check_discrete(self) -> None:
        """Refuse what levels of codes, or of a downscaled image, cannot be."""
        if self.recipe == "downscaled":
            if self.num_levels != 3:
                raise ValueError(
                    "downscaled has three levels, the downscaled image between two latents, got "
                    f"latent_sizes {self.latent_sizes}; give three, such as (16, 1, 8)"
                )
            return
        if self.prior != "standard":
            raise ValueError(
                f"the priors of vq are over codes, got prior={self.prior!r}; leave it out, and "
                "fit them with hvae_course.training.fit_prior"
            )
        codes = self.make_codes_options()
        if self.codes == "scalars" and set(self.latent_sizes) != {len(codes.values)}:
            raise ValueError(
                f"codes of {len(codes.values)} values are latents of {len(codes.values)} "
                f"dimensions, got latent_sizes {self.latent_sizes}; leave them out for two levels"
            )

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.latent_sizes)

    def make_networks_options(self) -> Any:  # noqa: ANN401
        """Options of the networks, with defaults.

        Returns:
            An object of the class in `NETWORKS`.
        """
        return make_options(NETWORKS, self.networks, self.networks_options, of="networks")

    def widths(self, l: int, *, generative: bool) -> tuple[int, ...]:
        """Widths of the hidden layers of one network.

        Args:
            l: level, counted from 0 next to the data.
            generative: True for the generative model, False for inference.

        Returns:
            The widths, from input to output.
        """
        own = generative or self.inference_hidden is None
        widths = self.hidden if own else self.inference_hidden
        return widths[l] if widths and isinstance(widths[0], tuple) else widths

    def make_flow_options(self) -> Any:  # noqa: ANN401
        """Options of the flows of the levels, with defaults.

        Returns:
            A `Flow` object.
        """
        return make_options({self.recipe: Flow}, self.recipe, self.flow_options, of="flow")

    def make_codes_options(self) -> Any:  # noqa: ANN401
        """Options of the codes, with defaults.

        Returns:
            An object of the class in `CODES`.
        """
        return make_options(CODES, self.codes, self.codes_options, of="codes")

    def make_prior_options(self) -> Any:  # noqa: ANN401
        """Options of the prior, with defaults.

        Returns:
            An object of the class in `PRIORS`.
        """
        return make_options(PRIORS, self.prior, self.prior_options, of="prior")

    def make_likelihood_options(self, name: str) -> Any:  # noqa: ANN401
        """Options of the likelihood, with defaults.

        Args:
            name: a key of `LIKELIHOODS`, for a likelihood that the data determine.

        Returns:
            An object of the class in `LIKELIHOODS`.
        """
        return make_options(LIKELIHOODS, name, self.likelihood_options, of="likelihood")


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
    """Most steps in a row that are skipped for their norm; later ones take the gradient scaled
    down to the norm, until one is short enough again."""
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


def take(kind: Callable[..., Any], settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Make one group of options from a mapping that may hold others too.

    Args:
        kind: a configuration class.
        settings: option to value.

    Returns:
        The group.
    """
    names = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: settings[name] for name in names if name in settings})
