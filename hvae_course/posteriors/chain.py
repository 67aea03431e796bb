r"""Bottom-up inference, the posterior of chapter 1 (:eq:`eq-chain`).

.. math:: q(z_1, \dots, z_L \mid x) = q(z_1 \mid x) \prod_{l=2}^{L} q(z_l \mid z_{l-1})

The chain reverses the arrows of the generative model. Each draw is the input of the next one, so
all latents are drawn on the way up, before the walk down begins. The walk down reads *the same*
joint draw; this makes the log-ratio of a trace an unbiased estimate of the ELBO. In a conditional
model the links read the label too, :math:`q(z_l \mid z_{l-1}, y)`.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.states import with_label
from hvae_course.hierarchy.trace import Choose, State
from hvae_course.posteriors.base import Posterior, draw


class Chain(Posterior):
    """Bottom-up posterior q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_L-1).

    Args:
        heads: modules d_1 -> q(z_1 | x), z_1 -> q(z_2 | z_1), ..., bottom to top.
        reads_label: whether all heads but the first read the latent below joined with the label,
            which is then the last feature.

    Raises:
        ValueError: if there is no head.
    """

    def __init__(self, heads: Sequence[nn.Module], *, reads_label: bool = False) -> None:
        super().__init__()
        if len(heads) == 0:
            raise ValueError("Chain needs at least one head, d_1 -> q(z_1 | x)")
        self.heads = nn.ModuleList(heads)
        self.reads_label = reads_label

    @property
    def num_levels(self) -> int:
        """L, the number of latent levels."""
        return len(self.heads)

    @property
    def draws_bottom_up(self) -> tuple[bool, ...]:
        """True for every level."""
        return (True,) * self.num_levels

    def forward(self, features: Sequence[Tensor]) -> Choose:
        """Draw every latent on the way up; of the features of x only d_1 is used."""
        below, y, draws = features[0], self._label(features), []
        for head in self.heads:
            q = head(below)
            z = draw(q)
            draws.append((q, z))
            below = with_label(z, y)  # the input of the next level

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            return draws[l]

        return choose

    def score(self, features: Sequence[Tensor], latents: Sequence[Tensor]) -> Choose:
        """Fix all latents; the q of each level reads the value below it."""
        y = self._label(features)
        below = (features[0], *(with_label(z, y) for z in latents[:-1]))

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            return self.heads[l](below[l]), latents[l]

        return choose

    def top(self, features: Sequence[Tensor], h: State) -> Distribution:
        """Give q(z_1 | x) of a model of one level; with more levels there is no closed form."""
        if self.num_levels > 1:
            raise TypeError(
                f"with bottom-up inference over {self.num_levels} levels q(z_L | x) has no closed "
                "form, so no prior can be built from it; choose a top-down recipe, which infers "
                "the top level from the data"
            )
        return self.heads[0](features[0])

    def _label(self, features: Sequence[Tensor]) -> Tensor | None:
        return features[-1] if self.reads_label else None
