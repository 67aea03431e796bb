r"""A linear-Gaussian chain whose latents form one vector, and the exact cost of a diagonal q.

.. math:: p(z \mid x) = N(\mu, \Lambda^{-1}), \qquad
          \log p(x) - \max_{q\ \mathrm{diagonal}} \mathrm{ELBO}(q) =
          \tfrac12 \Bigl( \sum_i \log \Lambda_{ii} - \log \det \Lambda \Bigr)

The best diagonal q has the mean :math:`\mu` and the precisions :math:`\Lambda_{ii}`. One linear
step of inverse autoregressive flow turns it into :math:`p(z \mid x)`. The prior of the vector is a
linear masked autoregressive flow, whose matrix is a Cholesky factor.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.flows import InverseAutoregressive
from hvae_course.gaussians import LOG_STD_BOUND, diag_normal, standard_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown
from hvae_course.oracles.chain import LinearGaussian
from hvae_course.oracles.layers import LinearGaussianLayer, LinearGaussianLikelihood
from hvae_course.posteriors import Direct, TopDownPosterior
from hvae_course.priors import FlowPrior
from hvae_course.vector_flows import Maps, MaskedAutoregressive


def linear_maps(slopes: Tensor, offset: Tensor, log_scale: Tensor) -> Maps:
    """A step of a flow with ``a(z) = A z + c`` and constant b.

    Args:
        slopes: A, strictly lower triangular, ``(Z, Z)``.
        offset: c, ``(Z,)`` or ``(B, Z)``.
        log_scale: b, ``(Z,)``.

    Returns:
        The step, for a flow with ``step=1``.
    """
    raw = LOG_STD_BOUND * torch.atanh(log_scale / LOG_STD_BOUND)  # undoes bound_log_std
    return lambda z: (z @ slopes.T + offset, raw.expand(z.shape))


def dense_normal(mean: Tensor, covariance: Tensor) -> MaskedAutoregressive:
    r"""N(m, L L^T) as a linear masked autoregressive flow.

    .. math:: z = m + L \epsilon \iff z_i = a_i(z_{<i}) + L_{ii}\, \epsilon_i, \qquad
              a(z) = m + (I - \mathrm{diag}(L) L^{-1}) (z - m)

    Args:
        mean: m, ``(Z,)``.
        covariance: ``(Z, Z)``.

    Returns:
        Distribution with an empty batch shape; its ``log_prob`` is exact.
    """
    factor = torch.linalg.cholesky(covariance)
    own, identity = factor.diagonal(), torch.eye(len(mean)).to(factor)
    slopes = (identity - own[:, None] * torch.linalg.inv(factor)).tril(-1)
    maps = linear_maps(slopes, mean - slopes @ mean, own.log())
    return MaskedAutoregressive(standard_normal(len(mean), like=mean), [maps], step=1.0)


@dataclass(frozen=True)
class OneVector:
    """The latents of a chain as one vector ``(z_1, ..., z_L)``.

    Args:
        chain: the chain, of one copy.

    Raises:
        ValueError: if the chain has several copies.
    """

    chain: LinearGaussian

    def __post_init__(self) -> None:
        if self.chain.size != 1:
            raise ValueError(f"the vector is that of one chain, got size={self.chain.size}")

    def posterior(self) -> tuple[Tensor, Tensor]:
        """Slope of the mean in x and the precision of p(z | x), ``(Z,)`` and ``(Z, Z)``."""
        c = self.chain.covariance()
        gain = c[1:, 0] / c[0, 0]
        return gain, torch.linalg.inv(c[1:, 1:] - gain[:, None] * c[:1, 1:])

    def diagonal_gap(self) -> float:
        """What the best diagonal q loses, in nats; the same for every x."""
        _, precision = self.posterior()
        return 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()

    def hvae(self, q: Literal["diagonal", "flow"]) -> HierarchicalVAE:
        """The model on the package's spine, with one level.

        Args:
            q: the best diagonal posterior, or that posterior followed by one linear step of
                inverse autoregressive flow, which is exact.

        Returns:
            A float64 model without parameters of its own.
        """
        likelihood = LinearGaussianLikelihood(
            _First(LinearGaussianLayer(self.chain.slopes[0], self.chain.variances[0]))
        )
        return HierarchicalVAE(
            FlowPrior(_Dense(self.chain.covariance()[1:, 1:])),
            BottomUp([nn.Identity()]),
            posterior=TopDownPosterior([Direct(_Posterior(self, flow=q == "flow"))]),
            top_down=TopDown([MarkovUpdate()], [], likelihood),
        ).double()


class _Dense(nn.Module):
    """N(0, covariance)."""

    def __init__(self, covariance: Tensor) -> None:
        super().__init__()
        self.register_buffer("covariance", covariance)

    def forward(self) -> MaskedAutoregressive:
        return dense_normal(self.covariance.new_zeros(len(self.covariance)), self.covariance)


class _First(nn.Module):
    """A conditional of the first latent alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor) -> Distribution:
        return self.layer(z[:, :1])


class _Posterior(nn.Module):
    """The best diagonal q(z | x), or the exact one as a flow of it."""

    def __init__(self, vector: OneVector, *, flow: bool) -> None:
        super().__init__()
        self.gain, self.precision = vector.posterior()
        self.flow = flow

    def forward(self, x: Tensor) -> Distribution:
        mean = x * self.gain
        log_std = -0.5 * self.precision.diagonal().log()
        diagonal = diag_normal(mean, log_std.expand(mean.shape))
        if not self.flow:
            return diagonal
        factor = torch.linalg.cholesky(torch.linalg.inv(self.precision))
        matrix = factor * (-log_std).exp()  # z = m + M (z_0 - m), lower triangular
        own = matrix.diagonal()
        slopes = -(matrix / own[:, None]).tril(-1)
        offset = -mean @ slopes.T + mean - mean / own
        maps = linear_maps(slopes, offset, -own.log())
        return InverseAutoregressive(diagonal, maps, step=1.0)
