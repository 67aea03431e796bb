r"""The top-down path, the only loop over levels in the package.

The generative model is :math:`p(z_L) \prod_{l<L} p(z_l \mid z_{>l})\, p(x \mid z)`
(:eq:`eq-generative`). Inference, generation, reconstruction and traversal walk the same path; they
differ in the function ``choose`` that picks each latent. In a conditional model everything but
:math:`p(z_L)` depends on a label y too, which the walk joins with the state that each part reads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.states import with_label
from hvae_course.hierarchy.trace import Choose, Level, State, Trace


class TopDown(nn.Module):
    """The generative network: conditional priors, state updates and the likelihood.

    Args:
        updates: one module ``(h, z_l) -> h`` per level, bottom to top.
        conditionals: one module ``h -> p(z_l | z_>l)`` per level but the top, bottom to top. It
            may return ``(p, f)`` too: f is added to the state that the update of the level reads,
            and the posterior does not see it.
        likelihood: module ``h -> p(x | z)``.
        initial: module ``n -> h``, the state of n rows above the top level; by default it is
            empty, ``(n, 0)``.

    Raises:
        ValueError: if there is not exactly one conditional fewer than updates.
    """

    def __init__(
        self,
        updates: Sequence[nn.Module],
        conditionals: Sequence[nn.Module],
        likelihood: nn.Module,
        *,
        initial: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if len(updates) < 1 or len(conditionals) != len(updates) - 1:
            raise ValueError(
                f"L levels need L updates and L - 1 conditional priors, got {len(updates)} and "
                f"{len(conditionals)}; the top level's prior is passed to forward"
            )
        self.updates = nn.ModuleList(updates)
        self.conditionals = nn.ModuleList(conditionals)
        self.likelihood = likelihood
        self.initial = initial
        self.register_buffer("no_state", torch.empty(0), persistent=False)

    @property
    def num_levels(self) -> int:
        """L, the number of latent levels."""
        return len(self.updates)

    def initial_state(self, n: int) -> State:
        """Give the state above the top level.

        Args:
            n: number of rows.

        Returns:
            The state of n rows.
        """
        return self.no_state.expand(n, 0) if self.initial is None else self.initial(n)

    def forward(
        self,
        prior: Distribution,
        choose: Choose,
        n: int,
        y: Tensor | None = None,
        *,
        num_samples: int = 1,
    ) -> Trace:
        """Walk from z_L down to the likelihood.

        Args:
            prior: p(z_L), with an empty batch shape.
            choose: how each latent is picked; see `hvae_course.hierarchy.choices`.
            n: number of rows to walk with.
            y: one-hot labels ``(n, C)`` of a conditional model; None otherwise.
            num_samples: how many of those rows belong to one example; recorded in the trace.

        Returns:
            The trace, levels bottom to top.
        """
        levels, h = self.walk(prior, choose, n, y)
        return Trace(levels, self.likelihood(h), num_samples)

    def walk(
        self, prior: Distribution, choose: Choose, n: int, y: Tensor | None = None
    ) -> tuple[tuple[Level, ...], State]:
        """Walk from z_L down to z_1, without the likelihood.

        Args:
            prior: p(z_L), with an empty batch shape.
            choose: how each latent is picked; see `hvae_course.hierarchy.choices`.
            n: number of rows to walk with.
            y: one-hot labels ``(n, C)`` of a conditional model; None otherwise.

        Returns:
            The levels, bottom to top, and the state that the likelihood reads.

        Raises:
            ValueError: if a chosen q or z is not over the same latent as its prior.
            TypeError: if a conditional prior returns neither a distribution nor ``(p, f)``.
        """
        h, p, levels = self.initial_state(n), prior.expand((n,)), []
        seen = with_label(h, y)
        for l in reversed(range(self.num_levels)):
            q, z = choose(l, seen, p)
            if q.event_shape != p.event_shape or z.shape != (n, *p.event_shape):
                raise ValueError(
                    f"p(z_{l + 1}) has event shape {tuple(p.event_shape)} and {n} rows, but the "
                    f"chosen q has {tuple(q.event_shape)} and z is {tuple(z.shape)}; give every "
                    f"part of level {l + 1} the same latent shape, and z one value per row"
                )
            levels.append(Level(z, q, p))
            h = self.updates[l](h, z)  # the state carries z_>=l downward
            seen = with_label(h, y)
            if l > 0:
                given = self.conditionals[l - 1](seen)
                p, feature = given if _is_pair(given) else (given, None)  # p(z_l-1 | z_>=l)
                if not isinstance(p, Distribution):
                    raise TypeError(
                        f"the conditional prior of level {l} returns a distribution, or a tuple "
                        f"(p, f) of it and a feature for the state, got {_kind_of(given)}"
                    )
                if feature is not None:
                    h = h + feature
        return tuple(reversed(levels)), seen


def _is_pair(given: object) -> bool:
    return isinstance(given, tuple) and len(given) == 2


def _kind_of(given: object) -> str:
    """The type of what a module returned, and those of its entries."""
    kind = type(given).__name__
    if isinstance(given, tuple | list):
        entries = ", ".join(type(entry).__name__ for entry in given)
        return f"a {kind} of {entries or 'nothing'}"
    return kind
