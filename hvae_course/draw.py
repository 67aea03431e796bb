r"""DRAW: an image drawn in T steps, each with a latent of its own.

.. math:: z_t \sim N(0, I), \qquad s_t = \mathrm{LSTM}(z_t, s_{t-1}), \qquad
          c_t = c_{t-1} + \mathrm{write}(s_t), \qquad p(x \mid z) = p(x \mid c_T)

On the spine this is a hierarchy of L = T levels whose top is the first step, so step t is level
T - t + 1. The state of the walk holds the decoder's LSTM and the canvas c. The priors do not
depend on it: depth acts through the state alone. If the steps are tied they share every weight,
so a model of more steps has no more of them.

`hvae_course.posteriors.recurrent` infers the latents.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution


@dataclass(frozen=True, eq=False)
class DrawState:
    """What the walk carries from one step to the next."""

    hidden: Tensor
    """Hidden units of the decoder's LSTM, ``(B, H)``."""
    cell: Tensor
    """Its cell, ``(B, H)``."""
    canvas: Tensor
    """c, parameters of p(x | c), ``(B, P)``."""


class DrawStart(nn.Module):
    """The state before the first step: an LSTM at rest and a learned canvas.

    Args:
        hidden: H, units of the decoder's LSTM.
        canvas: P, parameters of p(x | c).
    """

    def __init__(self, hidden: int, canvas: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.canvas = nn.Parameter(torch.zeros(canvas))

    def forward(self, n: int) -> DrawState:
        """Give the state of n rows."""
        rest = self.canvas.new_zeros(n, self.hidden)
        return DrawState(rest, rest, self.canvas.expand(n, -1))


class DrawUpdate(nn.Module):
    """One step of the decoder, which adds to the canvas.

    Args:
        cell: module ``(z, (hidden, cell)) -> (hidden, cell)``, such as an LSTM cell.
        write: module from hidden units to what is added to the canvas, ``(B, P)``.
    """

    def __init__(self, cell: nn.Module, write: nn.Module) -> None:
        super().__init__()
        self.cell, self.write = cell, write

    def forward(self, h: DrawState, z: Tensor) -> DrawState:
        """Draw what z_t says."""
        hidden, cell = self.cell(z, (h.hidden, h.cell))
        return DrawState(hidden, cell, h.canvas + self.write(hidden))


class ReadCanvas(nn.Module):
    """The network of the likelihood, whose parameters lie on the canvas."""

    def forward(self, h: DrawState) -> Tensor:
        """Give the canvas, ``(B, P)``."""
        return h.canvas


class ConstantPrior(nn.Module):
    """A conditional prior that is the same for every state.

    Args:
        prior: module that returns a distribution with an empty batch shape.
    """

    def __init__(self, prior: nn.Module) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, h: DrawState) -> Distribution:
        """Give p(z_t), batch shape ``(B,)``."""
        return self.prior().expand((len(h.canvas),))
