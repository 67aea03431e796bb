"""Layers that read and write a part of an image, through the windows of DRAW."""

import torch
from torch import Tensor, nn

from hvae_course.attention import make_window, read, write


class ReadWindow(nn.Module):
    """Reading through a window that the decoder chooses.

    Args:
        hidden: H, hidden units of the decoder.
        shape: height and width of the image.
        num_filters: N.
    """

    def __init__(self, hidden: int, shape: tuple[int, int], num_filters: int) -> None:
        super().__init__()
        self.shape, self.num_filters = shape, num_filters
        self.window = nn.Linear(hidden, 5)

    def forward(self, x: Tensor, error: Tensor, hidden: Tensor) -> Tensor:
        """Give the patches of x and of the error, each ``(B, D)``, joined, ``(B, 2 N^2)``."""
        window = make_window(self.window(hidden), self.shape, self.num_filters)
        patches = [read(v.unflatten(1, self.shape), window, self.num_filters) for v in (x, error)]
        return torch.cat(patches, dim=1).flatten(1)


class WriteWindow(nn.Module):
    """Writing through a window that the decoder chooses.

    Args:
        hidden: H, hidden units of the decoder.
        shape: height and width of the canvas.
        num_filters: N.
    """

    def __init__(self, hidden: int, shape: tuple[int, int], num_filters: int) -> None:
        super().__init__()
        self.shape, self.num_filters = shape, num_filters
        self.window, self.patch = nn.Linear(hidden, 5), nn.Linear(hidden, num_filters**2)

    def forward(self, hidden: Tensor) -> Tensor:
        """Give what is added to the canvas, ``(B, D)``."""
        window = make_window(self.window(hidden), self.shape, self.num_filters)
        patch = self.patch(hidden).unflatten(1, (self.num_filters, -1))
        return write(patch, window, self.shape).flatten(1)
