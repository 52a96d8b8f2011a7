"""Shift layers expressed in layers that every runtime has."""

import keras
import numpy as np

from keras_shift.layers import ActiveShift2D
from keras_shift.layers.shift_layer import ShiftLayer


def lower_shifts(model):
    """Returns a copy of a model for inference that has no shift layers.

    A shift becomes a depthwise convolution with constant kernels, one-hot for
    whole displacements and just large enough for the displacements that there
    are. A shift that moves nothing becomes an identity. The copy computes in
    float32, whatever the dtype policy of the model was. A shift layer that is called
    more than once must be called for the largest map first.

    Args:
        model: A functional or sequential `keras.Model`.

    Returns:
        A `keras.Model` with weights of its own.

    Raises:
        ValueError: For a subclassed model, whose layers cannot be exchanged.
    """
    return _lower(model, _shift_as_convolution)


def lower_for_int8(model):
    """Does what `lower_shifts` does, and expresses average pooling likewise.

    XNNPACK runs no int8 average pooling, and what a graph is cut into by it
    costs more than the pooling. Where windows neither overlap nor leave the map,
    the pooling becomes a depthwise convolution with equal weights.

    Args:
        model: A functional or sequential `keras.Model`.

    Returns:
        A `keras.Model` with weights of its own.
    """
    return _lower(
        model, lambda layer: _shift_as_convolution(layer) or _mean_as_convolution(layer)
    )


def _lower(model, substitute):
    """Copies a model, with other layers for some of its own.

    `substitute` returns a layer and its weights to take a given layer's place, or
    `None` for a copy of it.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "Only functional and sequential models that are built can be lowered. "
            f"Received: model={model}"
        )
    pairs = []

    def replace(layer):
        if isinstance(layer, keras.Model):
            return _lower(layer, substitute)
        substituted = substitute(layer)
        if substituted is not None:
            pairs.append(substituted)
            return substituted[0]
        config = layer.get_config()
        if not isinstance(layer, keras.layers.Layer):
            # One of keras.ops, such as the choice of some channels.
            return type(layer).from_config(config)
        config["dtype"] = "float32"
        # A Lambda's code runs in this process already.
        options = {"safe_mode": False} if type(layer) is keras.layers.Lambda else {}
        copy = type(layer).from_config(config, **options)
        pairs.append((copy, layer.get_weights()))
        return copy

    lowered = keras.models.clone_model(model, clone_function=replace)
    for copy, weights in pairs:
        copy.set_weights(weights)
    return lowered


def _shift_as_convolution(layer):
    if not isinstance(layer, ShiftLayer):
        return None
    displacements = layer.displacement_array()
    if not isinstance(layer, ActiveShift2D):
        displacements = np.rint(displacements)
    for axis, size in enumerate(_map_size(layer)):
        if size is not None:
            # One by the size of the map already shifts everything out of it.
            displacements[axis] = displacements[axis].clip(-size, size)
    if not displacements.any():
        return keras.layers.Identity(name=layer.name, dtype="float32"), []
    kernel = bilinear_kernel(displacements)
    convolution = keras.layers.DepthwiseConv2D(
        kernel.shape[:2],
        padding="same",
        use_bias=False,
        data_format=layer.data_format,
        dtype="float32",
        name=layer.name,
    )
    return convolution, [kernel]


def _mean_as_convolution(layer):
    if not isinstance(layer, keras.layers.AveragePooling2D):
        return None
    size = layer.pool_size
    height, width = _map_size(layer)
    if tuple(layer.strides) != tuple(size) or None in (height, width):
        return None
    if height % size[0] or width % size[1]:
        return None
    channels = layer.input.shape[-1 if layer.data_format == "channels_last" else 1]
    convolution = keras.layers.DepthwiseConv2D(
        size,
        strides=size,
        use_bias=False,
        data_format=layer.data_format,
        dtype="float32",
        name=layer.name,
    )
    return convolution, [np.full((*size, channels, 1), 1 / (size[0] * size[1]))]


def _map_size(layer):
    shape = layer.input.shape
    return shape[1:3] if layer.data_format == "channels_last" else shape[2:]


def bilinear_kernel(displacements):
    """Returns the kernels of the smallest window that holds all displacements.

    Args:
        displacements: Array of shape `(2, channels)`.

    Returns:
        A NumPy array of shape `(rows, columns, channels, 1)` with odd numbers of
        rows and columns.
    """
    lines = []
    for displacement in np.asarray(displacements, "float32"):
        radius = int(np.ceil(np.abs(displacement).max(initial=0)))
        window = np.arange(-radius, radius + 1, dtype="float32")
        distance = np.abs(window[:, None] - displacement)
        lines.append(np.maximum(1 - distance, 0))
    rows, columns = lines
    return (rows[:, None, :] * columns[None, :, :])[..., None]
