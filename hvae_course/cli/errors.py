"""What a user reads where a setting cannot be right, one line."""

from collections.abc import Iterator
from contextlib import contextmanager

REFUSALS = (ValueError, TypeError, FileNotFoundError, ImportError)
"""What the package raises for settings."""


class UsageError(Exception):
    """A setting that cannot be right; its message is what the user reads."""


@contextmanager
def refusing(kinds: tuple[type[Exception], ...] = REFUSALS) -> Iterator[None]:
    """Turn errors that settings cause into one message for the user.

    Args:
        kinds: the errors.

    Yields:
        None: nothing.

    Raises:
        UsageError: for such an error.
    """
    try:
        yield
    except kinds as error:
        raise UsageError(" ".join(str(error).split())) from error
