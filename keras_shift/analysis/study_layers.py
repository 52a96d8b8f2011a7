"""Chooses the layer of a study that its caller does not name."""

import keras

from keras_shift.layers.shift_layer import ShiftLayer


def _own_shift_layers(model):
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, ShiftLayer) and layer.rounds
    ]
    if not layers:
        raise ValueError(
            "Argument `model` must have shift layers of its own, that move by whole "
            f"pixels, or a layer must be named. Received: {model.name}"
        )
    return layers


def most_shifted_layer(model: keras.Model) -> str:
    """Returns the name of the layer with the largest share of shifted channels.

    Args:
        model: A `keras.Model`.

    Raises:
        ValueError: If the model has no shift layers of its own.
    """
    return min(_own_shift_layers(model), key=lambda layer: layer.sparsity).name


def last_shift_layer(model: keras.Model) -> str:
    """Returns the name of the last shift layer.

    Args:
        model: A `keras.Model`.

    Raises:
        ValueError: If the model has no shift layers of its own.
    """
    return _own_shift_layers(model)[-1].name
