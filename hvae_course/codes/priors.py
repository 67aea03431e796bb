"""Priors over codes: ``p(z_L)`` and ``p(z_l | z_>l)``, uniform until they are fitted.

Both read the points from a quantiser that is part of the posterior. They hold it in a tuple, so
that its parameters belong to one module alone, and a copy of a model still refers to its own.
The positions of a map are independent given the state, or each sees those before it, with a
`hvae_course.codes.autoregressive.CodesBefore`.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.codes.autoregressive import AutoregressiveCodes, CodesBefore
from hvae_course.codes.distributions import Codes
from hvae_course.codes.quantiser import Quantiser
from hvae_course.priors import Prior
from hvae_course.priors.base import Encode, check_positive


class CodePrior(Prior):
    """``p(z_L)``, one categorical distribution per position, uniform at the start.

    Args:
        quantiser: the codes of the level.
        *positions: shape of its maps, for instance ``(H, W)``.
        before: what is added to the logits of a position for the codes before it, without a
            context; None for independent positions.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(
        self, quantiser: Quantiser, *positions: int, before: CodesBefore | None = None
    ) -> None:
        super().__init__()
        check_positive(positions=positions or (1,))
        self.logits = nn.Parameter(torch.zeros(quantiser.num_codes, *positions))
        self.before = before
        self._quantiser = (quantiser,)

    def forward(self, encode: Encode | None = None) -> Distribution:
        """Give the prior, `Codes` or `AutoregressiveCodes`, with an empty batch shape."""
        table = self._quantiser[0].table()
        if self.before is None:
            return Codes(self.logits, table, batch_dims=0)
        own, before = self.logits.reshape(len(self.logits), -1), self.before
        return AutoregressiveCodes(
            lambda index: own + before(index),
            table,
            positions=self.logits.shape[1:],
            batch_shape=(),
        )


class ConditionalCodes(nn.Module):
    """``p(z_l | z_>l)``, whose positions are independent given the state, or see those before.

    Args:
        net: module from the state to logits, ``(B, K, *positions)``.
        quantiser: the codes of the level.
        before: what is added to the logits of a position for the codes before it and the state,
            whose entries ``(B, C)`` are its context; None for independent positions.
    """

    def __init__(
        self, net: nn.Module, quantiser: Quantiser, *, before: CodesBefore | None = None
    ) -> None:
        super().__init__()
        self.net, self.before = net, before
        self._quantiser = (quantiser,)

    def forward(self, h: Tensor) -> Distribution:
        """Map the state to the prior, `Codes` or `AutoregressiveCodes`."""
        logits, table = self.net(h), self._quantiser[0].table()
        if self.before is None:
            return Codes(logits, table)
        own, before = logits.flatten(2), self.before
        return AutoregressiveCodes(
            lambda index: own + before(index, h.flatten(1)),
            table,
            positions=logits.shape[2:],
            batch_shape=logits.shape[:1],
        )
