r"""Autoregressive flows over a latent vector, for priors and for posteriors.

.. math:: z_i = a_i(z_{<i}, h) + e^{b_i(z_{<i}, h)}\, z^0_i, \qquad
          \log p(z \mid h) = \log N(z^0 \mid \mu(h), \sigma^2(h)) - \sum_i b_i

A *masked* autoregressive flow, as here, scores a given z in one pass of its network, and a draw
takes one pass per dimension. That is what a prior needs, which scores every draw of the posterior
and is drawn from rarely. A posterior scores what it has drawn itself, so it takes the inverse,
`hvae_course.flows.InverseAutoregressive`, whose draw is one pass. With affine steps and Gaussian
noise, one step is a Gaussian per dimension given those before it.

A flow f in the prior of z is the same model, with the same bound, as N(0, I) over :math:`z^0`, the
inverse of f in the posterior of :math:`z^0`, and f in front of the decoder.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from hvae_course.flows import InverseAutoregressive, Moved
from hvae_course.gaussians import (
    GaussianHead,
    at_least_float32,
    bound_log_std,
    standard_normal,
    sum_event,
)
from hvae_course.masked import MaskedMLP

Maps = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A step of a flow, z to a and b, in which every entry depends on the entries before it alone."""


class Flow(Moved, ABC):
    """A diagonal Gaussian that an invertible map f has moved.

    There is no closed form of the mean, or of the KL divergence from another distribution. Where
    one value has to stand for the distribution, `hvae_course.hierarchy.choices.centre_of` takes
    f(mean of the Gaussian), to which the noise 0 belongs.

    Args:
        base: the Gaussian.
    """

    def __init__(self, base: Independent) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.base = base

    @abstractmethod
    def push(self, z0: Tensor) -> Tensor:
        """Give f(z_0), ``(..., Z)``."""

    @abstractmethod
    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Find z_0 with f(z_0) = z, and the log-determinant of dz_0 / dz.

        Args:
            z: ``(..., Z)``.

        Returns:
            ``(..., Z)`` and ``(...)``.
        """

    @abstractmethod
    def with_base(self, base: Independent) -> "Flow":
        """The same map of another Gaussian."""

    def from_noise(self, noise: Tensor | float) -> Tensor:
        """Give the value that standard-normal noise becomes.

        Args:
            noise: ``(..., Z)``, broadcast against the batch; 0 gives f(mean of the Gaussian).

        Returns:
            ``(..., Z)``.
        """
        return self.push(self.base.mean + self.base.base_dist.scale * noise)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw with gradients, ``sample_shape + (B, Z)``."""
        return self.push(self.base.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, exact up to rounding, ``(...)``."""
        z0, log_determinant = self.pull(value)
        return self.base.log_prob(z0) + log_determinant

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Flow":
        """Repeat over a batch."""
        return self.with_base(self.base.expand(torch.Size(batch_shape)))


class MaskedAutoregressive(Flow):
    """A diagonal Gaussian followed by steps of masked autoregressive flow.

    Args:
        base: the Gaussian, event shape ``(Z,)``.
        maps: steps, the one next to z first. ``s b`` passes
            `hvae_course.gaussians.bound_log_std`.
        step: s, by which a and b are multiplied, so that the flow starts close to the Gaussian.

    Source:
        Papamakarios et al. (2017), Masked autoregressive flow, arXiv:1705.07057; Chen et al.
        (2017), Variational lossy autoencoder, arXiv:1611.02731, for the flow in the prior.
    """

    def __init__(self, base: Independent, maps: Sequence[Maps], *, step: float = 0.1) -> None:
        super().__init__(base)
        self.maps, self.step = tuple(maps), step

    def with_base(self, base: Independent) -> "MaskedAutoregressive":  # noqa: D102
        return MaskedAutoregressive(base, self.maps, step=self.step)

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        total: Tensor | float = 0.0
        for maps in self.maps:
            shift, log_scale = self._shift_and_log_scale(maps, z)
            z, total = (z - shift) * (-log_scale).exp(), total - sum_event(log_scale, self)
        return z, total

    def push(self, z0: Tensor) -> Tensor:
        """Give f(z_0); an entry of a step is right once all before it are, after Z passes."""
        for maps in reversed(self.maps):
            z = z0
            for _ in range(self.event_shape.numel()):
                shift, log_scale = self._shift_and_log_scale(maps, z)
                z = shift + log_scale.exp() * z0
            z0 = z
        return z0

    def _shift_and_log_scale(self, maps: Maps, z: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = maps(z)
        return self.step * at_least_float32(shift), bound_log_std(self.step * raw)


class _Steps(nn.Module):
    """Networks of the steps of a flow; every second one reads the dimensions in reverse."""

    def __init__(
        self,
        size: int,
        *,
        context: int,
        num_steps: int,
        hidden: Sequence[int],
        activation: str,
    ) -> None:
        super().__init__()
        orders = [range(size), range(size - 1, -1, -1)]
        options = {"hidden": hidden, "outputs": 2, "context": context, "activation": activation}
        self.nets = nn.ModuleList(
            MaskedMLP(size, order=orders[k % 2], **options) for k in range(num_steps)
        )

    def forward(self, context: Tensor | None) -> list[Maps]:
        def bind(net: MaskedMLP) -> Maps:
            return lambda z: net(z, context).unbind(-2)

        return [bind(net) for net in self.nets]


class FlowHead(nn.Module, ABC):
    """Last layer of a conditional prior: features in, a flow out.

    Args:
        size: Z, number of latent dimensions.
        context: width of the features; 0 for a flow that depends on nothing, as a top prior, whose
            Gaussian is N(0, I).
    """

    def __init__(self, size: int, *, context: int = 0) -> None:
        super().__init__()
        self.size = size
        self.gaussian = GaussianHead(context, size) if context else None
        self.register_buffer("anchor", torch.empty(0), persistent=False)

    @abstractmethod
    def move(self, base: Independent, features: Tensor | None) -> Flow:
        """Move the Gaussian.

        Args:
            base: event shape ``(Z,)``.
            features: ``(B, F)``; None without a context.
        """

    def forward(self, features: Tensor | None = None) -> Flow:
        """Give the flow.

        Args:
            features: ``(B, F)``; None without a context.

        Returns:
            Distribution with batch shape ``(B,)``, or an empty one, and event shape ``(Z,)``.
        """
        if self.gaussian is None:
            return self.move(standard_normal(self.size, like=self.anchor), features)
        return self.move(self.gaussian(features), features)


class MaskedFlow(FlowHead):
    """Last layer of a conditional prior: features in, a masked autoregressive flow out.

    Args:
        size: Z, number of latent dimensions.
        context: width of the features; 0 for a flow that depends on nothing, as a top prior.
        num_steps: number of steps.
        hidden: widths of the hidden layers of a step.
        activation: a key of `hvae_course.nets.ACTIVATIONS`, but not glu.

    Example:
        >>> p = MaskedFlow(3, context=5)(torch.randn(4, 5))
        >>> p.log_prob(p.sample()).shape
        torch.Size([4])
    """

    def __init__(
        self,
        size: int,
        *,
        context: int = 0,
        num_steps: int = 2,
        hidden: Sequence[int] = (64,),
        activation: str = "gelu",
    ) -> None:
        super().__init__(size, context=context)
        options = {"num_steps": num_steps, "hidden": hidden, "activation": activation}
        self.steps = _Steps(size, context=context, **options)

    def move(self, base: Independent, features: Tensor | None) -> MaskedAutoregressive:  # noqa: D102
        return MaskedAutoregressive(base, self.steps(features))


class InverseFlow(nn.Module):
    """Last layer of a posterior: features in, an inverse autoregressive flow out.

    Its arguments are those of `MaskedFlow`. The density of the last draw is kept with the draw,
    because that of any other value takes a sequential inversion, which is slow and loses digits.
    """

    def __init__(
        self,
        size: int,
        *,
        context: int,
        num_steps: int = 2,
        hidden: Sequence[int] = (64,),
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        self.gaussian = GaussianHead(context, size)
        options = {"num_steps": num_steps, "hidden": hidden, "activation": activation}
        self.steps = _Steps(size, context=context, **options)

    def forward(self, features: Tensor) -> InverseAutoregressive:
        """Give the flow.

        Args:
            features: ``(B, F)``.

        Returns:
            Distribution with batch shape ``(B,)`` and event shape ``(Z,)``.
        """
        q = self.gaussian(features)
        for maps in self.steps(features):
            q = InverseAutoregressive(q, maps)
        return q
