r"""The two distributions over a discrete level: a point without noise, and a categorical.

Probabilities count codes, not volumes. A posterior that is certain of a code c has
:math:`\log q(c \mid x) = 0`, and the information of its level is :math:`-\log p(c)`. So one walk
is exact bookkeeping, whichever code it takes:

.. math:: \log p(x) = \log p(x \mid c) + \log p(c) - \log p(c \mid x)

The bound leaves the last term out, and its gap is :math:`-\log p(c \mid x)`. A density over the
vectors that stand for the codes would be another quantity.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from hvae_course.gaussians import at_least_float32


@torch.no_grad()
def nearest(vectors: Tensor, table: Tensor) -> Tensor:
    """Find the nearest row of a table, the first one of equal rows.

    Distances come from differences, so that a row is its own nearest row, wherever the table lies.

    Args:
        vectors: ``(..., D)``.
        table: ``(K, D)``.

    Returns:
        Row numbers ``(...)``, int64.
    """
    flat = at_least_float32(vectors).reshape(-1, vectors.shape[-1])
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(flat, table.to(flat), compute_mode=exact)
    return distances.argmin(dim=-1).reshape(vectors.shape[:-1])


class PointMass(Distribution):
    """All probability at one value, of a discrete latent.

    Args:
        point: the value ``(B, *event)``; its gradient is that of a draw.
        penalty: what training pays beside the bound for this level, ``(B,)``; see
            `hvae_course.objectives.penalty`. None for nothing.
        index: number of the code at each position, ``(B, *positions)``; None if the value is not
            that of numbered codes.
        num_codes: K; None likewise.
    """

    arg_constraints = {}
    has_rsample = True

    def __init__(
        self,
        point: Tensor,
        *,
        penalty: Tensor | None = None,
        index: Tensor | None = None,
        num_codes: int | None = None,
    ) -> None:
        self.point, self.penalty, self.index, self.num_codes = point, penalty, index, num_codes
        super().__init__(point.shape[:1], point.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The point."""
        return self.point

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Give the point, ``sample_shape + (B, *event)``; no random number is drawn."""
        return self.point.expand(*sample_shape, *self.point.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability, nats: 0 at the point and minus infinity elsewhere."""
        same = (value == self.point).flatten(start_dim=-len(self.event_shape)).all(dim=-1)
        return self.point.new_zeros(same.shape).masked_fill(~same, -math.inf)


class Codes(Distribution):
    """Independent categorical distributions over the rows of a table, one per position.

    A value is a map of rows, and its log-probability is that of the row *numbers*.

    Args:
        logits: unnormalised log-probabilities, ``(B, K, *positions)``, or ``(K, *positions)`` for
            an empty batch shape.
        table: rows ``(K, D)``, without gradients. They are kept as they are, so that a codebook
            that moves during a step does not change what was drawn before.
        batch_dims: 1, or 0 for an empty batch shape.
    """

    arg_constraints = {}

    def __init__(self, logits: Tensor, table: Tensor, *, batch_dims: int = 1) -> None:
        last = at_least_float32(logits).movedim(batch_dims, -1)
        self.log_probs = last.log_softmax(dim=-1)
        """``(*batch, *positions, K)``, nats."""
        self.table = table
        shape = self.log_probs.shape[:-1]
        event = (table.shape[1], *shape[batch_dims:])
        super().__init__(shape[:batch_dims], torch.Size(event), validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Codes":
        """Repeat over a batch, without memory."""
        new = Codes.__new__(Codes)
        own = self.log_probs.shape[len(self.batch_shape) :]
        new.log_probs, new.table = self.log_probs.expand(*batch_shape, *own), self.table
        Distribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of maps of rows ``(..., D, *positions)``, nats."""
        index = nearest(value.movedim(-len(self.event_shape), -1), self.table)[..., None]
        shape = torch.broadcast_shapes(index.shape[:-1], self.log_probs.shape[:-1])
        each = self.log_probs.expand(*shape, -1).gather(-1, index.expand(*shape, 1))
        return each.flatten(start_dim=-len(self.event_shape)).sum(dim=-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw maps of rows, ``sample_shape + (*batch, D, *positions)``."""
        drawn = Categorical(logits=self.log_probs, validate_args=False).sample(sample_shape)
        return self.table[drawn].movedim(-1, -len(self.event_shape))
