r"""Top-down inference by concatenation, the posterior of chapter 5 (:eq:`eq-concatenation`).

.. math:: q(z_l \mid x, z_{>l}) = N\bigl(\mu(d_l, h), \sigma^2(d_l, h)\bigr)

One network reads the bottom-up feature of the level and the state from above. It does not see the
prior that its output is compared with and has to learn to agree with it.
"""

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.states import join
from hvae_course.posteriors.base import PosteriorRule


class Concatenation(PosteriorRule):
    """``q(z_l | x, z_>l)``: a free function of the bottom-up feature and the state above.

    Args:
        head: module ``(B, F_l + H, ...) -> q(z_l | x, z_>l)`` on d_l and h joined along axis 1.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, d: Tensor, h: Tensor, p: Distribution | None) -> Distribution:
        """Give ``q(z_l | x, z_>l)`` from d_l and h of equal resolution; the prior is not used."""
        return self.head(join(d, h))
