r"""Binary pixels that depend on each other given z, and the networks that say how.

.. math:: p(x \mid z) = \prod_i p(x_i \mid x_{i-w}, \dots, x_{i-1}, z)

Given a whole image one pass of a network scores it. A draw takes one pass per pixel. There is no
closed form of the mean, so a reconstruction is a draw. The mean of every pixel given the *data*
before it (`AutoregressivePixels.teacher_forced_mean`) says little about z: it looks like x also
where z is not used.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.gaussians import at_least_float32, sum_event


class AutoregressivePixels(Distribution):
    """Binary pixels, each with a probability that depends on the pixels before it.

    Args:
        logits_of: function from images ``(..., B, D)`` to the logit of every pixel given those
            before it, same shape.
        like: a tensor ``(B, D)``, whose shape, device and dtype a draw has.
    """

    arg_constraints: dict = {}  # noqa: RUF012

    def __init__(self, logits_of: Callable[[Tensor], Tensor], *, like: Tensor) -> None:
        super().__init__(like.shape[:1], like.shape[1:], validate_args=False)
        self._logits_of, self._like = logits_of, like

    def logits(self, x: Tensor) -> Tensor:
        """Logit of every pixel given the pixels of x before it, and z.

        Args:
            x: ``(..., B, D)``.

        Returns:
            ``(..., B, D)``.
        """
        return at_least_float32(self._logits_of(x))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, by one pass of the network."""
        logits, value = torch.broadcast_tensors(self.logits(value), value)
        entropies = F.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return -sum_event(entropies, self)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw pixel after pixel, ``sample_shape + (B, D)``, by D passes of the network."""
        x = self._like.new_zeros((*sample_shape, *self._like.shape))
        uniform = torch.rand_like(x)
        for i in range(self.event_shape[0]):
            x[..., i] = (uniform[..., i] < self.logits(x)[..., i].sigmoid()).to(x)
        return x

    def teacher_forced_mean(self, x: Tensor) -> Tensor:
        """Mean of every pixel given the pixels of x before it, which is not a reconstruction.

        Args:
            x: ``(..., B, D)``.

        Returns:
            ``(..., B, D)``.
        """
        return self.logits(x).sigmoid()

    @property
    def mean(self) -> Tensor:
        """Refused, because it has no closed form."""
        raise NotImplementedError(
            "an autoregressive likelihood has no mean in closed form; draw images with sample(). "
            "The means that see the pixels of x before each one are teacher_forced_mean(x)"
        )


class GatedLayer(nn.Module):
    """One layer of two stacks, of the rows above and of the pixels to the left.

    The vertical stack reads whole rows up to its own. The horizontal one reads its own row up to
    its own position, and the vertical stack one row higher. Together they see all pixels before a
    position within reach, without the blind spot of a single masked stack.

    Args:
        channels: channels of both stacks.
        context: channels of what z says, which both stacks read at their own position.
        kernel: k, an odd number; a layer reaches (k - 1) / 2 pixels further.
    """

    def __init__(self, channels: int, context: int, kernel: int) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.vertical = nn.Conv2d(channels, 2 * channels, (self.reach + 1, kernel))
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, self.reach + 1))
        self.between = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.context = nn.Conv2d(context, 4 * channels, 1)
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, above: Tensor, left: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map both stacks, ``(B, C, H, W)``."""
        to_above, to_left = self.context(context).chunk(2, dim=1)
        rows = self.vertical(F.pad(above, (self.reach, self.reach, self.reach, 0)))
        own = self.horizontal(F.pad(left, (self.reach, 0, 0, 0)))
        own = own + self.between(F.pad(rows, (0, 0, 1, -1)))  # the row above
        return _gate(rows + to_above), left + self.leave(_gate(own + to_left))


def _gate(maps: Tensor) -> Tensor:
    values, gates = maps.chunk(2, dim=1)
    return values.tanh() * gates.sigmoid()


class PixelNetwork(nn.Module):
    """Gated convolutions whose output at a pixel sees the pixels before it alone.

    Pixels are in raster order, rows from top to bottom.

    Args:
        context: channels of what z says.
        channels: channels of both stacks.
        num_layers: number of layers.
        kernel: side of the kernels, an odd number.

    Raises:
        ValueError: if the kernel is even.

    Source:
        van den Oord et al. (2016), Conditional image generation with PixelCNN decoders,
        arXiv:1606.05328; Gulrajani et al. (2017), PixelVAE, arXiv:1611.05013.
    """

    def __init__(
        self, context: int, *, channels: int = 16, num_layers: int = 4, kernel: int = 5
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel is an odd number, got kernel={kernel}")
        self.above, self.left = nn.Conv2d(1, channels, 1), nn.Conv2d(1, channels, 1)
        self.layers = nn.ModuleList(
            GatedLayer(channels, context, kernel) for _ in range(num_layers)
        )
        self.leave = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Give a logit per pixel.

        Args:
            x: images ``(B, 1, H, W)``.
            context: ``(B, C, H, W)``.

        Returns:
            ``(B, 1, H, W)``.
        """
        above, left = self.above(x), self.left(F.pad(x, (1, -1)))  # the pixel to the left
        for layer in self.layers:
            above, left = layer(above, left, context)
        return self.leave(left)
