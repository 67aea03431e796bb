r"""Likelihoods p(x | z): the last step of the walk down.

Each class holds a network and turns its output into a distribution over one data vector. All sum
over the D data dimensions, so a reconstruction term is in nats per example, like the KL terms (a
mean over pixels instead would weight the KL terms D times as much).

Images are vectors with values in [0, 1]. An image with V grey values lies on the grid
:math:`\{0, \tfrac{1}{V-1}, \dots, 1\}`, which `Categorical` and `DiscretizedLogistic` score.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution, Independent

from hvae_course.gaussians import (
    LOG_STD_BOUND,
    at_least_float32,
    bound_log_std,
    diag_normal,
    split_normal,
    sum_event,
)
from hvae_course.grey_values import DiscretizedLogisticDistribution, GreyCategorical


class Likelihood(nn.Module, ABC):
    """Network plus distribution over the data.

    Args:
        net: module from the top-down state to the parameters of the distribution.
    """

    outputs_per_pixel = 1
    """Number of network outputs per data dimension (for `Categorical`, per grey value)."""
    measure: ClassVar[Literal["probability", "density"]] = "density"
    """What ``log_prob`` is the logarithm of: the probability of discrete values, which is at most
    1, or a density, which has no upper limit. The two cannot be compared."""

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
        if not torch.isfinite(x).all():
            raise ValueError("the data hold NaN or infinite values; remove them before training")


def _check_grid(x: Tensor, num_values: int, name: str) -> None:
    level = x * (num_values - 1)
    if not (torch.isclose(level, level.round(), atol=1e-3) & (x >= 0) & (x <= 1)).all():
        raise ValueError(
            f"{name} scores {num_values} grey values 0, 1/{num_values - 1}, ..., 1, got values "
            f"between {x.min():g} and {x.max():g} off that grid; load the data with the "
            "binarisation that the model was built for"
        )


class BinaryPixels(Independent):
    """Independent Bernoulli distributions, whose cross-entropies are summed before the sign."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats."""
        logits, value = torch.broadcast_tensors(self.base_dist.logits, value)
        entropies = F.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return -sum_event(entropies, self)


class Bernoulli(Likelihood):
    r"""Binary pixels, parametrised by logits so that no probability is clamped.

    Refuses grey values x. Their cross-entropy is not :math:`-\log p(x \mid z)` but the mean of
    :math:`-\log p(y \mid z)` over binarisations y of x (:eq:`eq-grey-cross-entropy`).
    """

    measure = "probability"

    def check(self, x: Tensor) -> None:
        """Refuse grey values."""
        super().check(x)
        if not ((x == 0) | (x == 1)).all():
            raise ValueError(
                "the Bernoulli likelihood scores binary pixels, got grey values between "
                f"{x.min():g} and {x.max():g}; binarise the data (binarisation='dynamic') or "
                "choose the likelihood 'categorical'"
            )

    def forward(self, h: Tensor) -> Independent:
        """Give p(x | z)."""
        logits = at_least_float32(self.net(h))
        pixels = BernoulliDistribution(logits=logits, validate_args=False)
        return BinaryPixels(pixels, logits.dim() - 1, validate_args=False)


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
