"""Checks of chapter 3: a posterior relative to its prior, and its KL.

The usual mistakes concern the scale, so every case tells variances, standard deviations and their
logarithms apart.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_course.checks.verdict import (
    as_sequence,
    checked,
    compare,
    compare_draws,
    compare_gradients,
    over_the_batch,
)
from hvae_course.gaussians import diag_normal

_SHAPES = ((6, 3), (4, 2), (1, 5), (5, 1), (3, 4))


@checked
def delta_posterior(answer: Callable[..., Sequence[Tensor]]) -> str:
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
        if case == 4:
            shift, log_scale = torch.zeros(2, *shape)
        inputs = [v.clone().requires_grad_() for v in (p_mean, p_std, shift, log_scale)]
        m, s, d, r = (v.double() for v in inputs)
        values = as_sequence(
            answer(*(v.clone() for v in inputs)), 2, name="the result (mean, std)"
        )
        mean, std = m + d, s * r.exp()
        mean_mistakes = [
            (std, "the std comes first; return the mean first, then the std"),
            (d, "the mean is the shift alone; add it to the mean of the prior"),
            (m, "the mean is that of the prior; the shift is missing"),
            (
                m + s * d,
                "the shift is multiplied by p_std; in this chapter it is added without scaling",
            ),
            (m - d, "the shift is subtracted; add it to the mean of the prior"),
            (m + std * d, "the shift is multiplied by the std of q; it is added without scaling"),
            (m * d, "the mean is multiplied by the shift; add the shift"),
        ]
        std_mistakes = [
            (std**2, "this is the variance; return the standard deviation"),
            (std.log(), "this is the log of the std; return the standard deviation itself"),
            (
                s * r,
                "p_std is multiplied by log_scale without exp, so the std may even be negative",
            ),
            (r.exp(), "the std is the scale alone; multiply that of the prior by it"),
            (s, "the std is that of the prior; the scale is missing"),
            (
                s * (0.5 * r).exp(),
                "the log-scale is halved, as if it were a log-variance; it is the log of the "
                "factor on the standard deviation",
            ),
            (
                s * (2 * r).exp(),
                "the log-scale is doubled; it is the log of a factor on the std, not the variance",
            ),
            (s + r.exp(), "the scales are added; multiply p_std by the factor"),
            (s + r, "the log-scale is added to the std; add it to log p_std, or multiply by exp"),
            (s * (-r).exp(), "p_std is divided by the scale; multiply it"),
        ]
        of = " with a zero delta" if case == 4 else ""
        compare(values[0], mean, name=f"the mean{of}", mistakes=mean_mistakes)
        compare(values[1], std, name=f"the std{of}", mistakes=std_mistakes)
        compare_gradients(values[0], mean, [inputs[0], inputs[2]], names=("p_mean", "shift"))
        compare_gradients(values[1], std, [inputs[1], inputs[3]], names=("p_std", "log_scale"))
    return f"agrees in {len(_SHAPES)} cases, gradients included; a zero delta gives the prior"


def _kl_mistakes(d: Tensor, r: Tensor, s: Tensor) -> list[tuple[Tensor, str]]:
    size = d.shape[1]
    scale = 0.5 * (torch.expm1(2 * r) - 2 * r)
    place = 0.5 * (d / s) ** 2
    right, kl = place + scale, (place + scale).sum(-1)
    return [
        (right, "this is one number per latent; add up the dimensions, the KL is one per example"),
        *over_the_batch(kl),
        (right.mean(-1), "this averages over the dimensions of the latent; a KL adds them up"),
        (
            (0.5 * d**2 + scale).sum(-1),
            "the shift is not divided by p_std; the KL measures it in units of p_std",
        ),
        (
            (0.5 * d**2 / s + scale).sum(-1),
            "the squared shift is divided by p_std; divide by p_std^2",
        ),
        (
            (0.5 * d**2 / s**4 + scale).sum(-1),
            "p_std is squared twice; it is a standard deviation, so divide by p_std^2",
        ),
        (
            (right + 0.5 * r).sum(-1),
            "this takes the log of the scale; take the log of its square, twice as large",
        ),
        ((right + 2 * r).sum(-1), "the sign of the logarithm is reversed"),
        (
            (place + 0.5 * (torch.expm1(r) - r)).sum(-1),
            "the log-scale is read as a log-variance; it is the log of the factor on the std",
        ),
        (-kl, "the sign is reversed; a KL divergence is never negative"),
        (2 * kl, "this is twice the KL; the factor 1/2 is missing"),
        (kl + size, "+1 stands where -1 belongs; the KL of a zero delta must be zero"),
        (
            kl + 0.5 * size,
            "the -1 of every dimension is missing; the KL of a zero delta must be zero",
        ),
        (kl + 0.5 * (size - 1), "the -1 belongs inside the sum, once per dimension"),
        (scale.sum(-1), "the term of the shift is missing"),
        (place.sum(-1), "the term of the scale is missing"),
        (
            (0.5 * (d / (s * r.exp())) ** 2 + 0.5 * (torch.expm1(-2 * r) + 2 * r)).sum(-1),
            "this is KL(p || q); return KL(q || p)",
        ),
    ]


@checked
def delta_kl(answer: Callable[..., Tensor]) -> str:
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
        p_std = (0.6 * torch.randn(shape)).exp()
        if case == 4:
            shift, log_scale = torch.zeros(2, *shape)
        inputs = [v.clone().requires_grad_() for v in (shift, log_scale, p_std)]
        d, r, s = (v.double() for v in inputs)
        value = answer(*(v.clone() for v in inputs))
        expected = 0.5 * (torch.expm1(2 * r) - 2 * r + (d / s) ** 2).sum(-1)
        name = "the KL of a zero delta" if case == 4 else "the KL"
        compare(value, expected, name=name, mistakes=_kl_mistakes(d, r, s))
        compare_gradients(value, expected, inputs, names=("shift", "log_scale", "p_std"))
    q, p = diag_normal(d.detach(), (s.log() + r).detach()), diag_normal(0 * d, s.detach().log())
    z = q.sample((100_000,))
    compare_draws(value, q.log_prob(z) - p.log_prob(z), name="the mean of log q - log p")
    return (
        f"agrees with the closed form in {len(_SHAPES) + 1} cases, gradients included, and with "
        "100,000 draws; the KL of a zero delta is zero"
    )
