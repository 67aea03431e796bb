"""Multilayer perceptrons, with normalisations and activations by name."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that accepts a batch of one.

    A single example has no batch variance, and PyTorch refuses it in training mode. Here it is
    normalised with the running statistics, as in evaluation, and does not update them.
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
"""Normalisations by name; each takes the layer's width.

:meta hide-value:
"""


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "glu": nn.GLU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
"""Activation functions by name. All act on each unit separately, except ``"glu"``. It multiplies
each unit by a gate, the sigmoid of a second linear function of the same inputs, so the linear
layer in front of it is twice as wide.

:meta hide-value:
"""


def mlp(
    *sizes: int, normalisation: str = "batch", activation: str = "silu", dropout: float = 0.0
) -> nn.Sequential:
    """Hidden layers: linear, normalisation, activation, dropout, once per pair of sizes.

    Args:
        *sizes: input width, then the width of each hidden layer. One size alone is the identity.
        normalisation: a key of `NORMALISATIONS`.
        activation: a key of `ACTIVATIONS`.
        dropout: probability of setting a hidden unit to zero in training; 0 adds no layer.

    Returns:
        A network from ``(B, sizes[0])`` to ``(B, sizes[-1])``.

    Raises:
        ValueError: if a name is unknown, or the probability is not in [0, 1).

    Example:
        >>> import torch
        >>> mlp(64, 256)(torch.zeros(2, 64)).shape
        torch.Size([2, 256])
    """
    for kind, name, known in (
        ("normalisation", normalisation, NORMALISATIONS),
        ("activation", activation, ACTIVATIONS),
    ):
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}; choose one of {sorted(known)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability in [0, 1), got {dropout}")
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(sizes):
        width_linear = 2 * width_out if activation == "glu" else width_out
        layers += [
            nn.Linear(width_in, width_linear),
            NORMALISATIONS[normalisation](width_linear),
            ACTIVATIONS[activation](),
        ]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
