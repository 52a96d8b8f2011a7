"""Counting multiply-adds."""

import math

import keras

from keras_shift.layers import SqueezeExcite2D


def multiply_adds(model):
    """Counts the multiply-adds (MAdds) of a functional model for one image.

    Counted are the products of weights and activations in convolutions, dense
    layers and squeeze-and-excite gates, as both papers do. Shifts cost none, and
    neither do biases, batch normalization, activations, pooling and sums.

    Example:

    >>> keras_shift.analysis.multiply_adds(keras_shift.zoo.FENet())
    299676320

    Args:
        model: A functional or sequential `keras.Model` whose images have a known
            size. A layer that is called more than once counts once.

    Returns:
        An int.

    Raises:
        ValueError: For a subclassed model, if the size of a map is unknown, or
            for a layer with kernels that this function does not know.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            "Multiply-adds can be counted of functional and sequential models that "
            f"are built. Received: model={model}"
        )
    return sum(_layer_multiply_adds(layer) for layer in model.layers)


def _layer_multiply_adds(layer):
    if hasattr(layer, "layers"):
        return multiply_adds(layer)
    if isinstance(layer, SqueezeExcite2D):
        return sum(math.prod(weight.shape) for weight in layer.weights)
    if isinstance(layer, keras.layers.Dense):
        positions = layer.output.shape[1:-1]
        return math.prod(layer.kernel.shape) * _count(layer, positions)
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        shape = layer.output.shape
        positions = shape[1:3] if layer.data_format == "channels_last" else shape[2:]
        return math.prod(layer.kernel.shape) * _count(layer, positions)
    if any("kernel" in weight.name for weight in layer.weights):
        raise ValueError(
            "Multiply-adds are known of convolutions, depthwise convolutions, "
            "dense layers and SqueezeExcite2D. "
            f"Received: layer {layer.name!r} of class {type(layer).__name__}"
        )
    return 0


def _count(layer, positions):
    if None in positions:
        raise ValueError(
            "Counting multiply-adds needs a model with a known image size. "
            f"Received: layer {layer.name!r} with output shape {layer.output.shape}"
        )
    return math.prod(positions)
