"""Counting multiply-adds."""

import math

import keras

from keras_shift.analysis.layer_calls import layer_calls
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
# Their weights may have more than one axis, and still are in no matrix product.
_FREE = (
    ShiftLayer,
    keras.layers.Embedding,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
)


def multiply_adds(model, input_shape=None):
    """Counts the multiply-adds (MAdds) of a functional model for one image.

    Counted are the products of weights and activations in convolutions, dense
    layers and squeeze-and-excite gates, as both papers do; at the border of a map,
    those with the padding as well. Shifts cost none, and neither do biases, batch
    normalization, activations, pooling and sums.

    Example:

    >>> keras_shift.analysis.multiply_adds(keras_shift.zoo.FENet())
    299676320

    Args:
        model: A functional or sequential `keras.Model` whose images have a known
            size, models in it included. A layer that is called more than once
            counts as often as it is called.
        input_shape: Shape of one image, such as `(224, 224, 3)`, for a model with
            one input that was built without an image size; or `None`.

    Returns:
        An int.

    Raises:
        ValueError: For a subclassed model, if the size of a map is unknown, if
            the model does not take `input_shape`, or for a layer with kernels
            that this function does not know.
    """
    return sum(map(multiply_adds_of_call, layer_calls(model, input_shape)))


def multiply_adds_of_call(call):
    """Counts the multiply-adds of one call of a layer.

    Args:
        call: A `LayerCall`.

    Returns:
        An int.
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
        # Every pixel of the input is multiplied with the whole kernel.
        return _pixels(call, call.input_shape) * math.prod(layer.kernel.shape)
    weights = getattr(layer, "weights", ())  # operations of keras.ops have none
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
