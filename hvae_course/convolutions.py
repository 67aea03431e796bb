"""Residual blocks over maps, and the layers that change their resolution.

A deep hierarchy is a long sum of such blocks. Two things decide whether its first steps go well:
the variance that each block adds at the start (`scale_last`), and whether a block starts at zero
(``scale_last(block, 0)``). Maps are ``(B, C, H, W)``.

>>> import torch
>>> block = Residual(bottleneck(32, 8, 32), 32, 32)
>>> block(torch.zeros(2, 32, 7, 7)).shape
torch.Size([2, 32, 7, 7])
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_course.nets import ACTIVATIONS, BatchNorm


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every position.

    Args:
        channels: C.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``, each position by itself."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class MapBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over examples and positions, also of a single value per channel.

    One example with maps of one position has no variance. As in `hvae_course.nets.BatchNorm`, it
    is then normalised with the running statistics, which it does not change.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)`` over all axes but the channels."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return BatchNorm.forward(self, input)  # type: ignore[arg-type]
        return super().forward(input)


MAP_NORMALISATIONS: dict[str, type[nn.Module]] = {
    "batch": MapBatchNorm,
    "layer": ChannelNorm,
    "none": nn.Identity,
}
"""Normalisations of maps by name; each takes the number of channels.

:meta hide-value:
"""


def bottleneck(
    channels_in: int,
    middle: int,
    channels_out: int,
    *,
    kernel: int = 3,
    normalisation: str = "none",
    activation: str = "gelu",
) -> nn.Sequential:
    r"""Body of a residual block: :math:`1\times1`, two :math:`k\times k`, :math:`1\times1`.

    Every convolution is preceded by normalisation and activation, so that the sum of blocks itself
    passes through neither.

    Args:
        channels_in: channels of the input.
        middle: channels between the convolutions.
        channels_out: channels of the output.
        kernel: k, an odd number; 1 on maps of one or two positions, where a larger kernel would
            read mostly padding.
        normalisation: a key of `MAP_NORMALISATIONS`.
        activation: a key of `hvae_course.nets.ACTIVATIONS`, but not glu.

    Returns:
        A network from ``(B, channels_in, H, W)`` to ``(B, channels_out, H, W)``.

    Source:
        He et al. (2016), arXiv:1603.05027, for the order; Child (2021), VDVAE, arXiv:2011.10650,
        for the four convolutions.
    """
    widths = (channels_in, middle, middle, middle, channels_out)
    layers: list[nn.Module] = []
    for i in range(4):
        k = kernel if i in (1, 2) else 1
        layers += _before(widths[i], normalisation, activation)
        layers.append(nn.Conv2d(widths[i], widths[i + 1], k, padding=k // 2))
    return nn.Sequential(*layers)


def plain_cell(
    channels_in: int,
    middle: int,
    channels_out: int,
    *,
    kernel: int = 3,
    normalisation: str = "batch",
    activation: str = "silu",
) -> nn.Sequential:
    r"""Body of a residual block of two :math:`k\times k` convolutions.

    Args:
        channels_in: channels of the input.
        middle: channels between the convolutions.
        channels_out: channels of the output.
        kernel: k, an odd number.
        normalisation: a key of `MAP_NORMALISATIONS`.
        activation: a key of `hvae_course.nets.ACTIVATIONS`, but not glu.

    Returns:
        A network from ``(B, channels_in, H, W)`` to ``(B, channels_out, H, W)``.

    Source:
        He et al. (2016), arXiv:1603.05027.
    """
    layers: list[nn.Module] = []
    for width_in, width_out in ((channels_in, middle), (middle, channels_out)):
        layers += _before(width_in, normalisation, activation)
        layers.append(nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2))
    return nn.Sequential(*layers)


def depthwise(
    channels_in: int,
    middle: int,
    channels_out: int,
    *,
    kernel: int = 5,
    normalisation: str = "batch",
    activation: str = "silu",
) -> nn.Sequential:
    r"""Body of a residual cell: a wide depthwise convolution between two :math:`1\times1`.

    A depthwise convolution filters each channel by itself. Its cost grows with the number of
    channels and not with its square, so a wide kernel over many channels is affordable.

    Args:
        channels_in: channels of the input.
        middle: channels between the convolutions, more than the input has.
        channels_out: channels of the output.
        kernel: an odd number.
        normalisation: a key of `MAP_NORMALISATIONS`.
        activation: a key of `hvae_course.nets.ACTIVATIONS`, but not glu.

    Returns:
        A network from ``(B, channels_in, H, W)`` to ``(B, channels_out, H, W)``.

    Source:
        Vahdat and Kautz (2020), NVAE, arXiv:2007.03898, which adds squeeze and excitation.
    """
    norm = MAP_NORMALISATIONS[normalisation]
    return nn.Sequential(
        norm(channels_in),
        nn.Conv2d(channels_in, middle, 1),
        *_before(middle, normalisation, activation),
        nn.Conv2d(middle, middle, kernel, padding=kernel // 2, groups=middle),
        *_before(middle, normalisation, activation),
        nn.Conv2d(middle, channels_out, 1),
        norm(channels_out),
    )


CELLS: dict[str, Callable[..., nn.Sequential]] = {
    "bottleneck": bottleneck,
    "plain": plain_cell,
    "depthwise": depthwise,
}
"""Bodies of residual blocks by name.

:meta hide-value:
"""


def _before(channels: int, normalisation: str, activation: str) -> list[nn.Module]:
    """Normalisation, if there is one, and activation."""
    norm = [] if normalisation == "none" else [MAP_NORMALISATIONS[normalisation](channels)]
    return [*norm, ACTIVATIONS[activation]()]


def last_layer(body: nn.Module) -> nn.Module:
    """Find the last layer of a body that has weights.

    Args:
        body: a module.

    Returns:
        The last convolution, or the normalisation after it.

    Raises:
        ValueError: if the body holds no convolution.
    """
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm)
    found = [part for part in body.modules() if isinstance(part, kinds)]
    if not any(isinstance(part, nn.Conv2d) for part in found):
        raise ValueError(f"{type(body).__name__} holds no convolution")
    return found[-1]


@torch.no_grad()
def scale_last(body: nn.Module, factor: float) -> nn.Module:
    r"""Multiply what a body gives at the start of training.

    A sum of N blocks, each scaled by :math:`1/\sqrt N`, has the variance of one block, whatever N
    is (:eq:`eq-depth-scale`). With the factor 0 a block starts as the identity. A normalisation
    behind the last convolution would undo a change of its weights, so that the gain of the
    normalisation is scaled instead.

    Args:
        body: a module that ends in a convolution, or in one and a normalisation; its weights are
            changed.
        factor: factor of weights and biases of the last of them.

    Returns:
        The same module.
    """
    last = last_layer(body)
    last.weight.mul_(factor)
    if last.bias is not None:
        last.bias.mul_(factor)
    return body


class Residual(nn.Module):
    r"""A body added to what it reads, :math:`h + f(h)`.

    Args:
        body: f, from ``channels_in`` to ``channels_out`` channels.
        channels_in: channels of h.
        channels_out: channels of the sum; where they differ, h passes a :math:`1\times1`
            convolution.
    """

    def __init__(self, body: nn.Module, channels_in: int, channels_out: int) -> None:
        super().__init__()
        same = channels_in == channels_out
        self.body = body
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Add the body to ``(B, C, H, W)``."""
        return self.skip(h) + self.body(h)


class Reduce(nn.Module):
    """Divide height and width by a factor, channel by channel.

    A learned weighted mean of every patch, a plain mean at the start. Where the number of channels
    changes, a convolution of one position follows.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        factor: of height and width.
    """

    def __init__(self, channels_in: int, channels_out: int, factor: int | tuple[int, int]) -> None:
        super().__init__()
        self.pool = nn.Conv2d(
            channels_in, channels_in, factor, stride=factor, groups=channels_in, bias=False
        )
        nn.init.constant_(self.pool.weight, 1 / self.pool.weight[0].numel())
        same = channels_in == channels_out
        self.project = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C_out, H / f, W / f)``."""
        return self.project(self.pool(h))


class Enlarge(nn.Module):
    """Multiply height and width by a factor: nearest neighbours, a gain and a learned map.

    All positions of a patch start equal. A gain and a bias for every channel and position, one and
    zero at the start, let them become different.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        size: height and width of the output, multiples of those of the input.

    Source:
        Child (2021), VDVAE, arXiv:2011.10650, for the learned bias.
    """

    def __init__(self, channels_in: int, channels_out: int, size: tuple[int, int]) -> None:
        super().__init__()
        same = channels_in == channels_out
        self.project = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        self.size = tuple(size)
        self.gain = nn.Parameter(torch.ones(channels_out, *size))
        self.bias = nn.Parameter(torch.zeros(channels_out, *size))

    def forward(self, h: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C_out, *size)``."""
        return F.interpolate(self.project(h), self.size) * self.gain + self.bias


class ToMaps(nn.Module):
    """Rows of pixels as maps of a lower resolution, without loss.

    A patch of pixels becomes the channels of one position. In a conditional model the label at the
    end of a row is repeated at every position.

    Args:
        channels: channels of the image.
        size: its height and width.
        factor: height and width of a patch.
        num_classes: C, width of the label at the end of a row; 0 for none.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], factor: int, *, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.channels, self.size, self.factor = channels, tuple(size), factor
        self.num_classes = num_classes
        self.num_outputs = channels * factor**2 + num_classes
        """Channels of the maps."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C H W + num_classes)`` to ``(B, num_outputs, H / f, W / f)``."""
        pixels = x[:, : x.shape[1] - self.num_classes]
        maps = pixels.unflatten(1, (self.channels, *self.size))
        maps = F.pixel_unshuffle(maps, self.factor)
        if self.num_classes:
            y = x[:, -self.num_classes :, None, None]
            maps = torch.cat([maps, y.expand(-1, -1, *maps.shape[2:])], dim=1)
        return maps.contiguous(memory_format=torch.channels_last)


class ToRows(nn.Module):
    """Maps as the parameters of a likelihood of rows of pixels.

    Args:
        kinds: number of parameters per pixel and colour.
        colours: number of colours.
        factor: height and width of the patch that one position stands for.
        num_values: V, number of logits per pixel and colour, which come last; 1 for none.
    """

    def __init__(self, kinds: int, colours: int, factor: int, *, num_values: int = 1) -> None:
        super().__init__()
        self.kinds, self.colours, self.factor = kinds, colours, factor
        self.num_values = num_values
        self.num_inputs = kinds * colours * num_values * factor**2
        """Channels of the maps."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(B, num_inputs, H, W)`` to ``(B, kinds * colours * H f * W f * V)``."""
        maps = F.pixel_shuffle(maps, self.factor)
        if self.num_values > 1:
            maps = maps.unflatten(1, (-1, self.num_values)).movedim(2, -1)
        return maps.flatten(1)
