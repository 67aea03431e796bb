"""A prior over the top level that is a flow of Gaussian noise."""

from torch import nn
from torch.distributions import Distribution

from hvae_course.priors.base import Encode, Prior


class FlowPrior(Prior):
    """A flow of N(0, I) whose map is learned; its density is exact.

    Args:
        flow: module without inputs that gives the distribution, such as
            `hvae_course.vector_flows.MaskedFlow` without a context.
    """

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, encode: Encode | None = None) -> Distribution:
        """Give the flow."""
        return self.flow()
