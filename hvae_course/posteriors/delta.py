r"""Posteriors relative to the prior, chapter 3 (:eq:`eq-delta`).

.. math:: q(z_l \mid x, z_{>l}) = N\bigl(\mu_p + \Delta\mu,\; (\sigma_p\, \Delta\sigma)^2\bigr)

The network gives the *change* that the data make to the prior. Where :math:`\Delta\mu = 0` and
:math:`\Delta\sigma = 1`, the posterior equals the prior and the KL is zero.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from hvae_course.gaussians import (
    LOG_STD_BOUND,
    bound_log_std,
    diag_normal,
    is_diag_normal,
    sum_event,
)
from hvae_course.hierarchy.states import join
from hvae_course.posteriors.base import PosteriorRule


def kl_delta(shift: Tensor, log_scale: Tensor, p: Independent) -> Tensor:
    r"""Closed-form KL of a delta posterior from its prior (:eq:`eq-delta-kl`).

    .. math:: \mathrm{KL} = \tfrac12 \sum_i \Bigl[ \frac{\Delta\mu_i^2}{\sigma_{p,i}^2}
              + \Delta\sigma_i^2 - 1 - \log \Delta\sigma_i^2 \Bigr]

    An identity for a posterior that is exactly prior plus delta. If the sum of the log-scales is
    clamped, or a constant added to a scale, the draws come from another distribution, and this is
    not its KL; `hvae_course.gaussians.kl_normal` of the two distributions always is.

    Args:
        shift: :math:`\Delta\mu`, of the shape of z_l.
        log_scale: :math:`\log \Delta\sigma`, same shape.
        p: the prior, batch shape ``(B,)``.

    Returns:
        ``(B,)``, nats per example.

    Source:
        Vahdat and Kautz (2020), NVAE, arXiv:2007.03898.
    """
    t = 2 * log_scale
    return sum_event(0.5 * (torch.expm1(t) - t + (shift / p.base_dist.scale) ** 2), p)


class Delta(PosteriorRule):
    r"""``q(z_l | x, z_>l)`` as a shift and a scaling of the prior ``p(z_l | z_>l)``.

    Args:
        net: module to the shift and the raw log-scale, ``(B, 2 Z_l, ...)``, from d_l and h joined
            along axis 1, or from d_l alone.
        reads_state: whether the network sees h. Without it the shift does not depend on the prior,
            and q cannot be exact even in a linear-Gaussian model.
        log_std_bound: largest magnitude of the log-scale, see
            `hvae_course.gaussians.bound_log_std`.
    """

    reads_prior = True

    def __init__(
        self, net: nn.Module, *, reads_state: bool = True, log_std_bound: float = LOG_STD_BOUND
    ) -> None:
        super().__init__()
        self.net = net
        self.reads_state = reads_state
        self.log_std_bound = log_std_bound

    def delta(self, d: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Give the shift and the log-scale.

        Args:
            d: bottom-up feature d_l.
            h: state that carries ``z_>l``, of the same resolution.

        Returns:
            Two tensors of the shape of z_l.
        """
        shift, raw = self.net(join(d, h) if self.reads_state else d).chunk(2, dim=1)
        return shift, bound_log_std(raw, self.log_std_bound)

    def forward(self, d: Tensor, h: Tensor, p: Distribution) -> Independent:
        """Give ``q(z_l | x, z_>l)``, a diagonal Gaussian as the prior has to be."""
        if not is_diag_normal(p):
            raise TypeError(
                f"Delta shifts a diagonal Gaussian p(z_l | z_>l), got {type(p).__name__}; use "
                "Direct at the top level when the prior is a mixture"
            )
        shift, log_scale = self.delta(d, h)
        return diag_normal(p.mean + shift, p.base_dist.scale.log() + log_scale)
