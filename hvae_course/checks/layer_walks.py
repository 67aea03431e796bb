r"""A model whose images are its latents, on which traversals and reconstructions are checked.

The mean of p(x | z) holds all latents side by side. So the images show the value of every level,
and the noise of a level can be computed from the values above it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from hvae_course.checks.verdict import Mistake, as_tensor
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, SkipUpdate, TopDown, Trace
from hvae_course.likelihoods import IsotropicGaussian
from hvae_course.posteriors import Direct, TopDownPosterior
from hvae_course.priors import StandardNormal

PIXEL_STD = 0.02
"""Noise of the pixels."""


class _Below(nn.Module):
    """``p(z_l | z_>l)``, with a mean that is linear in all latents above."""

    def __init__(self, above: int, size: int) -> None:
        super().__init__()
        self.register_buffer("weight", 0.8 * torch.randn(above, size))
        self.register_buffer("offset", torch.linspace(0.4, 0.7, size))
        self.register_buffer("log_std", torch.linspace(0.3, 0.45, size).log())

    def forward(self, h: Tensor) -> Independent:
        """Give the prior, in the precision of h."""
        return diag_normal(h @ self.weight.to(h) + self.offset.to(h), self.log_std.to(h))


class _Pick(nn.Module):
    """``q(z_l | x)``, centred at the pixels that show z_l."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, d: Tensor) -> Independent:
        """Give the posterior."""
        mean = d[:, self.start : self.stop]
        return diag_normal(mean, mean.new_tensor(0.6).log())


@dataclass(frozen=True)
class VisibleModel:
    """A model whose mean images are its latents, those of the top level first."""

    model: HierarchicalVAE
    sizes: tuple[int, ...]
    """Z_1, ..., Z_L."""

    def latents(self, images: Tensor) -> list[Tensor]:
        """Read the latents off mean images.

        Args:
            images: ``(B, D)``.

        Returns:
            z_1, ..., z_L, each ``(B, Z_l)``.
        """
        return list(images.split(self.sizes[::-1], dim=1))[::-1]

    def prior_below(self, latents: Sequence[Tensor], l: int) -> Independent:
        """Give the prior of a level, given the levels above.

        Args:
            latents: z_1, ..., z_L, each ``(B, Z_l)``.
            l: level, counted from 0 at the bottom, not the top one.

        Returns:
            ``p(z_l | z_>l)``.
        """
        return self.model.top_down.conditionals[l](torch.cat(latents[:l:-1], dim=1))


def visible_model(*sizes: int) -> VisibleModel:
    """Make a model whose mean images are its latents.

    Args:
        *sizes: Z_1, ..., Z_L.

    Returns:
        The model, in evaluation mode, with skip connections and random weights.
    """
    above = [sum(sizes[l + 1 :]) for l in range(len(sizes))]
    model = HierarchicalVAE(
        StandardNormal(sizes[-1]),
        BottomUp([nn.Identity() for _ in sizes]),
        posterior=TopDownPosterior(
            [Direct(_Pick(n, n + z)) for n, z in zip(above, sizes, strict=True)]
        ),
        top_down=TopDown(
            updates=[SkipUpdate() for _ in sizes],
            conditionals=[_Below(n, z) for n, z in zip(above[:-1], sizes[:-1], strict=True)],
            likelihood=IsotropicGaussian(nn.Identity(), std=PIXEL_STD),
        ),
    )
    return VisibleModel(model.eval(), sizes)


def as_images(value: object, shape: Sequence[int]) -> Tensor:
    """Convert an answer to images, or say what it is instead.

    Args:
        value: what the student's function returned.
        shape: the right shape.

    Returns:
        The images, in double precision.

    Raises:
        Mistake: if the value is something else.
    """
    if isinstance(value, Trace):
        raise Mistake("this is the trace; return its mean images, trace.px.mean")
    if isinstance(value, Distribution):
        raise Mistake("this is the distribution p(x | z); return its mean, the images")
    return as_tensor(value, shape, name="the images")


def same(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors agree, the second broadcast to the first.

    Args:
        a: any tensor.
        b: a tensor that broadcasts to it.
        tolerance: relative and absolute.

    Returns:
        True if they agree.
    """
    return torch.allclose(a.double(), b.double().expand_as(a), tolerance, tolerance)


def _check_own(z: Sequence[Tensor], values: Tensor, trace: Trace, *, level: int) -> None:
    """Check that the level that varies takes the rows of the values."""
    own = z[level - 1]
    if same(own, values):
        return
    for l, other in enumerate(z):
        if l != level - 1 and same(other, values):
            raise Mistake(
                f"the values for z_{level} go to z_{l + 1}; hold counts levels from 1, as the "
                "book does, and levels[0] is z_1"
            )
    if same(own, trace.levels[level - 1].z):
        raise Mistake(f"z_{level} keeps the value of the trace; it takes the rows of values")
    if (own - values).abs().max() < 6 * PIXEL_STD:
        raise Mistake("these are drawn pixels; return the mean images, px.mean")
    raise Mistake(f"z_{level} does not take the rows of values")


def _check_above(z: Sequence[Tensor], values: Tensor, trace: Trace, *, level: int) -> None:
    """Check that the levels above keep the values of the trace."""
    for l in range(level, len(z)):
        above = f"z_{l + 1}, above z_{level},"
        if same(z[l], trace.levels[l].z):
            continue
        if same(z[l], values):
            raise Mistake(f"{above} takes the values as well; keep its value of the trace")
        if same(z[l], trace.levels[l].q.mean):
            raise Mistake(
                f"{above} is at the mean of its posterior; keep its value of the trace, "
                "levels[...].z"
            )
        raise Mistake(f"{above} comes from its prior; keep its value of the trace")


def _noise(visible: VisibleModel, z: Sequence[Tensor], trace: Trace, *, level: int) -> list:
    """The noise of the levels below, computed from their priors, each ``(1, Z_l)``."""
    noise = []
    for l in reversed(range(level - 1)):
        below, p = f"z_{l + 1}, below z_{level},", visible.prior_below(z, l)
        if same(z[l], trace.levels[l].z):
            raise Mistake(
                f"{below} keeps the value of the trace; draw it from its prior, given the levels "
                "above"
            )
        e = (z[l] - p.mean) / p.stddev
        if same(e, torch.zeros_like(e), 1e-3):
            raise Mistake(f"{below} is at the mean of its prior; add the noise")
        if same(z[l], z[l][:1]):
            raise Mistake(
                f"{below} is the same in every row; only its noise should be, since its prior "
                "depends on the levels above"
            )
        if not same(e, e[:1], 2e-3):
            raise Mistake(f"{below} has different noise in every row; draw it once for all rows")
        noise.append(e[:1])
    return noise


def _check_moments(visible: VisibleModel, trace: Trace, ask: Callable[[int], Tensor]) -> None:
    """Check that the noise is standard normal over many seeds, to five standard errors."""
    noises, scales = [], []
    for seed in range(10, 50):
        z = visible.latents(ask(seed))
        noises += [e.flatten() for e in _noise(visible, z, trace, level=3)]
        scales += [visible.prior_below(z, l).stddev[0].double() for l in (1, 0)]
    e, std = torch.cat(noises), torch.cat(scales)
    error = 5 / math.sqrt(len(e))

    def standard(noise: Tensor) -> bool:
        square = (noise**2).mean() - 1
        return bool(noise.mean().abs() < error and square.abs() < math.sqrt(2) * error)

    if standard(e):
        return
    if standard(e * std):
        raise Mistake("the noise is not scaled; multiply it by the prior's standard deviation")
    if standard(e / std):
        raise Mistake("the noise is scaled by the variance; use the standard deviation")
    raise Mistake("the noise of the levels below is not standard normal")


def check_traversals(answer: Callable[..., Tensor], visible: VisibleModel) -> None:
    """Accept a traversal of every level, or name the mistake.

    Args:
        answer: the student's function.
        visible: a model of three levels.

    Raises:
        Mistake: if a level has the wrong value.
    """
    with torch.no_grad():
        trace = visible.model(torch.randn(1, sum(visible.sizes)))

    def ask(level: int, values: Tensor, seed: int) -> Tensor:
        images = answer(visible.model, trace, level, values.clone(), seed)
        return as_images(images, (len(values), sum(visible.sizes)))

    for level in (2, 3, 1):
        values = 1.5 * torch.randn(5, visible.sizes[level - 1])
        images = ask(level, values, 3)
        z = visible.latents(images)
        _check_own(z, values, trace, level=level)
        _check_above(z, values, trace, level=level)
        noise = _noise(visible, z, trace, level=level)
        if not same(images, ask(level, values, 3)):
            raise Mistake(
                "two calls with one seed give different images; draw the noise with a generator "
                "of that seed"
            )
        if level > 1 and same(images, ask(level, values, 4)):
            raise Mistake("two seeds give the same images; the seed is not used")
        if len(noise) == 2 and noise[0].shape == noise[1].shape and same(*noise, 2e-3):
            raise Mistake("z_1 and z_2 have the same noise; draw it separately for each level")
    values = torch.randn(2, visible.sizes[2])
    _check_moments(visible, trace, lambda seed: ask(3, values, seed))
