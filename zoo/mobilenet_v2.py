"""Defines MobileNetV2 as in keras.applications, with changes for a fair comparison."""

import os
from collections.abc import Callable, Sequence
from typing import Literal

import keras

from keras_shift import layers
from keras_shift.graph_walk import walk
from keras_shift.typing import Tensor
from keras_shift.zoo import arguments, network

# These layers and blocks halve the map.
_HALVING = ("Conv1", "block_1", "block_3", "block_6", "block_13")

_OUTPUT_STRIDES = (32, 16, 8, 4)


@network.constructor("MobileNetV2")
def MobileNetV2(
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable[[Tensor], Tensor] | None = "softmax",
    name: str | None = None,
    *,
    include_preprocessing: bool = True,
    output_stride: Literal[32, 16, 8, 4] = 32,
    kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
    batch_norm_momentum: float = 0.99,
    dropout_rate: float = 0.2,
) -> network.Body:
    """Instantiates the network that FE-Net is compared with.

    It has the layers of `keras.applications.MobileNetV2`, with a few changes so that
    both networks can be trained by one recipe. Batch normalization is the same as in
    FE-Net: it has the layer `keras_shift.layers.FusedBatchNormalization` and FE-Net's
    momentum, since Keras' 0.999 leaves stale statistics after a short training. The
    total stride can be chosen, kernels can be regularized, and there is dropout before
    the classifier.

    Example:

    >>> model = keras_shift.zoo.MobileNetV2((64, 64, 3), classes=200)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        input_shape: Tuple, the shape of one image without the batch, such as
            `(96, 96, 3)`. Height and width may be `None`, and any number of
            channels is allowed. Channels come first if Keras'
            `image_data_format()` says so. Defaults to `None`: the images of
            published weights, otherwise `(224, 224, 3)`, or `(None, None, 3)` without
            the top.
        alpha: Float, the width. Defaults to `1.0`.
        include_top: Whether to include the classifier. Defaults to `True`.
        weights: `None` for random weights, the name of published weights, such
            as `"tiny_imagenet"` (`keras_shift.zoo.list_weights` lists them), or
            the path of a `.weights.h5` file of the same network. Published
            weights set the arguments that they were trained with. Without the
            top, or with other `classes`, all layers but the classifier get
            published weights. Their terms, and those of the images that they
            were trained on, are `keras_shift.zoo.get_record(name).licence`.
            Defaults to `None`.
        input_tensor: Keras tensor to use as the images (the output of
            `keras.Input()` or of layers), or `None`. Defaults to `None`.
        pooling: What follows the last map if `include_top` is `False`: `None`
            for nothing (the output is a 4D tensor), `"avg"` or `"max"` for
            global pooling (the output is a 2D tensor). Defaults to `None`.
        classes: Int, number of classes if `include_top` is `True`. Defaults to
            `None`: the classes of published weights, otherwise 1000.
        classifier_activation: Activation of the classifier, or `None` for
            logits. Defaults to `"softmax"`.
        name: Name of the model, or `None` for the network's own name. Defaults
            to `None`.
        include_preprocessing: Whether to scale pixel values from [0, 255] to
            [-1, 1] in the model's first layer. Defaults to `True`.
        output_stride: Int, height of the image divided by height of the last map:
            `32`, `16`, `8` or `4`. Defaults to `32`.
        kernel_regularizer: Regularizer of all kernels but the depthwise ones, or
            `None`. Defaults to `None`.
        batch_norm_momentum: Float, momentum of batch normalization. Defaults to
            `0.99`.
        dropout_rate: Float, rate of the dropout before the classifier. Defaults to
            `0.2`.

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

    return network.Body(f"mobilenet_v2_{float(alpha)}", body)


def _apply(model, x, clone):
    """Applies clones of a model's layers, which have one output each, to `x`."""
    images = keras.Input(batch_shape=model.inputs[0].shape)
    made = {id(images): x}

    def note(layer, args, kwargs, output):
        inputs = keras.tree.map_structure(lambda tensor: made[id(tensor)], args)
        made[id(output)] = clone(layer)(*inputs)

    copy = walk(model, note, [images])
    return made[id(copy.outputs[0])]
