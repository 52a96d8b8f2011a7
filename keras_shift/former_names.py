"""Reads what version 0.1.0 saved, in which some arguments had other names."""

from collections.abc import Mapping
from typing import Any


def with_new_names(
    saved: Mapping[str, Any], new_names: Mapping[str, str]
) -> dict[str, Any]:
    """Returns saved arguments under the names that they have today.

    Args:
        saved: Values by the names that arguments had when they were saved.
        new_names: Today's names by the former ones.

    Returns:
        A dict of the same values in the same order.

    Raises:
        TypeError: If a value is given under both of its names.
    """
    for former, name in new_names.items():
        if former in saved and name in saved:
            raise TypeError(
                f"{former!r} is a former name of {name!r}: give one of them"
            )
    return {new_names.get(name, name): value for name, value in saved.items()}
