r"""Convolutional hierarchies whose log p(x) is known exactly.

.. math:: z_L \sim N(0, I), \qquad z_l \mid z_{l+1} \sim N(a_l A_l z_{l+1},\, s_l I), \qquad
          x \mid z_1 \sim N(a_0 A_0 z_1,\, s_0 I)

Every :math:`A_l` is a convolution of a small grid that keeps lengths, :math:`A_l^\top A_l = I`,
and may raise the resolution. Then p(z_l | x, z_l+1) is a diagonal Gaussian with the numbers of the
chain in `hvae_course.oracles.chain.LinearGaussian`, whose x is :math:`A_{l-1}^\top \cdots
A_0^\top x` and whose z_l+1 is :math:`A_l z_{l+1}`. The evidence follows from the matrices.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from hvae_course.hierarchy import BottomUp, HierarchicalVAE, State, TopDown
from hvae_course.oracles.chain import LinearGaussian
from hvae_course.oracles.layers import LinearGaussianLikelihood
from hvae_course.posteriors import Posterior
from hvae_course.priors import StandardNormal


def isometric_kernel(channels_in: int, channels_out: int, stride: int, *, seed: int = 0) -> Tensor:
    """Draw a 2 x 2 kernel whose transposed convolution keeps lengths.

    With stride 2 the four pixels that a location is spread over get orthonormal rows. With stride
    1 an orthogonal mixture of the channels is moved by another step in each channel and mixed
    again.

    Args:
        channels_in: channels of the latent.
        channels_out: channels one level down, at least as many; with stride 2 a quarter is enough.
        stride: 1, or 2 to double the resolution.
        seed: seed of the draw.

    Returns:
        ``(channels_in, channels_out, 2, 2)``, float64.

    Raises:
        ValueError: if there are too few channels one level down, or the stride is another.
    """
    if stride not in (1, 2) or min(channels_in, channels_out) < 1:
        raise ValueError(
            "a kernel has a stride of 1 or 2 and at least one channel on either side, got "
            f"{channels_in} and {channels_out} channels with stride {stride}"
        )
    space = channels_out * stride**2
    if channels_in > space:
        raise ValueError(
            f"{channels_in} channels do not fit into {channels_out} with stride {stride}; raise "
            "channels_out"
        )
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(2, space, space, generator=generator, dtype=torch.float64)
    first, second = torch.linalg.qr(draws).Q
    if stride == 2:
        return first[:channels_in].reshape(channels_in, channels_out, 2, 2)
    steps = F.one_hot(torch.arange(channels_out) % 4, 4).to(first)  # where each channel moves
    kernel = torch.einsum("ic,cs,co->ios", first[:channels_in], steps, second)
    return kernel.reshape(channels_in, channels_out, 2, 2)


class Isometry(nn.Module):
    """Circular transposed convolution that keeps lengths, as the update of a level: h = A z.

    Args:
        kernel: ``(C_in, C_out, k, k)``, as for a transposed convolution.
        stride: factor of the resolution, at most k.

    Raises:
        ValueError: if the kernel has another shape, or the stride is out of range.
    """

    def __init__(self, kernel: Tensor, stride: int) -> None:
        super().__init__()
        if kernel.dim() != 4 or kernel.shape[2] != kernel.shape[3]:
            raise ValueError(
                f"a kernel has shape (C_in, C_out, k, k), got {tuple(kernel.shape)}; take it from "
                "isometric_kernel"
            )
        if not 1 <= stride <= kernel.shape[-1]:
            raise ValueError(
                f"the stride of a kernel of size {kernel.shape[-1]} lies between 1 and that size, "
                f"got {stride}"
            )
        self.register_buffer("kernel", kernel)
        self.stride = stride

    def forward(self, h: State, z: Tensor) -> Tensor:
        """Replace the state by A z, ``(B, C_out, H stride, W stride)``."""
        image = F.conv_transpose2d(z, self.kernel, stride=self.stride)
        edge = self.kernel.shape[-1] - self.stride
        for axis in (2, 3):  # what leaves the grid comes in on the other side
            image, outside = image.split([image.shape[axis] - edge, edge], dim=axis)
            rest = image.shape[axis] - edge
            image = image + F.pad(outside, (0, rest) if axis == 3 else (0, 0, 0, rest))
        return image

    def transposed(self, image: Tensor) -> Tensor:
        """Apply the transposed matrix.

        Args:
            image: ``(B, C_out, H stride, W stride)``.

        Returns:
            ``(B, C_in, H, W)``.
        """
        edge = self.kernel.shape[-1] - self.stride
        image = F.pad(image, (0, edge, 0, edge), mode="circular")
        return F.conv2d(image, self.kernel, stride=self.stride)


class Transposed(nn.Module):
    """The transposed matrix as a block of the bottom-up path.

    Args:
        isometry: the convolution.
    """

    def __init__(self, isometry: Isometry) -> None:
        super().__init__()
        self.isometry = isometry

    def forward(self, x: Tensor) -> Tensor:
        """Apply the transposed matrix to x, or to the feature below."""
        return self.isometry.transposed(x)


@dataclass(frozen=True, eq=False)
class LinearGaussianGrid:
    """Linear-Gaussian hierarchy over grids.

    Args:
        chain: slopes a_l and variances s_l, and the exact rules; its size is not used.
        isometries: A_0, ..., A_L-1, bottom to top.
        shape: shape of z_L, ``(C, H, W)``.

    Raises:
        ValueError: if the shape is no (C, H, W), there is not one isometry per level, channels do
            not match, or an isometry does not keep lengths.
        TypeError: if an isometry is something else.
    """

    chain: LinearGaussian
    isometries: Sequence[Isometry]
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        sizes = self.shape if isinstance(self.shape, Sequence) else ()
        if len(sizes) != 3 or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ValueError(
                f"shape is that of z_L, three whole numbers (C, H, W), got {self.shape!r}"
            )
        for isometry in self.isometries:
            if not isinstance(isometry, Isometry):
                raise TypeError(
                    f"isometries are Isometry(isometric_kernel(...), stride), got {isometry!r}"
                )
        if len(self.isometries) != self.chain.num_levels:
            raise ValueError(
                f"{self.chain.num_levels} levels need as many isometries, got "
                f"{len(self.isometries)}; give A_0, ..., A_L-1, bottom to top"
            )
        channels, above = self.shape[0], f"z_{len(self.isometries)}"
        for l in reversed(range(len(self.isometries))):
            takes, gives = self.isometries[l].kernel.shape[:2]
            if takes != channels:
                raise ValueError(
                    f"A_{l} takes {takes} channels and {above} has {channels}; isometries are "
                    "listed bottom to top, and shape is that of z_L"
                )
            channels, above = gives, f"what A_{l} gives"
        for l, matrix in enumerate(self.matrices()):
            error = (matrix.T @ matrix - torch.eye(matrix.shape[1]).to(matrix)).abs().max()
            if error > 1e-9:
                raise ValueError(
                    f"A_{l} does not keep lengths: its columns are orthonormal up to {error:.1g}; "
                    "take its kernel from isometric_kernel"
                )

    def matrices(self) -> list[Tensor]:
        """Matrices of A_0, ..., A_L-1 on flattened grids.

        Returns:
            One ``(size below, size)`` matrix per level, bottom to top.
        """
        shape, found = self.shape, []
        for isometry in reversed(self.isometries):
            size = torch.Size(shape).numel()
            basis = torch.eye(size, dtype=isometry.kernel.dtype).reshape(size, *shape)
            images = isometry(None, basis)
            shape = images.shape[1:]
            found.append(images.flatten(1).T)
        return found[::-1]

    def covariance(self) -> Tensor:
        """Covariance of the flattened x.

        Returns:
            ``(D, D)``.
        """
        covariance = torch.eye(torch.Size(self.shape).numel(), dtype=torch.float64)
        levels = list(zip(self.chain.slopes, self.chain.variances, self.matrices(), strict=True))
        for slope, variance, matrix in reversed(levels):
            covariance = slope**2 * matrix @ covariance @ matrix.T
            covariance.diagonal().add_(variance)
        return covariance

    def log_px(self, x: Tensor) -> Tensor:
        """Exact log p(x).

        Args:
            x: data ``(B, C, H, W)``.

        Returns:
            ``(B,)``, nats per example.

        Raises:
            ValueError: if x has another shape.
        """
        scale = math.prod(isometry.stride for isometry in self.isometries)
        _, height, width = self.shape
        shape = (self.isometries[0].kernel.shape[1], scale * height, scale * width)
        if tuple(x.shape[1:]) != shape:
            raise ValueError(
                f"x has shape (B, {', '.join(map(str, shape))}) here, got {tuple(x.shape)}"
            )
        covariance = self.covariance()
        return MultivariateNormal(covariance.new_zeros(len(covariance)), covariance).log_prob(
            x.flatten(1)
        )

    def hvae(self, posterior: Posterior) -> HierarchicalVAE:
        """The same model on the package's spine.

        Args:
            posterior: any posterior over the L levels, for instance ``chain.exact_rules(kind)``;
                its features are x on the grid of each level.

        Returns:
            A float64 model without parameters of its own.
        """
        layers = self.chain.layers()
        return HierarchicalVAE(
            StandardNormal(*self.shape),
            BottomUp([Transposed(isometry) for isometry in self.isometries]),
            posterior=posterior,
            top_down=TopDown(
                updates=self.isometries,
                conditionals=layers[1:],
                likelihood=LinearGaussianLikelihood(layers[0]),
            ),
        ).double()
