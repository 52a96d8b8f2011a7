"""Folds batch normalization into the convolution before it."""

import keras
import numpy as np

from keras_shift.layers import FusedBatchNormalization

# The functions below do not recognise subclasses, which may compute something else.


def is_plain_convolution(layer: keras.Operation) -> bool:
    """Returns whether a layer is a 2D convolution of NHWC images without activation.

    Depthwise convolutions count as well.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    return (
        type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and layer.activation is keras.activations.linear
        and layer.data_format == "channels_last"
    )


def is_normalization(layer: keras.Operation) -> bool:
    """Returns whether a layer is batch normalization of the channels of NHWC images.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`.
    """
    return type(layer) in (
        keras.layers.BatchNormalization,
        FusedBatchNormalization,
    ) and layer.axis in (-1, 3)


def folded(
    convolution: keras.layers.Layer, normalization: keras.layers.Layer | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel and bias of a convolution, with batch normalization folded in.

    Args:
        convolution: A layer for which `is_plain_convolution` is true.
        normalization: A layer for which `is_normalization` is true, or `None` for a
            convolution without normalization. Defaults to `None`.

    Returns:
        A pair of float32 arrays: the kernel, in the convolution's shape, and the bias.
    """

    def array(variable, default):
        if variable is None:
            return np.float64(default)
        return keras.ops.convert_to_numpy(variable).astype("float64")

    kernel = array(convolution.kernel, 0)
    # A depthwise kernel has one output channel for each pair of its last two indices.
    depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    shape = kernel.shape[2:] if depthwise else kernel.shape[3:]
    bias = np.zeros(np.prod(shape)) + array(convolution.bias, 0)
    if normalization is not None:
        variance = array(normalization.moving_variance, 1)
        scale = array(normalization.gamma, 1) / np.sqrt(
            variance + normalization.epsilon
        )
        kernel = kernel * scale.reshape(shape)
        bias = (bias - array(normalization.moving_mean, 0)) * scale
        bias = bias + array(normalization.beta, 0)
    return kernel.astype("float32"), bias.astype("float32")
