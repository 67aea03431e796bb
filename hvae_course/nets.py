"""Multilayer perceptrons, the only networks the course needs."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that accepts a batch of one.

    A single example has no batch statistics. PyTorch refuses it in training mode; here it is
    normalised with the running statistics, as in evaluation, and leaves them as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise over the batch.

        Args:
            input: ``(B, F)``.

        Returns:
            ``(B, F)``.
        """
        if self.training and len(input) == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


NORMALISATIONS: dict[str, type[nn.Module]] = {
    "batch": BatchNorm,
    "layer": nn.LayerNorm,
    "none": nn.Identity,
}
"""Normalisations by name; each is constructed with the layer's width.

:meta hide-value:
"""


def mlp(*sizes: int, normalisation: str = "batch") -> nn.Sequential:
    """Hidden layers: linear, normalisation, SiLU, once per pair of sizes.

    Args:
        *sizes: input width, then the width of each hidden layer. One size alone is the identity.
        normalisation: a key of `NORMALISATIONS`.

    Returns:
        A network from ``(B, sizes[0])`` to ``(B, sizes[-1])``.

    Raises:
        ValueError: if the normalisation is unknown.

    Example:
        >>> import torch
        >>> mlp(64, 256)(torch.zeros(2, 64)).shape
        torch.Size([2, 256])
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(
            f"unknown normalisation {normalisation!r}; choose one of {sorted(NORMALISATIONS)}"
        )
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(sizes):
        layers += [
            nn.Linear(width_in, width_out),
            NORMALISATIONS[normalisation](width_out),
            nn.SiLU(),
        ]
    return nn.Sequential(*layers)
