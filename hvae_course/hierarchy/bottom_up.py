"""The deterministic bottom-up path: from the data to one feature per level."""

from collections.abc import Sequence

from torch import Tensor, nn

from hvae_course.hierarchy.states import with_label


class BottomUp(nn.Module):
    """Features d_1 = f_1(x), d_2 = f_2(d_1), and so on upward.

    Args:
        blocks: the networks f_1, f_2, ..., from the data upward. A bottom-up posterior needs only
            the first, because its higher levels look at the latent below instead.
        read: module from x to what the first network reads of it; None for x itself.

    Raises:
        ValueError: if there is no block.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, read: nn.Module | None = None) -> None:
        super().__init__()
        if len(blocks) == 0:
            raise ValueError("BottomUp needs at least one block, the network that reads x")
        self.blocks = nn.ModuleList(blocks)
        self.read = read

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the features.

        Args:
            x: data ``(B, D)``.
            y: one-hot labels ``(B, C)`` of a conditional model, whose first network reads x and y
                joined; None otherwise.

        Returns:
            ``(d_1, d_2, ...)``, each ``(B, F_l)``.
        """
        x = with_label(x if self.read is None else self.read(x), y)
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return tuple(features)
