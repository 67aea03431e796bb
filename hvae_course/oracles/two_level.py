"""Both objectives of chapter 1 on a two-level chain, without a sample."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TwoLevelTerms:
    """What two estimators converge to on a two-level chain, in nats; see `two_level_terms`."""

    elbo: Tensor
    """The evidence lower bound of the joint q(z_1 | x) q(z_2 | z_1)."""
    closed_form: Tensor
    """Expectation of the objective with KL(q(z_1 | x) || p(z_1 | z_2)) in closed form."""
    elbo_of_marginals: Tensor
    """The evidence lower bound of the product q(z_1 | x) q(z_2 | x)."""
    mutual_information: Tensor
    """I_q(z_1; z_2 | x)."""
    information_2: Tensor
    """Information of z_2, the mean of KL(q(z_2 | z_1) || p(z_2)) over q(z_1 | x)."""


def two_level_terms(
    x: Tensor,
    *,
    slopes: tuple[Tensor | float, Tensor | float],
    variances: tuple[Tensor | float, Tensor | float],
    mean: Tensor,
    variance: Tensor,
    gain: Tensor,
    offset: Tensor,
    residual: Tensor,
) -> TwoLevelTerms:
    r"""Exact values of both objectives for a linear-Gaussian q (:eq:`eq-trap`).

    .. math:: q(z_1 \mid x) = N(\text{mean}, \text{variance}), \qquad
              q(z_2 \mid z_1) = N(\text{gain}\, z_1 + \text{offset}, \text{residual})

    Args:
        x: data, any shape; everything is element by element and may need gradients.
        slopes: ``(a_0, a_1)`` of the chain, as in `LinearGaussian`.
        variances: ``(s_0, s_1)`` of the chain.
        mean: mean of q(z_1 | x).
        variance: variance of q(z_1 | x).
        gain: slope of q(z_2 | z_1).
        offset: offset of q(z_2 | z_1).
        residual: variance of q(z_2 | z_1).

    Returns:
        The four terms, each of the broadcast shape.
    """
    (a0, a1), (s0, s1) = slopes, variances
    mean2, variance2, cov = gain * mean + offset, gain**2 * variance + residual, gain * variance

    def log(value: Tensor | float) -> Tensor:
        return torch.log(torch.as_tensor(value, dtype=variance.dtype))

    log_2pi = math.log(2 * math.pi)
    reconstruction = -0.5 * (log_2pi + log(s0) + ((x - a0 * mean) ** 2 + a0**2 * variance) / s0)
    entropy1 = 0.5 * (log_2pi + 1 + log(variance))
    spread = (mean - a1 * mean2) ** 2 + variance + a1**2 * variance2
    log_p1_product = -0.5 * (log_2pi + log(s1) + spread / s1)  # z_1 drawn apart from z_2
    log_p1_joint = log_p1_product + a1 * cov / s1  # z_1 and z_2 drawn together
    kl2_conditional = 0.5 * (residual + mean2**2 + gain**2 * variance - 1 - log(residual))
    kl2_marginal = 0.5 * (variance2 + mean2**2 - 1 - log(variance2))
    return TwoLevelTerms(
        elbo=reconstruction + entropy1 + log_p1_joint - kl2_conditional,
        closed_form=reconstruction + entropy1 + log_p1_product - kl2_conditional,
        elbo_of_marginals=reconstruction + entropy1 + log_p1_product - kl2_marginal,
        mutual_information=0.5 * (log(variance2) - log(residual)),
        information_2=kl2_conditional,
    )
