"""Checks of chapter 5: one downward pass by concatenation, and the information of its levels."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import Mistake, as_sequence, as_tensor, checked, compare
from hvae_course.gaussians import diag_normal

_WIDTH = 64
_DRAWS = 50_000

_Head = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Walk:
    """Arguments of a downward pass: features, heads and noise, those of z_1 first."""

    features: list[Tensor]
    heads: list[_Head]
    noise: list[Tensor]

    def copies(self) -> tuple[list[Tensor], list[_Head], list[Tensor]]:
        """Arguments for the student's function, which may change its own lists."""
        return [d.clone() for d in self.features], [*self.heads], [e.clone() for e in self.noise]


def _head(size: int) -> _Head:
    """A random head that takes any width, so a wrong state gives wrong numbers and no error."""
    to_mean, to_log_std = (0.6 * torch.randn(2, _WIDTH, size)).unbind()

    def head(features: Tensor) -> tuple[Tensor, Tensor]:
        width = features.shape[-1]
        mean = torch.tanh(features @ to_mean[:width].to(features))
        return mean, (0.3 * torch.tanh(features @ to_log_std[:width].to(features)) - 0.5).exp()

    return head


def _make_walk(sizes: Sequence[int], widths: Sequence[int], batch: int) -> _Walk:
    return _Walk(
        [torch.randn(batch, width) for width in widths],
        [_head(size) for size in sizes],
        [torch.randn(batch, size) for size in sizes],
    )


def _walk_down(
    walk: _Walk,
    *,
    order: Callable[[range], Iterator[int]] = reversed,
    state: Callable[[list[Tensor]], list[Tensor]] = list,
    join: Callable[[Tensor, list[Tensor]], list[Tensor]] = lambda d, h: [d, *h],
    feature: Callable[[int, int], int] = lambda l, top: l,
    noise: Callable[[int, int], int] = lambda l, top: l,
    spread: Callable[[Tensor], Tensor] = lambda std: std,
    carry: Callable[[Tensor, Tensor], Tensor] = lambda z, mean: z,
) -> Tensor:
    """All latents of a pass side by side, ``(B, sum Z_l)``, right or with one known mistake."""
    number = len(walk.heads)
    above, levels = [], [walk.noise[0]] * number
    for l in order(range(number)):
        d = walk.features[feature(l, number - 1)]
        mean, std = walk.heads[l](torch.cat(join(d, state(above)), dim=-1))
        levels[l] = mean + spread(std) * walk.noise[noise(l, number - 1)]
        above.append(carry(levels[l], mean))
    return torch.cat(levels, dim=-1)


def _backwards(l: int, top: int) -> int:
    return top - l


_MISTAKES = {
    "the pass goes upward; draw z_L first and z_1 last": [
        {"order": iter},
        {"order": iter, "state": lambda above: above[-1:]},
        {"order": iter, "state": lambda above: above[::-1]},
    ],
    "the state holds z_{l+1} alone (Markov); a skip state holds all latents above": [
        {"state": lambda above: above[-1:]}
    ],
    "the state stays empty; append each latent after it is drawn": [{"state": lambda above: []}],
    "the state holds the latents in another order; use the order in which they are drawn, "
    "z_L first": [{"state": lambda above: above[::-1]}],
    "the state holds the top latent alone; append each latent after it is drawn": [
        {"state": lambda above: above[:1]}
    ],
    "the state stands before the feature; concatenate [d_l, h]": [
        {"join": lambda d, h: [*h, d]},
    ],
    "below the top the feature is not used; every head reads [d_l, h]": [
        {"join": lambda d, h: h or [d]}
    ],
    "a level reads the feature of another level; features[l - 1] belongs to z_l": [
        {"feature": _backwards},
        {"feature": lambda l, top: top},
        {"feature": lambda l, top: 0},
        {"feature": lambda l, top: max(l - 1, 0)},
        {"feature": lambda l, top: min(l + 1, top)},
        {"feature": lambda l, top: l - 1},
    ],
    "a level uses the noise of another level; noise[l - 1] belongs to z_l": [
        {"noise": _backwards},
        {"noise": lambda l, top: l - 1},
    ],
    "std is treated as a log std; the heads give the standard deviation": [
        {"spread": torch.exp},
    ],
    "std is treated as a variance; the heads give the standard deviation": [
        {"spread": torch.sqrt},
    ],
    "the noise is scaled by the variance; return mean + std * noise": [
        {"spread": torch.square},
    ],
    "the noise is not used; return mean + std * noise": [{"spread": torch.zeros_like}],
    "the std is not used; return mean + std * noise": [{"spread": torch.ones_like}],
    "the state holds means; the levels below must see the latents that were drawn": [
        {"carry": lambda z, mean: mean}
    ],
}


def _check_walk(answer: Callable[..., object], walk: _Walk, hints: bool) -> None:
    right = _walk_down(walk)
    sizes = [e.shape[-1] for e in walk.noise]
    value = answer(*walk.copies())
    if isinstance(value, Tensor):
        raise Mistake("this is one tensor; return a list with one latent per level")
    values = as_sequence(value, len(sizes), name="the list of latents")
    pairs = zip(values, walk.noise, strict=True)
    latents = [as_tensor(v, e.shape, name=f"z_{l}") for l, (v, e) in enumerate(pairs, start=1)]
    found = []
    if hints:
        top_first = torch.cat(right.split(sizes, dim=-1)[::-1], dim=-1)
        found.append((top_first, "this is in the order of drawing, z_L first; return z_1 first"))
        for hint, variants in _MISTAKES.items():
            found += [(_walk_down(walk, **variant), hint) for variant in variants]
    compare(torch.cat(latents, dim=-1), right, name="a latent", mistakes=found)
    number = len(sizes)

    def given(*parts: Tensor) -> _Walk:
        return replace(walk, features=[*parts[:number]], noise=[*parts[number:]])

    names = [f"{name}_{l}" for name in ("d", "noise") for l in range(1, number + 1)]
    check_gradients(
        lambda *parts: torch.cat([*answer(*given(*parts).copies())], dim=-1),
        lambda *parts: [_walk_down(given(*parts))],
        [*walk.features, *walk.noise],
        names=names,
    )


@checked
def concatenated(answer: Callable[..., object]) -> str:
    r"""The downward pass of a concatenation posterior (:eq:`eq-concatenation`).

    Write ``concatenated(features, heads, noise) -> [z_1, ..., z_L]`` for any number of levels.
    All lists begin with the entry of z_1: ``features`` holds d_1, ..., d_L, each ``(B, F_l)``;
    ``noise`` holds standard normal numbers, each ``(B, Z_l)``; ``heads[l - 1]`` maps
    ``torch.cat([d_l, h], dim=-1)`` to the mean and the standard deviation of
    ``q(z_l | x, z_>l)``. The state h holds all latents above, side by side in the order in which
    they are drawn, z_L first (skip in :eq:`eq-two-paths`); at the top it is empty, so the
    head reads d_L alone. Each latent is mean + std * noise (:eq:`eq-reparametrisation`).

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    _check_walk(answer, _make_walk((2, 2, 2), (3, 3, 3), batch=4), hints=True)
    for sizes, widths in (((3,), (4,)), ((2, 1), (3, 5)), ((4, 3, 2, 2, 1), (6, 5, 4, 3, 2))):
        walk = _make_walk(sizes, widths, batch=5)
        try:
            _check_walk(answer, walk, hints=False)
        except (Mistake, IndexError) as error:
            raise Mistake(
                f"right for L = 3 levels of one size, wrong for L = {len(sizes)} with sizes "
                f"{sizes}: {error}"
            ) from None
    return "every latent is right for 1, 2, 3 and 5 levels, of equal and of different sizes"


def _gaussians(sizes: Sequence[int], batch: int) -> list[Independent]:
    draws = [torch.randn(2, batch, size).unbind() for size in sizes]
    return [diag_normal(mean, 0.5 * log_std) for mean, log_std in draws]


def _estimates(z: list[Tensor], q: list[Independent], p: list[Independent]) -> Tensor:
    return torch.stack(
        [q_l.log_prob(z_l) - p_l.log_prob(z_l) for z_l, q_l, p_l in zip(z, q, p, strict=True)]
    )


def _check_information(answer: Callable[..., object], sizes: Sequence[int]) -> None:
    """Compare with log q - log p, and with what the usual mistakes give."""
    levels, batch = len(sizes), 6
    q, p = _gaussians(sizes, batch), _gaussians(sizes, batch)
    z = [q_l.sample() for q_l in q]
    right = _estimates(z, q, p)  # (L, B)
    value = answer([z_l.clone() for z_l in z], [*q], [*p])
    if isinstance(value, Tensor):
        alone = value.detach().cpu().double()
        for wrong, hint in (
            (right.sum(dim=0), "this sums over the levels; return a list, one (B,) per level"),
            (right.T, "the levels run along the second axis; return a list, z_1 first"),
            (right.sum(dim=0).mean(), "this is one number; return one per level and example"),
            (right.mean(dim=1), "this is the mean over the batch; return one value per example"),
        ):
            if alone.shape == wrong.shape and torch.allclose(alone, wrong.double(), 1e-4, 1e-4):
                raise Mistake(hint)
    values = as_sequence(value, levels, name="the list over levels")
    if all(isinstance(v, Tensor) and v.dim() == 0 for v in values):
        means = torch.stack([v.detach().cpu().double() for v in values])
        for wrong, hint in (
            (right.mean(dim=1), "this is the mean over the batch; return one value per example"),
            (right.sum(dim=1), "this sums over the batch; return one value per example"),
        ):
            if torch.allclose(means, wrong.double(), 1e-4, 1e-4):
                raise Mistake(hint)
    values = torch.stack(
        [as_tensor(v, (batch,), name=f"the information of z_{l}") for l, v in enumerate(values, 1)]
    )
    log_q = torch.stack([q_l.log_prob(z_l) for z_l, q_l in zip(z, q, strict=True)])
    log_p = torch.stack([p_l.log_prob(z_l) for z_l, p_l in zip(z, p, strict=True)])
    found = [
        (-right, "this is log p - log q; information is log q - log p"),
        (
            torch.stack([kl_divergence(*pair) for pair in zip(q, p, strict=True)]),
            "this is the closed-form KL, the same for every draw; return the value at z",
        ),
        (right.abs(), "this is the absolute value; a one-draw estimate may be negative"),
        (right.clamp(min=0), "this is cut off at zero; a one-draw estimate may be negative"),
        (log_q, "this is log q alone; subtract log p"),
        (-log_p, "this is -log p alone; add log q"),
        (log_q + log_p, "the log-densities are added; information is log q - log p"),
        (log_q / log_p, "this divides log-densities; the log of a ratio is a difference"),
        (right.exp(), "this is q / p; return its logarithm"),
        (right.flip(0), "the list begins with z_L; return z_1 first"),
    ]
    if len(set(sizes)) == 1:
        for shift, where in ((1, "below"), (-1, "above")):
            wrong = _estimates(z, q, [p[(l - shift) % levels] for l in range(levels)])
            hint = f"p is taken from the level {where}; z_l belongs to p[l - 1] and q[l - 1]"
            found.append((wrong, hint))
        found.append((_estimates(z, q, p[::-1]), "p is read from the top; p[0] belongs to z_1"))
        dimensions = sizes[0]
        found.append(
            (
                right / dimensions,
                "this is divided by the number of dimensions of z_l; return nats per example",
            )
        )
    compare(values, right, name="the information of a level", mistakes=found)
    check_gradients(
        lambda *z: answer([*z], [*q], [*p]),
        lambda *z: [_estimates([*z], q, p)],
        z,
        names=[f"z_{l}" for l in range(1, levels + 1)],
    )


@checked
def level_information(answer: Callable[..., object]) -> str:
    r"""The information of each level, from one draw (:eq:`eq-information`).

    Write ``level_information(z, q, p) -> list`` of L tensors ``(B,)``, nats per example. All
    lists begin with the entry of z_1: ``z`` holds the latents that were drawn, each ``(B, Z_l)``;
    ``q`` and ``p`` hold ``torch.distributions`` whose ``log_prob`` gives ``(B,)``. The estimate is
    log q - log p at the latent that was drawn. Single values may be negative.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for sizes in ((2, 2, 2), (4, 3, 2, 1), (3,)):
        _check_information(answer, sizes)
    (q,), (p,) = _gaussians((2,), 1), _gaussians((2,), 1)
    z = q.sample((_DRAWS,)).squeeze(1)
    at_z = functools.partial(as_tensor, shape=(_DRAWS,), name="the information of z_1")
    (value,) = as_sequence(answer([z], [q], [p]), 1, name="the list over levels")
    draws = at_z(value)
    error = draws.std() / _DRAWS**0.5
    if (draws.mean() - kl_divergence(q, p).item()).abs() > 5 * error:
        raise Mistake("right for single draws, but the mean over many is not KL(q || p)")
    return (
        "agrees with log q - log p in 48 values, and its mean over "
        f"{_DRAWS:,} draws with the closed-form KL"
    )
