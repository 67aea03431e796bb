"""One-line usage errors."""

from collections.abc import Iterator
from contextlib import contextmanager

REFUSALS = (ValueError, TypeError, FileNotFoundError, ImportError)
"""Errors that the package raises for wrong settings."""


class UsageError(Exception):
    """A wrong setting; the user reads the message."""


@contextmanager
def refusing(kinds: tuple[type[Exception], ...] = REFUSALS) -> Iterator[None]:
    """Turn errors caused by settings into a one-line message.

    Args:
        kinds: types of the errors.

    Yields:
        None: nothing.

    Raises:
        UsageError: in place of such an error.
    """
    try:
        yield
    except kinds as error:
        raise UsageError(" ".join(str(error).split())) from error
