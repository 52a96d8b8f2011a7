"""MobileNetV2 as keras.applications has it, with what a fair comparison needs."""

import keras

from keras_shift import layers
from keras_shift.graph_walk import walk
from keras_shift.zoo import arguments, network

# Where the map is halved, first to last.
_HALVING = ("Conv1", "block_1", "block_3", "block_6", "block_13")

_OUTPUT_STRIDES = (32, 16, 8, 4)


@arguments.documented("MobileNetV2")
def MobileNetV2(
    input_shape=None,
    alpha=1.0,
    include_top=True,
    weights=None,
    input_tensor=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    name=None,
    *,
    include_preprocessing=True,
    output_stride=32,
    kernel_regularizer=None,
    batch_norm_momentum=0.99,
    dropout_rate=0.2,
):
    """Instantiates the network that FE-Net is compared with.

    It is `keras.applications.MobileNetV2`, layer by layer, but for what a comparison
    under one recipe needs. Batch normalization is FE-Net's: its layer,
    `keras_shift.layers.FusedBatchNormalization`, and its momentum, since 0.999 leaves
    stale statistics after a short training. The total stride can be chosen, kernels
    can be regularized, and there is dropout before the classifier.

    Example:

    >>> model = keras_shift.zoo.MobileNetV2((64, 64, 3), classes=200)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        <input_shape>
        alpha: Float, the width multiplier.
        <top>
        output_stride: By how much height and width of the last map are smaller
            than the image's: 32, 16, 8 or 4.
        kernel_regularizer: Regularizer of all kernels but the depthwise ones.
        batch_norm_momentum: Momentum of batch normalization.
        dropout_rate: Rate of the dropout before the classifier.

    Returns:
        A `keras.Model`, flat (not nested), without compilation.

    Raises:
        ValueError: If an argument is none of the above.

    References:

    - [MobileNetV2](https://arxiv.org/abs/1801.04381)
    """
    arguments.check_positive("alpha", alpha)
    arguments.check_choice("output_stride", output_stride, _OUTPUT_STRIDES)
    arguments.check_share("batch_norm_momentum", batch_norm_momentum)
    kept = _HALVING[: _OUTPUT_STRIDES.index(output_stride)]

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = batch_norm_momentum
            return layers.FusedBatchNormalization.from_config(config)
        if type(layer) is keras.layers.Conv2D:
            config["kernel_regularizer"] = kernel_regularizer
        if layer.name == "Conv1" and "Conv1" in kept:
            config["strides"] = (1, 1)
        if layer.name in [f"{block}_depthwise" for block in kept]:
            config.update(strides=(1, 1), padding="same")
        if layer.name in [f"{block}_pad" for block in kept]:
            config["padding"] = ((0, 0), (0, 0))
        return type(layer).from_config(config)

    def body(x):
        published = keras.applications.MobileNetV2(
            input_shape=x.shape[1:], alpha=alpha, include_top=False, weights=None
        )
        return _apply(published, x, clone)

    return network.assemble(
        body,
        name=name or f"mobilenet_v2_{float(alpha)}",
        input_shape=input_shape,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        kernel_regularizer=kernel_regularizer,
        dropout_rate=dropout_rate,
    )


def _apply(model, x, clone):
    """Applies new layers like a model's, which have one output each, to `x`."""
    images = keras.Input(batch_shape=model.inputs[0].shape)
    made = {id(images): x}

    def note(layer, args, kwargs, output):
        inputs = keras.tree.map_structure(lambda tensor: made[id(tensor)], args)
        made[id(output)] = clone(layer)(*inputs)

    copy = walk(model, note, [images])
    return made[id(copy.outputs[0])]
