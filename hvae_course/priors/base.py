"""What a prior over the top level is: a module that returns a distribution."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

Encode = Callable[[Tensor], Distribution]
"""The top level's posterior as a function of data, ``(B, D)`` to q(z_L | x)."""


class Prior(nn.Module, ABC):
    """Prior p(z_L) over the top level, of any event shape: ``(Z,)`` or ``(C, H, W)``."""

    num_samples = 1
    """M, draws that one evaluation of the density takes; 1 where it is exact."""

    @abstractmethod
    def forward(self, encode: Encode | None = None) -> Distribution:
        """Give the prior.

        Args:
            encode: the model's own q(z_L | x), for priors that are made of it. It is passed and
                not stored, so that a copy of a model uses its own encoder.

        Returns:
            p(z_L) with an empty batch shape; the walk down expands it to the batch.
        """


def check_positive(**sizes: int | Sequence[int]) -> None:
    """Refuse sizes that are not positive.

    Args:
        **sizes: numbers, or shapes, by name.

    Raises:
        ValueError: if one is not positive.
        TypeError: if one is not a whole number, or not a sequence of them.
    """
    for name, size in sizes.items():
        entries = size if isinstance(size, Sequence) and not isinstance(size, str) else (size,)
        if not all(isinstance(n, Integral) and not isinstance(n, bool) for n in entries):
            raise TypeError(f"a prior needs {name} in whole numbers, got {name}={size!r}")
        if min(entries, default=0) < 1:
            raise ValueError(f"a prior needs {name} of at least 1, got {name}={size}")


def event_shape(size: int | Sequence[int]) -> torch.Size:
    """Shape of the top level from the size of a vector, or from a shape.

    Args:
        size: Z, or a shape such as ``(C, H, W)``.

    Returns:
        The shape.
    """
    return torch.Size((size,) if isinstance(size, Integral) else size)
