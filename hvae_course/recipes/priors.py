"""Priors over the top level by name, with their options."""

from collections.abc import Callable
from dataclasses import asdict

from torch import nn

from hvae_course import config
from hvae_course.data import DataSet, DataSpec
from hvae_course.gaussians import GaussianHead
from hvae_course.nets import mlp
from hvae_course.priors import (
    VHP,
    FlowPrior,
    LearnedNormal,
    MixtureOfGaussians,
    Prior,
    StandardNormal,
    VampPrior,
)
from hvae_course.recipes.likelihoods import make_reader
from hvae_course.splines import SplineFlow
from hvae_course.vector_flows import MaskedFlow

Shape = tuple[int, ...]


def _standard(options: config.Standard, shape: Shape, data: DataSet | DataSpec) -> StandardNormal:
    return StandardNormal(*shape)


def _normal(options: config.Normal, shape: Shape, data: DataSet | DataSpec) -> LearnedNormal:
    return LearnedNormal(*shape)


def _mixture(
    options: config.Mixture, shape: Shape, data: DataSet | DataSpec
) -> MixtureOfGaussians:
    return MixtureOfGaussians(_vector("mixture", shape), **asdict(options))


def _vamp(options: config.Vamp, shape: Shape, data: DataSet | DataSpec) -> VampPrior:
    if options.start == "data" and isinstance(data, DataSet):
        return VampPrior.from_data(options.num_components, data.train.batch(slice(None)))
    spec = data if isinstance(data, DataSpec) else data.spec
    return VampPrior.at_random(options.num_components, spec.num_features)


def _vhp(options: config.VHP, shape: Shape, data: DataSet | DataSpec) -> VHP:
    size = _vector("vhp", shape)
    zeta_size = size if options.zeta_size is None else options.zeta_size
    kinds = {"normalisation": options.normalisation, "activation": options.activation}

    def network(size_in: int, size_out: int) -> nn.Sequential:
        body = mlp(size_in, *options.hidden, **kinds)
        return nn.Sequential(body, GaussianHead((size_in, *options.hidden)[-1], size_out))

    zeta = StandardNormal(zeta_size)
    return VHP(
        network(zeta_size, size),
        network(size, zeta_size),
        size=size,
        zeta=zeta,
        num_samples=options.num_samples,
    )


def make_flow(options: config.Flow, size: int, *, context: int = 0) -> nn.Module:
    """Build the last layer of a conditional prior, or a prior, that is an autoregressive flow.

    Args:
        options: its options.
        size: Z, number of latent dimensions.
        context: width of the features that it reads; 0 for none.

    Returns:
        A module from features to a distribution.
    """
    given = asdict(options)
    kind = {"affine": MaskedFlow, "spline": SplineFlow}[given.pop("transform")]
    return kind(size, context=context, **given)


def _flow(options: config.Flow, shape: Shape, data: DataSet | DataSpec) -> FlowPrior:
    return FlowPrior(make_flow(options, _vector("flow", shape)))


def _vector(name: str, shape: Shape) -> int:
    """The size of a vector; refuse other shapes."""
    if len(shape) != 1:
        raise ValueError(
            f"the prior {name!r} is over vectors, and the top level has the shape {shape}; choose "
            "'standard', 'normal' or 'vamp'"
        )
    return shape[0]


PRIORS: dict[str, Callable[..., Prior]] = {
    "standard": _standard,
    "normal": _normal,
    "mixture": _mixture,
    "vamp": _vamp,
    "vhp": _vhp,
    "flow": _flow,
}
"""Makers of the priors by name; `hvae_course.config.priors.PRIORS` has the options of each.

:meta hide-value:
"""


def make_prior(model: config.Model, shape: Shape, data: DataSet | DataSpec) -> Prior:
    """Build the prior over the top level.

    Args:
        model: the prior and its options.
        shape: event shape of the top level.
        data: the data set, whose training examples the pseudo-inputs of a VampPrior start from,
            or its specification.

    Returns:
        The prior.

    Raises:
        ValueError: if pseudo-inputs cannot stand beside such data.
    """
    spec = data if isinstance(data, DataSpec) else data.spec
    if model.prior == "vamp" and make_reader(model, spec) is not None:
        raise ValueError(
            "the pseudo-inputs of the prior 'vamp' are complete rows of free real numbers, which "
            "counts, categories and rows with missing values are not; choose 'mixture' or 'vhp'"
        )
    return PRIORS[model.prior](model.make_prior_options(), shape, data)
