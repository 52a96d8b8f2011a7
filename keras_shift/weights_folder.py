"""Finds the files of published weights, without Keras."""

import os
from pathlib import Path


def folder() -> Path:
    """Returns the path of the folder with the published weights.

    Returns:
        A `Path`: the environment variable KERAS_SHIFT_WEIGHTS_DIR, or the folder inside
        this package.

    Raises:
        ValueError: If the environment variable does not name a folder.
    """
    chosen = os.environ.get("KERAS_SHIFT_WEIGHTS_DIR")
    if chosen and not os.path.isdir(chosen):
        raise ValueError(
            "The environment variable KERAS_SHIFT_WEIGHTS_DIR must name a folder. "
            f"Received: KERAS_SHIFT_WEIGHTS_DIR={chosen}"
        )
    return Path(chosen or Path(__file__).parent / "zoo" / "weights")


def weights_of(name: str) -> Path:
    """Returns the path of a file of weights, which need not exist.

    Args:
        name: Name of the weights.

    Raises:
        ValueError: As `folder` does.
    """
    return folder() / f"{name}.weights.h5"


def recorded() -> list[str]:
    """Returns the names of all files that may be records.

    Raises:
        ValueError: As `folder` does.
    """
    return sorted(path.name.removesuffix(".json") for path in folder().glob("*.json"))


def published() -> list[str]:
    """Returns the names of all weights that are there.

    Raises:
        ValueError: As `folder` does.
    """
    # The folder may hold other JSON files, too, and records may come without weights.
    return [name for name in recorded() if weights_of(name).exists()]
