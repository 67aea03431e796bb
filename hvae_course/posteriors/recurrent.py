r"""An encoder that remembers, the posterior of DRAW.

.. math:: \hat x_t = x - \mathrm{E}[x \mid c_{t-1}], \qquad
          e_t = \mathrm{LSTM}([\mathrm{read}(x, \hat x_t, s_{t-1}), s_{t-1}], e_{t-1}), \qquad
          z_t \sim q(z_t \mid e_t)

The encoder sees x and what the canvas of the decoder lacks of it, and its LSTM remembers what it
saw at earlier steps. Its units are not part of the state of the walk, since without data there is
no encoder. They belong to the choice that the posterior makes for one walk. Step t is level
T - t + 1.

Every step draws noise of its own: given x, the noises of two steps are independent. The bound
charges for that. If all steps shared one draw, what the objective reports would not be a
bound (`hvae_course.oracles.SharedNoise`).
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.hierarchy.states import join
from hvae_course.hierarchy.trace import Choose, State
from hvae_course.posteriors.base import Posterior, draw

Memory = tuple[Tensor, Tensor]  # hidden units and cell of an LSTM, each (B, H)


class ReadAll(nn.Module):
    """Reading without attention."""

    def forward(self, x: Tensor, error: Tensor, hidden: Tensor) -> Tensor:
        """Join x and what the canvas lacks of it, each ``(B, D)``."""
        return join(x, error)


class RecurrentStep(nn.Module):
    """One step of the encoder.

    Args:
        read: module ``(x, error, hidden) -> (B, R)``, what is read of x and of the error of the
            canvas, where the decoder's hidden units may choose the place.
        cell: module ``(what is read joined with the decoder's hidden units, (hidden, cell)) ->
            (hidden, cell)``; its units start at zero.
        head: module from hidden units to ``q(z_t | x, z_<t)``.
        size: H, units of the encoder.
    """

    def __init__(self, read: nn.Module, cell: nn.Module, head: nn.Module, *, size: int) -> None:
        super().__init__()
        self.read, self.cell, self.head, self.size = read, cell, head, size

    def forward(
        self, x: Tensor, error: Tensor, hidden: Tensor, memory: Memory | None
    ) -> tuple[Distribution, Memory]:
        """Give ``q(z_t | x, z_<t)`` and the units of the encoder, which were None at the start."""
        rest = x.new_zeros(len(x), self.size)
        memory = self.cell(
            join(self.read(x, error, hidden), hidden), (rest, rest) if memory is None else memory
        )
        return self.head(memory[0]), memory


class Recurrent(Posterior):
    r"""``q(z_t | x, z_<t)`` of an encoder that sees what the canvas lacks and remembers.

    Args:
        steps: one `RecurrentStep` per level, bottom to top; the same module several times if the
            steps are tied.
        likelihood: the likelihood of the model, whose mean is compared with x.

    Source:
        Gregor et al. (2015), DRAW: a recurrent neural network for image generation,
        arXiv:1502.04623.
    """

    def __init__(self, steps: Sequence[nn.Module], likelihood: nn.Module) -> None:
        super().__init__()
        self.steps, self.likelihood = nn.ModuleList(steps), likelihood

    @property
    def num_levels(self) -> int:
        """T, the number of steps."""
        return len(self.steps)

    def forward(self, features: Sequence[Tensor]) -> Choose:
        """Start an encoder that draws on the way down."""
        return self._choose(features, None)

    def score(self, features: Sequence[Tensor], latents: Sequence[Tensor]) -> Choose:
        """Fix all latents; the encoder sees the canvas that they draw."""
        return self._choose(features, latents)

    def top(self, features: Sequence[Tensor], h: State) -> Distribution:
        """Give q(z_L | x), that of the first step."""
        return self._step(self.num_levels - 1, features, h, None)[0]

    def _step(
        self, l: int, features: Sequence[Tensor], h: State, memory: Memory | None
    ) -> tuple[Distribution, Memory]:
        (x,) = features
        return self.steps[l](x, x - self.likelihood(h).mean, h.hidden, memory)

    def _choose(self, features: Sequence[Tensor], latents: Sequence[Tensor] | None) -> Choose:
        before, memory = self.num_levels, None  # of one walk

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            nonlocal before, memory
            if l == self.num_levels - 1:
                before, memory = self.num_levels, None
            if l != before - 1:
                raise ValueError(
                    f"the encoder remembers every step, and z_{l + 1} comes without the one "
                    f"before it; let it choose from the first step, z_{self.num_levels}, on, as "
                    "in switch(level, above=model.posterior(features))"
                )
            q, memory = self._step(l, features, h, memory)
            before = l
            return q, draw(q) if latents is None else latents[l]

        return choose
