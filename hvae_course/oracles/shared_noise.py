r"""What is reported if all latents are drawn with one noise, though each is charged for its own.

.. math:: z_t \sim N(0, 1), \quad t = 1, \dots, T, \qquad x \mid z \sim N(\textstyle\sum_t z_t, s)

Every latent has the posterior :math:`N(m, v)`. A program that draws :math:`\epsilon_1, \dots,
\epsilon_T` apart reports a bound. One that draws a single :math:`\epsilon` and takes
:math:`z_t = m + (-1)^t \sqrt v\, \epsilon` has draws that each follow :math:`N(m, v)` and cancel
in the sum, while the KL divergences are those of independent latents. With a decoder whose weights
alternate in sign, which by symmetry is the same model, it needs no :math:`(-1)^t`.

For an even T nothing that is random reaches x. The best m and v are then :math:`x / (T + s)` and
1, and the value exceeds the evidence by the information that the latents hold about x:

.. math:: \log p(x) + \tfrac12 \log \frac{T + s}{s}

Four latents, :math:`s = 1` and :math:`x = 1.5` give -1.144 against an evidence of -1.949:

>>> toy, x = SharedNoise(), torch.tensor([1.5], dtype=torch.float64)
>>> [round(value.item(), 3) for value in (toy.shared(x, *toy.best_shared(x)), toy.log_px(x))]
[-1.144, -1.949]
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SharedNoise:
    """A sum of T latents with Gaussian noise.

    Args:
        num_steps: T.
        variance: s.

    Raises:
        ValueError: if there is no latent, or no positive variance.
    """

    num_steps: int = 4
    variance: float = 1.0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or not self.variance > 0:
            raise ValueError(
                "a sum has at least one latent and noise of a positive variance, got "
                f"num_steps={self.num_steps} and variance={self.variance}"
            )

    def log_px(self, x: Tensor) -> Tensor:
        """Exact log p(x).

        Args:
            x: data ``(B,)``.

        Returns:
            ``(B,)``, nats.
        """
        return self._log_normal(x, self.num_steps + self.variance)

    def independent(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Expected value with noises of their own, the evidence lower bound.

        Args:
            x: data ``(B,)``.
            mean: m, ``(B,)``.
            variance: v, ``(B,)``.

        Returns:
            ``(B,)``, nats.
        """
        return self._reported(x, mean, variance, self.num_steps * variance)

    def shared(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Expected value with one noise of alternating sign, which is not a bound.

        Args:
            x: data ``(B,)``.
            mean: m, ``(B,)``.
            variance: v, ``(B,)``.

        Returns:
            ``(B,)``, nats.
        """
        return self._reported(x, mean, variance, self.num_steps % 2 * variance)

    def best_independent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the largest bound, :math:`x / (T + s)` and :math:`s / (1 + s)`."""
        return self._mean(x), torch.full_like(x, self.variance / (1 + self.variance))

    def best_shared(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the largest value with one noise."""
        spread = self.num_steps % 2 / self.num_steps
        return self._mean(x), torch.full_like(x, self.variance / (self.variance + spread))

    def _mean(self, x: Tensor) -> Tensor:
        return x / (self.num_steps + self.variance)

    def _reported(self, x: Tensor, mean: Tensor, variance: Tensor, spread: Tensor) -> Tensor:
        """Reconstruction, given the variance of the sum under q, less T divergences."""
        reconstruction = self._log_normal(x - self.num_steps * mean, self.variance)
        reconstruction = reconstruction - spread / (2 * self.variance)
        divergence = 0.5 * (variance + mean**2 - 1 - variance.log())
        return reconstruction - self.num_steps * divergence

    @staticmethod
    def _log_normal(difference: Tensor, variance: float) -> Tensor:
        return -0.5 * (math.log(2 * math.pi * variance) + difference**2 / variance)
