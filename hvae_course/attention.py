r"""Windows of Gaussian filters, through which DRAW reads and writes a part of an image.

.. math:: \mu_i = g + \left(i - \tfrac N2 - \tfrac12\right) \delta, \qquad
          F[i, a] \propto e^{-(a - \mu_i)^2 / 2 \sigma^2}, \qquad \sum_a F[i, a] = 1

The filters i = 1, ..., N and the pixels a = 1, ..., A are both counted from 1. With one counted
from 0, the window lies a whole step :math:`\delta`, or a pixel, beside its centre.
`hvae_course.windows` has the layers of a model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_course.gaussians import bound_log_std


@dataclass(frozen=True, eq=False)
class Window:
    """N x N filters over an image, one window per row of a batch, each entry ``(B,)``."""

    column: Tensor
    """g_X, the column of the centre, counted from 1."""
    row: Tensor
    """g_Y, the row of the centre, counted from 1."""
    std: Tensor
    """sigma, standard deviation of every filter, pixels."""
    stride: Tensor
    """delta, distance between the centres of neighbouring filters, pixels."""
    intensity: Tensor
    """gamma, by which a patch is multiplied when it is read, and divided when it is written."""


def make_window(outputs: Tensor, shape: tuple[int, int], num_filters: int) -> Window:
    r"""Window from five numbers, at all zeros one that covers the image.

    .. math:: g_X = \tfrac{A + 1}2 (\tilde g_X + 1), \quad g_Y = \tfrac{B + 1}2 (\tilde g_Y + 1),
              \quad \delta = \tfrac{\max(A, B) - 1}{N - 1} \tilde\delta

    Args:
        outputs: ``(B, 5)``, :math:`\tilde g_X, \tilde g_Y, \log\sigma^2, \log\tilde\delta,
            \log\gamma`, of which the logarithms are bounded smoothly.
        shape: height B and width A of the image.
        num_filters: N, at least 2.

    Returns:
        The window.

    Raises:
        ValueError: if there are fewer than two filters, which have no distance.

    Source:
        Gregor et al. (2015), arXiv:1502.04623.
    """
    if num_filters < 2:
        raise ValueError(
            f"a window has at least 2 x 2 filters, got num_filters={num_filters}; give 2 or more"
        )
    (height, width), (x, y, *raw) = shape, outputs.unbind(dim=1)
    variance, stride, intensity = (bound_log_std(values).exp() for values in raw)
    return Window(
        column=(width + 1) / 2 * (x + 1),
        row=(height + 1) / 2 * (y + 1),
        std=variance.sqrt(),
        stride=(max(shape) - 1) / (num_filters - 1) * stride,
        intensity=intensity,
    )


def filterbank(
    center: Tensor, stride: Tensor, std: Tensor, *, num_filters: int, size: int
) -> Tensor:
    """Filters along one axis of an image.

    Args:
        center: g, ``(B,)``, counted from 1.
        stride: delta, ``(B,)``.
        std: sigma, ``(B,)``.
        num_filters: N.
        size: A, pixels of the axis.

    Returns:
        F, ``(B, N, A)``, whose rows sum to 1; a filter far outside is all on the nearest pixel.

    Example:
        >>> one = torch.ones(1)
        >>> filterbank(2 * one, one, 0.1 * one, num_filters=3, size=3)[0].round()
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    i = torch.arange(1, num_filters + 1, dtype=center.dtype, device=center.device)
    a = torch.arange(1, size + 1, dtype=center.dtype, device=center.device)
    mean = center[:, None] + (i - num_filters / 2 - 0.5) * stride[:, None]  # (B, N)
    distance = (a - mean[..., None]) / std[:, None, None]
    return (-0.5 * distance**2).softmax(dim=-1)


def _filters(window: Window, shape: tuple[int, int], num_filters: int) -> tuple[Tensor, Tensor]:
    """F_Y and F_X."""
    return tuple(
        filterbank(center, window.stride, window.std, num_filters=num_filters, size=size)
        for center, size in zip((window.row, window.column), shape, strict=True)
    )


def read(image: Tensor, window: Window, num_filters: int) -> Tensor:
    r"""Patch of an image, :math:`\gamma F_Y x F_X^\top`.

    Args:
        image: ``(B, H, W)``.
        window: where, and how large.
        num_filters: N.

    Returns:
        ``(B, N, N)``.
    """
    rows, columns = _filters(window, image.shape[1:], num_filters)
    return window.intensity[:, None, None] * (rows @ image @ columns.mT)


def write(patch: Tensor, window: Window, shape: tuple[int, int]) -> Tensor:
    r"""Image of a patch, :math:`\gamma^{-1} F_Y^\top w F_X`.

    Args:
        patch: w, ``(B, N, N)``.
        window: where, and how large.
        shape: height and width of the image.

    Returns:
        ``(B, H, W)``.
    """
    rows, columns = _filters(window, shape, patch.shape[1])
    return rows.mT @ patch @ columns / window.intensity[:, None, None]
