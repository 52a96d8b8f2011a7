"""Checks arguments that count something."""

from typing import Any


def whole_number(value: Any) -> int | None:
    """Returns a whole number of any type as an integer, and `None` for all else.

    Args:
        value: Anything, such as `3.0`, `np.int64(3)` or `"3"`, which is no number.
    """
    try:
        return int(value) if value == int(value) else None
    except (TypeError, ValueError, OverflowError):
        return None


def positive_integer(argument: str, value: Any) -> int:
    """Returns a value as an integer if it is a positive one.

    Whole numbers of any type will do, such as `3.0` and `np.int64(3)`.

    Args:
        argument: Name of the argument.
        value: The value that was received.

    Returns:
        An int.

    Raises:
        ValueError: If it is not a positive integer.
    """
    whole = whole_number(value)
    if whole is not None and whole >= 1:
        return whole
    raise ValueError(
        f"Argument `{argument}` must be a positive integer. "
        f"Received: {argument}={value}"
    )
