"""The settings that all recipes share, and the parts built from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from hvae_course.data import DataSet, DataSpec
from hvae_course.gaussians import GaussianHead
from hvae_course.hierarchy import (
    BottomUp,
    HierarchicalVAE,
    MarkovUpdate,
    SkipUpdate,
    TopDown,
)
from hvae_course.likelihoods import Likelihood
from hvae_course.nets import mlp
from hvae_course.posteriors import Posterior
from hvae_course.recipes.likelihoods import LIKELIHOODS, make_likelihood
from hvae_course.recipes.priors import PRIORS, make_prior
from hvae_course.recipes.widths import Widths, check_number, flat, of_level

STATES: dict[str, type[nn.Module]] = {"markov": MarkovUpdate, "skip": SkipUpdate}
"""Top-down states by name; ``"markov"`` carries z_l alone, ``"skip"`` all latents above it too.

:meta hide-value:
"""


@dataclass(frozen=True)
class Architecture:
    """Sizes and kinds of a model's networks; every recipe takes these as keyword arguments.

    Raises:
        ValueError: if a size is not positive, or a name is unknown.
    """

    latent_sizes: Sequence[int] = (16, 8)
    """Z_1, ..., Z_L, bottom to top."""
    hidden: Widths = (256,)
    """Widths of the hidden layers of every network, or one such sequence per level, bottom to top.
    Those of level l apply to its posterior and to the generative network that reads z_l."""
    inference_hidden: Widths | None = None
    """Widths in the inference networks; None for those of the generative networks."""
    normalisation: str = "batch"
    """A key of `hvae_course.nets.NORMALISATIONS`, for every network."""
    generative_normalisation: str | None = None
    """Normalisation of the generative networks; None for the same as in the others."""
    activation: str = "silu"
    """A key of `hvae_course.nets.ACTIVATIONS`."""
    dropout: float = 0.0
    """Probability of dropping a hidden unit in training."""
    state: str = "markov"
    """A key of `STATES`: which of the levels above the generative networks see."""
    likelihood: str | None = None
    """A key of `hvae_course.recipes.likelihoods.LIKELIHOODS`; None for Bernoulli on binary pixels,
    categorical up to 32 grey values, discretised logistic above, isotropic Gaussian for real
    values."""
    likelihood_options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the likelihood, such as ``{"std": 0.1}`` for the isotropic Gaussian."""
    prior: str = "standard"
    """A key of `hvae_course.recipes.priors.PRIORS`, for the top level."""
    prior_options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the prior, such as ``{"num_components": 500}``."""

    def __post_init__(self) -> None:
        for name in ("hidden", "inference_hidden"):
            check_number(getattr(self, name) or (), len(self.latent_sizes), name=name)
        widths = flat(self.hidden) + flat(self.inference_hidden or ())
        if len(self.latent_sizes) == 0 or min(*self.latent_sizes, *widths, 1) < 1:
            raise ValueError(
                "every level and every hidden layer needs a positive size, bottom to top, got "
                f"latent_sizes={tuple(self.latent_sizes)} and hidden={widths}"
            )
        for kind, name, known in (
            ("state", self.state, STATES),
            ("prior", self.prior, PRIORS),
            ("likelihood", self.likelihood, {None: None} | LIKELIHOODS),
        ):
            if name not in known:
                choices = ", ".join(filter(None, known))
                raise ValueError(f"unknown {kind} {name!r}; choose one of {choices}")
        if self.prior == "vamp" and self.normalisation == "batch":
            raise ValueError(
                "with batch normalisation q(z_L | u) depends on the other pseudo-inputs; choose "
                "normalisation='layer' or 'none' for the prior 'vamp'"
            )

    @property
    def levels(self) -> range:
        """0, ..., L - 1."""
        return range(len(self.latent_sizes))

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Width of the state that reaches each level, bottom to top; 0 at the top."""
        if self.state == "markov":
            return (*self.latent_sizes[1:], 0)
        return tuple(accumulate(reversed(self.latent_sizes), initial=0))[-2::-1]

    def feature_size(self, data: DataSet | DataSpec, *, level: int = 0) -> int:
        """Width of the deterministic feature d_l.

        Args:
            data: the data set or its specification.
            level: counted from 0 next to the data; -1 for the data themselves.

        Returns:
            Width of the last hidden layer on the way up to this level; D if there is none.
        """
        below = [w for l in range(level + 1) for w in self._widths(l, generative=False)]
        return (spec_of(data).num_features, *below)[-1]

    def _widths(self, level: int, *, generative: bool) -> tuple[int, ...]:
        inference = self.hidden if self.inference_hidden is None else self.inference_hidden
        return of_level(self.hidden if generative else inference, level)

    def body(self, size_in: int, *, level: int, generative: bool = False) -> nn.Sequential:
        """Hidden layers of one network.

        Args:
            size_in: width of the input.
            level: the level whose widths apply, counted from 0 next to the data.
            generative: True for the generative model, False for inference.

        Returns:
            A multilayer perceptron that ends in a hidden layer.
        """
        own = self.generative_normalisation if generative else None
        return mlp(
            size_in,
            *self._widths(level, generative=generative),
            normalisation=own or self.normalisation,
            activation=self.activation,
            dropout=self.dropout,
        )

    def network(
        self, size_in: int, size_out: int, *, level: int, generative: bool = False
    ) -> nn.Sequential:
        """Hidden layers followed by a linear layer.

        Args:
            size_in: width of the input.
            size_out: width of the output.
            level: the level whose widths apply, counted from 0 next to the data.
            generative: True for the generative model, False for inference.

        Returns:
            A module ``(B, size_in) -> (B, size_out)``.
        """
        return self._ending_in(nn.Linear, size_in, size_out, level=level, generative=generative)

    def gaussian(
        self, size_in: int, size_out: int, *, level: int, generative: bool = False
    ) -> nn.Sequential:
        """Hidden layers followed by a Gaussian head.

        Args:
            size_in: width of the input.
            size_out: number of latent dimensions.
            level: the level whose widths apply, counted from 0 next to the data.
            generative: True for the generative model, False for inference.

        Returns:
            A module from ``(B, size_in)`` to a distribution over ``(size_out,)``.
        """
        return self._ending_in(GaussianHead, size_in, size_out, level=level, generative=generative)

    def _ending_in(
        self,
        head: Callable[[int, int], nn.Module],
        size_in: int,
        size_out: int,
        *,
        level: int,
        generative: bool,
    ) -> nn.Sequential:
        width = (size_in, *self._widths(level, generative=generative))[-1]
        of_network = {"level": level, "generative": generative}
        return nn.Sequential(self.body(size_in, **of_network), head(width, size_out))

    def bottom_up(self, data: DataSet | DataSpec) -> BottomUp:
        """One feature per level, d_l = f_l(d_l-1).

        Args:
            data: the data set or its specification.

        Returns:
            The deterministic bottom-up path.
        """
        below = [self.feature_size(data, level=l - 1) for l in self.levels]
        return BottomUp([self.body(width, level=l) for l, width in enumerate(below)])

    def top_down(self, spec: DataSpec) -> TopDown:
        """The generative network p(z_L-1 | z_L) ... p(x | z).

        Args:
            spec: specification of the data.

        Returns:
            The top-down path, the same for every recipe.
        """
        sizes = self.state_sizes
        below = sizes[0] + self.latent_sizes[0] if self.state == "skip" else self.latent_sizes[0]
        return TopDown(
            updates=[STATES[self.state]() for _ in self.levels],
            conditionals=[
                self.gaussian(sizes[l], self.latent_sizes[l], level=l + 1, generative=True)
                for l in self.levels[:-1]
            ],
            likelihood=self.make_likelihood(spec, below),
        )

    def make_likelihood(self, spec: DataSpec, size_in: int) -> Likelihood:
        """The likelihood p(x | z).

        Args:
            spec: specification of the data.
            size_in: width of the state that the likelihood reads.

        Returns:
            The decoder.
        """
        return make_likelihood(
            self.likelihood,
            spec,
            lambda outputs: self.network(size_in, outputs, level=0, generative=True),
            options=self.likelihood_options,
        )

    def assemble(
        self,
        recipe: str,
        data: DataSet | DataSpec,
        *,
        bottom_up: BottomUp,
        posterior: Posterior,
        **settings: Any,  # noqa: ANN401
    ) -> HierarchicalVAE:
        """Join inference to the generative model and record the configuration.

        Args:
            recipe: name of the recipe.
            data: the data set or its specification.
            bottom_up: deterministic features.
            posterior: posterior over the L levels.
            **settings: settings that only this recipe has.

        Returns:
            The untrained model.

        Raises:
            TypeError: if the posterior cannot be combined with the prior.
        """
        spec = spec_of(data)
        config = {"recipe": recipe, "num_features": spec.num_features}
        config |= {"num_values": spec.num_values, **settings}
        for name, value in asdict(self).items():
            config[name] = _plain(value)
        model = HierarchicalVAE(
            make_prior(self.prior, self.latent_sizes[-1], data, self.prior_options),
            bottom_up,
            posterior=posterior,
            top_down=self.top_down(spec),
            config=config,
        )
        if self.prior != "standard" and posterior.reads_top_prior:
            raise TypeError(
                f"the top level's posterior of {recipe} is relative to a diagonal Gaussian prior, "
                f"and the prior {self.prior!r} is not one; choose a recipe whose top level is "
                "inferred from the data alone, such as ladder_vae or bidirectional_vae"
            )
        if self.prior == "vamp":
            with torch.no_grad():
                model.eval().top_prior()  # fails here if the posterior has no q(z_L | x)
        return model.train()


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Convert a setting to dictionaries, lists, strings and numbers, which every format has."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return [*map(_plain, value)] if isinstance(value, tuple | list) else value


def spec_of(data: DataSet | DataSpec) -> DataSpec:
    """Specification of a data set: all that a model needs to know of its data.

    Args:
        data: the data set or its specification.

    Returns:
        The specification.
    """
    return data if isinstance(data, DataSpec) else data.spec
