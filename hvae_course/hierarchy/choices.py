"""Ways to pick a latent on the way down without data.

Each is a ``choose`` for `hvae_course.hierarchy.top_down.TopDown`, from a level l, counted from 0,
the state h from above and the prior p to a distribution over z_l and its value. Generation,
traversal and reconstruction from a level upward are combinations of these functions.
"""

from collections.abc import Mapping, Sequence

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
        TypeError: if there is no closed form, as for a flow.
    """
    try:
        return distribution.mean
    except NotImplementedError:
        raise TypeError(
            f"{type(distribution).__name__} has no mean in closed form; take draws instead "
            "(below=from_prior, or vary a level between two draws)"
        ) from None


def from_prior(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
    """Ancestral sampling: draw z_l from its prior."""
    return p, p.sample()


def prior_mean(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
    """Take the mean of the prior instead of a draw; TypeError if it has no closed form."""
    return p, mean_of(p)


def common_noise(noise: Sequence[Tensor]) -> Choose:
    r"""Draw with the same noise in every row: :math:`z_l = \mu_p + \sigma_p \epsilon_l`.

    Rows then differ only in what comes from above.

    Args:
        noise: one standard-normal tensor per level, bottom to top, of one row or one per row of
            the walk.

    Returns:
        A choice for the top-down path. It raises TypeError for a prior that is not a diagonal
        Gaussian.
    """

    def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
        if not is_diag_normal(p):
            raise TypeError(
                f"common noise shifts and scales a diagonal Gaussian, got {type(p).__name__}; "
                "hold this level at given values instead"
            )
        return p, p.mean + p.base_dist.scale * noise[l]

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
