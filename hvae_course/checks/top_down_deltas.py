"""Checks of chapter 3: a posterior relative to its prior, and its KL.

The usual mistakes concern the scale, so every case tells variances, standard deviations and their
logarithms apart.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.two_level_vae import kl_mistakes
from hvae_course.checks.verdict import Answer, checked, compare, compare_draws
from hvae_course.gaussians import diag_normal
from hvae_course.posteriors.delta import kl_delta

_SHAPES = ((6, 3), (4, 2), (1, 5), (5, 1), (3, 4))


def _delta(
    mean: Callable[..., Tensor] = lambda p_mean, p_std, shift, log_scale: p_mean + shift,
    std: Callable[..., Tensor] = lambda p_std, log_scale: p_std * log_scale.exp(),
) -> Answer:
    """The delta posterior, or a mistake in its mean or in its standard deviation."""

    def answer(
        p_mean: Tensor, p_std: Tensor, shift: Tensor, log_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        return mean(p_mean, p_std, shift, log_scale), std(p_std, log_scale)

    return answer


@checked
def delta_posterior(answer: Answer) -> str:
    r"""A posterior as the prior plus a correction, :eq:`eq-delta`.

    Write ``delta_posterior(p_mean, p_std, shift, log_scale) -> (mean, std)``: mean and standard
    deviation of :math:`q(z_l \mid x, z_{>l})`. All arguments and both results are ``(B, Z)``;
    ``shift`` is :math:`\Delta\mu` and ``log_scale`` is :math:`\log \Delta\sigma`, the logarithm
    of the factor on the standard deviation. Gradients must reach all four.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for case, shape in enumerate(_SHAPES):
        p_mean, shift = torch.randn(2, *shape)
        p_std, log_scale = (0.6 * torch.randn(shape)).exp(), 0.7 * torch.randn(shape)
        of = ""
        if case == 4:
            (shift, log_scale), of = torch.zeros(2, *shape), " with a zero delta"
        inputs, names = (p_mean, p_std, shift, log_scale), (f"the mean{of}", f"the std{of}")
        compare(answer, _delta(), inputs, name=names, mistakes=delta_posterior.mistakes)
        arguments = ("p_mean", "p_std", "shift", "log_scale")
        check_gradients(answer, _delta(), inputs, names=arguments)
    return f"agrees in {len(_SHAPES)} cases, gradients included; a zero delta gives the prior"


@delta_posterior.mistake("the std comes first; return the mean first, then the std")
def _(p_mean, p_std, shift, log_scale):
    return p_std * log_scale.exp(), p_mean + shift


for _hint, _mean in {
    "the mean is the shift alone; add it to the mean of the prior": lambda m, s, d, r: d,
    "the mean is that of the prior; the shift is missing": lambda m, s, d, r: m,
    "the shift is multiplied by p_std; in this chapter it is added without scaling": (
        lambda m, s, d, r: m + s * d
    ),
    "the shift is subtracted; add it to the mean of the prior": lambda m, s, d, r: m - d,
    "the shift is multiplied by the std of q; it is added without scaling": (
        lambda m, s, d, r: m + s * r.exp() * d
    ),
    "the mean is multiplied by the shift; add the shift": lambda m, s, d, r: m * d,
    "no gradient reaches p_mean": lambda m, s, d, r: m.detach() + d,
}.items():
    delta_posterior.mistake(_hint, _delta(mean=_mean))

for _hint, _std in {
    "this is the variance; return the standard deviation": lambda s, r: (s * r.exp()) ** 2,
    "this is the log of the std; return the standard deviation itself": lambda s, r: s.log() + r,
    "p_std is multiplied by log_scale without exp, so the std may even be negative": (
        lambda s, r: s * r
    ),
    "the std is the scale alone; multiply that of the prior by it": lambda s, r: r.exp(),
    "the std is that of the prior; the scale is missing": lambda s, r: s,
    "the log-scale is halved, as if it were a log-variance; it is the log of the factor on the "
    "standard deviation": lambda s, r: s * (0.5 * r).exp(),
    "the log-scale is doubled; it is the log of a factor on the std, not the variance": (
        lambda s, r: s * (2 * r).exp()
    ),
    "the scales are added; multiply p_std by the factor": lambda s, r: s + r.exp(),
    "the log-scale is added to the std; add it to log p_std, or multiply by exp": (
        lambda s, r: s + r
    ),
    "p_std is divided by the scale; multiply it": lambda s, r: s / r.exp(),
    "no gradient reaches p_std": lambda s, r: s.detach() * r.exp(),
}.items():
    delta_posterior.mistake(_hint, _delta(std=_std))


@delta_posterior.mistake("should be 2 values")
def _(p_mean, p_std, shift, log_scale):
    return p_mean + shift


def _kl(shift: Tensor, log_scale: Tensor, p_std: Tensor) -> Tensor:
    return kl_delta(shift, log_scale, diag_normal(torch.zeros_like(shift), p_std.log()))


@checked
def delta_kl(answer: Answer) -> str:
    r"""KL of a delta posterior, :eq:`eq-delta-kl`.

    Write ``delta_kl(shift, log_scale, p_std) -> (B,)``: the KL divergence of a delta posterior
    from its prior in nats per example. All arguments are ``(B, Z)``; ``shift`` is
    :math:`\Delta\mu`, ``log_scale`` is :math:`\log \Delta\sigma` and ``p_std`` the standard
    deviation of the prior. Gradients must reach all three.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for case, shape in enumerate((*_SHAPES, (2, 3))):
        shift, log_scale = torch.randn(shape), 0.7 * torch.randn(shape)
        p_std, name = (0.6 * torch.randn(shape)).exp(), "the KL"
        if case == 4:
            (shift, log_scale), name = torch.zeros(2, *shape), "the KL of a zero delta"
        inputs = (shift, log_scale, p_std)
        compare(answer, _kl, inputs, name=name, mistakes=delta_kl.mistakes)
        check_gradients(answer, _kl, inputs, names=("shift", "log_scale", "p_std"))
    q, p = diag_normal(shift, p_std.log() + log_scale), diag_normal(0 * shift, p_std.log())
    z = q.sample((100_000,))
    draws = q.log_prob(z) - p.log_prob(z)
    compare_draws(answer(*inputs), draws, name="the mean of log q - log p")
    return (
        f"agrees with the closed form in {len(_SHAPES) + 1} cases, gradients included, and with "
        "100,000 draws; the KL of a zero delta is zero"
    )


@delta_kl.mistake("this is KL(p || q); return KL(q || p)")
def _(shift, log_scale, p_std):
    ratio = (-2 * log_scale).exp()
    return 0.5 * (ratio * (shift / p_std) ** 2 + ratio - 1 - ratio.log()).sum(-1)


def _wrong_kl(
    distance: Callable[..., Tensor] = lambda d, s: (d / s) ** 2,
    spread: Callable[[Tensor], Tensor] = lambda r: (2 * r).exp() - 1 - 2 * r,
) -> Answer:
    """The KL, with a mistake in the term of the means or in that of the standard deviations."""

    def answer(shift: Tensor, log_scale: Tensor, p_std: Tensor) -> Tensor:
        return 0.5 * (distance(shift, p_std) + spread(log_scale)).sum(-1)

    return answer


for _hint, _distance in {
    "the shift is not divided by p_std; the KL measures it in units of p_std": lambda d, s: d**2,
    "the squared shift is divided by p_std; divide by p_std^2": lambda d, s: d**2 / s,
    "p_std is squared twice; it is a standard deviation, so divide by p_std^2": (
        lambda d, s: d**2 / s**4
    ),
    "the term of the shift is missing": lambda d, s: 0,
}.items():
    delta_kl.mistake(_hint, _wrong_kl(distance=_distance))

for _hint, _spread in {
    "the term of the scale is missing": lambda r: 0,
    "this takes the log of the scale; take the log of its square, twice as large": (
        lambda r: (2 * r).exp() - 1 - r
    ),
    "the sign of the logarithm is reversed": lambda r: (2 * r).exp() - 1 + 2 * r,
    "the log-scale is read as a log-variance; it is the log of the factor on the std": (
        lambda r: r.exp() - 1 - r
    ),
    "+1 stands where -1 belongs; the KL of a zero delta must be zero": (
        lambda r: (2 * r).exp() + 1 - 2 * r
    ),
}.items():
    delta_kl.mistake(_hint, _wrong_kl(spread=_spread))

delta_kl.mistakes += kl_mistakes(_kl)
