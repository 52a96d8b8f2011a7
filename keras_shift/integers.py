"""Checks arguments that count something."""

from typing import Any


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
    try:
        if value == int(value) and value >= 1:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        f"Argument `{argument}` must be a positive integer. "
        f"Received: {argument}={value}"
    )
