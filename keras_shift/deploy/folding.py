"""Batch normalization as part of the convolution before it."""

import keras
import numpy as np

from keras_shift.layers import FusedBatchNormalization

# Subclasses may compute something else, so they are not recognised.


def is_plain_convolution(layer):
    """Whether a layer is a 2D convolution, depthwise or not, with nothing after it.

    Args:
        layer: A `keras.layers.Layer`.
    """
    return (
        type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and layer.activation is keras.activations.linear
        and layer.data_format == "channels_last"
    )


def is_normalization(layer):
    """Whether a layer is batch normalization of the channels of NHWC images.

    Args:
        layer: A `keras.layers.Layer`.
    """
    return type(layer) in (
        keras.layers.BatchNormalization,
        FusedBatchNormalization,
    ) and layer.axis in (-1, 3)


def folded(convolution, normalization=None):
    """Returns a convolution's kernel and bias, with what normalizes its output.

    Args:
        convolution: A layer for which `is_plain_convolution` holds.
        normalization: A layer for which `is_normalization` holds, or `None`.

    Returns:
        A pair of float32 arrays.
    """

    def array(variable, default):
        if variable is None:
            return np.float64(default)
        return keras.ops.convert_to_numpy(variable).astype("float64")

    kernel = array(convolution.kernel, 0)
    # A depthwise convolution's output channels are those of the last two axes.
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
