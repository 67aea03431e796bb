r"""Distributions over counts 0, 1, 2, ..., whose log-probabilities stay exact for large counts.

PyTorch's classes have the formulas of the textbooks, in which terms of the size of
:math:`x \log x` cancel: in float32 a count of a million costs about one nat of rounding, and a
negative binomial with a large dispersion loses all digits. The forms here, which are those of R,
compare the count with the mean first.
"""

import math

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Poisson

from hvae_course.gaussians import at_least_float32

_LOG_2_PI = math.log(2 * math.pi)


def _stirling_error(x: Tensor) -> Tensor:
    r"""What Stirling's :math:`x \log x - x + \tfrac12 \log 2 \pi x` lacks of log x!, for x > 0."""
    small, large = x.clamp(max=16), x.clamp(min=16)
    exact = torch.lgamma(small + 1) - (small + 0.5) * small.log() + small - 0.5 * _LOG_2_PI
    series = (1 / 12 - (1 / 360 - 1 / (1260 * large**2)) / large**2) / large
    return torch.where(x < 16, exact, series)


def _deviance(log_ratio: Tensor) -> Tensor:
    r""":math:`e^u - 1 - u`, never negative, for the log-ratio u of a mean to a count."""
    return torch.expm1(log_ratio) - log_ratio


class PoissonCounts(Poisson):
    r"""Poisson distribution, by its log-rate.

    .. math:: \log p(x) = x \log \lambda - \lambda - \log x!

    Args:
        log_rate: any shape.

    Source:
        Loader (2000), Fast and Accurate Computation of Binomial Probabilities.
    """

    def __init__(self, log_rate: Tensor) -> None:
        self.log_rate = at_least_float32(log_rate)
        super().__init__(self.log_rate.exp(), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of whole numbers, broadcast against the rate, nats per count."""
        x = value.clamp(min=1)
        some = -x * _deviance(self.log_rate - x.log()) - _stirling_error(x)
        return torch.where(value < 0.5, -self.rate, some - 0.5 * (_LOG_2_PI + x.log()))


class NegativeBinomialCounts(NegativeBinomial):
    r"""Negative binomial distribution, by its mean m and dispersion r.

    .. math:: p(x) = \frac{\Gamma(x + r)}{\Gamma(r)\, x!} \Bigl(\frac{r}{r + m}\Bigr)^r
              \Bigl(\frac{m}{r + m}\Bigr)^x, \qquad \operatorname{Var} x = m + \frac{m^2}{r}

    A Poisson distribution whose rate varies as a Gamma distribution; for large r it becomes the
    Poisson distribution itself.

    Args:
        log_mean: logarithm of m, any shape.
        log_dispersion: logarithm of r, broadcast against it.

    Source:
        Loader (2000), Fast and Accurate Computation of Binomial Probabilities.
    """

    def __init__(self, log_mean: Tensor, log_dispersion: Tensor) -> None:
        log_mean, log_dispersion = at_least_float32(log_mean), at_least_float32(log_dispersion)
        self.log_mean = log_mean
        super().__init__(
            log_dispersion.exp(), logits=log_mean - log_dispersion, validate_args=False
        )

    @property
    def mean(self) -> Tensor:
        """The mean m."""
        return self.log_mean.exp().expand(self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of whole numbers, broadcast against the mean, nats per count."""
        m, r, x = self.log_mean.exp(), self.total_count, value.clamp(min=1)
        # log((x + r) / (m + r)), by a logarithm of 1 + what is not negative
        above = torch.log1p((x - m).relu() / (m + r)) - torch.log1p((m - x).relu() / (x + r))
        some = (
            _stirling_error(x + r) - _stirling_error(r) - _stirling_error(x)
            - r * _deviance(above) - x * _deviance(above + self.log_mean - x.log())
            - 0.5 * (torch.log1p(x / r) + _LOG_2_PI + x.log())
        )  # fmt: skip
        return torch.where(value < 0.5, -r * torch.log1p(m / r), some)
