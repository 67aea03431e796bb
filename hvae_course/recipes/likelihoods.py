"""Likelihoods by name, with their options."""

from collections.abc import Callable
from dataclasses import asdict

from torch import nn

from hvae_course.config import GREY_LIKELIHOODS, Model
from hvae_course.data import DataSpec
from hvae_course.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    Gaussian,
    GreyLikelihood,
    IsotropicGaussian,
    Likelihood,
)

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "discretized_logistic": DiscretizedLogistic,
    "gaussian": Gaussian,
    "isotropic_gaussian": IsotropicGaussian,
}
"""Likelihoods by name.

:meta hide-value:
"""


def usual_likelihood(num_values: int | None) -> str:
    """Choose the default likelihood for a kind of data.

    Args:
        num_values: number of values a pixel can take; None for real values.

    Returns:
        A key of `LIKELIHOODS`.
    """
    if num_values is None:
        return "isotropic_gaussian"
    if num_values == 2:
        return "bernoulli"
    return "categorical" if num_values <= 32 else "discretized_logistic"


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
    name = model.likelihood or usual_likelihood(spec.num_values)
    kind, options = LIKELIHOODS[name], asdict(model.make_likelihood_options(name))
    if spec.num_values is None and name in GREY_LIKELIHOODS:
        raise ValueError(
            f"the likelihood {name!r} scores grey values and the data are real-valued; choose "
            "'isotropic_gaussian' or 'gaussian'"
        )
    outputs = spec.num_features * kind.outputs_per_pixel
    if issubclass(kind, GreyLikelihood):
        options["num_values"] = spec.num_values
    if kind is Categorical:
        outputs *= spec.num_values
    return kind(make_net(outputs), **options)
