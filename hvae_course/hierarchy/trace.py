r"""What one walk down the hierarchy returns.

A `Level` holds one latent with the two distributions over it, a `Trace` holds all levels and the
likelihood. Every bound and every diagnostic of the course is a function of a trace, so a quantity
that can be computed from one draw of :math:`(z_1, \dots, z_L)` needs nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

State = Any
"""The state h that carries ``z_>l`` to level l: a tensor, or a record of tensors."""
Choose = Callable[[int, State, Distribution], tuple[Distribution, Tensor]]
"""How a walk picks a latent, ``(l, h, p) -> (q, z)`` with l counted from 0 at the bottom."""


def _once(record: Any, name: str, of: Tensor, compute: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Compute a value once, and again if gradients are asked for and the first had none."""
    known_of, value, with_gradients = record.__dict__.get("_known_" + name, (None, None, False))
    if known_of is not of or (torch.is_grad_enabled() and not with_gradients):
        value = compute()
        object.__setattr__(record, "_known_" + name, (of, value, torch.is_grad_enabled()))
    return value


@dataclass(frozen=True, eq=False)
class Level:
    """One latent z_l met on the way down: its value and the two distributions over it."""

    z: Tensor
    """``(B, Z_l)``, or ``(B, C, H, W)``; the value that the levels below saw."""
    q: Distribution
    """The distribution that z was drawn from, which in generation is the prior itself."""
    p: Distribution
    """The prior ``p(z_l | z_>l)``."""

    @property
    def information(self) -> Tensor:
        r"""Log-ratio of one joint draw, :math:`\log q(z_l) - \log p(z_l)`, (B,), nats.

        Its mean is the level's share of the gap between reconstruction and bound
        (:eq:`eq-information`). For a top-down posterior it estimates KL(q || p) and its mean is
        not negative; for a bottom-up posterior only the sum over levels, and the top level, have
        that property. A single draw may be negative in either case.

        It is computed once, so that where the prior's density is itself an estimate
        (`hvae_course.priors.vhp.VHP`), every caller sees the same estimate.
        """
        return _once(
            self, "information", self.z, lambda: self.q.log_prob(self.z) - self.p.log_prob(self.z)
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """All levels of one walk, bottom to top, and the likelihood at its end.

    It keeps what it has computed for a batch, so that objective and statistics score the batch
    once. Do not change a batch in place after it was scored.
    """

    levels: tuple[Level, ...]
    """``levels[0]`` is z_1, next to the data; ``levels[-1]`` is z_L."""
    px: Distribution
    """The likelihood p(x | z), batch shape ``(B K,)``."""
    num_samples: int = 1
    """K, the number of draws per example; draws of one example lie next to each other."""

    def log_px(self, x: Tensor) -> Tensor:
        """Reconstruction term log p(x | z) of every draw.

        Args:
            x: data ``(B, D)``, one row per example.

        Returns:
            ``(B K,)``, nats per example.

        Raises:
            ValueError: if x is not the size of the batch that this trace was made from.
        """
        return _once(self, "log_px", x, lambda: self._log_px_of(x))

    def _log_px_of(self, x: Tensor) -> Tensor:
        rows = self.px.batch_shape[0] // self.num_samples
        if x.shape != (rows, *self.px.event_shape):
            raise ValueError(
                f"this trace was made from a batch of shape {(rows, *self.px.event_shape)}, but x "
                f"has shape {tuple(x.shape)}; pass the batch that the trace was made from"
            )
        if self.num_samples > 1:  # else it would copy
            x = x.repeat_interleave(self.num_samples, dim=0)
        return self.px.log_prob(x)  # (B K,)

    def log_weight(self, x: Tensor) -> Tensor:
        r"""Log importance weight of every joint draw (:eq:`eq-log-weight`).

        .. math:: \log w = \log p(x \mid z) + \sum_l \log p(z_l \mid z_{>l}) - \log q(z \mid x)

        Args:
            x: data ``(B, D)``, one row per example.

        Returns:
            ``(B K,)``, nats per example; its mean over draws is the ELBO.
        """
        return self.terms(x)[0]

    def terms(self, x: Tensor) -> tuple[Tensor, ...]:
        """Log-weight of every joint draw and its terms, each computed once.

        Args:
            x: data ``(B, D)``, one row per example.

        Returns:
            ``2 + L`` tensors ``(B K,)``, nats per example: log-weight, reconstruction, and the
            information of z_1, ..., z_L.
        """
        return _once(self, "terms", x, lambda: self._terms_of(x))

    def _terms_of(self, x: Tensor) -> tuple[Tensor, ...]:
        reconstruction = self.log_px(x)
        information = [level.information for level in self.levels]
        return reconstruction - sum(information), reconstruction, *information
