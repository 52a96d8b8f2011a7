"""Counts multiply-adds."""

import math
from collections.abc import Sequence

import keras

from keras_shift.analysis.layer_calls import LayerCall, layer_calls
from keras_shift.layers import SqueezeExcite2D
from keras_shift.layers.shift_layer import ShiftLayer

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
# Weights of these layers may have more than one axis, but are in no matrix product.
_FREE = (
    ShiftLayer,
    keras.layers.Embedding,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
)


def multiply_adds(model: keras.Model, input_shape: Sequence[int] | None = None) -> int:
    """Counts the multiply-adds (MAdds) of a functional model for one image.

    As in both papers, MAdds are the products of weights and activations in
    convolutions, dense layers and squeeze-and-excite gates. At the border of a map,
    products with the padding count as well. Shifts, biases, batch normalization,
    activations, pooling and sums count none.

    Example:

    >>> keras_shift.analysis.multiply_adds(keras_shift.zoo.FENet())
    299676320

    Args:
        model: A functional or sequential `keras.Model`, which may contain other
            models. A layer that is called more than once counts as often as it is
            called.
        input_shape: Shape of one image, such as `(224, 224, 3)`, for a model with
            one input that was built without an image size, or `None` for the size
            it was built with. Defaults to `None`.

    Returns:
        An int.

    Raises:
        ValueError: If the model is subclassed or not built, if the size of a map is
            unknown, if the model does not take images of `input_shape`, or if a
            layer has kernels and is of a class that this function does not know.
    """
    return sum(map(multiply_adds_of_call, layer_calls(model, input_shape)))


def multiply_adds_of_call(call: LayerCall) -> int:
    """Counts the multiply-adds of one call of a layer.

    Args:
        call: A `LayerCall`.

    Returns:
        An int.

    Raises:
        ValueError: If the size of a map is unknown, or the layer has kernels and is
            of a class that this function does not know.
    """
    layer = call.layer
    if isinstance(layer, SqueezeExcite2D):
        return sum(math.prod(weight.shape) for weight in layer.weights)
    if isinstance(layer, keras.layers.Dense):
        return _positions(call, call.output_shape[1:-1]) * math.prod(layer.kernel.shape)
    if isinstance(layer, _CONVOLUTIONS):
        return _pixels(call, call.output_shape) * math.prod(layer.kernel.shape)
    if isinstance(layer, _SEPARABLE):
        kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
        return _pixels(call, call.output_shape) * sum(
            math.prod(kernel.shape) for kernel in kernels
        )
    if isinstance(layer, _TRANSPOSED):
        # Every pixel of the input is multiplied by the whole kernel.
        return _pixels(call, call.input_shape) * math.prod(layer.kernel.shape)
    # Operations of keras.ops have no attribute `weights`.
    weights = getattr(layer, "weights", ())
    if not isinstance(layer, _FREE) and any(len(w.shape) > 1 for w in weights):
        raise ValueError(
            "Multiply-adds are known of convolutions, dense layers and "
            f"SqueezeExcite2D. Received: layer {call.path!r} of class "
            f"{type(layer).__name__}"
        )
    return 0


def _pixels(call, shape):
    last = call.layer.data_format == "channels_last"
    return _positions(call, shape[1:-1] if last else shape[2:])


def _positions(call, sizes):
    if None in sizes:
        raise ValueError(
            "Counting multiply-adds needs a model with a known image size; for one "
            "without, pass `input_shape`. "
            f"Received: layer {call.path!r} with output shape {call.output_shape}"
        )
    return math.prod(sizes)
