"""Ways to pick a latent on the way down without data.

Each is a ``choose`` for `hvae_course.hierarchy.top_down.TopDown`, from a level l, counted from 0,
the state h from above and the prior p to a distribution over z_l and its value. Generation,
traversal and reconstruction from a level upward are combinations of these functions.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor
from torch.distributions import Distribution

from hvae_course.gaussians import is_diag_normal
from hvae_course.hierarchy.trace import Choose, State


def mean_of(distribution: Distribution) -> Tensor:
    """Give the mean of a distribution, if it has one in closed form.

    Args:
        distribution: any distribution.

    Returns:
        ``(B, *event)``.

    Raises:
        TypeError: if there is no closed form, as for a flow, or no mean, as for categories.
    """
    try:
        mean = distribution.mean
    except (NotImplementedError, AttributeError):
        mean = None
    if mean is None or mean.isnan().all():  # PyTorch's answer where a mean has no meaning
        raise TypeError(
            f"{type(distribution).__name__} has no mean in closed form; take draws instead "
            "(below=from_prior, or vary a level between two draws)"
        )
    return mean


def from_noise(distribution: Distribution, noise: Tensor | float) -> Tensor:
    r"""Give what standard-normal noise becomes: :math:`\mu + \sigma\epsilon`, or a flow of it.

    Args:
        distribution: a diagonal Gaussian, or a flow of one.
        noise: ``(B, *event)``, or 0.

    Returns:
        ``(B, *event)``.

    Raises:
        TypeError: if the distribution is neither.
    """
    if is_diag_normal(distribution):
        return distribution.mean + distribution.base_dist.scale * noise
    if not hasattr(distribution, "from_noise"):
        raise TypeError(
            "common noise shifts and scales a diagonal Gaussian, or enters a flow, got "
            f"{type(distribution).__name__}; hold this level at given values instead"
        )
    return distribution.from_noise(noise)


def centre_of(distribution: Distribution) -> Tensor:
    """Give one value that stands for a distribution: its mean, or what noise 0 becomes in a flow.

    The mean of a flow has no closed form. The flow of the mean of its Gaussian is a value that it
    gives, but neither its mean nor its mode.

    Args:
        distribution: any distribution.

    Returns:
        ``(B, *event)``.

    Raises:
        TypeError: if there is no mean in closed form, and the distribution is not a flow.
    """
    if hasattr(distribution, "from_noise"):
        return distribution.from_noise(0.0)
    return mean_of(distribution)


def from_prior(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
    """Ancestral sampling: draw z_l from its prior."""
    return p, p.sample()


def tempered(temperature: float) -> Choose:
    r"""Ancestral sampling with the standard deviation of every prior multiplied by a factor.

    .. math:: z_l \sim N(\mu_p, (T \sigma_p)^2)

    Args:
        temperature: T, zero or more; 1 is `from_prior`, 0 takes the mean of every prior. Draws of
            one seed differ in T alone.

    Returns:
        A choice for the top-down path. Unless T is 1, it raises TypeError for a prior that is not
        a diagonal Gaussian.

    Raises:
        ValueError: if the temperature is negative or not finite.

    Source:
        Vahdat and Kautz (2020), NVAE, arXiv:2007.03898, and Child (2021), arXiv:2011.10650, sample
        at reduced temperatures in this sense.
    """
    if not (isinstance(temperature, Real) and 0 <= temperature < math.inf):
        raise ValueError(f"temperature must be a number of at least 0, got {temperature!r}")
    if temperature == 1:
        return from_prior

    def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
        if not is_diag_normal(p):
            raise TypeError(
                f"a temperature scales a diagonal Gaussian, and the prior of z_{l + 1} is a "
                f"{type(p).__name__}; sample with temperature=1"
            )
        return p, torch.normal(p.mean, float(temperature) * p.base_dist.scale)

    return choose


def prior_mean(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
    """Take the mean of the prior instead of a draw, or `centre_of` it; TypeError without both."""
    return p, centre_of(p)


def common_noise(noise: Sequence[Tensor]) -> Choose:
    r"""Draw with the same noise in every row: :math:`z_l = \mu_p + \sigma_p \epsilon_l`.

    The noise of a flow enters its Gaussian. Rows then differ only in what comes from above.

    Args:
        noise: one standard-normal tensor per level, bottom to top, of one row or one per row of
            the walk.

    Returns:
        A choice for the top-down path. It raises TypeError for a prior that is neither a diagonal
        Gaussian nor a flow of one.
    """

    def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
        return p, from_noise(p, noise[l])

    return choose


def hold(values: Mapping[int, Tensor], below: Choose = from_prior) -> Choose:
    """Fix some levels at given values and pick the others in another way.

    Args:
        values: level, the book's number from 1 next to the data, to its values, one per row.
        below: how to pick every other level; by default they are drawn from their priors.

    Returns:
        A choice for the top-down path. It raises ValueError at the end of a walk that never
        reached one of these levels.
    """
    missed = set(values)

    def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
        missed.discard(l + 1)
        if l == 0 and missed:
            raise ValueError(
                f"the model has no level {', '.join(map(str, sorted(missed)))} to hold; levels "
                "count from 1, next to the data, so z_1 is 1"
            )
        return (p, values[l + 1]) if l + 1 in values else below(l, h, p)

    return choose


def switch(level: int, above: Choose, below: Choose = from_prior) -> Choose:
    """Pick a level and those above it in one way, and the levels below it in another.

    Args:
        level: the book's number, from 1 next to the data; 1 picks every level as ``above`` does,
            and L + 1 none.
        above: how to pick this level and those above, for instance ``model.posterior(features)``.
        below: how to pick the levels below; by default they are drawn from their priors.

    Returns:
        A choice for the top-down path.
    """

    def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
        return above(l, h, p) if l + 1 >= level else below(l, h, p)

    return choose


def draw_noise(
    latent_shapes: Sequence[int | Sequence[int]], *, seed: int, like: Tensor
) -> list[Tensor]:
    """Standard-normal noise for `common_noise`, the same on every device for a seed.

    Args:
        latent_shapes: shape of every level, bottom to top; for a vector its size is enough.
        seed: seed of the draw.
        like: a tensor whose device and dtype the noise takes.

    Returns:
        One tensor of one row per level, bottom to top.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = [(shape,) if isinstance(shape, int) else shape for shape in latent_shapes]
    return [torch.randn(1, *shape, generator=generator).to(like) for shape in shapes]
