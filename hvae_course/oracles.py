r"""Hierarchies whose log p(x) is known exactly.

In a linear-Gaussian hierarchy every distribution is Gaussian, so the posterior, the evidence and
every bound have closed forms. Plugged into the package's own spine, such a model tells whether the
spine computes what it says: with the exact posterior, :math:`\log p(x, z) - \log q(z \mid x)` is
:math:`\log p(x)` for *every* draw of z, not only on average.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown
from hvae_course.likelihoods import Likelihood
from hvae_course.posteriors import Posterior
from hvae_course.priors import StandardNormal


class LinearGaussianLayer(nn.Module):
    r"""N(weight * input + offset, variance), element by element.

    Args:
        weight: slope.
        variance: positive variance.
        offset: constant added to the mean.
    """

    def __init__(self, weight: float, variance: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight, self.offset = weight, offset
        self.log_std = 0.5 * math.log(variance)

    def forward(self, value: Tensor) -> Independent:
        """Give the conditional distribution.

        Args:
            value: ``(B, D)``.

        Returns:
            Diagonal Gaussian over ``(D,)``.
        """
        mean = self.weight * value + self.offset
        return diag_normal(mean, mean.new_tensor(self.log_std))


class _LinearGaussianLikelihood(Likelihood):
    """A likelihood whose network already returns the distribution."""

    def forward(self, h: Tensor) -> Independent:
        return self.net(h)


@dataclass(frozen=True)
class LinearGaussian:
    r"""Linear-Gaussian chain :math:`z_L \to \dots \to z_1 \to x` (:eq:`eq-linear`).

    .. math:: z_L \sim N(0, 1), \qquad z_l \sim N(w_l z_{l+1}, s_l), \qquad x \sim N(w_0 z_1, s_0)

    Every level holds ``size`` independent copies of the same chain, so diagonal posteriors can be
    exact.

    Args:
        weights: ``(w_0, ..., w_{L-1})``, bottom to top.
        variances: ``(s_0, ..., s_{L-1})``, bottom to top.
        size: number of independent copies D.

    Raises:
        ValueError: if there is not one positive variance per weight.
    """

    weights: Sequence[float]
    variances: Sequence[float]
    size: int = 1

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.variances) or not all(s > 0 for s in self.variances):
            raise ValueError(
                f"each of the {len(self.weights)} weights needs one positive variance, got "
                f"{tuple(self.variances)}"
            )

    @property
    def num_levels(self) -> int:
        """L, the number of latent levels."""
        return len(self.weights)

    def covariance(self) -> Tensor:
        """Covariance of ``(x, z_1, ..., z_L)`` of one copy, float64, ``(L + 1, L + 1)``."""
        covariance = torch.ones(1, 1, dtype=torch.float64)
        for w, s in zip(reversed(self.weights), reversed(self.variances), strict=True):
            cross = w * covariance[:1]  # (1, n), covariance of the new variable with those above
            own = w * cross[:, :1] + s
            covariance = torch.cat(
                [torch.cat([own, cross], dim=1), torch.cat([cross.T, covariance], dim=1)]
            )
        return covariance

    def log_px(self, x: Tensor) -> Tensor:
        """Exact log p(x) (:eq:`eq-linear-evidence`).

        Args:
            x: data ``(B, D)``.

        Returns:
            ``(B,)``, nats per example.
        """
        variance = self.covariance()[0, 0].item()
        return diag_normal(torch.zeros_like(x), x.new_tensor(0.5 * math.log(variance))).log_prob(x)

    def sample_x(self, n: int, *, seed: int = 0) -> Tensor:
        """Draw data from the model.

        Args:
            n: number of examples.
            seed: seed of the draw.

        Returns:
            ``(n, D)``, float64.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, self.size, generator=generator, dtype=torch.float64)
        return noise * self.covariance()[0, 0].sqrt()

    def posterior_chain(self) -> list[LinearGaussianLayer]:
        """Exact q(z_1 | x), q(z_2 | z_1), ..., heads for a bottom-up posterior.

        Returns:
            L layers, bottom to top; exact because the chain is Markov in both directions.
        """
        c, heads = self.covariance(), []
        for l in range(self.num_levels):
            gain = (c[l, l + 1] / c[l, l]).item()
            heads.append(LinearGaussianLayer(gain, (c[l + 1, l + 1] - gain * c[l, l + 1]).item()))
        return heads

    def posterior_marginals(self) -> list[LinearGaussianLayer]:
        """Exact marginals p(z_l | x), which forget that the levels depend on each other given x.

        Returns:
            L layers, bottom to top.
        """
        c, heads = self.covariance(), []
        for l in range(1, self.num_levels + 1):
            gain = (c[0, l] / c[0, 0]).item()
            heads.append(LinearGaussianLayer(gain, (c[l, l] - gain * c[0, l]).item()))
        return heads

    def hvae(self, posterior: Posterior) -> HierarchicalVAE:
        """The same model on the package's spine.

        Args:
            posterior: any posterior over the L levels; its features are x itself, once per level.

        Returns:
            A float64 model without parameters of its own.
        """
        layers = [
            LinearGaussianLayer(w, s) for w, s in zip(self.weights, self.variances, strict=True)
        ]
        return HierarchicalVAE(
            StandardNormal(self.size),
            BottomUp([nn.Identity() for _ in layers]),
            posterior=posterior,
            top_down=TopDown(
                updates=[MarkovUpdate() for _ in layers],
                conditionals=layers[1:],
                likelihood=_LinearGaussianLikelihood(layers[0]),
            ),
        ).double()


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


def two_level_terms(
    x: Tensor,
    *,
    weights: tuple[Tensor | float, Tensor | float],
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
        weights: ``(w_0, w_1)`` of the chain, as in `LinearGaussian`.
        variances: ``(s_0, s_1)`` of the chain.
        mean: mean of q(z_1 | x).
        variance: variance of q(z_1 | x).
        gain: slope of q(z_2 | z_1).
        offset: offset of q(z_2 | z_1).
        residual: variance of q(z_2 | z_1).

    Returns:
        The four terms, each of the broadcast shape.
    """
    (w0, w1), (s0, s1) = weights, variances
    mean2, variance2, cov = gain * mean + offset, gain**2 * variance + residual, gain * variance

    def log(value: Tensor | float) -> Tensor:
        return torch.log(torch.as_tensor(value, dtype=variance.dtype))

    log_2pi = math.log(2 * math.pi)
    reconstruction = -0.5 * (log_2pi + log(s0) + ((x - w0 * mean) ** 2 + w0**2 * variance) / s0)
    entropy1 = 0.5 * (log_2pi + 1 + log(variance))
    spread = (mean - w1 * mean2) ** 2 + variance + w1**2 * variance2
    log_p1_product = -0.5 * (log_2pi + log(s1) + spread / s1)  # z_1 drawn apart from z_2
    log_p1_joint = log_p1_product + w1 * cov / s1  # z_1 and z_2 drawn together
    kl2_conditional = 0.5 * (residual + mean2**2 + gain**2 * variance - 1 - log(residual))
    kl2_marginal = 0.5 * (variance2 + mean2**2 - 1 - log(variance2))
    return TwoLevelTerms(
        elbo=reconstruction + entropy1 + log_p1_joint - kl2_conditional,
        closed_form=reconstruction + entropy1 + log_p1_product - kl2_conditional,
        elbo_of_marginals=reconstruction + entropy1 + log_p1_product - kl2_marginal,
        mutual_information=0.5 * (log(variance2) - log(residual)),
    )
