"""Copies models with layers of Keras alone, for every runtime."""

import re

import keras

from keras_shift.deploy.lowering import shift_as_convolution
from keras_shift.layers import (
    FusedBatchNormalization,
    SliceChannels,
    SqueezeExcite2D,
)
from keras_shift.rewriting import Replacement, models_inside, rewrite


def portable(model: keras.Model) -> keras.Model:
    """Returns a copy of a model for inference that has layers of Keras alone.

    Every exporter that knows Keras' own layers can convert it, for example to ONNX,
    OpenVINO, a SavedModel or TensorFlow.js. Its .keras file loads without this package.

    A shift becomes a depthwise convolution with constant kernels. They are just large
    enough for the layer's displacements, and one-hot if these are whole numbers. A
    shift that moves nothing becomes an identity. A squeeze-and-excite gate becomes
    pooling, two dense layers and a multiplication. All other layers keep their names
    and weights, and layers of your own stay in the model. The copy computes in float32,
    whatever the dtype policy of the model was.

    Example:

    >>> model = keras_shift.zoo.FENet(input_shape=(96, 96, 3))
    >>> plain = keras_shift.deploy.portable(model)
    >>> plain.save("fenet.keras")

    Args:
        model: A functional or sequential `keras.Model` that is built.

    Returns:
        A `keras.Model` with weights of its own.

    Raises:
        ValueError: If the model is subclassed, since its layers cannot be exchanged, if
            it has layers that were quantized or have LoRA, if displacements of an
            `ActiveShift2D` are not numbers, or if layers of this package remain: in a
            model that `fuse` made, or inside of other layers.
    """
    gates = {path: _gates(part) for path, part in models_inside(model).items()}
    plain = rewrite(model, _substitute, gates)
    remaining = sorted(set(re.findall(r'"keras_shift>(\w+)"', plain.to_json())))
    if remaining:
        raise ValueError(
            "Keras has no layers for those of a fused model (pass the one that it was "
            "made of), and layers inside of layers, as in TimeDistributed, cannot be "
            "exchanged. "
            f"Received: a model of {', '.join(remaining)}, {model.name!r}"
        )
    return plain


def _substitute(layer, shapes):
    """Returns the layer that takes a layer's place, and its weights, for `rewrite`."""
    if type(layer) is FusedBatchNormalization:
        config = {**layer.get_config(), "dtype": "float32"}
        plain = keras.layers.BatchNormalization.from_config(config)
        return plain, layer.get_weights()
    if type(layer) is SliceChannels:
        return _cropping(layer, shapes[0]), []
    return shift_as_convolution(layer, shapes)


def _cropping(layer, shape):
    # Cropping2D crops the two axes that are not the channels'. So it is given the other
    # data format. (A slice of the map would be no layer, and .keras files name its
    # operation by a private module of Keras.)
    last = layer.data_format == "channels_last"
    channels = shape[-1 if last else 1]
    ends = (layer.start, channels - layer.stop)
    return keras.layers.Cropping2D(
        ((0, 0), ends) if last else (ends, (0, 0)),
        data_format="channels_first" if last else "channels_last",
        dtype="float32",
        name=layer.name,
    )


def _gates(model):
    """Returns plain layers for the gates of a model, as `Replacement`s."""
    gates = [layer for layer in model.layers if type(layer) is SqueezeExcite2D]
    return [Replacement((layer.name,), _gate(layer)) for layer in gates]


def _gate(layer):
    channels, hidden = layer.squeeze_kernel.shape
    last = layer.data_format == "channels_last"

    def options(part):
        return {"name": f"{layer.name}_{part}", "dtype": "float32"}

    pool = keras.layers.GlobalAveragePooling2D(
        data_format=layer.data_format, **options("means")
    )
    squeeze = keras.layers.Dense(hidden, "relu", use_bias=False, **options("squeeze"))
    excite = keras.layers.Dense(
        channels, "sigmoid", use_bias=False, **options("excite")
    )
    shape = (1, 1, channels) if last else (channels, 1, 1)
    reshape = keras.layers.Reshape(shape, **options("gate"))
    multiply = keras.layers.Multiply(name=layer.name, dtype="float32")

    def gated(x):
        gate = reshape(excite(squeeze(pool(x))))
        for dense, kernel in zip((squeeze, excite), layer.get_weights()):
            dense.set_weights([kernel])
        return multiply([x, gate])

    return gated
