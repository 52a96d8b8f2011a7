"""What a recipe's file asks for may not exist."""

import contextlib


@contextlib.contextmanager
def network_of_recipe(path):
    """Names the recipe where its arguments, of a wrong name or type, make no network.

    Args:
        path: What the user named it by.

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
