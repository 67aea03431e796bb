"""What the builds of chapters 3 to 5 have in common: cases, terms of the bound, and mistakes.

A Gaussian is a pair of tensors, mean and log standard deviation; a level is a triple ``(z, q, p)``
of a draw and two Gaussians. Cases differ in their batch sizes, so that an answer for the size of
one example fails. The mistakes are those that students make at every level, in how they split the
outputs of a network, draw, and add up log-densities, each with its hint.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_course.checks.building import plain
from hvae_course.checks.nested import (
    compare_models,
    log_normal,
    package_log_weight,
    split_gaussian,
)
from hvae_course.checks.verdict import Answer, Known
from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE

Pair = tuple[Tensor, Tensor]
"""Mean and log standard deviation of a diagonal Gaussian, ``(B, Z)`` each."""
Level = tuple[Tensor, Pair, Pair]
"""A draw z, q and p."""
Networks = Sequence[nn.Module]
PIXELS = 6
"""Width of the data, the features and the hidden layers of every case."""


def normal(*shape: int) -> Tensor:
    """Standard normal numbers in single precision, whatever the default is.

    Args:
        *shape: their shape.

    Returns:
        The numbers.
    """
    return torch.randn(shape, dtype=torch.float32)


def noises(sizes: Sequence[int], batch: int) -> list[Tensor]:
    """Noise for every level.

    Args:
        sizes: latent dimensions, level 1 first.
        batch: number of examples.

    Returns:
        One tensor ``(B, Z_l)`` per level.
    """
    return [normal(batch, size) for size in sizes]


def pairs(sizes: Sequence[int], batch: int) -> list[Pair]:
    """A Gaussian for every level.

    Args:
        sizes: latent dimensions, level 1 first.
        batch: number of examples.

    Returns:
        One pair per level.
    """
    both = zip(noises(sizes, batch), noises(sizes, batch), strict=True)
    return [(mean, 0.5 * raw) for mean, raw in both]


def levels(sizes: Sequence[int], batch: int) -> list[Level]:
    """A draw and two Gaussians for every level.

    Args:
        sizes: latent dimensions, level 1 first.
        batch: number of examples.

    Returns:
        One triple per level.
    """
    parts = (noises(sizes, batch), pairs(sizes, batch), pairs(sizes, batch))
    return list(zip(*parts, strict=True))


def images(batch: int) -> Tensor:
    """Binary images.

    Args:
        batch: number of examples.

    Returns:
        ``(B, D)``.
    """
    return torch.randint(2, (batch, PIXELS)).float()


def sure_of_the_wrong() -> tuple[Tensor, Tensor, list[Level]]:
    """An example whose decoder is sure and wrong, so that only logits give a finite log-weight.

    Returns:
        x, its logits, and one level.
    """
    x, logits = torch.tensor([[1.0, 0.0]]), torch.tensor([[-90.0, 120.0]])
    return x.float(), logits.float(), levels((3,), 1)


def level_names(number: int) -> list[str]:
    """Names of the values in a list of levels.

    Args:
        number: how many levels there are.

    Returns:
        Five names per level.
    """
    patterns = ("z_{}", "the mean of q at level {}", "the log std of q at level {}")
    patterns += ("the mean of p at level {}", "the log std of p at level {}")
    return [pattern.format(l) for l in range(1, number + 1) for pattern in patterns]


class AnyWidth(nn.Module):
    """A layer that reads inputs of any width, column by column, or channel by channel.

    Args:
        size_out: width of its output.
        largest: bound of its output's magnitude.
    """

    def __init__(self, size_out: int, *, largest: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * largest * normal(64, size_out))
        self.bias = nn.Parameter(0.5 * normal(size_out))
        self.largest = largest

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(B, C, ...)`` to ``(B, size_out, ...)``."""
        inputs = inputs.movedim(1, -1)
        mixed = inputs @ self.weight[: inputs.shape[-1]].to(inputs) + self.bias.to(inputs)
        return (self.largest * torch.tanh(mixed / self.largest)).movedim(-1, 1)


def small_package(
    recipe: Callable[..., HierarchicalVAE],
    sizes: Sequence[int],
    *,
    scale: float,
    **options: object,
) -> HierarchicalVAE:
    """A small model of the package, with weights that are large enough for mistakes to show.

    Args:
        recipe: a recipe of the package.
        sizes: latent dimensions, level 1 first.
        scale: factor of the initial weights.
        **options: other options of the recipe.

    Returns:
        The model, in single precision.
    """
    plainly = {"hidden": (PIXELS,), "normalisation": "none", "activation": "tanh"}
    spec = DataSpec((PIXELS,), num_values=2)
    model = recipe(spec, latent_sizes=tuple(sizes), **plainly, **options).float()
    for parameter in model.parameters():
        parameter.data *= scale
    return model


def plain_parts(model: HierarchicalVAE) -> tuple[Networks, Networks, Networks, nn.Module]:
    """The networks of a model of the package, as plain layers that share its weights.

    Args:
        model: a model whose posterior has one rule, with one network, per level.

    Returns:
        Upward networks, networks of the posterior, prior networks and decoder.
    """
    return (
        [plain(block) for block in model.bottom_up.blocks],
        [plain(*rule.children()) for rule in model.posterior.rules],
        [plain(conditional) for conditional in model.top_down.conditionals],
        plain(model.top_down.likelihood.net),
    )


def compare_with_recipe(
    answer: Answer,
    recipe: Callable[..., HierarchicalVAE],
    cases: Sequence[tuple[Sequence[int], int]],
    *,
    scale: float,
    mistakes: Sequence[Known],
) -> None:
    """Compare log-weights and gradients of the student's model with those of a recipe.

    Args:
        answer: the student's class, which takes `plain_parts`.
        recipe: a recipe of the package.
        cases: latent dimensions and batch size, case by case.
        scale: factor of the initial weights.
        mistakes: known mistakes, which the first case tells apart.

    Raises:
        Mistake: if a value or a gradient is wrong.
    """
    for number, (sizes, batch) in enumerate(cases):
        model = small_package(recipe, sizes, scale=scale)
        compare_models(
            answer,
            package_log_weight(model),
            plain_parts(model),
            (images(batch), noises(sizes, batch)),
            name="the log-weight",
            mistakes=() if number else mistakes,
        )


def log_px(x: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of binary pixels.

    Args:
        x: ``(B, D)``.
        logits: ``(B, D)``.

    Returns:
        ``(B,)``, nats.
    """
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)


def log_ratio(z: Tensor, q: Pair, p: Pair) -> Tensor:
    """Log-density of the prior minus that of the posterior at a draw.

    Args:
        z: ``(B, Z)``.
        q: the posterior.
        p: the prior.

    Returns:
        ``(B,)``, nats.
    """
    return log_normal(z, *p) - log_normal(z, *q)


def minus_kl(z: Tensor, q: Pair, p: Pair) -> Tensor:
    """The mean of `log_ratio` over draws from the posterior, in closed form.

    Args:
        z: a draw, which does not enter.
        q: the posterior.
        p: the prior.

    Returns:
        ``(B,)``, nats.
    """
    t = 2 * (q[1] - p[1])
    return -0.5 * (t.exp() - 1 - t + ((q[0] - p[0]) / p[1].exp()) ** 2).sum(dim=1)


def _raw(outputs: Tensor) -> Pair:
    return outputs.chunk(2, dim=1)


WRONG_SPLITS: dict[str, Callable[[Tensor], Pair]] = {
    "the raw log-scale is not bounded; use 7 tanh(raw / 7)": _raw,
    "the log-scale is clamped, which stops its gradient; use 7 tanh(raw / 7)": (
        lambda outputs: (_raw(outputs)[0], _raw(outputs)[1].clamp(-7, 7))
    ),
    "the bound is 1 here; the log-scale may go up to 7 in magnitude": (
        lambda outputs: (_raw(outputs)[0], _raw(outputs)[1].tanh())
    ),
    "the raw scale is not divided by 7 inside the tanh": (
        lambda outputs: (_raw(outputs)[0], 7 * _raw(outputs)[1].tanh())
    ),
    "both halves are bounded; bound the log-scale alone": (
        lambda outputs: (7 * (_raw(outputs)[0] / 7).tanh(), split_gaussian(outputs)[1])
    ),
    "the log-scale is halved, as if it were a log-variance; it is a log std": (
        lambda outputs: (split_gaussian(outputs)[0], split_gaussian(outputs)[1] / 2)
    ),
    "the halves are swapped; the second half of the outputs holds the raw scales": (
        lambda outputs: split_gaussian(torch.cat(_raw(outputs)[::-1], dim=1))
    ),
    "every second output is taken for a scale; the first half of the outputs holds no scales": (
        lambda outputs: split_gaussian(torch.cat([outputs[:, ::2], outputs[:, 1::2]], dim=1))
    ),
}
"""Mistakes in how a network's outputs become a mean and a log standard deviation."""

WRONG_DRAWS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "the noise is multiplied by log_std; multiply it by the standard deviation": (
        lambda mean, log_std, noise: mean + log_std * noise
    ),
    "the noise is multiplied by the variance; multiply it by the standard deviation": (
        lambda mean, log_std, noise: mean + (2 * log_std).exp() * noise
    ),
    "the draw halves log_std, as if it were a log-variance": (
        lambda mean, log_std, noise: mean + (log_std / 2).exp() * noise
    ),
    "z is the mean; the noise is missing": lambda mean, log_std, noise: mean,
    "z is the noise; it is the mean plus the standard deviation times the noise": (
        lambda mean, log_std, noise: noise
    ),
    "two calls with the same noise differ": (
        lambda mean, log_std, noise: mean + log_std.exp() * torch.randn_like(noise)
    ),
}
"""Mistakes in a draw from mean, log standard deviation and noise."""

WRONG_RATIOS: dict[str, Callable[[Tensor, Pair, Pair], Tensor]] = {
    "the signs of log q and log p are swapped": lambda z, q, p: -log_ratio(z, q, p),
    "log q is missing": lambda z, q, p: log_normal(z, *p),
    "log p is missing": lambda z, q, p: -log_normal(z, *q),
    "log q and log p are both added; the weight divides by q": (
        lambda z, q, p: log_normal(z, *p) + log_normal(z, *q)
    ),
    "the log-weight has closed-form KL terms; it has the log-densities at the draw": minus_kl,
    "every level has the prior N(0, I) here; use the p of the level": (
        lambda z, q, p: log_ratio(z, q, (0 * z, 0 * z))
    ),
    "log std is missing in the log-densities; it does not cancel": (
        lambda z, q, p: log_ratio(z, q, p) + (p[1] - q[1]).sum(dim=1)
    ),
    "the log-densities are averaged over the latent dimensions; sum them": (
        lambda z, q, p: log_ratio(z, q, p) / z.shape[1]
    ),
    "log std is taken for the standard deviation": (
        lambda z, q, p: log_ratio(z, (q[0], q[1].abs().log()), (p[0], p[1].abs().log()))
    ),
    "the variance is taken for the standard deviation": (
        lambda z, q, p: log_ratio(z, (q[0], 2 * q[1]), (p[0], 2 * p[1]))
    ),
    "log std is halved in the log-densities, as if it were a log-variance": (
        lambda z, q, p: log_ratio(z, (q[0], q[1] / 2), (p[0], p[1] / 2))
    ),
    "the log-densities are those at the mean of q; take them at the draw": (
        lambda z, q, p: log_ratio(q[0], q, p)
    ),
}
"""Mistakes in the term of a level in the log-weight."""

WRONG_PIXELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the reconstruction is averaged over the pixels; sum it": (
        lambda x, logits: log_px(x, logits) / x.shape[1]
    ),
    "the cross-entropy is added; the log-probability of x is minus the cross-entropy": (
        lambda x, logits: -log_px(x, logits)
    ),
    "the reconstruction is a squared error; binary pixels have a Bernoulli likelihood": (
        lambda x, logits: -((x - logits.sigmoid()) ** 2).sum(dim=1)
    ),
    "the reconstruction is missing": lambda x, logits: 0 * log_px(x, logits),
    "the sigmoid is applied twice; the decoder's outputs are logits": (
        lambda x, logits: log_px(x, logits.sigmoid())
    ),
    "the pixels that are 0 are left out of the reconstruction": (
        lambda x, logits: (x * F.logsigmoid(logits)).sum(dim=1)
    ),
}
"""Mistakes in the log-probability of the pixels."""
