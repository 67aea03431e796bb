"""Convolutional networks over maps of several resolutions, for hierarchies of any depth.

The path upward is a chain of residual blocks, one or more per level, that reduces the resolution
from stage to stage. The state of the walk down is a map too. Each latent is added to it through a
convolution of one position and followed by residual blocks, so that state and latents of L levels
form one residual network.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.codes import (
    Codebook,
    CodePrior,
    CodesBefore,
    ConditionalCodes,
    Downscale,
    FiniteScalars,
    Quantiser,
)
from hvae_course.config import Model
from hvae_course.convolutions import (
    CELLS,
    Enlarge,
    Reduce,
    Residual,
    ToMaps,
    ToRows,
    scale_last,
)
from hvae_course.data import DataSpec
from hvae_course.flows import AutoregressiveMaps
from hvae_course.gaussians import split_normal
from hvae_course.hierarchy import LearnedState
from hvae_course.nets import ACTIVATIONS
from hvae_course.posteriors import PosteriorRule
from hvae_course.posteriors.residual import split_squashed
from hvae_course.recipes.groups import GroupUpdate, ReadsStart, ReadsStartRule
from hvae_course.recipes.likelihoods import LIKELIHOODS, usual_likelihood
from hvae_course.recipes.networks import Networks

USUAL_EXPANSIONS = {"bottleneck": 0.25, "plain": 1.0, "depthwise": 6.0}
"""Channels inside a residual block, as a multiple of those outside, by the kind of block."""
USUAL_CHANNELS = 32
"""Channels of every map of a model that names none."""


@dataclass(frozen=True)
class Stage:
    """One resolution of a hierarchy."""

    size: tuple[int, int]
    """Height and width of its maps."""
    levels: range
    """Its levels, counted from 0 next to the data."""
    channels: int
    """Channels of features and state."""

    @property
    def kernel(self) -> int:
        """Side of its convolutions; 1 where a larger one would read mostly padding."""
        return 1 if max(self.size) <= 2 else 3


def usual_stages(
    height: int, num_levels: int, channels: int, *, width: int | None = None
) -> tuple[tuple[int, int, int], ...]:
    """Share levels out over the halves of a height, the most to the highest resolution.

    Args:
        height: of the data.
        num_levels: L.
        channels: of every map.
        width: of the data, which is halved as often as the height; None for squares.

    Returns:
        Stages as in `hvae_course.config.networks.Convolutional`.

    Example:
        >>> usual_stages(28, 5, 32)
        ((14, 3, 32), (7, 2, 32))
    """
    width = height if width is None else width
    halves = [height]
    while halves[-1] % 2 == 0 and halves[-1] > 4 and width % (2 * height // halves[-1]) == 0:
        halves.append(halves[-1] // 2)
    heights = (halves[1:] if height > 8 and len(halves) > 1 else halves)[:num_levels]
    share, rest = divmod(num_levels, len(heights))
    return tuple((height, share + (i < rest), channels) for i, height in enumerate(heights))


class MapGaussian(nn.Module):
    """A diagonal Gaussian over a map from the outputs of a network.

    Args:
        net: module to means and raw log-scales, ``(B, 2 Z, H, W)``.
        split: function from these outputs to the distribution.
    """

    def __init__(
        self, net: nn.Module, split: Callable[[Tensor], Distribution] = split_normal
    ) -> None:
        super().__init__()
        self.net, self.split = net, split

    def forward(self, h: Tensor) -> Distribution:
        """Map ``(B, C, H, W)`` to a distribution over ``(Z, H, W)``."""
        return self.split(self.net(h))


class MapUpdate(nn.Module):
    r"""A latent map enters the state, :math:`h \leftarrow R(h + W z_l)`.

    Args:
        latent: W, from the channels of the latent to those of the state.
        blocks: R, residual blocks, and the change of resolution to the level below.
    """

    def __init__(self, latent: nn.Module, blocks: nn.Module) -> None:
        super().__init__()
        self.latent, self.blocks = latent, blocks

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """Change the state ``(B, C, H, W)`` by a latent ``(B, Z, H, W)``."""
        return self.blocks(h + self.latent(z))


class MapEntry(nn.Module):
    r"""Another map enters a path upward, :math:`R(\mathrm{reduce}(h) + W a)`.

    Args:
        reduce: brings the path to the resolution of its next level.
        enter: W, from the channels of a to those of the path, at that resolution.
        blocks: R, residual blocks.
    """

    def __init__(self, reduce: nn.Module, enter: nn.Module, blocks: nn.Module) -> None:
        super().__init__()
        self.reduce, self.enter, self.blocks = reduce, enter, blocks

    def forward(self, h: Tensor, a: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` and ``(B, A, H_a, W_a)`` to the path at the next level."""
        return self.blocks(self.reduce(h) + self.enter(a))


class PriorAndFeature(nn.Module):
    r"""A conditional prior whose network gives the state a feature too, chapter 8.

    .. math:: (\mu_l, \xi_l, f_l) = P_l(h), \qquad h \leftarrow R_l(h + f_l + W z_l)

    The posterior of the level reads h without f; the walk adds f to what the update reads.

    Args:
        net: module to mean, raw log-scale and feature, ``(B, 2 Z + C, H, W)``.
        latent: Z.

    Source:
        Child (2021), VDVAE, arXiv:2011.10650.
    """

    def __init__(self, net: nn.Module, latent: int) -> None:
        super().__init__()
        self.net, self.latent = net, latent

    def forward(self, h: Tensor) -> tuple[Distribution, Tensor]:
        """Map ``(B, C, H, W)`` to ``p(z_l | z_>l)`` and the feature ``(B, C, H, W)``."""
        outputs = self.net(h)
        return split_normal(outputs[:, : 2 * self.latent]), outputs[:, 2 * self.latent :]


def _factor_between(below: Stage, above: Stage) -> tuple[int, int]:
    """How many times higher and wider the maps of the lower stage are."""
    return below.size[0] // above.size[0], below.size[1] // above.size[1]


class Convolutions(Networks):
    """Residual blocks over maps."""

    def __init__(self, model: Model, spec: DataSpec) -> None:
        super().__init__(model, spec)
        self.options = model.make_networks_options()
        if len(spec.shape) not in (2, 3):
            raise ValueError(
                f"convolutional networks read images (H, W) or (C, H, W), got examples of the "
                f"shape {spec.shape}; choose networks='mlp', or give the data their shape"
            )
        if model.likelihood == "mixed":
            raise ValueError(
                "the likelihood 'mixed' scores the columns of a table, and convolutional networks "
                "give the pixels of images; choose another likelihood, or networks='mlp'"
            )
        *colours, height, width = spec.shape
        self.colours, self.size = math.prod(colours), (height, width)
        stages = self.options.stages or self._usual_stages()
        ends = [0, *accumulate(levels for _, levels, _ in stages)]
        self.stages = [
            Stage(self._size_at(rows), range(*between), channels)
            for (rows, _, channels), between in zip(stages, pairwise(ends), strict=True)
        ]
        self.quantisers = [self._quantiser(l) for l in self.levels if model.recipe == "vq"]
        if self.downscales:
            self._check_downscaled()

    def latent_shape(self, l: int) -> tuple[int, ...]:  # noqa: D102
        return (self.model.latent_sizes[l], *self.stage(l).size)

    def stage(self, l: int) -> Stage:
        """The resolution of a level; level -1, the data, is at that of the lowest level."""
        return next(stage for stage in self.stages if max(l, 0) in stage.levels)

    @property
    def steps_up(self) -> int:
        """How many steps of residual blocks follow each other on the way up.

        One per level; with bottom_up the one that reads the data, and with biva, after that, one
        on each path for every pair of levels and one for the top.
        """
        if self.has_pairs:
            return (self.model.num_levels + 3) // 2
        return 1 if self.model.recipe == "bottom_up" else self.model.num_levels

    @property
    def reads(self) -> tuple[int, ...]:
        """The feature that each level reads, counted from 1."""
        shared = self.options.shared_features
        shared = not self.is_nvae if shared is None else shared
        return tuple((self.stage(l).levels[-1] if shared else l) + 1 for l in self.levels)

    def feature(self, l: int) -> nn.Module:  # noqa: D102
        stage, below = self.stage(l), self.stage(l - 1)
        parts: list[nn.Module] = []
        if l == 0:
            maps = ToMaps(
                self._channels_read(), self.size, self._factor(), num_classes=self.num_classes
            )
            kernel = stage.kernel
            read = nn.Conv2d(maps.num_outputs, stage.channels, kernel, padding=kernel // 2)
            parts = [maps, read]
        elif stage is not below:
            factor = tuple(b // s for b, s in zip(below.size, stage.size, strict=True))
            parts = [Reduce(below.channels, stage.channels, factor)]
        return nn.Sequential(*parts, *self._blocks(stage, generative=False))

    def message(self, l: int) -> nn.Module:  # noqa: D102
        return self._over_latent(l, self.stage(l).channels)

    def upward(self, l: int) -> nn.Module:  # noqa: D102
        stage, below = self.stage(l), self.stage(l - 1)
        channels = self.model.latent_sizes[l - 1] + self.num_classes
        factor = tuple(b // s for b, s in zip(below.size, stage.size, strict=True))
        enter = nn.Conv2d(channels, stage.channels, factor, stride=factor)
        net = self._network(l, stage.channels, 2 * self.model.latent_sizes[l])
        return MapGaussian(nn.Sequential(enter, net))

    def head(self, l: int) -> nn.Module:  # noqa: D102
        return self._over_latent(l, 2 * self.stage(l).channels + self.num_classes)

    def delta(self, l: int, *, reads_state: bool) -> nn.Module:  # noqa: D102
        channels = self.stage(l).channels
        channels += channels + self.num_classes if reads_state else 0
        net = self._network(l, channels, 2 * self.model.latent_sizes[l])
        return scale_last(net, 0) if self.options.zero_priors else net

    def update(self, l: int) -> nn.Module:  # noqa: D102
        stage, below = self.stage(l), self.stage(l - 1)
        latent = nn.Conv2d(self.model.latent_sizes[l], stage.channels, 1)
        if self.options.depth_scaled:
            scale_last(latent, 1 / math.sqrt(self.model.num_levels))
        blocks = self._blocks(stage, generative=True)
        if below is not stage:
            blocks.append(Enlarge(stage.channels, below.channels, below.size))
        update = MapUpdate(latent, nn.Sequential(*blocks))
        if not self.has_groups:
            return update
        place = stage.levels[-1] - l  # from the top of the stage
        ends = l == stage.levels[0] or (place + 1) % self.options.group == 0
        return GroupUpdate(update, ends=l % 2 == 0 if self.has_pairs else ends)

    def prior(self, l: int) -> nn.Module:  # noqa: D102
        latent, channels = self.model.latent_sizes[l], self.stage(l).channels
        if self.quantisers or (self.downscales and l == 1):
            return self.reads_start(self._discrete_prior(l))
        feature = channels if self.gives_feature else 0
        net = self._network(l, channels + self.num_classes, 2 * latent + feature, generative=True)
        if self.options.zero_priors:
            scale_last(net, 0)
        prior = (
            PriorAndFeature(net, latent) if self.gives_feature else MapGaussian(net, self.split)
        )
        return self.reads_start(prior)

    def decoder(self, num_outputs: int) -> nn.Module:  # noqa: D102
        stage = self.stages[0]
        rows = self._rows(num_outputs)
        kernel = stage.kernel
        net = nn.Conv2d(
            stage.channels + self.num_classes, rows.num_inputs, kernel, padding=kernel // 2
        )
        net = nn.Sequential(net, rows)
        return ReadsStart(net, "now") if self.has_groups else net

    def initial(self) -> nn.Module:  # noqa: D102
        return LearnedState(self.stages[-1].channels, *self.stages[-1].size)

    @property
    def gives_feature(self) -> bool:
        """Whether the network of a prior gives the state a feature too."""
        return self.model.recipe == "vdvae"

    @property
    def is_nvae(self) -> bool:
        """Whether Gaussians are squashed, with one convolution from a feature or state to each."""
        return self.model.recipe == "nvae"

    @property
    def split(self) -> Callable[[Tensor], Distribution]:
        """How the outputs of a network become a Gaussian."""
        return split_squashed if self.is_nvae else split_normal

    @property
    def downscales(self) -> bool:
        """Whether the second level is the image itself at the resolution of its maps."""
        return self.model.recipe == "downscaled"

    def downscale(self) -> Downscale:
        """A module from x to a point mass at the second level, a downscaled image."""
        factor = self.size[0] // self.stage(1).size[0]
        return Downscale(self.colours, self.size, factor=factor, num_values=self.spec.num_values)

    def code_prior(self) -> CodePrior:
        """The prior over the codes of the top level."""
        top = self.model.num_levels - 1
        return CodePrior(
            self.quantisers[top], *self.stage(top).size, before=self._codes_before(top)
        )

    @property
    def has_pairs(self) -> bool:
        """Whether levels below the top are pairs, of which the lower is drawn on the way up."""
        return self.model.recipe == "biva"

    @property
    def has_groups(self) -> bool:
        """Whether levels read the state above their group, or their pair."""
        return self.has_pairs or self.options.group > 1

    def adapt(self, rule: PosteriorRule) -> PosteriorRule:  # noqa: D102
        return ReadsStartRule(rule) if self.has_groups else rule

    def reads_start(self, part: nn.Module) -> nn.Module:
        """Let a part read the state above its group of levels, where there are groups."""
        return ReadsStart(part) if self.has_groups else part

    def path_of_draws(self, l: int) -> nn.Module:
        """A module to the path u, which takes up draws, at a pair or at the top.

        Args:
            l: level of the draw B of the pair, or of the top.

        Returns:
            A module of d_1 at the lowest pair; otherwise of u of the pair below, and of the other
            path e and the draw of that pair, joined.
        """
        stage, below = self.stage(l), self.stage(l - 2)
        if l == 0:
            return nn.Sequential(*self._blocks(stage, generative=False))
        channels = below.channels + self.model.latent_sizes[l - 2]
        return self._entry(l, channels, _factor_between(below, stage))

    def path_of_features(self, l: int) -> nn.Module:
        """A module to the path e, which takes up no draws, at a pair or at the top.

        Args:
            l: level of the draw B of the pair, or of the top.

        Returns:
            A module of e of the pair below, d_1 at the lowest pair, and of u.
        """
        return self._entry(l, self.stage(l).channels, 1)

    def paths_message(self, l: int) -> nn.Module:
        """A module from both paths, joined, to a Gaussian over z_l."""
        return MapGaussian(
            self._network(l, 2 * self.stage(l).channels, 2 * self.model.latent_sizes[l])
        )

    def addend(self, l: int, *, reads_state: bool, context: int) -> nn.Module:
        """A module to mean, raw log-scale and context, joined, from d_l, or from the state."""
        channels = self.stage(l).channels + (self.num_classes if reads_state else 0)
        return self._network(l, channels, 2 * self.model.latent_sizes[l] + context)

    def flow(self, l: int, *, context: int) -> nn.Module:
        """A module ``(z_0, context) -> (a, b)`` for an inverse autoregressive flow over z_l."""
        stage = self.stage(l)
        return AutoregressiveMaps(
            self.model.latent_sizes[l],
            context=context,
            hidden=stage.channels,
            kernel=1 if max(stage.size) == 1 else 3,
            activation=self.model.activation,
        )

    def _entry(self, l: int, channels: int, factor: int | tuple[int, int]) -> MapEntry:
        """The step of a path upward from one pair to the next."""
        stage, below = self.stage(l), self.stage(l - 2)
        enter = nn.Conv2d(channels, stage.channels, factor, stride=factor)
        if self.options.depth_scaled:
            scale_last(enter, 1 / math.sqrt(self.steps_up - 1))
        reduce: nn.Module = nn.Identity()
        if stage is not below:
            reduce = Reduce(below.channels, stage.channels, _factor_between(below, stage))
        blocks = nn.Sequential(*self._blocks(stage, generative=False))
        return MapEntry(reduce, enter, blocks)

    def _usual_stages(self) -> tuple[tuple[int, int, int], ...]:
        """Stages of a model that names none; pairs of levels stay together."""
        (height, width), num_levels = self.size, self.model.num_levels
        channels = self.options.channels or USUAL_CHANNELS
        if self.downscales:
            return ((height // 2 or 1, num_levels, channels),)
        if not self.has_pairs:
            return usual_stages(height, num_levels, channels, width=width)
        together = (num_levels + 1) // 2
        *lower, (top, pairs, _) = usual_stages(height, together, channels, width=width)
        stages = [(size, 2 * number, channels) for size, number, _ in lower]
        return (*stages, (top, 2 * pairs - 1, channels))

    def _check_downscaled(self) -> None:
        """Refuse data, and latents, of which a downscaled image cannot be a level."""
        if self.spec.num_values is None or self.spec.missing:
            raise ValueError(
                "a downscaled image is a level if it is discrete and complete, so x must hold "
                "grey values, and none may be missing; choose another recipe for these data"
            )
        if self.model.latent_sizes[1] != self.colours:
            raise ValueError(
                f"the second level is the image with its {self.colours} colours, got "
                f"latent_sizes {self.model.latent_sizes}; give (Z_1, {self.colours}, Z_3)"
            )

    def _quantiser(self, l: int) -> Quantiser:
        """The codes of a level."""
        options = self.model.make_codes_options()
        if self.model.codes == "scalars":
            return FiniteScalars(options.values)
        own = {name: value for name, value in asdict(options).items() if name != "prior_hidden"}
        return Codebook(size=self.model.latent_sizes[l], **own)

    def _codes_before(self, l: int) -> CodesBefore | None:
        """What the codes of a level say about those behind them; None if that is nothing."""
        hidden, stage = self.model.make_codes_options().prior_hidden, self.stage(l)
        if hidden is None:
            return None
        top, channels = l == self.model.num_levels - 1, stage.channels + self.num_classes
        context = 0 if top else channels * math.prod(stage.size)
        num_codes = self.quantisers[l].num_codes
        return CodesBefore(num_codes, *stage.size, hidden=hidden, context=context)

    def _over_latent(self, l: int, channels: int) -> nn.Module:
        """A module from maps to a distribution over z_l."""
        size = self.model.latent_sizes[l]
        if self.quantisers:
            return nn.Sequential(self._network(l, channels, size), self.quantisers[l])
        return MapGaussian(self._network(l, channels, 2 * size), self.split)

    def _discrete_prior(self, l: int) -> nn.Module:
        """A conditional prior over codes, uniform at the start, or over a downscaled image."""
        channels = self.stage(l).channels + self.num_classes
        if self.quantisers:
            quantiser = self.quantisers[l]
            net = self._network(l, channels, quantiser.num_codes, generative=True)
            before = self._codes_before(l)
            return ConditionalCodes(scale_last(net, 0), quantiser, before=before)
        values = self.downscale().num_values
        name = usual_likelihood(DataSpec((self.colours, *self.stage(l).size), values))
        outputs = {"categorical": values, "discretized_logistic": 2}[name]
        net = self._network(l, channels, self.colours * outputs, generative=True)
        return LIKELIHOODS[name](net, num_values=values)

    def _size_at(self, height: int) -> tuple[int, int]:
        """Height and width of the maps of a stage."""
        rows, columns = self.size
        factor = rows // height
        if rows % height or columns % factor:
            raise ValueError(
                f"maps of height {height} do not divide images of {rows} x {columns} evenly; "
                "choose stages whose heights do"
            )
        return height, columns // factor

    def _factor(self) -> int:
        """Height and width of the patch of pixels at one position of the lowest stage."""
        return self.size[0] // self.stages[0].size[0]

    def _channels_read(self) -> int:
        """Channels of what is read of the images."""
        reader = self.reader()
        if reader is None:
            return self.colours
        return self.colours * reader.num_outputs // self.spec.num_features

    def _rows(self, num_outputs: int) -> ToRows:
        """The layout in which the likelihood reads its parameters."""
        name = self.model.likelihood or usual_likelihood(self.spec)
        per_pixel = num_outputs // math.prod(self.size)
        if name == "categorical":
            values = self.spec.num_values
            return ToRows(1, self.colours, self._factor(), num_values=values)
        return ToRows(per_pixel, 1, self._factor())

    def _blocks(self, stage: Stage, *, generative: bool) -> list[nn.Module]:
        """Residual blocks of one level on the path up or down."""
        channels, blocks = stage.channels, []
        steps = self.model.num_levels if generative else self.steps_up
        usual = "bottleneck"
        if self.is_nvae:
            usual = "depthwise" if generative else "plain"
        cell = self.options.cell or usual
        for _ in range(self.options.blocks):
            body = self._cell(
                stage,
                cell,
                channels,
                channels,
                generative=generative,
                inside=self.options.expansion,
            )
            if self.options.depth_scaled:
                scale_last(body, 1 / math.sqrt(self.options.blocks * steps))
            blocks.append(Residual(body, channels, channels))
        return blocks

    def _network(
        self, l: int, channels_in: int, channels_out: int, *, generative: bool = False
    ) -> nn.Module:
        """One cell without a skip, from maps to the parameters of a distribution."""
        if self.is_nvae:
            kernel = 1 if generative else self.stage(l).kernel
            convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
            return nn.Sequential(ACTIVATIONS[self.model.activation](), convolution)
        kind, expansion = self.options.cell or "bottleneck", self.options.expansion
        if kind == "depthwise":  # ends in a normalisation, which must not scale the parameters
            kind, expansion = "bottleneck", None
        return self._cell(
            self.stage(l), kind, channels_in, channels_out, generative=generative, inside=expansion
        )

    def _cell(
        self,
        stage: Stage,
        cell: str,
        channels_in: int,
        channels_out: int,
        *,
        generative: bool,
        inside: float | None,
    ) -> nn.Sequential:
        own = self.model.generative_normalisation if generative else None
        expansion = inside or USUAL_EXPANSIONS[cell]
        make: Callable[..., nn.Sequential] = CELLS[cell]
        kernel = min(stage.size[0] | 1, 5) if cell == "depthwise" else stage.kernel
        return make(
            channels_in,
            max(1, round(expansion * stage.channels)),
            channels_out,
            kernel=kernel,
            normalisation=own or self.model.normalisation,
            activation=self.model.activation,
        )
