"""Multilayer perceptrons, with normalisations and activations by name, and what they read."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
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


class ReadTable(nn.Module):
    """What a network reads of rows that are not plain real numbers.

    Counts enter as log(1 + x), because counts in the thousands would saturate a network.
    Categories enter one-hot, ordered values scaled to [0, 1]. Where values may be missing, NaN
    enters as 0 (all zeros if one-hot), and the row is followed by its mask, 1 where a value was
    observed.

    Args:
        num_features: D.
        counts: columns that hold counts.
        categories: columns that hold the whole numbers 0 to V - 1 as names, with their V.
        ordered: columns that hold the whole numbers 0 to V - 1 as amounts, with their V.
        missing: whether NaN marks values that were not observed.

    Example:
        >>> read = ReadTable(2, categories={1: 3}, missing=True)
        >>> read(torch.tensor([[0.5, 2.0], [torch.nan, 0.0]]))
        tensor([[0.5000, 0.0000, 0.0000, 1.0000, 1.0000, 1.0000],
                [0.0000, 1.0000, 0.0000, 0.0000, 0.0000, 1.0000]])
    """

    def __init__(
        self,
        num_features: int,
        *,
        counts: Sequence[int] = (),
        categories: Mapping[int, int] | None = None,
        ordered: Mapping[int, int] | None = None,
        missing: bool = False,
    ) -> None:
        super().__init__()
        categories, ordered = dict(categories or {}), dict(ordered or {})
        plain = [column for column in range(num_features) if column not in categories]
        one_hot = [(column, k) for column, size in categories.items() for k in range(size)]
        self.has_counts, self.has_categories, self.missing = bool(counts), bool(one_hot), missing
        self.num_outputs = len(plain) + len(one_hot) + (num_features if missing else 0)
        """Width of what is read."""
        for name, value in {
            "plain": torch.tensor(plain, dtype=torch.int64),
            "is_count": torch.tensor([column in counts for column in plain]),
            "largest": torch.tensor([float(ordered.get(column, 2) - 1) for column in plain]),
            "of_category": torch.tensor([column for column, _ in one_hot], dtype=torch.int64),
            "category": torch.tensor([k for _, k in one_hot]),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Prepare rows for a network.

        Args:
            x: ``(B, D)``.

        Returns:
            ``(B, F)``, without NaN: real numbers and counts, categories, then the mask.
        """
        seen = ~x.isnan()
        values = (x.masked_fill(~seen, 0) if self.missing else x)[:, self.plain] / self.largest
        if self.has_counts:
            values = torch.where(self.is_count, values.clamp(min=0).log1p(), values)
        parts = [values]
        if self.has_categories:
            parts.append((x[:, self.of_category] == self.category).to(x.dtype))  # NaN: all zeros
        if self.missing:
            parts.append(seen.to(x.dtype))
        return torch.cat(parts, dim=1)
