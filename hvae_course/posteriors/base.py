r"""Interface of the posteriors: from bottom-up features to a choice for the top-down path.

A posterior that factorises from the top, :math:`q(z \mid x) = \prod_l q(z_l \mid x, z_{>l})`, has
one rule per level, which the walk down applies. A posterior that factorises from the bottom draws
all latents on the way up and hands them out on the way down.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.trace import Choose


class Posterior(nn.Module, ABC):
    """Posterior over all levels."""

    draws_bottom_up = False
    """Whether the posterior draws z_1 first, and each level from the draws below it."""
    reads_top_prior = False
    """Whether the posterior of the top level depends on the prior p(z_L)."""

    @property
    @abstractmethod
    def num_levels(self) -> int:
        """L, the number of latent levels."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Choose:
        """Turn features into a choice.

        Args:
            features: ``(d_1, d_2, ...)``, each ``(B, F_l)``.

        Returns:
            A choice that gives q and a reparametrised draw for each level.
        """

    @abstractmethod
    def score(self, features: Sequence[Tensor], latents: Sequence[Tensor]) -> Choose:
        """Fix all latents at given values, and give the q of each level there.

        Args:
            features: ``(d_1, d_2, ...)``, each ``(B, F_l)``.
            latents: z_1, ..., z_L, each ``(B, Z_l)``.

        Returns:
            A choice whose q belong to the features and whose z are the given values.
        """

    @abstractmethod
    def top(self, features: Sequence[Tensor]) -> Distribution:
        """Give q(z_L | x), from which a prior can be built.

        Args:
            features: ``(d_1, d_2, ...)``, each ``(B, F_l)``.

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
    def forward(self, d: Tensor, h: Tensor, p: Distribution | None) -> Distribution:
        """Give ``q(z_l | x, z_>l)``.

        Args:
            d: bottom-up feature d_l, ``(B, F_l)``.
            h: state computed from ``z_>l``.
            p: prior ``p(z_l | z_>l)``; None only for a rule that does not read it.

        Returns:
            A distribution over z_l, batch shape ``(B,)``.
        """


class TopDownPosterior(Posterior):
    """One rule per level, applied on the way down.

    Args:
        rules: rules for z_1, ..., z_L, bottom to top.
    """

    def __init__(self, rules: Sequence[PosteriorRule]) -> None:
        super().__init__()
        self.rules = nn.ModuleList(rules)
        self.reads_top_prior = len(rules) > 0 and rules[-1].reads_prior

    @property
    def num_levels(self) -> int:
        """L, the number of latent levels."""
        return len(self.rules)

    def forward(self, features: Sequence[Tensor]) -> Choose:
        """Bind the features to the rules.

        Args:
            features: ``(d_1, ..., d_L)``, one per level.

        Returns:
            A choice that draws from the rule of each level.

        Raises:
            ValueError: if there is not one feature per level.
        """
        self._check(features)

        def choose(l: int, h: Tensor, p: Distribution) -> tuple[Distribution, Tensor]:
            q = self.rules[l](features[l], h, p)
            return q, q.rsample()

        return choose

    def score(self, features: Sequence[Tensor], latents: Sequence[Tensor]) -> Choose:
        """Fix all latents at given values, and give the q of each level there.

        Args:
            features: ``(d_1, ..., d_L)``, one per level.
            latents: z_1, ..., z_L.

        Returns:
            A choice whose q comes from the rule of each level, given the values above it.

        Raises:
            ValueError: if there is not one feature per level.
        """
        self._check(features)

        def choose(l: int, h: Tensor, p: Distribution) -> tuple[Distribution, Tensor]:
            return self.rules[l](features[l], h, p), latents[l]

        return choose

    def top(self, features: Sequence[Tensor]) -> Distribution:
        """Give q(z_L | x), from which a prior can be built.

        Args:
            features: ``(d_1, ..., d_L)``, one per level.

        Returns:
            The distribution that the top level's rule gives without a prior.

        Raises:
            TypeError: if that rule reads the prior.
        """
        self._check(features)
        rule, d = self.rules[-1], features[-1]
        if rule.reads_prior:
            raise TypeError(
                "a prior built from q(z_L | x) needs a top-level rule that does not read the "
                f"prior, got {type(rule).__name__}; use Direct at the top level"
            )
        return rule(d, d.new_empty(len(d), 0), None)

    def _check(self, features: Sequence[Tensor]) -> None:
        if len(features) != self.num_levels:
            raise ValueError(
                f"{self.num_levels} rules need {self.num_levels} features d_1, ..., d_L, got "
                f"{len(features)}; give BottomUp one block per level"
            )
