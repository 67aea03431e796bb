r"""A level without anything to infer: the image at a lower resolution.

.. math:: \log p(x) = \log p(x \mid y) + \log p(y) - \log p(y \mid x)
          \;\ge\; \log p(x \mid y) + \log p(y), \qquad y = d(x)

A downscaled image y is a function d of x, so its posterior is a point mass, and its own
log-likelihood stands where other levels have a KL divergence. The gap is zero if every x that the
model draws fits the y that it was drawn from. y must be discrete: with a density for p(y) the sum
would not be a probability.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hvae_course.codes.distributions import PointMass


class Downscale(nn.Module):
    r"""The sum of every block of f x f pixels, as a grey value again.

    Of grey values 0, ..., V - 1 the sum is one of :math:`f^2 (V - 1) + 1` whole numbers, which are
    divided by the largest, as those of x are.

    Args:
        colours: number of colours.
        size: height and width of x, multiples of f.
        factor: f.
        num_values: V.

    Example:
        >>> import torch
        >>> down = Downscale(1, (2, 4), factor=2, num_values=2)
        >>> down(torch.tensor([[0., 1., 1., 1., 0., 1., 1., 1.]])).mean
        tensor([[[[0.5000, 1.0000]]]])

    Source:
        Gatopoulos and Tomczak (2021), Self-supervised variational auto-encoders, arXiv:2010.02014.
    """

    def __init__(
        self, colours: int, size: tuple[int, int], *, factor: int, num_values: int
    ) -> None:
        super().__init__()
        self.colours, self.size, self.factor = colours, tuple(size), factor
        self.steps = num_values - 1
        self.num_values = factor**2 * self.steps + 1
        """Number of values of a pixel of y."""

    def forward(self, x: Tensor) -> PointMass:
        """Map rows ``(B, D)``, also with a label behind them, to y ``(B, colours, H/f, W/f)``."""
        pixels = x[:, : self.colours * self.size[0] * self.size[1]]
        whole = (pixels * self.steps).round().unflatten(1, (self.colours, *self.size))
        blocks = F.pixel_unshuffle(whole, self.factor)  # colour by colour
        sums = blocks.unflatten(1, (self.colours, -1)).sum(dim=2)
        return PointMass(sums / (self.num_values - 1))
