"""The deterministic bottom-up path: from the data to one feature per level."""

from collections.abc import Sequence

from torch import Tensor, nn


class BottomUp(nn.Module):
    """Features d_1 = f_1(x), d_2 = f_2(d_1), and so on upward.

    Args:
        blocks: the networks f_1, f_2, ..., from the data upward. A bottom-up posterior needs only
            the first, because its higher levels look at the latent below instead.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(blocks) == 0:
            raise ValueError("BottomUp needs at least one block, the network that reads x")
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features.

        Args:
            x: data ``(B, D)``.

        Returns:
            ``(d_1, d_2, ...)``, each ``(B, F_l)``.
        """
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return tuple(features)
