r"""Codes that depend on each other: every position of a map sees those before it.

.. math:: p(c \mid h) = \prod_i p(c_i \mid c_1, \dots, c_{i-1}, h)

Positions are in raster order, the last axis fastest. A given map is scored by one pass of a masked
network, and a draw takes one pass per position.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from hvae_course.codes.distributions import nearest
from hvae_course.gaussians import at_least_float32
from hvae_course.masked import MaskedMLP


class AutoregressiveCodes(Distribution):
    """Categorical distributions over the rows of a table, each given the positions before it.

    Args:
        logits_of: function from row numbers ``(..., N)`` of all N positions to the logits of every
            position, ``(..., K, N)``.
        table: rows ``(K, D)``, without gradients, kept as in
            `hvae_course.codes.distributions.Codes`.
        positions: shape of the maps, of N positions.
        batch_shape: ``(B,)``, or empty.
    """

    arg_constraints = {}

    def __init__(
        self,
        logits_of: Callable[[Tensor], Tensor],
        table: Tensor,
        *,
        positions: Sequence[int],
        batch_shape: Sequence[int],
    ) -> None:
        self.logits_of, self.table, self.positions = logits_of, table, torch.Size(positions)
        event = torch.Size((table.shape[1], *positions))
        super().__init__(torch.Size(batch_shape), event, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "AutoregressiveCodes":
        """Repeat over a batch, without memory."""
        return AutoregressiveCodes(
            self.logits_of, self.table, positions=self.positions, batch_shape=batch_shape
        )

    def log_probs(self, index: Tensor) -> Tensor:
        """Log-probability of every code at every position, given the codes before the position.

        Args:
            index: row numbers ``(..., N)``, int64.

        Returns:
            ``(..., K, N)``, nats.
        """
        return at_least_float32(self.logits_of(index)).log_softmax(dim=-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of maps of rows ``(..., D, *positions)``, nats, by one pass."""
        axes = len(self.event_shape)
        batch = torch.broadcast_shapes(value.shape[:-axes], self.batch_shape)
        index = nearest(value.movedim(-axes, -1), self.table)
        index = index.reshape(*value.shape[:-axes], -1).expand(*batch, -1)  # (..., N)
        return self.log_probs(index).gather(-2, index.unsqueeze(-2)).sum(dim=(-2, -1))

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw position after position, ``sample_shape + (*batch, D, *positions)``."""
        shape = (*sample_shape, *self.batch_shape, math.prod(self.positions))
        index = torch.zeros(shape, dtype=torch.long, device=self.table.device)
        for i in range(shape[-1]):
            logits = self.log_probs(index)[..., i]
            index[..., i] = Categorical(logits=logits, validate_args=False).sample()
        index = index.reshape(*shape[:-1], *self.positions)
        return self.table[index].movedim(-1, -len(self.event_shape))


class CodesBefore(nn.Module):
    """What the codes before a position say about its code, as logits that are 0 at the start.

    A code enters as a vector of its own, which is learned here, so it does not matter where the
    rows of the codebook lie.

    Args:
        num_codes: K.
        *positions: shape of the maps, of N positions.
        hidden: widths of the hidden layers of the masked network.
        context: C, width of a context that every position sees; 0 for none.
        size: dimensions of the vector of a code.
    """

    def __init__(
        self,
        num_codes: int,
        *positions: int,
        hidden: Sequence[int] = (256,),
        context: int = 0,
        size: int = 16,
    ) -> None:
        super().__init__()
        self.vectors = nn.Embedding(num_codes, size)
        self.net = MaskedMLP(
            math.prod(positions), hidden=hidden, inputs=size, outputs=num_codes, context=context
        )
        for last in (self.net.layers[-1], self.net.direct):
            for parameter in last.parameters() if last is not None else ():
                nn.init.zeros_(parameter)

    def forward(self, index: Tensor, context: Tensor | None = None) -> Tensor:
        """Map row numbers ``(..., N)``, and a context ``(..., C)``, to logits ``(..., K, N)``."""
        return self.net(self.vectors(index).mT.flatten(-2), context)
