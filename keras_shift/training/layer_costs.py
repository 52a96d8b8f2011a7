"""Computes what a shifted channel costs in each layer.

Penalties and `SparsifyShifts` use these costs to save the most expensive shifts first.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import keras
import numpy as np


def costs_per_channel(
    layers: Sequence[keras.layers.Layer],
    costs: Mapping[str, float] | Literal["pixels"] | None,
) -> np.ndarray:
    """Returns what one shifted channel costs in each layer.

    Args:
        layers: List of layers with learned shifts.
        costs: `None` for equal costs, `"pixels"` for the number of pixels of a layer's
            map, or a dictionary from the layers' names to costs in any unit.

    Returns:
        An array of shape `(len(layers),)`.

    Raises:
        ValueError: If `costs` does not have a positive number for each layer, or if
            the size of a map is not known.
    """
    if costs is None:
        return np.ones(len(layers))
    if isinstance(costs, str) and costs == "pixels":
        return np.array([_pixels(layer) for layer in layers], "float64")
    try:
        per_channel = np.array([costs[layer.name] for layer in layers], "float64")
        right = np.isfinite(per_channel).all() and (per_channel > 0).all()
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            'Argument `costs` must be None, "pixels", or a dictionary with a positive '
            f"number for each of the layers {[layer.name for layer in layers]}. "
            f"Received: costs={costs!r}"
        )
    return per_channel


def _pixels(layer):
    shape = layer.input.shape
    sizes = shape[1:3] if layer.data_format == "channels_last" else shape[2:]
    if None in sizes:
        raise ValueError(
            'costs="pixels" needs a model whose `input_shape` has a height and a '
            f"width. Received: a map of {tuple(sizes)} at the layer {layer.name!r}"
        )
    return math.prod(sizes)
