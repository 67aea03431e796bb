r"""The variational hierarchical prior, VHP (:eq:`eq-vhp`).

.. math:: p(z) = \int p(z \mid \zeta)\, p(\zeta)\, d\zeta \;\ge\;
          \exp \mathbb E \Bigl[ \log \frac1M \sum_{m=1}^{M}
          \frac{p(z \mid \zeta_m)\, p(\zeta_m)}{q(\zeta_m \mid z)} \Bigr],
          \qquad \zeta_m \sim q(\zeta \mid z)

A continuous mixture, learned as a small VAE whose data are the codes z. Its density has no closed
form, only an importance-weighted lower bound, so the information that a model reports is an
*upper* bound. Sampling is exact.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.priors.base import Encode, Prior, check_positive, event_shape


class VHPDistribution(Distribution):
    """Continuous mixture whose log-density is known through a lower bound.

    Args:
        generative: module from N values of zeta to p(z | zeta).
        inference: module from N values of z to q(zeta | z).
        zeta: p(zeta), with an empty batch shape.
        num_samples: M, draws of zeta per value of z.
        event_shape: shape of z.
        batch_shape: empty, or what the prior is expanded to.
    """

    arg_constraints: dict = {}  # noqa: RUF012

    def __init__(
        self,
        generative: nn.Module,
        inference: nn.Module,
        *,
        zeta: Distribution,
        num_samples: int,
        event_shape: torch.Size,
        batch_shape: torch.Size = torch.Size(),  # noqa: B008
    ) -> None:
        super().__init__(batch_shape, event_shape, validate_args=False)
        self.generative, self.inference = generative, inference
        self.zeta, self.num_samples = zeta, num_samples

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "VHPDistribution":
        """Repeat over a batch."""
        return VHPDistribution(
            self.generative,
            self.inference,
            zeta=self.zeta,
            num_samples=self.num_samples,
            event_shape=self.event_shape,
            batch_shape=torch.Size(batch_shape),
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Importance-weighted lower bound on log p(z) from M fresh draws, not log p(z) itself.

        Its exponential is an unbiased estimate of p(z), so an importance-weighted bound on
        log p(x) that uses it stays a bound.

        Args:
            value: z, ``(..., *event)``.

        Returns:
            ``(...)``, nats; random, and below log p(z) in expectation.
        """
        z = value.reshape(-1, *self.event_shape)
        q = self.inference(z)
        zeta = q.rsample((self.num_samples,))  # (M, N, ...)
        p = self.generative(zeta.flatten(0, 1))  # batch (M N,)
        log_p = p.log_prob(z.repeat(self.num_samples, *[1] * len(self.event_shape)))
        log_w = log_p.unflatten(0, zeta.shape[:2]) + self.zeta.log_prob(zeta) - q.log_prob(zeta)
        bound = log_w.logsumexp(dim=0) - math.log(self.num_samples)  # (M, N) -> (N,)
        return bound.reshape(value.shape[: value.dim() - len(self.event_shape)])

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Exact draws: zeta from p(zeta), then z from p(z | zeta); without gradients."""
        shape = torch.Size((*sample_shape, *self.batch_shape))
        with torch.no_grad():
            z = self.generative(self.zeta.sample((shape.numel(),))).sample()
        return z.reshape(*shape, *self.event_shape)


class VHP(Prior):
    """Variational hierarchical prior, whose density is a lower bound and whose KL an upper one.

    With M = 1 a VAE with this prior is the two-level VAE with bottom-up inference: zeta is its
    z_2. With more draws the bound on the prior, and with it the bound on log p(x), is tighter.

    Args:
        generative: module from N values of zeta to p(z | zeta).
        inference: module from N values of z to q(zeta | z).
        size: number of latent dimensions Z_L, or the shape of z_L.
        zeta: prior over zeta, by default in the original the standard normal.
        num_samples: M; may be changed at any time, for instance raised for an evaluation.

    Raises:
        ValueError: if a size is not positive.

    Source:
        Klushyn et al. (2019), Learning Hierarchical Priors in VAEs, arXiv:1905.04982.
    """

    def __init__(
        self,
        generative: nn.Module,
        inference: nn.Module,
        *,
        size: int | Sequence[int],
        zeta: Prior,
        num_samples: int = 16,
    ) -> None:
        super().__init__()
        check_positive(size=size, num_samples=num_samples)
        self.generative, self.inference, self.zeta = generative, inference, zeta
        self.shape, self.num_samples = event_shape(size), num_samples

    def forward(self, encode: Encode | None = None) -> VHPDistribution:
        """Give the continuous mixture."""
        return VHPDistribution(
            self.generative,
            self.inference,
            zeta=self.zeta(),
            num_samples=self.num_samples,
            event_shape=self.shape,
        )
