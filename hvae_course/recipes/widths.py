"""Widths of hidden layers: one sequence for all levels, or one for each."""

from collections.abc import Sequence

Widths = Sequence[int] | Sequence[Sequence[int]]
"""As ``(256, 256)``, or ``((512, 512), (256, 256))`` for two levels, bottom to top."""


def _is_nested(widths: Widths) -> bool:
    return any(isinstance(entry, Sequence) for entry in widths)


def flat(widths: Widths) -> tuple[int, ...]:
    """All widths in one row.

    Args:
        widths: of all levels or of each.

    Returns:
        The same numbers.
    """
    return tuple(w for level in widths for w in level) if _is_nested(widths) else tuple(widths)


def of_level(widths: Widths, level: int) -> tuple[int, ...]:
    """Widths of one level.

    Args:
        widths: of all levels or of each.
        level: counted from 0 next to the data.

    Returns:
        The widths of its hidden layers, from the input on.
    """
    return tuple(widths[level] if _is_nested(widths) else widths)


def check_number(widths: Widths, num_levels: int, *, name: str) -> None:
    """Refuse widths by level that are too few, too many, or mixed with widths for all.

    Args:
        widths: of all levels or of each.
        num_levels: L.
        name: of the setting.

    Raises:
        ValueError: if there is not one sequence for each level, or some are single numbers.
    """
    if not _is_nested(widths):
        return
    if not all(isinstance(entry, Sequence) for entry in widths):
        raise ValueError(
            f"{name} is one sequence of widths, or one for each level, got both: {tuple(widths)}"
        )
    if len(widths) != num_levels:
        raise ValueError(
            f"{name} is one sequence of widths, or one for each of {num_levels} levels, got "
            f"{len(widths)} of them"
        )
