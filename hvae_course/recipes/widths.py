"""Widths of hidden layers: one sequence for all levels, or one per level."""

from collections.abc import Sequence

Widths = Sequence[int] | Sequence[Sequence[int]]
"""Such as ``(256, 256)``, or ``((512, 512), (256, 256))`` for two levels, bottom to top."""


def _is_nested(widths: Widths) -> bool:
    return any(isinstance(entry, Sequence) for entry in widths)


def flat(widths: Widths) -> tuple[int, ...]:
    """Flatten widths into one tuple.

    Args:
        widths: one sequence for all levels, or one per level.

    Returns:
        All numbers in order.
    """
    return tuple(w for level in widths for w in level) if _is_nested(widths) else tuple(widths)


def of_level(widths: Widths, level: int) -> tuple[int, ...]:
    """Widths of one level.

    Args:
        widths: one sequence for all levels, or one per level.
        level: counted from 0 next to the data.

    Returns:
        The widths of its hidden layers, from input to output.
    """
    return tuple(widths[level] if _is_nested(widths) else widths)


def check_number(widths: Widths, num_levels: int, *, name: str) -> None:
    """Require one sequence of widths for all levels, or exactly one per level.

    Args:
        widths: one sequence for all levels, or one per level.
        num_levels: L.
        name: name of the setting, for the message.

    Raises:
        ValueError: if the number of sequences is not L, or sequences and numbers are mixed.
    """
    if not _is_nested(widths):
        return
    if not all(isinstance(entry, Sequence) for entry in widths):
        raise ValueError(
            f"{name} is one sequence of widths, or one for each level, got a mixture: "
            f"{tuple(widths)}"
        )
    if len(widths) != num_levels:
        raise ValueError(
            f"{name} is one sequence of widths, or one for each of {num_levels} levels, got "
            f"{len(widths)} sequences"
        )
