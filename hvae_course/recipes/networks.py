"""The networks that a recipe may ask for, and their implementation as multilayer perceptrons.

A recipe decides *how* latents are inferred, a `Networks` object *what* computes it. It hands out
one module per purpose and level, so a recipe never handles widths or shapes. Here levels are
counted from 0 next to the data.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict

from torch import nn

from hvae_course.config import Model
from hvae_course.data import DataSpec
from hvae_course.gaussians import GaussianHead
from hvae_course.hierarchy import BottomUp, MarkovUpdate, SkipUpdate, TopDown
from hvae_course.likelihoods import Likelihood
from hvae_course.nets import mlp
from hvae_course.posteriors import PosteriorRule
from hvae_course.recipes.likelihoods import make_likelihood, make_reader
from hvae_course.recipes.priors import make_flow
from hvae_course.vector_flows import InverseFlow

STATES: dict[str, type[nn.Module]] = {"markov": MarkovUpdate, "skip": SkipUpdate}
"""Top-down states by name; ``"markov"`` carries z_l alone, ``"skip"`` all latents above it too.

:meta hide-value:
"""


class Networks(ABC):
    """Modules by purpose and level, all of which a recipe may ask for.

    Args:
        model: sizes and kinds.
        spec: shape and values of the data.
    """

    def __init__(self, model: Model, spec: DataSpec) -> None:
        self.model, self.spec = model, spec

    @property
    def num_classes(self) -> int:
        """C, the width of the label that a conditional model reads; 0 for a model of x alone."""
        return self.spec.num_classes if self.model.conditional else 0

    @property
    def levels(self) -> range:
        """0, ..., L - 1."""
        return range(self.model.num_levels)

    @property
    def reads(self) -> tuple[int, ...] | None:
        """The bottom-up feature that each level reads, counted from 1; None for each its own."""
        return None

    @abstractmethod
    def latent_shape(self, l: int) -> tuple[int, ...]:
        """Event shape of z_l, ``(Z_l,)`` for vectors or ``(C, H, W)`` for images."""

    @abstractmethod
    def feature(self, l: int) -> nn.Module:
        """A module from the feature below, or from x, to the feature d_l.

        In a conditional model that of level 0 reads x joined with the label, ``(B, D + C)``.
        """

    @abstractmethod
    def message(self, l: int) -> nn.Module:
        """A module from d_l to a Gaussian over z_l."""

    @abstractmethod
    def upward(self, l: int) -> nn.Module:
        """A module from the latent below to q(z_l | z_l-1), for all levels but the lowest.

        In a conditional model it reads the latent below joined with the label.
        """

    @abstractmethod
    def head(self, l: int) -> nn.Module:
        """A module from d_l and the state above, joined, to ``q(z_l | x, z_>l)``."""

    @abstractmethod
    def delta(self, l: int, *, reads_state: bool) -> nn.Module:
        """A module to shift and log-scale, joined, from d_l alone or joined with the state."""

    @abstractmethod
    def update(self, l: int) -> nn.Module:
        """A module ``(h, z_l) -> h``, by which z_l enters the state of the walk down."""

    @abstractmethod
    def prior(self, l: int) -> nn.Module:
        """A module from the state above to ``p(z_l | z_>l)``, for all levels but the top.

        In a conditional model every part that reads a state finds the label joined to it, in the
        last C channels; updates see the state without the label.
        """

    @abstractmethod
    def decoder(self, num_outputs: int) -> nn.Module:
        """A module from the last state to the parameters of p(x | z), ``(B, num_outputs)``."""

    def initial(self) -> nn.Module | None:
        """A module from a number of rows to the state above the top level; None if it is empty."""
        return None

    def adapt(self, rule: PosteriorRule) -> PosteriorRule:
        """Fit a rule of the posterior to the states of these networks; by default as it is."""
        return rule

    def likelihood(self) -> Likelihood:
        """The likelihood p(x | z) of the model's data, with its network."""
        return make_likelihood(self.model, self.spec, self.decoder)

    def reader(self) -> nn.Module | None:
        """The layer between x and these networks, if x is not plain numbers; None for x itself."""
        return make_reader(self.model, self.spec)

    def features(self, num_levels: int | None = None) -> BottomUp:
        """The path upward, with one feature per level, or those of the lowest levels alone."""
        blocks = [self.feature(l) for l in self.levels[:num_levels]]
        return BottomUp(blocks, read=self.reader())

    def top_down(self) -> TopDown:
        """The generative network below the top prior, the same for every recipe."""
        return TopDown(
            updates=[self.update(l) for l in self.levels],
            conditionals=[self.prior(l) for l in self.levels[:-1]],
            likelihood=self.likelihood(),
            initial=self.initial(),
        )


class MLPs(Networks):
    """Multilayer perceptrons over vectors."""

    def latent_shape(self, l: int) -> tuple[int, ...]:  # noqa: D102
        return (self.model.latent_sizes[l],)

    def feature(self, l: int) -> nn.Module:  # noqa: D102
        return self._body(self._feature_size(l - 1), l)

    def message(self, l: int) -> nn.Module:  # noqa: D102
        return GaussianHead(self._feature_size(l), *self.latent_shape(l))

    def upward(self, l: int) -> nn.Module:  # noqa: D102
        width = self.model.latent_sizes[l - 1] + self.num_classes
        return self._gaussian(width, self.model.latent_sizes[l], l)

    def head(self, l: int) -> nn.Module:  # noqa: D102
        width = self._feature_size(l) + self._state_size(l)
        if not self.model.iaf:
            return self._gaussian(width, self.model.latent_sizes[l], l)
        options = asdict(self.model.make_flow_options())
        options.pop("transform")
        body, width = self._body(width, l), (width, *self.model.widths(l, generative=False))[-1]
        return nn.Sequential(
            body, InverseFlow(self.model.latent_sizes[l], context=width, **options)
        )

    def delta(self, l: int, *, reads_state: bool) -> nn.Module:  # noqa: D102
        width = self._feature_size(l) + (self._state_size(l) if reads_state else 0)
        return self._network(width, 2 * self.model.latent_sizes[l], l)

    def update(self, l: int) -> nn.Module:  # noqa: D102
        return STATES[self.model.state]()

    def prior(self, l: int) -> nn.Module:  # noqa: D102
        size, width = self.model.latent_sizes[l], self._state_size(l)
        if self.model.recipe != "flow_ladder":
            return self._gaussian(width, size, l + 1, generative=True)
        body = self._body(width, l + 1, generative=True)
        width = (width, *self.model.widths(l + 1, generative=True))[-1]
        flow = make_flow(self.model.make_flow_options(), size, context=width)
        return nn.Sequential(body, flow)

    def decoder(self, num_outputs: int) -> nn.Module:  # noqa: D102
        return self._network(self._state_size(-1), num_outputs, 0, generative=True)

    def _state_size(self, l: int) -> int:
        """Width of the state, label included, that a level reads; -1 for the likelihood."""
        above = self.model.latent_sizes[l + 1 :]
        size = sum(above) if self.model.state == "skip" else (*above, 0)[0]
        return size + self.num_classes

    def _feature_size(self, l: int) -> int:
        """Width of d_l; that of x and label for l = -1, and without hidden layers on the way."""
        below = [self.model.widths(k, generative=False) for k in range(l + 1)]
        reader = self.reader()
        size = (reader.num_outputs if reader else self.spec.num_features) + self.num_classes
        return (size, *(width for widths in below for width in widths))[-1]

    def _body(self, size_in: int, l: int, *, generative: bool = False) -> nn.Sequential:
        """Hidden layers of one network, with the widths of level l."""
        own = self.model.generative_normalisation if generative else None
        return mlp(
            size_in,
            *self.model.widths(l, generative=generative),
            normalisation=own or self.model.normalisation,
            activation=self.model.activation,
            dropout=self.model.dropout,
        )

    def _network(
        self, size_in: int, size_out: int, l: int, *, generative: bool = False
    ) -> nn.Sequential:
        """Hidden layers followed by a linear layer."""
        body = self._body(size_in, l, generative=generative)
        width = (size_in, *self.model.widths(l, generative=generative))[-1]
        return nn.Sequential(body, nn.Linear(width, size_out))

    def _gaussian(
        self, size_in: int, size_out: int, l: int, *, generative: bool = False
    ) -> nn.Sequential:
        """Hidden layers followed by a Gaussian head."""
        body = self._body(size_in, l, generative=generative)
        width = (size_in, *self.model.widths(l, generative=generative))[-1]
        return nn.Sequential(body, GaussianHead(width, size_out))
