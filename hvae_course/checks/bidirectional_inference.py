"""Checks of chapter 5: one downward pass by concatenation, and the information of its levels."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import Answer, Mistake, as_tensor, checked, compare, copies
from hvae_course.gaussians import diag_normal

_WIDTH = 64
_DRAWS = 50_000
_ALL = slice(None)

_Head = Callable[[Tensor], tuple[Tensor, Tensor]]


@checked
def concatenated(answer: Answer) -> str:
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
    _check_pass(answer, sizes=(2, 2, 2), widths=(3, 3, 3), batch=4)
    for sizes, widths in (((3,), (4,)), ((2, 1), (3, 5)), ((4, 3, 2, 2, 1), (6, 5, 4, 3, 2))):
        try:
            _check_pass(answer, sizes, widths, batch=5)
        except (Mistake, IndexError) as error:
            raise Mistake(
                f"right for L = 3 levels of one size, wrong for L = {len(sizes)} with sizes "
                f"{sizes}: {error}"
            ) from None
    return "every latent is right for 1, 2, 3 and 5 levels, of equal and of different sizes"


def _head(size: int) -> _Head:
    """A random head that takes any width, so a wrong state gives wrong numbers and no error."""
    to_mean, to_log_std = (0.6 * torch.randn(2, _WIDTH, size)).unbind()

    def head(features: Tensor) -> tuple[Tensor, Tensor]:
        width = features.shape[-1]
        mean = torch.tanh(features @ to_mean[:width].to(features))
        return mean, (0.3 * torch.tanh(features @ to_log_std[:width].to(features)) - 0.5).exp()

    return head


def _check_pass(answer: Answer, sizes: Sequence[int], widths: Sequence[int], batch: int) -> None:
    number = len(sizes)
    features = [torch.randn(batch, width) for width in widths]
    heads = [_head(size) for size in sizes]
    noise = [torch.randn(batch, size) for size in sizes]
    if isinstance(answer(*copies([features, heads, noise])), Tensor):
        raise Mistake("this is one tensor; return a list with one latent per level")
    names = [f"z_{l}" for l in range(1, number + 1)]
    mistakes = concatenated.mistakes if number == 3 else ()
    compare(answer, _right_pass, (features, heads, noise), name=names, mistakes=mistakes)

    def of_tensors(function: Answer) -> Answer:
        return lambda *parts: function([*parts[:number]], [*heads], [*parts[number:]])

    names = [f"{name}_{l}" for name in ("d", "noise") for l in range(1, number + 1)]
    inputs = [*features, *noise]
    check_gradients(of_tensors(answer), of_tensors(_right_pass), inputs, names=names)


def _pass(
    *,
    order: Callable[[range], Iterator[int]] = reversed,
    state: slice = _ALL,
    join: Callable[[Tensor, list[Tensor]], list[Tensor]] = lambda d, h: [d, *h],
    spread: Callable[[Tensor], Tensor] = lambda std: std,
    carry: Callable[[Tensor, Tensor], Tensor] = lambda z, mean: z,
) -> Answer:
    """The downward pass, right or with one part exchanged."""

    def answer(features: list[Tensor], heads: list[_Head], noise: list[Tensor]) -> list[Tensor]:
        above, z = [], [*noise]
        for l in order(range(len(heads))):
            mean, std = heads[l](torch.cat(join(features[l], above[state]), dim=-1))
            z[l] = mean + spread(std) * noise[l]
            above.append(carry(z[l], mean))
        return z

    return answer


_right_pass = _pass()


@concatenated.mistake("the pass goes upward; draw z_L first and z_1 last")
def _(features, heads, noise):
    z = []
    for d, head, e in zip(features, heads, noise, strict=True):
        mean, std = head(torch.cat([d, *z], dim=-1))
        z.append(mean + std * e)
    return z


for _hint, _parts in {
    "the pass goes upward; draw z_L first and z_1 last": {"order": iter, "state": slice(-1, None)},
    "the state is z_{l+1} alone (Markov); keep all latents above": {"state": slice(-1, None)},
    "the state stays empty; append each latent after it is drawn": {"state": slice(0)},
    "the state holds the latents in another order; use the order in which they are drawn, "
    "z_L first": {"state": slice(None, None, -1)},
    "the state is z_L alone; append each latent after it is drawn": {"state": slice(1)},
    "the state stands before the feature; concatenate [d_l, h]": {"join": lambda d, h: [*h, d]},
    "below z_L the feature is missing; concatenate [d_l, h]": {"join": lambda d, h: h or [d]},
    "std is treated as a log std; the heads give the standard deviation": {"spread": torch.exp},
    "std is treated as a variance; the heads give the standard deviation": {"spread": torch.sqrt},
    "the noise is scaled by the variance; return mean + std * noise": {"spread": torch.square},
    "the noise is not used; return mean + std * noise": {"spread": torch.zeros_like},
    "the std is not used; return mean + std * noise": {"spread": torch.ones_like},
    "the state holds means; append the latents that are drawn": {"carry": lambda z, mean: mean},
}.items():
    concatenated.mistake(_hint)(_pass(**_parts))

for _of in (
    lambda d: d[::-1],
    lambda d: d[-1:] * len(d),
    lambda d: d[:1] * len(d),
    lambda d: d[-1:] + d[:-1],
    lambda d: d[1:] + d[-1:],
):
    concatenated.mistake(
        "a level reads the feature of another level; features[l - 1] belongs to z_l"
    )(lambda d, heads, noise, of=_of: _right_pass(of(d), heads, noise))

for _hint, _wrong in {
    "a level uses the noise of another level; noise[l - 1] belongs to z_l": (
        lambda d, heads, noise: _right_pass(d, heads, noise[::-1])
    ),
    "this begins with z_L; return z_1 first": lambda *lists: _right_pass(*lists)[::-1],
    "should be 3 values": lambda *lists: _right_pass(*lists)[:1],
    "this is one tensor; return a list with one latent per level": (
        lambda *lists: torch.cat(_right_pass(*lists), dim=-1)
    ),
    "wrong for L = 1": lambda d, *rest: _right_pass([d[l] for l in range(3)], *rest),
    "wrong for L = 5": lambda *lists: _right_pass(*(part[:3] for part in lists)),
}.items():
    concatenated.mistake(_hint)(_wrong)


@checked
def level_information(answer: Answer) -> str:
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
        q, p = _gaussians(sizes, batch=6), _gaussians(sizes, batch=6)
        z = [q_l.sample() for q_l in q]
        name, known = "the information of a level", level_information.mistakes
        compare(answer, _right_information, (z, q, p), name=name, mistakes=known)
        check_gradients(
            lambda *z, q=q, p=p: answer([*z], [*q], [*p]),
            lambda *z, q=q, p=p: _right_information(z, q, p),
            z,
            names=[f"z_{l}" for l in range(1, len(sizes) + 1)],
        )
    (q,), (p,) = _gaussians((2,), batch=1), _gaussians((2,), batch=1)
    z = q.sample((_DRAWS,)).squeeze(1)
    (draws,) = as_tensor(answer([z], [q], [p]), (1, _DRAWS), name="the information of z_1")
    error = draws.std() / _DRAWS**0.5
    if (draws.mean() - kl_divergence(q, p).item()).abs() > 5 * error:
        raise Mistake("right for single draws, but the mean over many is not KL(q || p)")
    return (
        "agrees with log q - log p in 48 values, and its mean over "
        f"{_DRAWS:,} draws with the closed-form KL"
    )


def _gaussians(sizes: Sequence[int], batch: int) -> list[Independent]:
    draws = [torch.randn(2, batch, size).unbind() for size in sizes]
    return [diag_normal(mean, 0.5 * log_std) for mean, log_std in draws]


def _log_densities(z: Sequence[Tensor], distributions: Sequence[Independent]) -> Tensor:
    pairs = zip(z, distributions, strict=True)
    return torch.stack([distribution.log_prob(z_l) for z_l, distribution in pairs])  # (L, B)


def _right_information(
    z: Sequence[Tensor], q: Sequence[Independent], p: Sequence[Independent]
) -> Tensor:
    return _log_densities(z, q) - _log_densities(z, p)


@level_information.mistake("this is log p - log q; information is log q - log p")
def _(z, q, p):
    return [c.log_prob(a) - b.log_prob(a) for a, b, c in zip(z, q, p, strict=True)]


for _hint, _of in {
    "p is that of the level below; p[l - 1] belongs to z_l": lambda p: p[-1:] + p[:-1],
    "p is that of the level above; p[l - 1] belongs to z_l": lambda p: p[1:] + p[:1],
    "p is read from the top; p[0] belongs to z_1": lambda p: p[::-1],
}.items():
    level_information.mistake(_hint)(lambda z, q, p, of=_of: _right_information(z, q, of(p)))

for _hint, _wrong in {
    "this is the closed-form KL, the same for every draw; return the value at z": (
        lambda z, q, p: [kl_divergence(*pair) for pair in zip(q, p, strict=True)]
    ),
    "this is divided by the number of dimensions of z_l; return nats per example": (
        lambda z, q, p: _right_information(z, q, p) / z[0].shape[-1]
    ),
    "this is log q alone; subtract log p": lambda z, q, p: _log_densities(z, q),
    "this is -log p alone; add log q": lambda z, q, p: -_log_densities(z, p),
    "the log-densities are added; information is log q - log p": (
        lambda z, q, p: _log_densities(z, q) + _log_densities(z, p)
    ),
    "this divides log-densities; the log of a ratio is a difference": (
        lambda z, q, p: _log_densities(z, q) / _log_densities(z, p)
    ),
}.items():
    level_information.mistake(_hint)(_wrong)

for _hint, _of in {
    "this is the absolute value; a one-draw estimate may be negative": torch.abs,
    "this is cut off at zero; a one-draw estimate may be negative": torch.relu,
    "this is q / p; return its logarithm": torch.exp,
    "the list begins with z_L; return z_1 first": lambda right: right.flip(0),
    "this sums over the levels; return a list, one (B,) per level": lambda right: right.sum(0),
    "the levels run along the second axis; return a list, z_1 first": torch.t,
    "this is one number; return one per level and example": lambda right: right.sum(0).mean(),
    "this is the mean over the batch; return one value per example": lambda right: right.mean(1),
    "this sums over the batch; return one value per example": lambda right: right.sum(1),
    "no gradient passes through it": torch.detach,
}.items():
    level_information.mistake(_hint)(lambda *inputs, of=_of: of(_right_information(*inputs)))
