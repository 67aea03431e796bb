r"""The precision-weighted merge of the ladder VAE, chapter 4 (:eq:`eq-ladder-merge`).

.. math:: q(z_l \mid x, z_{>l}) \propto \tilde q(z_l \mid x)\; p(z_l \mid z_{>l})

The message of x and the prior from the levels above are two Gaussians over the same
:math:`z_l`. Their normalised product weights each by its precision, as exact conditioning does in
a linear-Gaussian model.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from hvae_course.gaussians import diag_normal, is_diag_normal
from hvae_course.hierarchy.trace import State
from hvae_course.posteriors.base import PosteriorRule


def merge_parameters(
    mean_a: Tensor, log_std_a: Tensor, mean_b: Tensor, log_std_b: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Mean and log standard deviation of the normalised product of two Gaussians.

    .. math:: \gamma = \mathrm{sigmoid}(2 \log\sigma_b - 2 \log\sigma_a), \qquad
              \mu = \gamma \mu_a + (1 - \gamma) \mu_b, \qquad
              2 \log\sigma = -\log(\sigma_a^{-2} + \sigma_b^{-2})

    :math:`\gamma` is the share of a in the total precision (:eq:`eq-merge-stable`). Everything
    stays in logarithms, because the reciprocals of the textbook form overflow or vanish in float32
    at log-variances near -90 and 100.

    Args:
        mean_a: any shape.
        log_std_a: same shape.
        mean_b: same shape.
        log_std_b: same shape.

    Returns:
        Mean and log standard deviation, same shape; in float32 they and their gradients are
        finite for all pairs of log-variances between -200 and 200.
    """
    share = torch.sigmoid(2 * (log_std_b - log_std_a))
    mean = share * mean_a + torch.sigmoid(2 * (log_std_a - log_std_b)) * mean_b
    return mean, -0.5 * torch.logaddexp(-2 * log_std_a, -2 * log_std_b)


def precision_weighted_merge(a: Independent, b: Independent) -> Independent:
    r"""Normalised product of two diagonal Gaussians over the same latent (:eq:`eq-ladder-merge`).

    .. math:: \tau = \tau_a + \tau_b, \qquad \mu = (\tau_a \mu_a + \tau_b \mu_b) / \tau,
              \qquad \tau = \sigma^{-2}

    Args:
        a: diagonal Gaussian.
        b: diagonal Gaussian over the same event; batch shapes broadcast.

    Returns:
        Diagonal Gaussian, with a smaller variance than either.

    Raises:
        TypeError: if either is not a diagonal Gaussian.
        ValueError: if the event shapes differ.

    Source:
        Sønderby et al. (2016), Ladder Variational Autoencoders, arXiv:1602.02282.
    """
    for distribution in (a, b):
        if not is_diag_normal(distribution):
            raise TypeError(
                f"the merge multiplies diagonal Gaussians, got {type(distribution).__name__}; use "
                "Direct at the top level when the prior is a mixture"
            )
    if a.event_shape != b.event_shape:
        raise ValueError(
            f"cannot merge Gaussians with event shapes {tuple(a.event_shape)} and "
            f"{tuple(b.event_shape)}: both must be distributions over the same z_l"
        )
    log_std_a, log_std_b = a.base_dist.scale.log(), b.base_dist.scale.log()
    return diag_normal(*merge_parameters(a.mean, log_std_a, b.mean, log_std_b))


class PrecisionWeighted(PosteriorRule):
    """``q(z_l | x, z_>l)``: the message of x about z_l, merged with the prior.

    Args:
        head: module d_l -> message, a diagonal Gaussian over z_l.
    """

    reads_prior = True

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, d: Tensor, h: State, p: Distribution) -> Independent:
        """Give ``q(z_l | x, z_>l)``, a diagonal Gaussian; the levels above act through p alone."""
        return precision_weighted_merge(self.head(d), p)
