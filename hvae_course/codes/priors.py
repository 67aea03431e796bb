"""Priors over codes: ``p(z_L)`` and ``p(z_l | z_>l)``, uniform until they are fitted.

Both read the points from a quantiser that is part of the posterior. They hold it in a tuple, so
that its parameters belong to one module alone, and a copy of a model still refers to its own.
The positions of a map are independent given the state; a prior that is autoregressive over them is
another module with the same two distributions in and out.
"""

import torch
from torch import Tensor, nn

from hvae_course.codes.codebook import Quantiser
from hvae_course.codes.distributions import Codes
from hvae_course.priors import Prior
from hvae_course.priors.base import Encode, check_positive


class CodePrior(Prior):
    """``p(z_L)``, one categorical distribution per position, uniform at the start.

    Args:
        quantiser: the codes of the level.
        *positions: shape of its maps, for instance ``(H, W)``.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(self, quantiser: Quantiser, *positions: int) -> None:
        super().__init__()
        check_positive(positions=positions or (1,))
        self.logits = nn.Parameter(torch.zeros(quantiser.num_codes, *positions))
        self._quantiser = (quantiser,)

    def forward(self, encode: Encode | None = None) -> Codes:
        """Give the prior."""
        return Codes(self.logits, self._quantiser[0].table(), batch_dims=0)


class ConditionalCodes(nn.Module):
    """``p(z_l | z_>l)``, whose positions are independent given the state.

    Args:
        net: module from the state to logits, ``(B, K, *positions)``.
        quantiser: the codes of the level.
    """

    def __init__(self, net: nn.Module, quantiser: Quantiser) -> None:
        super().__init__()
        self.net = net
        self._quantiser = (quantiser,)

    def forward(self, h: Tensor) -> Codes:
        """Map the state to the prior."""
        return Codes(self.net(h), self._quantiser[0].table())
