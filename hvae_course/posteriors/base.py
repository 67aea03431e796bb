r"""Interface of the posteriors: from bottom-up features to a choice for the top-down path.

A posterior that factorises from the top, :math:`q(z \mid x) = \prod_l q(z_l \mid x, z_{>l})`, has
one rule per level, which the walk down applies. A posterior that factorises from the bottom draws
all latents on the way up and hands them out on the way down. Others do both.

Features and latents have the batch as axis 0 and channels, or dimensions, as axis 1: ``(B, F_l)``
or ``(B, F_l, H, W)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.trace import Choose, State


def draw(q: Distribution) -> Tensor:
    """Draw a latent, with gradients where q has a reparametrised draw.

    Args:
        q: posterior of a level. A distribution over codes may have ``sample`` alone; what trains
            it is then a matter of the objective, which finds q in the trace.

    Returns:
        ``(B, *event)``.
    """
    return q.rsample() if q.has_rsample else q.sample()


class Posterior(nn.Module, ABC):
    """Posterior over all levels."""

    reads_top_prior = False
    """Whether the posterior of the top level depends on the prior p(z_L)."""
    reads_label = False
    """Whether the last feature is the label of a conditional model, one-hot ``(B, C)``. What draws
    on the way down finds the label in the state."""

    @property
    @abstractmethod
    def num_levels(self) -> int:
        """L, the number of latent levels."""

    @property
    def draws_bottom_up(self) -> tuple[bool, ...]:
        """Whether each level, z_1 first, is drawn on the way up.

        Those levels are drawn first, from the lowest to the highest, then all others, from the
        highest to the lowest. By default every level is drawn on the way down.
        """
        return (False,) * self.num_levels

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Choose:
        """Turn features into a choice.

        Args:
            features: ``(d_1, d_2, ...)``, as many as the posterior reads.

        Returns:
            A choice that gives q and a draw for each level.

        Raises:
            ValueError: if the number of features is wrong.
        """

    @abstractmethod
    def score(self, features: Sequence[Tensor], latents: Sequence[Tensor]) -> Choose:
        """Fix all latents at given values, and give the q of each level there.

        Args:
            features: ``(d_1, d_2, ...)``, as many as the posterior reads.
            latents: z_1, ..., z_L.

        Returns:
            A choice whose q belong to the features and whose z are the given values.

        Raises:
            ValueError: if the number of features is wrong.
        """

    @abstractmethod
    def top(self, features: Sequence[Tensor], h: State) -> Distribution:
        """Give q(z_L | x), from which a prior can be built.

        Args:
            features: ``(d_1, d_2, ...)``, as many as the posterior reads.
            h: state above the top level.

        Returns:
            A distribution over z_L, batch shape ``(B,)``.

        Raises:
            TypeError: if this posterior has no such distribution in closed form.
        """


class PosteriorRule(nn.Module, ABC):
    """Posterior over one level, given what is known when the walk down reaches it."""

    reads_prior = False
    """Whether q depends on p; no prior can be built from the q(z_L | x) of such a rule."""

    @abstractmethod
    def forward(self, d: Tensor, h: State, p: Distribution | None) -> Distribution:
        """Give ``q(z_l | x, z_>l)``.

        Args:
            d: bottom-up feature d_l.
            h: state that carries ``z_>l``.
            p: prior ``p(z_l | z_>l)``; None only for a rule that does not read it.

        Returns:
            A distribution over z_l, batch shape ``(B,)``.

        Raises:
            TypeError: if the rule cannot use such a prior or state.
        """


class TopDownPosterior(Posterior):
    """One rule per level, applied on the way down.

    Args:
        rules: rules for z_1, ..., z_L, bottom to top.
        reads: the feature that each level reads, from 1, if not each its own; levels of one
            resolution may share one.

    Raises:
        ValueError: if ``reads`` does not name one feature per rule.
    """

    def __init__(
        self, rules: Sequence[PosteriorRule], *, reads: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.rules = nn.ModuleList(rules)
        self.reads = tuple(range(1, len(rules) + 1) if reads is None else reads)
        if len(self.reads) != len(rules) or min(self.reads, default=1) < 1:
            raise ValueError(
                f"{len(rules)} rules read one feature each, counted from 1, got reads={reads}; "
                "give one number per level, bottom to top"
            )
        self.reads_top_prior = len(rules) > 0 and rules[-1].reads_prior

    @property
    def num_levels(self) -> int:
        """L, the number of latent levels."""
        return len(self.rules)

    def forward(self, features: Sequence[Tensor]) -> Choose:
        """Bind the features to the rules."""
        own = self._by_level(features)

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            q = self.rules[l](own[l], h, p)
            return q, draw(q)

        return choose

    def score(self, features: Sequence[Tensor], latents: Sequence[Tensor]) -> Choose:
        """Fix all latents; the q of each level reads the values above it."""
        own = self._by_level(features)

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            return self.rules[l](own[l], h, p), latents[l]

        return choose

    def top(self, features: Sequence[Tensor], h: State) -> Distribution:
        """Apply the top level's rule without a prior."""
        rule, d = self.rules[-1], self._by_level(features)[-1]
        if rule.reads_prior:
            raise TypeError(
                "a prior built from q(z_L | x) needs a top-level rule that does not read the "
                f"prior, got {type(rule).__name__}; use Direct at the top level"
            )
        return rule(d, h, None)

    def _by_level(self, features: Sequence[Tensor]) -> list[Tensor]:
        expected = max(self.reads)
        if len(features) != expected:
            raise ValueError(
                f"{self.num_levels} rules need {expected} features d_1, ..., d_L, got "
                f"{len(features)}; give BottomUp one block per "
                f"{'level' if expected == self.num_levels else 'feature that the rules read'}"
            )
        return [features[number - 1] for number in self.reads]
