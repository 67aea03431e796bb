r"""A codebook: K vectors, the nearest of which stands for an encoding (VQ-VAE).

.. math:: c = \arg\min_k \lVert z_e - e_k \rVert^2, \qquad z = e_c, \qquad
          \frac{\partial z}{\partial z_e} := I

The decoder's gradient is copied to the encoding, past the choice (straight-through), and none
reaches the codebook. What moves it, and what keeps encodings close to it, is a penalty that is no
part of the bound, with sg for values without gradients:

.. math:: \lVert \mathrm{sg}\, z_e - e_c \rVert^2 + \beta \lVert z_e - \mathrm{sg}\, e_c \rVert^2
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_course.codes.distributions import PointMass, nearest
from hvae_course.codes.quantiser import Quantiser
from hvae_course.gaussians import at_least_float32


class Codebook(Quantiser):
    """Vectors that are learned, by gradient or as moving averages of their encodings.

    They move only in training mode, and only for encodings with gradients, so that neither an
    evaluation nor the training of other parts changes them. A batch is quantised before it moves
    them.

    Args:
        num_codes: K.
        size: D.
        commitment: beta, the weight of the encoder's term of the penalty.
        decay: of the moving averages, in [0, 1); None to train by gradient.
        smoothing: what is added to every moving count, in encodings, so that rarely used codes are
            not divided by almost nothing; without it, a code that was never used stays.
        revival: a code is replaced by an encoding of the batch, drawn at random, when its moving
            count falls below this share of the mean count; 0 for never.
        spread: standard deviation of the vectors at the start.

    Source:
        van den Oord et al. (2017), VQ-VAE, arXiv:1711.00937, whose method is the gradient; moving
        averages are in its appendix.
    """

    def __init__(
        self,
        num_codes: int,
        size: int,
        *,
        commitment: float = 0.25,
        decay: float | None = 0.99,
        smoothing: float = 1e-5,
        revival: float = 0.0,
        spread: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_codes, self.size, self.commitment = num_codes, size, commitment
        self.decay, self.smoothing, self.revival = decay, smoothing, revival
        rows = spread * torch.randn(num_codes, size)
        if decay is None:
            self.rows = nn.Parameter(rows)
        else:
            self.register_buffer("rows", rows)
            self.register_buffer("sums", rows.clone())
        self.register_buffer("counts", torch.ones(num_codes))

    def table(self) -> Tensor:  # noqa: D102
        return self.rows.detach().clone()

    def forward(self, encodings: Tensor) -> PointMass:  # noqa: D102
        z_e = at_least_float32(encodings)
        vectors = z_e.movedim(1, -1)
        index = nearest(vectors, self.rows)
        e = F.embedding(index, self.rows).movedim(-1, 1)
        penalty = self.commitment * (z_e - e.detach()).square().flatten(1).sum(dim=1)
        if self.decay is None:
            penalty = penalty + (z_e.detach() - e).square().flatten(1).sum(dim=1)
        if self.training and z_e.requires_grad and torch.is_grad_enabled():
            self.learn(vectors.detach().reshape(-1, self.size), index.flatten())
        point = e.detach() + (z_e - z_e.detach())  # exactly e, with the gradient of z_e
        return PointMass(point, penalty=penalty, index=index, num_codes=self.num_codes)

    @torch.no_grad()
    def learn(self, vectors: Tensor, index: Tensor) -> None:
        """Move the averages by one batch, and revive codes that are not used.

        Args:
            vectors: encodings ``(N, D)``.
            index: the code of each, ``(N,)``.
        """
        vectors, decay = vectors.to(self.rows), 0.99 if self.decay is None else self.decay
        counts = torch.zeros_like(self.counts).index_add_(0, index, vectors.new_ones(len(index)))
        sums = torch.zeros_like(self.rows).index_add_(0, index, vectors)
        counts, sums = _over_processes(counts), _over_processes(sums)
        self.counts.lerp_(counts, 1 - decay)
        if self.decay is not None:
            self.sums.lerp_(sums, 1 - decay)
            total, k = self.counts.sum(), self.num_codes
            smooth = (self.counts + self.smoothing) * total / (total + k * self.smoothing)
            mean = self.sums / torch.where(smooth > 0, smooth, 1)[:, None]
            self.rows.copy_(torch.where(smooth[:, None] > 0, mean, self.rows))
        if self.revival > 0:
            self._revive(vectors)

    def _revive(self, vectors: Tensor) -> None:
        mean = self.counts.mean()
        dead = self.counts < self.revival * mean
        order = torch.rand(len(vectors), device=vectors.device).argsort()  # without repeats
        at = torch.arange(self.num_codes, device=vectors.device) % len(vectors)
        fresh = vectors[order[at]]
        self.rows.copy_(torch.where(dead[:, None], fresh, self.rows))
        self.counts.copy_(torch.where(dead, mean, self.counts))
        if self.decay is not None:
            self.sums.copy_(torch.where(dead[:, None], fresh * mean, self.sums))


def _over_processes(total: Tensor) -> Tensor:
    """Add up over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total
