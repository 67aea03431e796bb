"""What a prior over the top level is: a module that returns a distribution."""

from abc import ABC, abstractmethod

from torch import nn
from torch.distributions import Distribution


class Prior(nn.Module, ABC):
    """Prior p(z_L) over the top level."""

    @abstractmethod
    def forward(self) -> Distribution:
        """Give the prior.

        Returns:
            p(z_L) with an empty batch shape; the walk down expands it to the batch.
        """
