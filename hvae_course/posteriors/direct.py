r"""Mean-field inference: every level reads the data alone (:eq:`eq-direct`).

.. math:: q(z_1, \dots, z_L \mid x) = \prod_{l=1}^{L} q(z_l \mid x)

Given x the levels are independent under q, so this family cannot express a dependence between z_1
and z_2. It serves at the top level, which has no level above it, and as a baseline: the
closed-form objective of chapter 1 is the ELBO of such a posterior minus a mutual information.
"""

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.trace import State
from hvae_course.posteriors.base import PosteriorRule


class Direct(PosteriorRule):
    """q(z_l | x), a function of the bottom-up feature that ignores the levels above.

    Args:
        head: module d_l -> q(z_l | x).
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, d: Tensor, h: State, p: Distribution | None) -> Distribution:
        """Give q(z_l | x); neither the state nor the prior is used."""
        return self.head(d)
