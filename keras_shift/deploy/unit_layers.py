"""Decides which layers a unit may consist of."""

import keras

from keras_shift.deploy.folding import is_plain_convolution
from keras_shift.graph import Call, Chain, Graph
from keras_shift.layers import GroupedShift2D, SparseShift2D
from keras_shift.layers.shift_layer import ShiftLayer

# The functions below do not recognise subclasses, which may compute something else.


def is_pointwise(layer: keras.Operation) -> bool:
    """Returns whether a layer is a 1x1 convolution of all channels, with any stride.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    return (
        is_plain_convolution(layer)
        and type(layer) is keras.layers.Conv2D
        and tuple(layer.kernel_size) == (1, 1)
        and layer.groups == 1
    )


def expansion(graph: Graph, call: Call) -> Chain | None:
    """Returns a chain that begins where a unit or a classifier does, or `None`.

    That is a 1x1 convolution without strides, in the role `"expand"`.

    Args:
        graph: The model's graph.
        call: The call that may be one of such a layer.
    """
    if not (graph.is_simple(call) and is_pointwise(call.layer)):
        return None
    return Chain(graph, "expand", call) if tuple(call.layer.strides) == (1, 1) else None


def is_bounded_relu(layer: keras.Operation) -> bool:
    """Returns whether a layer is a ReLU, or one with a largest value such as ReLU6.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    if type(layer) is keras.layers.Activation:
        return layer.activation in (keras.activations.relu, keras.activations.relu6)
    return (
        type(layer) is keras.layers.ReLU
        and not layer.negative_slope
        and not layer.threshold
    )


def is_relu(layer: keras.Operation) -> bool:
    """Returns whether a layer is a ReLU without a largest value.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    return is_bounded_relu(layer) and ceiling(layer) is None


def ceiling(layer: keras.Operation | None) -> float | None:
    """Returns the largest value of a ReLU, or `None` if it has none.

    Args:
        layer: A layer for which `is_bounded_relu` is true, or `None`.
    """
    if isinstance(layer, keras.layers.Activation):
        return 6.0 if layer.activation is keras.activations.relu6 else None
    return layer.max_value if isinstance(layer, keras.layers.ReLU) else None


def has_input_relu(layer: keras.Operation) -> bool:
    """Returns whether a layer is a shift that does the ReLU in front of it.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    return isinstance(layer, ShiftLayer) and layer.input_relu


def is_whole_shift(layer: keras.Operation) -> bool:
    """Returns whether a layer shifts channels of NHWC images by whole pixels.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    return (
        type(layer) in (SparseShift2D, GroupedShift2D)
        and layer.data_format == "channels_last"
    )


def is_pooling(layer: keras.Operation) -> bool:
    """Returns whether a layer is 2x2 average pooling of NHWC images.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    return (
        type(layer) is keras.layers.AveragePooling2D
        and tuple(layer.pool_size) == tuple(layer.strides) == (2, 2)
        and layer.data_format == "channels_last"
    )


def is_global_pooling(layer: keras.Operation) -> bool:
    """Returns whether a layer takes the mean over all pixels of NHWC images.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    return (
        type(layer) is keras.layers.GlobalAveragePooling2D
        and layer.data_format == "channels_last"
        and not layer.keepdims
    )
