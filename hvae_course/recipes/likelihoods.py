"""Likelihoods by name, with their options, and what inference networks read of such data."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from hvae_course.config import (
    AUTOREGRESSIVE_LIKELIHOODS,
    COUNT_LIKELIHOODS,
    GREY_LIKELIHOODS,
    Model,
    block_options,
)
from hvae_course.data import DataSpec
from hvae_course.data.splits import find_column
from hvae_course.likelihoods import (
    Autoregressive,
    Bernoulli,
    Block,
    Categorical,
    DiscretizedLogistic,
    Gaussian,
    GreyLikelihood,
    IsotropicGaussian,
    Likelihood,
    MissingValues,
    Mixed,
    MixtureOfLogistics,
    NegativeBinomial,
    PixelConvolutional,
    Poisson,
)
from hvae_course.nets import ReadTable

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "autoregressive": Autoregressive,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "discretized_logistic": DiscretizedLogistic,
    "gaussian": Gaussian,
    "isotropic_gaussian": IsotropicGaussian,
    "logistic_mixture": MixtureOfLogistics,
    "mixed": Mixed,
    "negative_binomial": NegativeBinomial,
    "pixel_convolutional": PixelConvolutional,
    "poisson": Poisson,
}
"""Likelihoods by name.

:meta hide-value:
"""


def usual_likelihood(spec: DataSpec) -> str:
    """Choose the default likelihood for a kind of data.

    Args:
        spec: the data.

    Returns:
        A key of `LIKELIHOODS`.
    """
    if spec.counts:
        return "negative_binomial"
    if spec.num_values is None:
        return "isotropic_gaussian"
    if spec.num_values == 2:
        return "bernoulli"
    return "categorical" if spec.num_values <= 32 else "discretized_logistic"


def make_likelihood(
    model: Model, spec: DataSpec, make_net: Callable[[int], nn.Module]
) -> Likelihood:
    """Build the likelihood p(x | z).

    Args:
        model: the likelihood and its options.
        spec: shape and kind of the data.
        make_net: function from the number of outputs to a network.

    Returns:
        The likelihood with its network.

    Raises:
        ValueError: if it does not have one of the options, or cannot score such data.
    """
    name = model.likelihood or usual_likelihood(spec)
    _check_kind(name, spec)
    if name == "mixed":
        blocks = [_make_block(columns, block) for columns, block in _blocks(model, spec)]
        net = make_net(sum(block.num_outputs for block in blocks))
        likelihood = Mixed(net, blocks, names=spec.feature_names)
    else:
        options = asdict(model.make_likelihood_options(name))
        kind = LIKELIHOODS[name]
        if issubclass(kind, GreyLikelihood):
            options["num_values"] = spec.num_values
        if kind is MixtureOfLogistics:
            options["num_channels"] = _num_channels(spec)
        if kind is Autoregressive:
            options["size"] = spec.num_features
        if kind is PixelConvolutional:
            options["image_shape"] = spec.shape
        net = make_net(_num_outputs(name, spec.num_features, options))
        likelihood = kind(net, **options)
    return MissingValues(likelihood) if spec.missing else likelihood


def make_reader(model: Model, spec: DataSpec) -> ReadTable | None:
    """Build the layer between x and the inference networks.

    Args:
        model: the likelihood and its options.
        spec: shape and kind of the data.

    Returns:
        The layer; None for complete images and real values, which the networks read as they are.
    """
    counts, categories, ordered = range(spec.num_features) if spec.counts else (), {}, {}
    if model.likelihood == "mixed":
        of_column = {c: block for columns, block in _blocks(model, spec) for c in columns}
        kinds = {c: block["likelihood"] for c, block in of_column.items()}
        counts = [c for c, kind in kinds.items() if kind in COUNT_LIKELIHOODS]
        for found, *names in (
            (categories, "categorical"),
            (ordered, "discretized_logistic", "logistic_mixture"),
        ):
            found |= {c: of_column[c]["num_values"] for c, kind in kinds.items() if kind in names}
    if not (spec.missing or counts or categories or ordered):
        return None
    columns = {"counts": counts, "categories": categories, "ordered": ordered}
    return ReadTable(spec.num_features, **columns, missing=spec.missing)


def _check_kind(name: str, spec: DataSpec) -> None:
    """Refuse a likelihood that scores other values than the data hold."""
    if name in GREY_LIKELIHOODS and spec.num_values is None:
        held, better = "are real-valued", "'isotropic_gaussian' or 'gaussian'"
        if spec.counts:
            held, better = "are counts", "'negative_binomial' or 'poisson'"
        raise ValueError(
            f"the likelihood {name!r} scores grey values and the data {held}; choose {better}"
        )
    if name in AUTOREGRESSIVE_LIKELIHOODS and spec.missing:
        raise ValueError(
            f"the likelihood {name!r} scores every pixel given those before it, so it cannot "
            "leave out missing ones; choose 'bernoulli', or fill them in without missing=True"
        )
    if name in COUNT_LIKELIHOODS and not spec.counts:
        raise ValueError(
            f"the likelihood {name!r} scores counts, and these data are not said to be counts; "
            "say so where the data set is made (kind='counts' in from_arrays, counts=True in a "
            "DataSpec), or choose another likelihood"
        )
    if name == "mixed" and spec.num_values is not None:
        raise ValueError(
            f"the likelihood 'mixed' scores tables, and the data are images of {spec.num_values} "
            "grey values; choose a likelihood of grey values"
        )


def _num_channels(spec: DataSpec) -> int:
    """C of images (C, H, W); 1 for (H, W) and for the columns of a table."""
    channels = spec.shape[0] if len(spec.shape) == 3 else 1
    if spec.missing and channels > 1:
        raise ValueError(
            f"the likelihood 'logistic_mixture' scores the {channels} channels of a pixel "
            "together, so it cannot leave out the missing ones; choose 'discretized_logistic', or "
            "fill them in and leave out missing=True"
        )
    return channels


def _num_outputs(name: str, num_features: int, options: Mapping[str, Any]) -> int:
    """Number of parameters of p(x | z)."""
    kind = LIKELIHOODS[name]
    if kind is MixtureOfLogistics:
        channels = options.get("num_channels", 1)
        return num_features // channels * kind.num_outputs(channels, options["num_components"])
    per_value = options["num_values"] if kind is Categorical else 1
    return num_features * kind.outputs_per_pixel * per_value


def _make_block(columns: tuple[int, ...], block: Mapping[str, Any]) -> Block:
    """The likelihood of one block of columns, which reads its outputs as they are."""
    name, num_values = block["likelihood"], block.get("num_values")
    options = asdict(block_options(block)) | ({"num_values": num_values} if num_values else {})
    likelihood = LIKELIHOODS[name](nn.Identity(), **options)
    return Block(columns, likelihood, _num_outputs(name, len(columns), options))


def _blocks(model: Model, spec: DataSpec) -> list[tuple[tuple[int, ...], Mapping[str, Any]]]:
    """Blocks of a table with their columns by number; refuse columns in no block or in two."""
    found, seen = [], set()
    for number, block in enumerate(model.make_likelihood_options("mixed").blocks, start=1):
        numbers = []
        for column in block["columns"]:
            place = find_column(column, spec.feature_names, spec.num_features)
            if place is None:
                have = f"{spec.num_features} columns, numbered from 0"
                have += f", named {', '.join(spec.feature_names)}" if spec.feature_names else ""
                raise ValueError(f"block {number}: no column {column!r}; the table has {have}")
            if place in seen:
                raise ValueError(f"block {number}: column {column!r} is in a block already")
            seen.add(place)
            numbers.append(place)
        found.append((tuple(numbers), block))
    if left := [c for c in range(spec.num_features) if c not in seen]:
        shown = [f"{c} ({spec.feature_names[c]})" if spec.feature_names else str(c) for c in left]
        raise ValueError(
            f"the likelihood 'mixed' has no block for column {', '.join(shown)}; name every "
            "column of the table in one block"
        )
    return found
