"""The hierarchical VAE: one assembly of four parts, whatever the model is called."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.bottom_up import BottomUp
from hvae_course.hierarchy.choices import from_prior
from hvae_course.hierarchy.top_down import TopDown
from hvae_course.hierarchy.trace import Choose, Trace


class HierarchicalVAE(nn.Module):
    """A variational autoencoder with any number of latent levels.

    The posterior decides which model this is: bottom-up inference, a ladder and the others share
    the rest. `hvae_course.recipes` assembles the named models.

    Args:
        prior: module that returns p(z_L) with an empty batch shape; it is given q(z_L | x) as a
            function of x, for priors that are made of it.
        bottom_up: deterministic features of the data.
        posterior: module from the features to a choice for the top-down path.
        top_down: the generative network.
        config: what a recipe needs to build this model again; saved with every checkpoint.

    Raises:
        ValueError: if posterior and top-down path differ in their number of levels.
    """

    def __init__(
        self,
        prior: nn.Module,
        bottom_up: BottomUp,
        *,
        posterior: nn.Module,
        top_down: TopDown,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if posterior.num_levels != top_down.num_levels:
            raise ValueError(
                f"the posterior has {posterior.num_levels} levels and the top-down path has "
                f"{top_down.num_levels}; give each latent one posterior and one prior"
            )
        self.prior = prior
        self.bottom_up = bottom_up
        self.posterior = posterior
        self.top_down = top_down
        self.config = dict(config or {})

    @property
    def num_levels(self) -> int:
        """L, the number of latent levels."""
        return self.top_down.num_levels

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.top_down.no_state.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights, which data must have."""
        return next((p.dtype for p in self.parameters()), torch.get_default_dtype())

    def forward(
        self, x: Tensor, num_samples: int = 1, *, features: Sequence[Tensor] | None = None
    ) -> Trace:
        """Infer the latents of x and walk down with them.

        Args:
            x: data ``(B, D)``.
            num_samples: K, draws of the latents per example.
            features: ``bottom_up(x)`` if it has been computed already, as in an evaluation that
                draws many times for the same x.

        Returns:
            A trace of ``B K`` rows; the draws of one example lie next to each other.

        Raises:
            ValueError: if x is not a batch of vectors or K is not positive.
        """
        if x.dim() < 2 or len(x) == 0 or num_samples < 1:
            raise ValueError(
                f"expected a batch (B, D) with B >= 1 and num_samples >= 1, got x of shape "
                f"{tuple(x.shape)} and num_samples={num_samples}; add a batch axis with x[None]"
            )
        features = self.bottom_up(x) if features is None else features
        if num_samples > 1:  # else it would copy
            features = [d.repeat_interleave(num_samples, dim=0) for d in features]
        choose = self.posterior(features)  # Choose: (l, h, p_l) -> (q_l, z_l)
        n = len(x) * num_samples
        return self.top_down(self.top_prior(), choose, n, num_samples=num_samples)

    def encode_top(self, x: Tensor) -> Distribution:
        """Infer the top level alone.

        Args:
            x: data ``(B, D)``.

        Returns:
            q(z_L | x), batch shape ``(B,)``.

        Raises:
            TypeError: if the posterior has no such distribution in closed form.
        """
        return self.posterior.top(self.bottom_up(x), self.top_down.initial_state(len(x)))

    def top_prior(self) -> Distribution:
        """Give the prior over the top level.

        Returns:
            p(z_L), with an empty batch shape.
        """
        return self.prior(self.encode_top)

    @torch.no_grad()
    def generate(self, n: int, choose: Choose = from_prior) -> Trace:
        """Walk down without data: ancestral samples, or whatever ``choose`` holds fixed.

        The model stays in its mode: in training mode dropout is active, and batch normalisation
        takes its statistics from the samples and keeps them. `hvae_course.analysis.layers.sample`
        switches to evaluation mode first.

        Args:
            n: number of rows.
            choose: how each latent is picked; see `hvae_course.hierarchy.choices`.

        Returns:
            A trace without gradients; ``trace.px.sample()`` gives data.
        """
        return self.top_down(self.top_prior(), choose, n)
