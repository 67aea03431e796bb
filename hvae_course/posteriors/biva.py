r"""Bidirectional inference, chapter 8: some latents drawn up, others down.

Below the top, every level has two latents, :math:`z_l = (B_l, T_l)`. The first is drawn on the way
up, the second on the way down.

.. math:: q(z \mid x) = \prod_{l<L} q(B_l \mid x, B_{<l})\; q(z_L \mid x, B_{<L})\,
          \prod_{l<L} q(T_l \mid x, B_{<l}, z_{>l})

.. math:: p(z) = p(z_L) \prod_{l<L} p(B_l \mid z_{>l})\, p(T_l \mid z_{>l})

Two paths lead upward. The one, u, takes up each :math:`B_l` that is drawn. The other, e, takes up
none, but reads the first at every level, so it depends on the draws too.

The closed form of a KL divergence is a term of the ELBO for :math:`T_l` and :math:`z_L`, since
nothing that these condition on depends on their value. It is none for :math:`B_l`, because
:math:`z_{>l}` was drawn given it.

The two priors of a level read one state, above both. On the spine every latent is a level of its
own, in the order :math:`B_1, T_1, B_2, T_2, \dots, z_L`.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.states import join
from hvae_course.hierarchy.trace import Choose, State
from hvae_course.posteriors.base import Posterior, PosteriorRule, draw


class BIVA(Posterior):
    """Posterior of 2 L - 1 latents, of which L - 1 are drawn on the way up.

    Args:
        draws: f_1, ..., f_L, the path u that takes up draws: a module ``d_1 -> u_1``, then
            modules ``(u, e and B joined) -> u`` from each level to the next.
        features: g_1, ..., g_L, the path e: modules ``(e, u) -> e`` from the path of the level
            below and the other one of the same level; the first e is d_1.
        heads: modules ``u_l -> q(B_l | x, B_<l)``, l = 1, ..., L - 1.
        rules: rules for T_1, ..., T_L-1, which read e_l and the state above.
        top: module ``(u_L and e_L joined) -> q(z_L | x, B_<L)``.

    Raises:
        ValueError: if the numbers of parts do not fit together.

    Source:
        Maaløe et al. (2019), BIVA, arXiv:1902.02102.
    """

    def __init__(
        self,
        draws: Sequence[nn.Module],
        features: Sequence[nn.Module],
        *,
        heads: Sequence[nn.Module],
        rules: Sequence[PosteriorRule],
        top: nn.Module,
    ) -> None:
        super().__init__()
        pairs = len(draws) - 1
        if not (pairs + 1 == len(features) > 0 and pairs == len(heads) == len(rules)):
            raise ValueError(
                "L levels need L modules for each path upward, and L - 1 heads and rules, got "
                f"{len(draws)} and {len(features)} modules, {len(heads)} heads and {len(rules)} "
                "rules"
            )
        self.draws, self.features = nn.ModuleList(draws), nn.ModuleList(features)
        self.heads, self.rules = nn.ModuleList(heads), nn.ModuleList(rules)
        self.top_head = top

    @property
    def num_levels(self) -> int:
        """2 L - 1, the number of latents."""
        return 2 * len(self.heads) + 1

    @property
    def draws_bottom_up(self) -> tuple[bool, ...]:
        """True for B_1, B_2, ..., every second level but the highest."""
        return (True, False) * len(self.heads) + (False,)

    def forward(self, features: Sequence[Tensor]) -> Choose:
        """Draw the B_l on the way up, and give the rest on the way down."""
        return self._choose(features[0], None)

    def score(self, features: Sequence[Tensor], latents: Sequence[Tensor]) -> Choose:
        """Fix all latents; both paths upward are computed again from the given B_l."""
        return self._choose(features[0], latents)

    def top(self, features: Sequence[Tensor], h: State) -> Distribution:
        """Give q(z_1 | x) of a model of one latent; with more there is no closed form."""
        if self.num_levels > 1:
            raise TypeError(
                "q(z_L | x) has no closed form where q(z_L | x, B_<L) depends on latents drawn "
                "below it, so no prior can be built from it; choose a top-down recipe, which "
                "infers the top level from the data, or another prior"
            )
        return self._climb(features[0], None)[1]

    def _choose(self, d: Tensor, latents: Sequence[Tensor] | None) -> Choose:
        drawn, q_top, features = self._climb(d, latents)

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            level = l // 2
            if l < self.num_levels - 1 and l % 2 == 0:
                return drawn[level]
            q = self.rules[level](features[level], h, p) if l % 2 else q_top
            return q, draw(q) if latents is None else latents[l]

        return choose

    def _climb(
        self, d: Tensor, latents: Sequence[Tensor] | None
    ) -> tuple[list[tuple[Distribution, Tensor]], Distribution, list[Tensor]]:
        """Walk up.

        Returns:
            Every q(B_l) with its draw, or with the given value; q(z_L); the features e_l.
        """
        drawn, features = [], []
        u = self.draws[0](d)
        e = self.features[0](d, u)
        for l, head in enumerate(self.heads):
            q = head(u)
            b = draw(q) if latents is None else latents[2 * l]
            drawn.append((q, b))
            features.append(e)
            u = self.draws[l + 1](u, join(e, b))
            e = self.features[l + 1](e, u)
        return drawn, self.top_head(join(u, e)), features
