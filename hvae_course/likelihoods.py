r"""Likelihoods p(x | z): the last step of the walk down.

Each class holds a network and turns its output into a distribution over one data vector. All sum
over the D data dimensions, so a reconstruction term is in nats per example, like the KL terms (a
mean over pixels instead would weight the KL terms D times as much).

Images are vectors with values in [0, 1]. An image with V grey values lies on the grid
:math:`\{0, \tfrac{1}{V-1}, \dots, 1\}`, which `Categorical`, `DiscretizedLogistic` and
`MixtureOfLogistics` score.
Counts are the whole numbers 0, 1, 2, ... themselves. A table may hold columns of several kinds
(`Mixed`), and rows of which a part was not observed (`MissingValues`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution, Independent

from hvae_course.autoregressive import AutoregressivePixels, PixelNetwork
from hvae_course.colours import MID_GREY, LogisticMixture, num_pairs
from hvae_course.counts import NegativeBinomialCounts, PoissonCounts
from hvae_course.gaussians import (
    LOG_STD_BOUND,
    at_least_float32,
    bound_log_std,
    diag_normal,
    split_normal,
    sum_event,
)
from hvae_course.grey_values import DiscretizedLogisticDistribution, GreyCategorical
from hvae_course.masked import MaskedMLP
from hvae_course.tables import ObservedValues, Rows

LOG_RATE_BOUND = 16.0
"""Largest magnitude of a logarithm of a rate, whose largest value is then 9 million."""
LOG_DISPERSION_BOUND = 10.0
"""Largest magnitude of a logarithm of a dispersion; at 22,000 the negative binomial is a Poisson
distribution for counts up to some hundreds."""
LARGEST_COUNT = 2**24
"""Up to here float32 holds all whole numbers."""


class Likelihood(nn.Module, ABC):
    """Network plus distribution over the data.

    Args:
        net: module from the top-down state to the parameters of the distribution.
    """

    outputs_per_pixel = 1
    """Number of network outputs per data dimension (for `Categorical`, per grey value; for
    `MixtureOfLogistics`, per component of a grey pixel)."""
    measure: Literal["probability", "density"] = "density"
    """What ``log_prob`` is the logarithm of: the probability of discrete values, which is at most
    1, or a density, which has no upper limit. The two cannot be compared."""
    has_mean = True
    """Whether p(x | z) has a mean in closed form; where it has none, images are draws."""
    density_columns: Sequence[int] | None = None
    """Columns that a density scores, where others have a probability; None for all."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @abstractmethod
    def forward(self, h: Tensor) -> Distribution:
        """Give p(x | z).

        Args:
            h: the last state of the walk down, ``(B, F)`` or what the network reads.

        Returns:
            Distribution over ``(D,)``, batch shape ``(B,)``.
        """

    def check(self, x: Tensor) -> None:
        """Refuse data that this likelihood gives no probability to.

        Looks at the values, which waits for the device: called once per run, not per step.

        Args:
            x: a batch of data ``(B, D)``.

        Raises:
            ValueError: if values lie outside the support.
        """
        if torch.isfinite(x).all():
            return
        if x.isnan().any():
            raise ValueError(
                "the data hold NaN; remove them, or say that they are missing values "
                "(missing=True)"
            )
        raise ValueError("the data hold infinite values; remove them before training")


def _check_grid(x: Tensor, num_values: int, name: str) -> None:
    level = x * (num_values - 1)
    grey = level.round()
    near = torch.isclose(level, grey, rtol=1e-6, atol=1e-3)  # float32 has seven digits
    if not (near & (grey >= 0) & (grey < num_values)).all():
        raise ValueError(
            f"{name} scores {num_values} grey values 0, 1/{num_values - 1}, ..., 1, got values "
            f"between {x.min():g} and {x.max():g} off that grid; divide the numbers 0 to "
            f"{num_values - 1} by {num_values - 1}, or load the data with the binarisation that "
            "the model was built for"
        )


class BinaryPixels(Independent):
    """Independent Bernoulli distributions, whose cross-entropies are summed before the sign."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats."""
        logits, value = torch.broadcast_tensors(self.base_dist.logits, value)
        entropies = F.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return -sum_event(entropies, self)


class BinaryLikelihood(Likelihood):
    r"""Likelihood of binary pixels, parametrised by logits so that no probability is clamped.

    Refuses grey values x. Their cross-entropy is not :math:`-\log p(x \mid z)` but the mean of
    :math:`-\log p(y \mid z)` over binarisations y of x (:eq:`eq-grey-cross-entropy`).
    """

    measure = "probability"

    def check(self, x: Tensor) -> None:
        """Refuse grey values."""
        super().check(x)
        if not ((x == 0) | (x == 1)).all():
            raise ValueError(
                f"the {type(self).__name__} likelihood scores binary pixels, got grey values "
                f"between {x.min():g} and {x.max():g}; binarise the data "
                "(binarisation='dynamic') or choose the likelihood 'categorical'"
            )


class Bernoulli(BinaryLikelihood):
    """Binary pixels, independent given z."""

    def forward(self, h: Tensor) -> Independent:
        """Give p(x | z)."""
        logits = at_least_float32(self.net(h))
        pixels = BernoulliDistribution(logits=logits, validate_args=False)
        return BinaryPixels(pixels, logits.dim() - 1, validate_args=False)


class Autoregressive(BinaryLikelihood):
    """Binary data of which every dimension sees those before it, through a masked network.

    The logit of a dimension is the sum of one that the state gives, as for `Bernoulli`, and one of
    a `hvae_course.masked.MaskedMLP` that reads the dimensions in its window, and a context from
    the state unmasked. Images are in raster order.

    Args:
        net: module from the top-down state to ``(B, 2 D)``, D logits and the context.
        size: D.
        window: w, how many dimensions before its own an output sees; None for all, 0 for none.
        hidden: widths of the hidden layers of the masked network.

    Source:
        Chen et al. (2017), Variational lossy autoencoder, arXiv:1611.02731, for the window.

    Example:
        >>> from hvae_course import recipes
        >>> from hvae_course.data import DataSpec
        >>> settings = {"likelihood": "autoregressive", "likelihood_options": {"window": 3}}
        >>> model = recipes.vae(DataSpec((4, 4), 2), hidden=(8,), **settings)
        >>> model.generate(2).px.sample().shape
        torch.Size([2, 16])
    """

    outputs_per_pixel = 2
    has_mean = False

    def __init__(
        self,
        net: nn.Module,
        size: int,
        *,
        window: int | None = None,
        hidden: Sequence[int] = (256,),
    ) -> None:
        super().__init__(net)
        self.masked = MaskedMLP(size, hidden=hidden, window=window, context=size)

    def forward(self, h: Tensor) -> AutoregressivePixels:
        """Give p(x | z)."""
        own, context = self.net(h).chunk(2, dim=1)
        return AutoregressivePixels(
            lambda x: own + self.masked(x, context).squeeze(-2), like=at_least_float32(own)
        )


class PixelConvolutional(BinaryLikelihood):
    """Binary images of which every pixel sees those before it, through gated convolutions.

    The logit of a pixel is the sum of one that the state gives, as for `Bernoulli`, and one of a
    `hvae_course.autoregressive.PixelNetwork`, which reads maps from the state at every position.

    Args:
        net: module from the top-down state to ``(B, 4 D)``, a map of logits and three maps that
            the convolutions read, one after the other.
        image_shape: height and width of the images, or ``(1, H, W)``.
        channels: channels of the convolutions.
        num_layers: number of layers.
        kernel: side of the kernels, an odd number.

    Raises:
        ValueError: if the data are not images of one channel, or the kernel is even.
    """

    outputs_per_pixel = 4
    has_mean = False

    def __init__(
        self,
        net: nn.Module,
        image_shape: Sequence[int],
        *,
        channels: int = 16,
        num_layers: int = 4,
        kernel: int = 5,
    ) -> None:
        super().__init__(net)
        shape = tuple(image_shape)
        if len(shape) not in (2, 3) or shape[:-2] not in ((), (1,)):
            raise ValueError(
                "the likelihood 'pixel_convolutional' scores images (H, W) of one channel, got "
                f"examples of the shape {shape}; choose 'autoregressive', which takes any "
                "vector, or give the data their shape"
            )
        self.size = shape[-2:]
        options = {"channels": channels, "num_layers": num_layers, "kernel": kernel}
        self.pixels = PixelNetwork(self.outputs_per_pixel - 1, **options)

    def forward(self, h: Tensor) -> AutoregressivePixels:
        """Give p(x | z)."""
        maps = self.net(h).unflatten(1, (self.outputs_per_pixel, *self.size))
        own, context = maps[:, 0].flatten(1), maps[:, 1:]

        def logits_of(x: Tensor) -> Tensor:
            images = x.reshape(-1, 1, *self.size)
            read = context.expand(*x.shape[:-1], *context.shape[1:]).reshape(
                -1, *context.shape[1:]
            )
            return own + self.pixels(images, read).reshape(x.shape)

        return AutoregressivePixels(logits_of, like=at_least_float32(own))


class GreyLikelihood(Likelihood):
    """Likelihood over a grid of grey values.

    Args:
        net: module from the top-down state to the parameters of the distribution.
        num_values: V, number of grey values.
    """

    measure = "probability"

    def __init__(self, net: nn.Module, num_values: int) -> None:
        super().__init__(net)
        if num_values < 2:
            raise ValueError(f"a pixel needs at least two grey values, got {num_values}")
        self.num_values = num_values

    def check(self, x: Tensor) -> None:
        """Refuse values off the grid."""
        super().check(x)
        _check_grid(x, self.num_values, type(self).__name__)


class Categorical(GreyLikelihood):
    """One logit per pixel and grey value."""

    def forward(self, h: Tensor) -> GreyCategorical:
        """Give p(x | z)."""
        logits = self.net(h).unflatten(1, (-1, self.num_values))  # (B, D V) -> (B, D, V)
        return GreyCategorical(logits.movedim(2, -1))


class DiscretizedLogistic(GreyLikelihood):
    """Grey values as bins of a logistic density, with two parameters per pixel for any V.

    Source:
        Salimans et al. (2017), PixelCNN++, arXiv:1701.05517.
    """

    outputs_per_pixel = 2

    def forward(self, h: Tensor) -> DiscretizedLogisticDistribution:
        """Give p(x | z)."""
        mean, raw = self.net(h).chunk(2, dim=1)
        return DiscretizedLogisticDistribution(mean, bound_log_std(raw), self.num_values)


class MixtureOfLogistics(GreyLikelihood):
    """Mixtures of logistics over the channels of a pixel, for colour images and grey ones.

    Colours of a pixel depend on each other: green on red, blue on both. The network gives for each
    pixel and component a logit, C locations relative to mid grey, C log-scales and C (C - 1) / 2
    coefficients, each of these for all pixels: ``(B, K (1 + 2 C + C (C - 1) / 2) N)`` holds maps
    ``(B, P, N)``, parameters first and pixels last, as the convolutional layers of a decoder give.

    Args:
        net: module from the top-down state to the parameters.
        num_values: V, number of values of a channel.
        num_channels: C; 1 for grey images, 3 for colour images.
        num_components: K.

    Example:
        >>> from hvae_course import recipes
        >>> from hvae_course.data import DataSpec
        >>> photos = DataSpec((3, 4, 4), 256)
        >>> model = recipes.vae(photos, hidden=(8,), likelihood="logistic_mixture")
        >>> model.generate(2).px.sample().shape
        torch.Size([2, 48])

    Source:
        Salimans et al. (2017), PixelCNN++, arXiv:1701.05517.
    """

    outputs_per_pixel = 3

    def __init__(
        self, net: nn.Module, num_values: int, *, num_channels: int = 1, num_components: int = 10
    ) -> None:
        super().__init__(net, num_values)
        self.num_channels, self.num_components = num_channels, num_components

    @staticmethod
    def num_outputs(num_channels: int, num_components: int) -> int:
        """Count the network outputs of a pixel with all its channels.

        Args:
            num_channels: C.
            num_components: K.

        Returns:
            P, which is 3 K for grey and 10 K for colour images.
        """
        return num_components * (1 + 2 * num_channels + num_pairs(num_channels))

    def forward(self, h: Tensor) -> LogisticMixture:
        """Give p(x | z)."""
        components = at_least_float32(self.net(h)).unflatten(1, (self.num_components, -1))
        per_component = self.num_outputs(self.num_channels, 1)
        parameters = components.unflatten(2, (per_component, -1))  # (B, K, P / K, N)
        sizes = [1, self.num_channels, self.num_channels, num_pairs(self.num_channels)]
        logits, means, raw, slopes = parameters.split(sizes, dim=2)
        return LogisticMixture(
            logits.squeeze(2),
            means + MID_GREY,
            bound_log_std(raw),
            slopes.tanh(),
            num_values=self.num_values,
        )


class IsotropicGaussian(Likelihood):
    r"""Real-valued data with a mean per dimension and one scale for all (:eq:`eq-fixed-scale`).

    .. math:: -\log p(x \mid z) = \frac{1}{2 \sigma^2} \lVert x - g(z) \rVert^2
              + D \log \sigma + \tfrac{D}{2} \log 2\pi

    With a fixed scale the reconstruction term is a squared error, up to a constant.

    Args:
        net: module from the top-down state to the mean g(z), ``(B, D)``.
        std: standard deviation; its initial value if it is learned.
        learned: whether the scale is a parameter.

    Raises:
        ValueError: if the scale is not positive.
    """

    def __init__(self, net: nn.Module, *, std: float = 0.2, learned: bool = False) -> None:
        super().__init__(net)
        if not std > 0:
            raise ValueError(f"the standard deviation must be positive, got std={std}")
        log_std = torch.tensor(std).log()
        if learned:
            self.log_std = nn.Parameter(log_std)
        else:
            self.register_buffer("log_std", log_std)

    def forward(self, h: Tensor) -> Independent:
        """Give p(x | z)."""
        return diag_normal(self.net(h), self.log_std)


class Gaussian(Likelihood):
    """Real-valued data with a mean and a scale per dimension.

    Args:
        net: module from the top-down state to ``(B, 2 D)``.
        log_std_bound: see `hvae_course.gaussians.bound_log_std`. A density has no upper limit, so
            the bound on the scale is also a bound on the likelihood.
    """

    outputs_per_pixel = 2

    def __init__(self, net: nn.Module, *, log_std_bound: float = LOG_STD_BOUND) -> None:
        super().__init__(net)
        self.log_std_bound = log_std_bound

    def forward(self, h: Tensor) -> Independent:
        """Give p(x | z)."""
        return split_normal(self.net(h), self.log_std_bound)


class CountLikelihood(Likelihood):
    """Likelihood over the counts 0, 1, 2, ...

    Args:
        net: module from the top-down state to the parameters of the distribution.
        log_rate_bound: largest magnitude of the logarithm of a mean, which is bounded smoothly, as
            scales are; see `hvae_course.gaussians.bound_log_std`.
    """

    measure = "probability"

    def __init__(self, net: nn.Module, *, log_rate_bound: float = LOG_RATE_BOUND) -> None:
        super().__init__(net)
        self.log_rate_bound = log_rate_bound

    def check(self, x: Tensor) -> None:
        """Refuse what is not a count."""
        super().check(x)
        if wrong := _first(x, _is_whole(x, LARGEST_COUNT)):
            raise ValueError(
                f"the likelihood {type(self).__name__} scores counts, whole numbers from 0 to "
                f"{LARGEST_COUNT:,}, got {wrong[0]:g} in column {wrong[1]}; correct the data, or "
                "choose the likelihood 'gaussian' for real values"
            )


def _is_whole(x: Tensor, largest: int) -> Tensor:
    """Whether each value is one of 0, 1, ..., largest."""
    return (x >= 0) & (x <= largest) & (x == x.round())


def _first(x: Tensor, good: Tensor) -> tuple[float, int] | None:
    """The first value that is not good, and its column; None if all are."""
    if good.all():
        return None
    row, column = (~good).nonzero()[0].tolist()
    return x[row, column].item(), column


class Poisson(CountLikelihood):
    r"""Counts with a rate per dimension, which is both their mean and their variance.

    .. math:: \log p(x \mid z) = \sum_i x_i \log \lambda_i - \lambda_i - \log x_i!
    """

    def forward(self, h: Tensor) -> Independent:
        """Give p(x | z)."""
        counts = PoissonCounts(bound_log_std(self.net(h), self.log_rate_bound))
        return Independent(counts, len(counts.batch_shape) - 1, validate_args=False)


class NegativeBinomial(CountLikelihood):
    r"""Counts with a mean m and a dispersion r per dimension, and the variance m + m^2 / r.

    The network gives both, as it gives mean and scale of a `Gaussian`, so that the dispersion may
    depend on z. It is the usual likelihood of counts: most real counts vary more than those of a
    Poisson distribution, which would make the latents explain their noise, and where they do not,
    a large r leads back to it.

    Args:
        net: module from the top-down state to ``(B, 2 D)``.
        log_rate_bound: see `CountLikelihood`.
        log_dispersion_bound: largest magnitude of log r, likewise.
    """

    outputs_per_pixel = 2

    def __init__(
        self,
        net: nn.Module,
        *,
        log_rate_bound: float = LOG_RATE_BOUND,
        log_dispersion_bound: float = LOG_DISPERSION_BOUND,
    ) -> None:
        super().__init__(net, log_rate_bound=log_rate_bound)
        self.log_dispersion_bound = log_dispersion_bound

    def forward(self, h: Tensor) -> Independent:
        """Give p(x | z)."""
        log_mean, log_dispersion = self.net(h).chunk(2, dim=1)
        counts = NegativeBinomialCounts(
            bound_log_std(log_mean, self.log_rate_bound),
            bound_log_std(log_dispersion, self.log_dispersion_bound),
        )
        return Independent(counts, len(counts.batch_shape) - 1, validate_args=False)


@dataclass(frozen=True, eq=False)
class Block:
    """Columns of a table that have one kind of likelihood."""

    columns: Sequence[int]
    """Their numbers, from 0."""
    likelihood: Likelihood
    """Their likelihood; its network is the identity."""
    num_outputs: int
    """Number of network outputs that it reads."""


class Mixed(Likelihood):
    """Columns of several kinds, one likelihood per block of columns of a table.

    A column of a grey or binary likelihood holds the whole numbers 0 to V - 1 (0 and 1 for
    `Bernoulli`), and not the grid in [0, 1]: the likelihood of its block sees them divided by
    V - 1. The mean of such a column is in the same numbers, which says little if they are the
    names of categories; draw samples instead.

    Args:
        net: module from the top-down state to the outputs of all blocks, joined.
        blocks: the blocks; together they hold every column once.
        names: names of the columns, for messages.

    Raises:
        ValueError: if a column is in no block or in several.
    """

    def __init__(
        self, net: nn.Module, blocks: Sequence[Block], *, names: Sequence[str] = ()
    ) -> None:
        super().__init__(net)
        columns = [column for block in blocks for column in block.columns]
        if sorted(columns) != [*range(len(columns))] or not columns:
            raise ValueError(
                f"every column of a table must be in exactly one block, got the columns {columns}"
            )
        self.blocks = nn.ModuleList(block.likelihood for block in blocks)
        self.num_outputs = [block.num_outputs for block in blocks]
        self.of_block = [tuple(block.columns) for block in blocks]
        self.names = tuple(names)
        self.scales = [
            one.num_values - 1 if isinstance(one, GreyLikelihood) else 1 for one in self.blocks
        ]
        self.density_columns = [
            c for b in blocks if b.likelihood.measure == "density" for c in b.columns
        ]
        self.measure = "density" if self.density_columns else "probability"
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def check(self, x: Tensor) -> None:
        """Refuse rows of which a column lies outside the support of its block."""
        super().check(x)
        for number, likelihood in enumerate(self.blocks, start=1):
            columns, largest = self.of_block[number - 1], _largest(likelihood)
            part = x[:, list(columns)]
            if largest is None:
                likelihood.check(part)
            elif wrong := _first(part, _is_whole(part, largest)):
                value, column = wrong[0], columns[wrong[1]]
                name = f" ({self.names[column]})" if self.names else ""
                raise ValueError(
                    f"column {column}{name}, in block {number}, must hold whole numbers from 0 to "
                    f"{largest:,} for {type(likelihood).__name__}, got {value:g}; number "
                    "categories from 0, set missing ones (-1 in pandas.factorize) to NaN with "
                    "missing=True, and standardise nothing but real columns"
                )

    def forward(self, h: Tensor) -> Rows:
        """Give p(x | z)."""
        outputs = self.net(h).split(self.num_outputs, dim=1)
        blocks = [block(part) for block, part in zip(self.blocks, outputs, strict=True)]
        return Rows(blocks, self.columns, self.scales)


def _largest(likelihood: Likelihood) -> int | None:
    """The largest whole number that a column of this likelihood may hold; None for real ones."""
    if isinstance(likelihood, GreyLikelihood):
        return likelihood.num_values - 1
    if isinstance(likelihood, CountLikelihood):
        return LARGEST_COUNT
    return 1 if isinstance(likelihood, Bernoulli) else None


class MissingValues(Likelihood):
    r"""The likelihood of what was observed of an example, where NaN marks what was not.

    .. math:: \log p(x_{\mathrm{obs}} \mid z) = \sum_{d\ \mathrm{observed}} \log p(x_d \mid z)

    So the ELBO bounds :math:`\log p(x_{\mathrm{obs}})`. That is the right likelihood if whether a
    value is missing does not depend on the value itself, given what was observed (missing at
    random); else the mask must be modelled too. Mean and samples of p(x | z) are complete, and the
    mean over draws of z imputes.

    Args:
        net: the likelihood of complete data.

    Example:
        >>> from hvae_course import recipes
        >>> from hvae_course.data import DataSpec
        >>> model = recipes.vae(DataSpec(3, None, missing=True), hidden=(8,)).eval()
        >>> x = torch.tensor([[0.3, torch.nan, -1.2]])
        >>> expected = model(x, 100).px.mean.mean(dim=0)  # E[x | what was observed]
        >>> torch.where(x.isnan(), expected, x).isnan().any()
        tensor(False)

    Source:
        Nazabal et al. (2020), Handling Incomplete Heterogeneous Data using VAEs, arXiv:1807.03653.
    """

    def __init__(self, net: Likelihood) -> None:
        super().__init__(net)
        self.measure, self.density_columns = net.measure, net.density_columns
        self.has_mean = net.has_mean

    def check(self, x: Tensor) -> None:
        """Refuse observed values outside the support; 0 stands in for what is missing."""
        self.net.check(x.masked_fill(x.isnan(), 0))

    def forward(self, h: Tensor) -> ObservedValues:
        """Give p(x | z)."""
        return ObservedValues(self.net(h))
