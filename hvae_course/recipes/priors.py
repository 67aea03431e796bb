"""Priors over the top level by name, with their settings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from hvae_course.data import DataSet, DataSpec
from hvae_course.gaussians import GaussianHead
from hvae_course.nets import mlp
from hvae_course.priors import VHP, MixtureOfGaussians, Prior, StandardNormal, VampPrior

STARTS = ("data", "random")
"""Where pseudo-inputs start."""


def standard(size: int, data: DataSet | DataSpec) -> StandardNormal:
    """Standard normal, without settings.

    Args:
        size: number of latent dimensions Z_L.
        data: not used.

    Returns:
        The prior.
    """
    return StandardNormal(size)


def mixture(
    size: int, data: DataSet | DataSpec, *, num_components: int = 100, spread: float = 1.0
) -> MixtureOfGaussians:
    """Mixture of Gaussians.

    Args:
        size: number of latent dimensions Z_L.
        data: not used.
        num_components: U.
        spread: standard deviation of the means at the start.

    Returns:
        The prior.
    """
    return MixtureOfGaussians(size, num_components, spread=spread)


def vamp(
    size: int, data: DataSet | DataSpec, *, num_components: int = 100, start: str = "data"
) -> VampPrior:
    """Mixture of the model's posteriors.

    Args:
        size: not used, the encoder decides.
        data: the data set whose training examples the pseudo-inputs start from. Without one, as
            when a model is rebuilt for a checkpoint, they start at random.
        num_components: U.
        start: ``"data"`` or ``"random"``.

    Returns:
        The prior.

    Raises:
        ValueError: if the start is unknown.
    """
    if start not in STARTS:
        raise ValueError(f"unknown start {start!r}; choose one of {', '.join(STARTS)}")
    if start == "data" and isinstance(data, DataSet):
        return VampPrior.from_data(num_components, data.train.batch(slice(None)))
    spec = data if isinstance(data, DataSpec) else data.spec
    return VampPrior.at_random(num_components, spec.num_features)


def vhp(
    size: int,
    data: DataSet | DataSpec,
    *,
    zeta_size: int | None = None,
    num_samples: int = 16,
    hidden: Sequence[int] = (128, 128),
    activation: str = "tanh",
    normalisation: str = "none",
) -> VHP:
    """Variational hierarchical prior, with two networks of one architecture.

    Args:
        size: number of latent dimensions Z_L.
        data: not used.
        zeta_size: dimensions of zeta; None for Z_L.
        num_samples: M, draws of zeta per code.
        hidden: widths of the hidden layers of p(z | zeta) and q(zeta | z).
        activation: a key of `hvae_course.nets.ACTIVATIONS`.
        normalisation: a key of `hvae_course.nets.NORMALISATIONS`.

    Returns:
        The prior.
    """
    zeta_size = size if zeta_size is None else zeta_size

    def network(size_in: int, size_out: int) -> nn.Sequential:
        body = mlp(size_in, *hidden, normalisation=normalisation, activation=activation)
        return nn.Sequential(body, GaussianHead((size_in, *hidden)[-1], size_out))

    zeta = StandardNormal(zeta_size)
    return VHP(
        network(zeta_size, size),
        network(size, zeta_size),
        size=size,
        zeta=zeta,
        num_samples=num_samples,
    )


PRIORS: dict[str, Callable[..., Prior]] = {
    maker.__name__: maker for maker in (standard, mixture, vamp, vhp)
}
"""Priors by name; the settings of each are the keyword arguments of its function.

:meta hide-value:
"""


def make_prior(
    name: str, size: int, data: DataSet | DataSpec, options: Mapping[str, Any]
) -> Prior:
    """Build the prior over the top level.

    Args:
        name: a key of `PRIORS`.
        size: number of latent dimensions Z_L.
        data: the data set, or what a model must know of it.
        options: settings of that prior.

    Returns:
        The prior.

    Raises:
        ValueError: if it has no such setting.
    """
    try:
        return PRIORS[name](size, data, **options)
    except TypeError as error:
        raise ValueError(f"prior_options of the prior {name!r}: {error}") from error
