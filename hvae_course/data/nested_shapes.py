r"""Images drawn from a known hierarchy: an object, its parts, and their texture.

Three levels of factors are drawn from the top, each given the one above, and then the pixels,

.. math:: p(x, z_1, z_2, z_3) = p(z_3)\, p(z_2 | z_3)\, p(z_1 | z_2)\, p(x | z_1, z_2, z_3).

So one can test which latent of a trained model carries which factor:

- global, :math:`z_3`: which of four objects, and where it is. An object is an arrangement of three
  parts;
- middle, :math:`z_2`: the shape of each part, and the size of all of them. The eyes of a face are
  mostly diamonds, the roof of a house is mostly a triangle, and houses have large parts;
- local, :math:`z_1`: the stripes on the parts. Squares favour upright stripes, and small parts
  have a strong contrast.

Every probability and mean is a constant of this module. Images have 16 grey values. Lengths are
in pixels; x points right and y points down, from the middle of the image.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_course.data.sources import Raw, check_generated

FACTORS: dict[str, str] = {
    **dict.fromkeys(("object", "x", "y"), "global"),
    **dict.fromkeys(("part_1", "part_2", "part_3", "size"), "middle"),
    **dict.fromkeys(("orientation", "phase", "contrast"), "local"),
}
"""The level that each factor belongs to."""

OBJECTS = ("face", "house", "slope", "stairs")
"""The objects, each as probable as the others; the labels are their numbers."""
PLACES = (
    ((-3.3, -2.9), (3.3, -2.9), (0.0, 3.3)),
    ((0.0, -3.3), (-3.3, 2.9), (3.3, 2.9)),
    ((-4.3, -4.3), (0.0, 0.0), (4.3, 4.3)),
    ((-4.3, 4.3), (0.0, 0.0), (4.3, -4.3)),
)
"""Where the parts of each object are, x and y from its centre."""
REACH = 1.2
"""x and y of the centre are uniform between minus this and this."""

SHAPES = ("diamond", "square", "triangle")
"""The shapes of a part; each reaches from minus the size to the size in x and in y."""
SHAPE_PROBABILITY = (
    ((0.70, 0.15, 0.15), (0.70, 0.15, 0.15), (0.25, 0.50, 0.25)),
    ((0.15, 0.15, 0.70), (0.20, 0.60, 0.20), (0.20, 0.60, 0.20)),
    ((0.50, 0.25, 0.25), (0.25, 0.50, 0.25), (0.25, 0.25, 0.50)),
    ((0.20, 0.60, 0.20), (0.20, 0.60, 0.20), (0.20, 0.60, 0.20)),
)
"""Probability of each shape, by object and part; given the object, the parts are independent."""
SIZE = (2.4, 2.6, 2.1, 2.1)
"""Mean size of the parts, by object."""
SIZE_SPREAD = 0.4
"""The size is uniform within this distance from its mean."""

UPRIGHT = (0.2, 0.8, 0.5)
"""Probability of upright stripes, by shape, averaged over the three parts."""
CONTRAST, CONTRAST_SLOPE, MIDDLE_SIZE = 0.22, -0.08, 2.3
"""Mean contrast of parts of the middle size, its change per pixel of size, and the middle size."""
CONTRAST_SPREAD = 0.09
"""The contrast is uniform within this distance from its mean."""
PERIOD = 3.0
"""From one stripe to the next."""

SIDE = 16
"""Width and height of the images."""
BACKGROUND, BRIGHTNESS = 2 / 15, 0.56
"""Brightness around the parts, and mean brightness on them; black is 0 and white is 1."""
NOISE = 0.04
"""Standard deviation of the noise on every pixel, before it is rounded to a grey value."""
MAX_VALUE = 15
"""The byte that stands for white."""
SIZES = (10_000, 2_000, 2_000)
"""Images for training, validation and test."""
SEED = 20_160_206
"""Seed of the factors and the noise."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The global factors: what is shown, and where."""

    object: Tensor
    """``(N,)``, int64, a number in `hvae_course.data.nested_shapes.OBJECTS`."""
    x: Tensor
    """``(N,)``, centre of the object, in pixels."""
    y: Tensor
    """``(N,)``, likewise."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The middle factors: what the parts of an object look like."""

    shapes: Tensor
    """``(N, 3)``, int64, numbers in `hvae_course.data.nested_shapes.SHAPES`."""
    size: Tensor
    """``(N,)``, half the width and height of a part, in pixels."""


@dataclass(frozen=True, eq=False)
class Texture:
    """The local factors: the stripes, which are the same on each part."""

    orientation: Tensor
    """``(N,)``, int64, 1 for upright stripes and 0 for level ones."""
    phase: Tensor
    """``(N,)``, in radians; at 0 the brightest line goes through the centre of a part."""
    contrast: Tensor
    """``(N,)``, from the mean brightness to the brightest."""


def _uniform(mean: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    return mean + spread * (2 * torch.rand(mean.shape, generator=generator) - 1)


def draw_global(n: int, generator: torch.Generator) -> Scene:
    """Draw objects and where they are, p(z_3).

    Args:
        n: number of images.
        generator: the random numbers.

    Returns:
        The global factors.
    """
    numbers = torch.randint(len(OBJECTS), (n,), generator=generator)
    x, y = (_uniform(torch.zeros(n), REACH, generator) for _ in range(2))
    return Scene(numbers, x, y)


def draw_parts(scene: Scene, generator: torch.Generator) -> Parts:
    """Draw the parts of given objects, p(z_2 | z_3).

    Args:
        scene: the global factors.
        generator: the random numbers.

    Returns:
        The middle factors.
    """
    probability = torch.tensor(SHAPE_PROBABILITY)[scene.object]  # (N, part, shape)
    shapes = torch.multinomial(probability.flatten(0, 1), 1, generator=generator)
    size = _uniform(torch.tensor(SIZE)[scene.object], SIZE_SPREAD, generator)
    return Parts(shapes.view(probability.shape[:2]), size)


def draw_texture(parts: Parts, generator: torch.Generator) -> Texture:
    """Draw the texture of given parts, p(z_1 | z_2); the phase is uniform on the circle.

    Args:
        parts: the middle factors.
        generator: the random numbers.

    Returns:
        The local factors.
    """
    upright = torch.tensor(UPRIGHT)[parts.shapes].mean(dim=1)
    orientation = torch.bernoulli(upright, generator=generator).long()
    phase = 2 * math.pi * torch.rand(upright.shape, generator=generator)
    mean = CONTRAST + CONTRAST_SLOPE * (parts.size - MIDDLE_SIZE)
    return Texture(orientation, phase, _uniform(mean, CONTRAST_SPREAD, generator))


def _from_parts(scene: Scene) -> tuple[Tensor, Tensor]:
    """Compute x and y of every pixel from the centre of every part.

    Args:
        scene: the global factors.

    Returns:
        x, ``(N, 3, 1, SIDE)``, the same in every row, and y, ``(N, 3, SIDE, 1)``.
    """
    pixels = torch.arange(SIDE, dtype=scene.x.dtype, device=scene.x.device) - (SIDE - 1) / 2
    places = scene.x.new_tensor(PLACES)[scene.object]  # (N, 3, 2)
    x = scene.x[:, None] + places[..., 0]
    y = scene.y[:, None] + places[..., 1]
    return pixels - x[..., None, None], pixels[:, None] - y[..., None, None]


def coverage(scene: Scene, parts: Parts) -> Tensor:
    """Compute how much of each pixel each part covers.

    Args:
        scene: the global factors.
        parts: the middle factors.

    Returns:
        Shares in [0, 1], ``(N, 3, D)``; an edge is a ramp, one pixel wide.
    """
    x, y = _from_parts(scene)
    shapes, size = parts.shapes[..., None, None], parts.size[:, None, None, None]
    # distances to the edge, negative inside
    diamond = (x.abs() + y.abs() - size) / math.sqrt(2)
    square = torch.maximum(x.abs(), y.abs()) - size
    triangle = torch.maximum((2 * x.abs() - y - size) / math.sqrt(5), y - size)
    distance = torch.where(shapes == 0, diamond, torch.where(shapes == 1, square, triangle))
    return (0.5 - distance).clamp(0, 1).flatten(2)


def render(scene: Scene, parts: Parts, *, texture: Texture) -> Tensor:
    """Draw images without noise; where parts meet, the brighter one is in front.

    Args:
        scene: the global factors.
        parts: the middle factors.
        texture: the local factors.

    Returns:
        Brightness in [0, 1], ``(N, D)``.
    """
    orientation, phase, contrast = (
        values[:, None, None, None]
        for values in (texture.orientation, texture.phase, texture.contrast)
    )
    upright, level = (
        torch.cos(2 * math.pi * across / PERIOD - phase) for across in _from_parts(scene)
    )
    stripes = BRIGHTNESS + contrast * torch.where(orientation == 1, upright, level)
    return BACKGROUND + (coverage(scene, parts) * (stripes.flatten(2) - BACKGROUND)).amax(dim=1)


def generate(
    sizes: tuple[int, int, int] = SIZES, *, noise: float = NOISE, seed: int = SEED
) -> Raw:
    """Generate a data set of nested shapes.

    Args:
        sizes: images for training, validation and test.
        noise: standard deviation of the noise on every pixel; white is 1.
        seed: seed of the factors and the noise.

    Returns:
        The images, as bytes, with the factors named in
        `hvae_course.data.nested_shapes.FACTORS`; labels are the objects.

    Raises:
        ValueError: if a split is empty or the noise is negative.
    """
    check_generated(sizes, noise=noise)
    generator = torch.Generator().manual_seed(seed)
    scene = draw_global(sum(sizes), generator)
    parts = draw_parts(scene, generator)
    texture = draw_texture(parts, generator)
    images = render(scene, parts, texture=texture)
    images = images + noise * torch.randn(images.shape, generator=generator)
    pixels = (MAX_VALUE * images).round().clamp(0, MAX_VALUE).to(torch.uint8)
    factors = {"object": scene.object, "x": scene.x, "y": scene.y}
    factors |= {f"part_{k + 1}": parts.shapes[:, k] for k in range(3)} | {"size": parts.size}
    factors |= vars(texture)
    return Raw(pixels, scene.object, (SIDE, SIDE), MAX_VALUE, sizes, factors)
