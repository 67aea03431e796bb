"""Check of the KL divergence of a residual posterior whose sums are squashed."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    as_tensor,
    checked,
    compare,
    compare_cases,
    copies,
    over_the_batch,
)
from hvae_course.gaussians import kl_normal
from hvae_course.posteriors import squashed_normal
from hvae_course.posteriors.delta import kl_delta

_ARGUMENTS = ("mean", "raw", "mean_shift", "raw_shift")


@checked
def squashed_kl(answer: Answer) -> str:
    r"""The KL divergence of a squashed residual posterior from its prior (:eq:`eq-clamped`).

    Write ``squashed_kl(mean, raw, mean_shift, raw_shift) -> (B,)``, in nats: KL(q || p) of
    :math:`q = N(\mathrm{sq}(\mu_p + \Delta\mu), (e^{\mathrm{sq}(\xi + \Delta\xi)} + 0.01)^2)` and
    :math:`p = N(\mathrm{sq}(\mu_p), (e^{\mathrm{sq}(\xi)} + 0.01)^2)` with :math:`\mathrm{sq}(a) =
    5 \tanh(a / 5)`. All arguments have the shape ``(B, Z)``, or
    ``(B, C, H, W)`` for maps.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    vectors, maps = torch.randn(4, 6, 3).float(), torch.randn(4, 5, 2, 3, 3).float()
    vectors[:, 0, 0] = torch.tensor([0.0, -7.0, 0.005, 0.5])  # the floor shows
    cases = [(2 * vectors).unbind(), maps.unbind()]
    name, hints = "the KL divergence", [*over_the_batch(_right), *squashed_kl.mistakes]
    compare_cases(answer, _right, cases, name=name, mistakes=hints)
    check_gradients(answer, _right, cases[0], names=_ARGUMENTS)
    m, s = vectors[:2]
    zero = as_tensor(answer(*copies((m, s, 0 * m, 0 * s))), (6,), name=name)
    if zero.abs().max() > 1e-6:
        raise Mistake(f"without a shift q is p, and the KL divergence 0; yours is {zero[0]:.2g}")
    far = torch.tensor([[-60.0, 60.0]]).float()
    compare(answer, _right, (far, far.flip(1), -far, far), name=f"{name} far beyond the bound")
    wrong = (_closed(*vectors.unbind()) - _right(*vectors.unbind())).abs().mean()
    return (
        "right for vectors and for maps, 0 without a shift, and finite for raw values of 60; the "
        f"formula of chapter 3 is {wrong:.2f} nats off on average"
    )


def _squash(a: Tensor) -> Tensor:
    return 5 * torch.tanh(a / 5)


def _kl(
    mean: Callable[[Tensor, Tensor], Tensor] = lambda m, d: _squash(m + d),
    scale: Callable[[Tensor, Tensor], Tensor] = lambda s, d: _squash(s + d),
    std: Callable[[Tensor], Tensor] = lambda log: log.exp() + 0.01,
    result: Callable[..., Tensor] = lambda t, ratio: (t.exp() - 1 - t + ratio**2) / 2,
    total: Callable[[Tensor], Tensor] = lambda each: each.flatten(1).sum(dim=1),
) -> Answer:
    """The KL divergence, or a mistake in a part of it."""

    def answer(m: Tensor, s: Tensor, shift_m: Tensor, shift_s: Tensor) -> Tensor:
        q, p = std(scale(s, shift_s)), std(scale(s, 0 * s))
        ratio = (mean(m, shift_m) - mean(m, 0 * m)) / p
        return total(result(2 * (q / p).log(), ratio))

    return answer


def _right(m: Tensor, s: Tensor, shift_m: Tensor, shift_s: Tensor) -> Tensor:
    return kl_normal(squashed_normal(m + shift_m, s + shift_s), squashed_normal(m, s))


def _closed(m: Tensor, s: Tensor, shift_m: Tensor, shift_s: Tensor) -> Tensor:
    """The formula of chapter 3, as if q were p, shifted and scaled."""
    return kl_delta(shift_m, shift_s, squashed_normal(m, s))


squashed_kl.mistake(
    "this is the closed form of a delta with the two shifts; the sums are squashed, so "
    "q is not p, shifted and scaled: use the general KL divergence",
    _closed,
)
for _hint, _wrong in {
    "the shifts are squashed by themselves; squash mean + mean_shift and raw + raw_shift": _kl(
        lambda m, d: _squash(m) + _squash(d), lambda s, d: _squash(s) + _squash(d)
    ),
    "only mean and raw are squashed; squash mean + mean_shift and raw + raw_shift": _kl(
        lambda m, d: _squash(m) + d, lambda s, d: _squash(s) + d
    ),
    "the means are not squashed": _kl(mean=lambda m, d: m + d),
    "the log-scales are not squashed": _kl(scale=lambda s, d: s + d),
    "neither means nor log-scales are squashed": _kl(lambda m, d: m + d, lambda s, d: s + d),
    "the sums are cut off at 5; squash them smoothly, 5 tanh(a / 5)": _kl(
        lambda m, d: (m + d).clamp(-5, 5), lambda s, d: (s + d).clamp(-5, 5)
    ),
    "the argument of the tanh is not divided by 5": _kl(
        lambda m, d: 5 * torch.tanh(m + d), lambda s, d: 5 * torch.tanh(s + d)
    ),
    "this is KL(p || q); it is KL(q || p)": (
        lambda m, s, a, b: kl_normal(squashed_normal(m, s), squashed_normal(m + a, s + b))
    ),
    "0.01 is missing in the standard deviations": _kl(std=torch.exp),
    "0.01 is added to the variances; it belongs to the standard deviations": _kl(
        std=lambda log: ((2 * log).exp() + 0.01).sqrt()
    ),
    "the standard deviations are at least 0.01 here; 0.01 is added to them": _kl(
        std=lambda log: log.exp().clamp(min=0.01)
    ),
    "the log-scale is taken for a log-variance; its exponential is a standard deviation": _kl(
        std=lambda log: (log / 2).exp() + 0.01
    ),
    "the difference of the means is not squared": _kl(
        result=lambda t, ratio: (t.exp() - 1 - t + ratio) / 2
    ),
    "the factor 1/2 is missing": _kl(result=lambda t, ratio: t.exp() - 1 - t + ratio**2),
    "the difference of the means is missing": _kl(result=lambda t, ratio: (t.exp() - 1 - t) / 2),
    "this averages over the dimensions; sum them": _kl(
        total=lambda each: each.flatten(1).mean(dim=1)
    ),
    "this sums over axis 1 alone; a map has positions too": _kl(total=lambda each: each.sum(1)),
    "the last axis alone is summed; a map has channels too": _kl(total=lambda each: each.sum(-1)),
}.items():
    squashed_kl.mistake(_hint, _wrong)


@squashed_kl.mistake("no gradient reaches mean")
def _(m, s, shift_m, shift_s):
    return _right(m.detach(), s, shift_m, shift_s)


@squashed_kl.mistake(
    "the standard deviation of q is relative to that of p; squash the sum of the log-scales"
)
def _(m, s, shift_m, shift_s):
    mean, std = _squash(m + shift_m), (_squash(s).exp() + 0.01) * shift_s.exp()
    p = squashed_normal(m, s)
    t = 2 * (std / p.stddev).log()
    each = (t.exp() - 1 - t + ((mean - p.mean) / p.stddev) ** 2) / 2
    return each.flatten(1).sum(dim=1)
