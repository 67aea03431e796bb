"""What levels of codes are made of: a module from encodings to the points of a finite table."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from hvae_course.codes.distributions import PointMass


class Quantiser(nn.Module, ABC):
    """From encodings to points of a finite table, the same for every position."""

    num_codes: int
    """K."""
    size: int
    """D, dimensions of a code."""

    @abstractmethod
    def table(self) -> Tensor:
        """Give a copy of the points, ``(K, D)``, without gradients."""

    @abstractmethod
    def forward(self, encodings: Tensor) -> PointMass:
        """Quantise.

        Args:
            encodings: z_e, ``(B, D, *positions)``.

        Returns:
            q(z | x), a point mass over ``(D, *positions)``.
        """
