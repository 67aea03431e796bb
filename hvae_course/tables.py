"""Distributions over rows that hold several kinds of columns, or of which a part was not observed.

Both take apart what another distribution sums, so they need the log-probability of every single
value: `log_prob_each`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from hvae_course.gaussians import sum_event


def log_prob_each(distribution: Distribution, value: Tensor) -> Tensor:
    """Log-probability of every single value, before the sum over the event.

    Args:
        distribution: a distribution over ``(D,)`` whose dimensions are independent.
        value: ``(..., B, D)``.

    Returns:
        ``(..., B, D)``, nats per value.

    Raises:
        TypeError: if the distribution is not known to be a product over its dimensions.
    """
    if isinstance(distribution, Independent):
        return distribution.base_dist.log_prob(value)
    if not hasattr(distribution, "log_prob_each"):
        raise TypeError(
            f"{type(distribution).__name__} has no log-probability of single values; give it a "
            "method log_prob_each, which is possible only if its dimensions are independent"
        )
    return distribution.log_prob_each(value)


class Rows(Distribution):
    """Independent blocks of columns.

    The distribution of a block may be over other numbers than its columns hold. Grey values lie in
    [0, 1], and a column holds the category itself, 0 to V - 1: it is V - 1 times the grey value.

    Args:
        blocks: one distribution per block, event shape ``(D_b,)``, batch shape ``(B,)``.
        columns: the columns of the first block, then those of the second and so on, ``(D,)``,
            int64, every column once.
        scales: one number per block, by which its columns are divided before it scores them.
    """

    arg_constraints = {}

    def __init__(
        self, blocks: Sequence[Distribution], columns: Tensor, scales: Sequence[int]
    ) -> None:
        self.blocks, self.columns, self.scales = blocks, columns, scales
        super().__init__(blocks[0].batch_shape, columns.shape, validate_args=False)

    def log_prob_each(self, value: Tensor) -> Tensor:
        """Log-probability of every single value, ``(..., B, D)``."""
        values = value[..., self.columns].split([b.event_shape[0] for b in self.blocks], dim=-1)
        parts = zip(self.blocks, values, self.scales, strict=True)
        return self._in_order([log_prob_each(b, values / scale) for b, values, scale in parts])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of rows ``(..., B, D)``, ``(..., B)``, nats per row."""
        return sum_event(self.log_prob_each(value), self)

    @property
    def mean(self) -> Tensor:
        """Expected value of every column, ``(B, D)``; of categories, that of their numbers."""
        return self._in_order(
            [block.mean * scale for block, scale in zip(self.blocks, self.scales, strict=True)]
        )

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw rows, ``sample_shape + (B, D)``."""
        drawn = [block.sample(sample_shape) for block in self.blocks]
        # a category is a whole number, also where a product in float32 is not quite one
        return self._in_order(
            [
                values if scale == 1 else (values * scale).round()
                for values, scale in zip(drawn, self.scales, strict=True)
            ]
        )

    def _in_order(self, parts: Sequence[Tensor]) -> Tensor:
        """Put the columns of all blocks in the order of the table."""
        return torch.cat([*parts], dim=-1)[..., self.columns.argsort()]


class ObservedValues(Distribution):
    r"""A distribution of complete rows that scores the observed part of a row.

    .. math:: \log p(x_{\mathrm{obs}} \mid z) = \sum_{d\ \mathrm{observed}} \log p(x_d \mid z)

    Given z the dimensions are independent, so integrating over what is missing leaves it out. NaN
    marks a missing value. Mean and samples are complete.

    Args:
        complete: distribution over ``(D,)`` that gives 0 a probability, as every one here does.
    """

    arg_constraints = {}

    def __init__(self, complete: Distribution) -> None:
        self.complete = complete
        super().__init__(complete.batch_shape, complete.event_shape, validate_args=False)

    def log_prob_each(self, value: Tensor) -> Tensor:
        """Log-probability of every single value, 0 where it is missing, ``(..., B, D)``."""
        missing = value.isnan()
        # NaN is replaced before any arithmetic, because 0 times NaN would spoil the gradients
        return log_prob_each(self.complete, value.masked_fill(missing, 0)).masked_fill(missing, 0)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of what was observed of ``(..., B, D)``, ``(..., B)``, nats per row."""
        return sum_event(self.log_prob_each(value), self)

    @property
    def mean(self) -> Tensor:
        """Expected value of every dimension given z, ``(B, D)``."""
        return self.complete.mean

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw complete rows, ``sample_shape + (B, D)``."""
        return self.complete.sample(sample_shape)
