"""Explains the errors of recipes whose network cannot be built."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def network_of_recipe(path: str) -> Iterator[None]:
    """Names the recipe in the error if the network cannot be built from its arguments.

    Args:
        path: Name or path of the recipe, as the user gave it.

    Raises:
        ValueError: If a network's constructor cannot be called like this.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"The `network` and `arguments` of the recipe {path} make no network: "
            f"{error}."
        ) from error
