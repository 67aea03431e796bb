r"""One fair bit behind all pixels: what a latent is worth to a decoder of each window, exactly.

.. math:: g \sim \mathrm{Bernoulli}(\tfrac12), \qquad p(x_i = g \mid g) = a, \qquad i = 1, \dots, D

A decoder that sees the w pixels before its own, and no latent, costs at best
:math:`\sum_i H(x_i \mid x_{i-w}, \dots, x_{i-1})`. That exceeds the entropy :math:`H(x)` by what
the latent is worth to it. With the exact latent, rate and distortion add up to :math:`H(x)` for
every window, so where a window sees all pixels a model that uses its latent and one that does not
have the same bound.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SharedBit:
    """Binary pixels that agree with one fair bit.

    Args:
        num_pixels: D.
        agreement: a, the probability that a pixel equals the bit.

    Raises:
        ValueError: if there is no pixel, or the probability is not inside (0, 1).

    Example:
        >>> bit = SharedBit()
        >>> print(f"{bit.entropy():.3f} {bit.information():.3f} {bit.worth(0):.3f}")
        4.621 0.618 0.924
    """

    num_pixels: int = 8
    agreement: float = 0.8

    def __post_init__(self) -> None:
        if self.num_pixels < 1 or not 0 < self.agreement < 1:
            raise ValueError(
                "the toy has at least one pixel and an agreement between 0 and 1, got "
                f"num_pixels={self.num_pixels} and agreement={self.agreement}"
            )

    def images(self) -> Tensor:
        """All 2^D images, ``(2^D, D)``, float64."""
        return torch.cartesian_prod(
            *[torch.tensor([0.0, 1.0], dtype=torch.float64)] * self.num_pixels
        ).reshape(-1, self.num_pixels)

    def log_px_given(self, x: Tensor) -> Tensor:
        """Log-probability of images given each value of the bit.

        Args:
            x: ``(B, D)``, of any number of pixels D.

        Returns:
            ``(B, 2)``, nats, for g = 0 and g = 1.
        """
        ones, size = x.sum(dim=1), x.shape[1]
        agree, differ = math.log(self.agreement), math.log(1 - self.agreement)
        agreeing = torch.stack([size - ones, ones], dim=1)
        return agreeing * agree + (size - agreeing) * differ

    def log_px(self, x: Tensor) -> Tensor:
        """Exact log-probability of images ``(B, D)``, ``(B,)``, nats."""
        return self.log_px_given(x).logsumexp(dim=1) - math.log(2)

    def posterior(self, x: Tensor) -> Tensor:
        """Exact p(g = 1 | x) of images ``(B, D)``, ``(B,)``."""
        return self.log_px_given(x).softmax(dim=1)[:, 1]

    def sample_x(self, n: int, *, seed: int = 0) -> Tensor:
        """Draw images.

        Args:
            n: number of images.
            seed: seed of the draw.

        Returns:
            ``(n, D)``, float64.
        """
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(n, self.num_pixels + 1, generator=generator, dtype=torch.float64)
        bit = draws[:, :1] < 0.5
        return (bit == (draws[:, 1:] < self.agreement)).to(draws)

    def entropy(self, num_pixels: int | None = None) -> float:
        """Entropy of some of the pixels, in nats.

        Args:
            num_pixels: how many; None for all D. Which ones makes no difference.

        Returns:
            H(x_1, ..., x_n).
        """
        n = self.num_pixels if num_pixels is None else num_pixels
        ones = torch.arange(n + 1, dtype=torch.float64)
        images = (torch.arange(n) < ones[:, None]).to(ones)  # one with each number of ones
        log_p = self.log_px(images)
        counts = torch.tensor([math.comb(n, int(k)) for k in ones], dtype=torch.float64)
        return -(counts * log_p.exp() * log_p).sum().item()

    def noise_entropy(self) -> float:
        """H(x | g), the distortion of the exact latent, in nats."""
        a = self.agreement
        return -self.num_pixels * (a * math.log(a) + (1 - a) * math.log(1 - a))

    def information(self) -> float:
        """I(g; x), the rate of the exact latent, in nats."""
        return self.entropy() - self.noise_entropy()

    def best_without_latent(self, window: int) -> float:
        """Mean negative log-probability of the best decoder that sees a window and no latent.

        Args:
            window: w, the number of pixels before its own that an output sees.

        Returns:
            Sum over pixels of H(x_i | the w pixels before), in nats.
        """
        seen = [min(i, window) for i in range(self.num_pixels)]
        return sum(self.entropy(n + 1) - self.entropy(n) for n in seen)

    def worth(self, window: int) -> float:
        """What the latent is worth to a decoder of a window, `best_without_latent` minus H(x)."""
        return self.best_without_latent(window) - self.entropy()
