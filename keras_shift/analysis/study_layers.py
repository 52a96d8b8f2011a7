"""Chooses the layer of a study that its caller does not name."""

from collections.abc import Sequence

import keras

from keras_shift.layers.shift_layer import ShiftLayer


def study_layers(model: keras.Model) -> list[ShiftLayer]:
    """Returns the shift layers among which a study's default is chosen.

    Args:
        model: A `keras.Model`.

    Returns:
        A list of the shift layers that move by whole pixels, without those of models
        inside of the model.
    """
    return [
        layer
        for layer in model.layers
        if isinstance(layer, ShiftLayer) and layer.rounds
    ]


def most_shifted(layers: Sequence[ShiftLayer]) -> str:
    """Returns the name of the layer with the largest share of shifted channels.

    Args:
        layers: List of at least one shift layer.
    """
    return min(layers, key=lambda layer: layer.sparsity).name


def last(layers: Sequence[ShiftLayer]) -> str:
    """Returns the name of the last layer.

    Args:
        layers: List of at least one shift layer.
    """
    return layers[-1].name
