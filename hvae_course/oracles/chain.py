r"""Hierarchies whose log p(x) is known exactly.

In a linear-Gaussian hierarchy every distribution is Gaussian, so the posterior, the evidence and
every bound have closed forms. Plugged into the package's own spine, such a model tests it: with
the exact posterior, :math:`\log p(x, z) - \log q(z \mid x)` is :math:`\log p(x)` for *every* draw
of z, not only on average.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown
from hvae_course.oracles.layers import (
    LinearGaussianDelta,
    LinearGaussianLayer,
    LinearGaussianLikelihood,
    LinearGaussianPair,
)
from hvae_course.posteriors import (
    Concatenation,
    Delta,
    Posterior,
    PosteriorRule,
    PrecisionWeighted,
    TopDownPosterior,
)
from hvae_course.priors import StandardNormal


@dataclass(frozen=True)
class LinearGaussian:
    r"""Linear-Gaussian chain :math:`z_L \to \dots \to z_1 \to x` (:eq:`eq-linear`).

    .. math:: z_L \sim N(0, 1), \qquad z_l \sim N(a_l z_{l+1}, s_l), \qquad x \sim N(a_0 z_1, s_0)

    Every level holds ``size`` independent copies of the same chain, so diagonal posteriors can be
    exact.

    Args:
        slopes: ``(a_0, ..., a_{L-1})``, bottom to top.
        variances: ``(s_0, ..., s_{L-1})``, bottom to top.
        size: number of independent copies D.

    Raises:
        ValueError: if there is not one positive variance per slope, no level or no copy.
        TypeError: if slopes or variances are not sequences of numbers.
    """

    slopes: Sequence[float]
    variances: Sequence[float]
    size: int = 1

    def __post_init__(self) -> None:
        for name in ("slopes", "variances"):
            value = getattr(self, name)
            try:
                _ = [*map(float, value)]
            except (TypeError, ValueError):
                raise TypeError(
                    f"{name} is a sequence with one number per level, got {value!r}"
                ) from None
        if not len(self.slopes):
            raise ValueError("a chain has at least one level; give one slope and one variance")
        if not (isinstance(self.size, Integral) and self.size > 0):
            raise ValueError(f"size is a whole number of copies from 1 on, got {self.size!r}")
        if len(self.slopes) != len(self.variances) or not all(s > 0 for s in self.variances):
            raise ValueError(
                f"each of the {len(self.slopes)} slopes needs one positive variance, got "
                f"{tuple(self.variances)}"
            )

    @property
    def num_levels(self) -> int:
        """L, the number of latent levels."""
        return len(self.slopes)

    def covariance(self) -> Tensor:
        """Covariance of ``(x, z_1, ..., z_L)`` of one copy, float64, ``(L + 1, L + 1)``."""
        covariance = torch.ones(1, 1, dtype=torch.float64)
        for a, s in zip(reversed(self.slopes), reversed(self.variances), strict=True):
            cross = a * covariance[:1]  # (1, n), covariance of the new variable with those above
            own = a * cross[:, :1] + s
            covariance = torch.cat(
                [torch.cat([own, cross], dim=1), torch.cat([cross.T, covariance], dim=1)]
            )
        return covariance

    def log_px(self, x: Tensor) -> Tensor:
        """Exact log p(x) (:eq:`eq-linear-evidence`).

        Args:
            x: data ``(B, D)``.

        Returns:
            ``(B,)``, nats per example.

        Raises:
            ValueError: if x has another shape.
        """
        if x.dim() != 2 or x.shape[1] != self.size:
            raise ValueError(
                f"this chain has {self.size} copies and needs x of shape (B, {self.size}), got "
                f"{tuple(x.shape)}; LinearGaussian(..., size=D) has D copies"
            )
        variance = self.covariance()[0, 0].item()
        return diag_normal(torch.zeros_like(x), x.new_tensor(0.5 * math.log(variance))).log_prob(x)

    def sample_x(self, n: int, *, seed: int = 0) -> Tensor:
        """Draw data from the model.

        Args:
            n: number of examples.
            seed: seed of the draw. Use another seed for the model's draws: on the CPU the same
                one would give the latents the noise of the data.

        Returns:
            ``(n, D)``, float64.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, self.size, generator=generator, dtype=torch.float64)
        return noise * self.covariance()[0, 0].sqrt()

    def posterior_chain(self) -> list[LinearGaussianLayer]:
        """Exact q(z_1 | x), q(z_2 | z_1), ..., heads for a bottom-up posterior.

        Returns:
            L layers, bottom to top; exact because the chain is Markov in both directions.
        """
        c, heads = self.covariance(), []
        for l in range(self.num_levels):
            slope = (c[l, l + 1] / c[l, l]).item()
            heads.append(
                LinearGaussianLayer(slope, (c[l + 1, l + 1] - slope * c[l, l + 1]).item())
            )
        return heads

    def posterior_marginals(self) -> list[LinearGaussianLayer]:
        """Exact marginals p(z_l | x), without the dependence of the levels given x.

        Returns:
            L layers, bottom to top.
        """
        c, heads = self.covariance(), []
        for l in range(1, self.num_levels + 1):
            slope = (c[0, l] / c[0, 0]).item()
            heads.append(LinearGaussianLayer(slope, (c[l, l] - slope * c[0, l]).item()))
        return heads

    def layers(self) -> list[LinearGaussianLayer]:
        """The conditionals p(x | z_1), p(z_1 | z_2), ..., p(z_L-1 | z_L).

        Returns:
            L layers, bottom to top.
        """
        return [
            LinearGaussianLayer(a, s) for a, s in zip(self.slopes, self.variances, strict=True)
        ]

    def messages(self) -> list[LinearGaussianLayer]:
        """What x alone says about each level: p(x | z_l), as a Gaussian over z_l.

        Returns:
            L layers from x, bottom to top, for `hvae_course.posteriors.precision`.

        Raises:
            ValueError: if a slope is zero, so that x says nothing about the levels above it.
        """
        if 0 in self.slopes:
            raise ValueError(
                f"with slopes {tuple(self.slopes)} x does not depend on every level, and "
                "what it says about a level has no finite variance; use non-zero slopes"
            )
        heads, slope, variance = [], 1.0, 0.0
        for a, s in zip(self.slopes, self.variances, strict=True):
            variance += slope**2 * s  # of x given the level above
            slope *= a  # from z_l to x
            heads.append(LinearGaussianLayer(1 / slope, variance / slope**2))
        return heads

    def posterior_conditionals(self) -> list[LinearGaussianPair]:
        """Exact q(z_l | x, z_l+1), heads for a posterior by concatenation.

        Returns:
            L modules on the concatenation of x and z_l+1 (of x alone at the top), bottom to top.
        """
        c, heads = self.covariance(), []
        for l in range(1, self.num_levels + 1):
            given = [0, l + 1] if l < self.num_levels else [0]
            cross, own = c[given, l], c[given][:, given]
            slopes = torch.linalg.solve(own, cross)
            heads.append(LinearGaussianPair(slopes.tolist(), (c[l, l] - slopes @ cross).item()))
        return heads

    def exact_rules(self, kind: str) -> TopDownPosterior:
        """The exact posterior, written with one of the top-down rules of the course.

        Args:
            kind: ``"concatenation"``, ``"delta"``, or ``"merge"`` (merged at the top, too).

        Returns:
            A posterior whose features are x itself, once per level.

        Raises:
            ValueError: if the kind is unknown.
        """
        conditionals, priors = self.posterior_conditionals(), [*self.layers()[1:], None]
        rules: dict[str, Callable[[], list[PosteriorRule]]] = {
            "concatenation": lambda: [Concatenation(head) for head in conditionals],
            "delta": lambda: [
                Delta(LinearGaussianDelta(q, p)) for q, p in zip(conditionals, priors, strict=True)
            ],
            "merge": lambda: [PrecisionWeighted(head) for head in self.messages()],
        }
        if kind not in rules:
            raise ValueError(f"unknown rule {kind!r}; choose one of {', '.join(rules)}")
        return TopDownPosterior(rules[kind]())

    def hvae(self, posterior: Posterior) -> HierarchicalVAE:
        """The same model on the package's spine.

        Args:
            posterior: any posterior over the L levels; its features are x itself, once per level.

        Returns:
            A float64 model without parameters of its own.
        """
        layers = self.layers()
        return HierarchicalVAE(
            StandardNormal(self.size),
            BottomUp([nn.Identity() for _ in layers]),
            posterior=posterior,
            top_down=TopDown(
                updates=[MarkovUpdate() for _ in layers],
                conditionals=layers[1:],
                likelihood=LinearGaussianLikelihood(layers[0]),
            ),
        ).double()
