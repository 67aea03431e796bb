r"""Inverse autoregressive flow: a posterior over a map whose dimensions depend on each other.

The dimensions have an order: positions from left to right and from top to bottom, and the channels
of a position one after the other. A draw of a diagonal Gaussian is shifted and scaled, each
dimension by a function of those before it.

.. math:: z_i = \frac{z^0_i - \mu_i(z^0_{<i}, c)}{\sigma_i(z^0_{<i}, c)}, \qquad
          \log q(z) = \log q_0(z^0) + \sum_i \log \sigma_i

The Jacobian is triangular, so its determinant is a product, and a draw takes one pass of the
network. The inverse takes many: :math:`z^0_i` is known once all before it are.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.gaussians import at_least_float32, bound_log_std, sum_event
from hvae_course.nets import ACTIVATIONS


class MaskedConvolution(nn.Conv2d):
    """A convolution that reads earlier positions, and of its own position some channels.

    Args:
        degrees_in: an integer per input channel.
        degrees_out: an integer per output channel, which reads at its own position the input
            channels whose degree is not larger.
        kernel: side of the kernel, an odd number.
    """

    def __init__(
        self, degrees_in: Sequence[int], degrees_out: Sequence[int], kernel: int = 3
    ) -> None:
        super().__init__(len(degrees_in), len(degrees_out), kernel, padding=kernel // 2)
        middle = kernel // 2
        mask = torch.zeros_like(self.weight.detach())
        mask[:, :, :middle] = 1
        mask[:, :, middle, :middle] = 1
        reads = torch.tensor([[i <= o for i in degrees_in] for o in degrees_out])
        mask[:, :, middle, middle] = reads.to(mask)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C_out, H, W)``."""
        return F.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


class AutoregressiveMaps(nn.Module):
    """Two maps whose every entry depends on the entries before it alone, and on a context.

    Masked convolutions with two hidden layers. Every hidden channel belongs to one place in the
    order of the channels, so that the outputs of a channel see the channels before it.

    Args:
        latent: Z, channels of the map that is read.
        context: channels of the context.
        hidden: channels of the hidden layers.
        kernel: side of the kernels; 1 for maps of one position.
        activation: a key of `hvae_course.nets.ACTIVATIONS`, but not glu.

    Source:
        Germain et al. (2015), MADE, arXiv:1502.03509, for the order of hidden units; Kingma et al.
        (2016), arXiv:1606.04934, for the use in a posterior.
    """

    def __init__(
        self,
        latent: int,
        *,
        context: int,
        hidden: int,
        kernel: int = 3,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        # channel c is number c + 1; a hidden channel of degree m reads the channels up to m
        inner = [i * latent // hidden for i in range(hidden)]
        self.enter = MaskedConvolution(range(1, latent + 1), inner, kernel)
        self.context = nn.Conv2d(context, hidden, 1)
        self.middle = MaskedConvolution(inner, inner, kernel)
        self.leave = MaskedConvolution(inner, [*range(latent)] * 2, kernel)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both maps.

        Args:
            z: ``(B, Z, H, W)``.
            context: ``(B, C, H, W)``.

        Returns:
            Two maps ``(B, Z, H, W)``.
        """
        hidden = self.activation(self.enter(z) + self.context(context))
        hidden = self.activation(self.middle(hidden))
        first, second = self.leave(hidden).chunk(2, dim=1)
        return first, second


class Moved(Distribution):
    """A distribution that an invertible map has moved, so that no moment has a closed form."""

    arg_constraints: dict = {}  # noqa: RUF012
    has_rsample = True

    @property
    def mean(self) -> Tensor:
        """Refused, as is `variance`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no mean and no variance in closed form; "
            "hvae_course.hierarchy.centre_of gives a value that stands for it"
        )

    variance = mean


class InverseAutoregressive(Moved):
    r"""A diagonal Gaussian followed by one step of inverse autoregressive flow.

    .. math:: z = \frac{z^0 - s\, a(z^0)}{e^{s\, b(z^0)}}, \qquad z^0 \sim q_0, \qquad
              \log q(z) = \log q_0(z^0) + s \sum_i b_i(z^0)

    The density of the last draw is known from its :math:`z^0`. For any other value the flow is
    inverted, which takes up to D passes of the network for D dimensions, and with gradients always
    D. There is no closed form of the mean, or of the KL divergence from another distribution:
    `hvae_course.hierarchy.trace.Level.information` estimates it from the draw.

    Args:
        base: q_0, with batch shape ``(B,)``; of several steps, the flow before this one.
        maps: function from z^0 to a and b, in which every entry depends on the entries before it
            alone. ``s b`` passes `hvae_course.gaussians.bound_log_std`.
        step: s, by which a and b are multiplied, so that the flow starts close to the identity.

    Source:
        Kingma et al. (2016), arXiv:1606.04934; the factor 0.1 is that of its code.
    """

    slow_to_score = True
    """Whether the density of a value that was not drawn last takes many passes of a network."""

    def __init__(
        self,
        base: Distribution,
        maps: Callable[[Tensor], tuple[Tensor, Tensor]],
        *,
        step: float = 0.1,
    ) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.base, self.maps, self.step = base, maps, step
        self._last: tuple[Tensor, Tensor, bool] | None = None

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw once for every row, with gradients.

        Args:
            sample_shape: empty.

        Returns:
            ``(B, *event)``.

        Raises:
            ValueError: if several draws per row are wanted.
        """
        if len(sample_shape) > 0:
            raise ValueError(
                "an inverse autoregressive flow draws once for every row of its context, got the "
                f"sample shape {tuple(sample_shape)}; repeat the rows, as model(x, num_samples) "
                "does"
            )
        z0 = self.base.rsample()
        shift, log_scale = self._shift_and_log_scale(z0)
        z = (z0 - shift) * (-log_scale).exp()
        self._last = z, self._log_density(z0, log_scale), torch.is_grad_enabled()
        return z

    def from_noise(self, noise: Tensor | float) -> Tensor:
        """Give the value that standard-normal noise becomes.

        Args:
            noise: ``(B, *event)``; 0 gives the value that the mean of q_0 becomes, which stands
                for the distribution where one value has to.

        Returns:
            ``(B, *event)``.
        """
        if isinstance(self.base, InverseAutoregressive):
            z0 = self.base.from_noise(noise)
        else:
            z0 = self.base.mean + self.base.base_dist.scale * noise
        shift, log_scale = self._shift_and_log_scale(z0)
        return (z0 - shift) * (-log_scale).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, ``(B,)``; cheap for the last draw, slow for any other value."""
        last, density, with_gradients = self._last or (None, None, False)
        if value is last and (with_gradients or not torch.is_grad_enabled()):
            return density
        z0 = self.inverse(value)
        return self._log_density(z0, self._shift_and_log_scale(z0)[1])

    def inverse(self, z: Tensor) -> Tensor:
        r"""Find the draw of q_0 that the flow takes to z.

        Iterates :math:`z^0 \leftarrow s\, a(z^0) + e^{s\, b(z^0)} z`. The first entry is right
        after one pass, the second after two, so D passes are exact; without gradients they end as
        soon as nothing changes.

        Args:
            z: ``(B, *event)``.

        Returns:
            ``(B, *event)``.
        """
        z0 = z
        for _ in range(self.event_shape.numel()):
            shift, log_scale = self._shift_and_log_scale(z0)
            before, z0 = z0, shift + log_scale.exp() * z
            if not torch.is_grad_enabled() and torch.equal(before, z0):
                break
        return z0

    def _shift_and_log_scale(self, z0: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self.maps(z0)
        return self.step * at_least_float32(shift), bound_log_std(self.step * raw)

    def _log_density(self, z0: Tensor, log_scale: Tensor) -> Tensor:
        return self.base.log_prob(z0) + sum_event(log_scale, self)
