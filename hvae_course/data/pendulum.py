r"""Images of a pendulum: data whose true latent space is known, a circle.

An angle, uniform on the circle, turns a rod with a bob around the centre of a 16x16 image; noise
is added to every pixel. So a latent space and a prior can be compared with the truth: the images
form a closed curve, and the angle that a decoded image shows can be read off.
"""

import math

import torch
from torch import Tensor

from hvae_course.data.sources import Raw, check_generated

SIDE = 16
"""Width and height of the images, in pixels."""
LENGTH, ROD, BOB = 0.62, 0.10, 0.25
"""Length of the rod, half its width, and radius of the bob, in half images."""
EDGE = 2.5
"""Width of the ramp from white to black at an edge, in pixels."""
NOISE = 0.05
"""Standard deviation of the noise on every pixel; white is 1."""
SIZES = (10_000, 2_500, 2_500)
"""Images for training, validation and test."""
SEED = 20_191_208
"""Seed of the angles and the noise."""
SECTORS = 8
"""Labels are the sector of the circle that the angle falls into."""


def draw(angle: Tensor, *, side: int = SIDE) -> Tensor:
    """Draw the pendulum without noise.

    Args:
        angle: radians, ``(N,)``; 0 hangs down, a quarter turn points right.
        side: width and height of the images, in pixels.

    Returns:
        Images in [0, 1], ``(N, side * side)``; a smooth function of the angle.
    """
    centres = (torch.arange(side, dtype=angle.dtype, device=angle.device) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")  # y points down, as rows do
    x, y = x.flatten(), y.flatten()  # (D,)
    along_x, along_y = angle.sin()[:, None], angle.cos()[:, None]  # (N, 1)
    along = (x * along_x + y * along_y).clamp(0, LENGTH)  # nearest point of the rod
    to_rod = torch.hypot(x - along * along_x, y - along * along_y) - ROD
    to_bob = torch.hypot(x - LENGTH * along_x, y - LENGTH * along_y) - BOB
    distance = torch.minimum(to_rod, to_bob) * side / 2  # in pixels, negative inside
    return (0.5 - distance / EDGE).clamp(0, 1)


def read_angle(images: Tensor, *, resolution: int = 720) -> tuple[Tensor, Tensor]:
    """Read the angle off images, by the nearest of many clean ones.

    Args:
        images: ``(N, D)``.
        resolution: number of clean images around the circle.

    Returns:
        Angle in radians and root mean squared distance per pixel to the clean image, ``(N,)``
        each. A large distance says that the image does not show a pendulum, so that its angle
        means nothing.
    """
    angles = torch.arange(resolution, dtype=images.dtype, device=images.device)
    angles = angles * (2 * math.pi / resolution)
    clean = draw(angles, side=math.isqrt(images.shape[1]))
    distance, nearest = torch.cdist(images, clean).min(dim=1)
    return angles[nearest], distance / math.sqrt(images.shape[1])


def generate(
    sizes: tuple[int, int, int] = SIZES,
    *,
    noise: float = NOISE,
    seed: int = SEED,
    side: int = SIDE,
) -> Raw:
    """Generate a data set of pendulum images.

    Args:
        sizes: images for training, validation and test.
        noise: standard deviation of the noise on every pixel.
        seed: seed of the angles and the noise.
        side: width and height of the images, in pixels.

    Returns:
        The images with the factor ``"angle"`` in radians; labels are its sector.

    Raises:
        ValueError: if a split is empty, the noise is negative or the images have no pixels.
    """
    check_generated(sizes, noise=noise)
    if side < 1:
        raise ValueError(f"side is the width of the images, at least 1 pixel, got side={side}")
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(sum(sizes), generator=generator)
    images = draw(angle, side=side)
    images = images + noise * torch.randn(images.shape, generator=generator)
    labels = (angle * (SECTORS / (2 * math.pi))).long().clamp(max=SECTORS - 1)
    return Raw(images, labels, (side, side), None, sizes, {"angle": angle})
