"""Defines the ResNets with which both papers compare their networks."""

import os
from collections.abc import Callable, Sequence
from typing import Literal

import keras
from keras import ops

from keras_shift.typing import Tensor
from keras_shift.zoo import arguments, blocks, network

SHORTCUTS = ("projection", "zero_padding")


def cifar_groups(depth: int) -> tuple[tuple[int, int, int], ...]:
    """Returns what a CIFAR ResNet's groups consist of.

    Args:
        depth: Number of layers with kernels, `20`, `56` or `110`.

    Returns:
        A tuple for each group with its number of modules, its number of channels, and
        the stride of its first module.
    """
    # The layers are a stem, a classifier, and two for each module of the three groups.
    modules = (depth - 2) // 6
    return ((modules, 16, 1), (modules, 32, 2), (modules, 64, 2))


def _cifar_constructor(depth):
    @network.constructor(f"ResNet{depth}", size=32, classes=10)
    def ResNet(
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
        shortcut: Literal["projection", "zero_padding"] = "projection",
        module_reduction: float = 1.0,
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
        batch_norm_momentum: float = 0.99,
    ) -> network.Body:
        """Instantiates <name> for images of 32x32 pixels, as on CIFAR.

        It has no shifts. The papers compare their networks with it. Tables 2 and 5 of
        the ShiftNet paper also reduce its size in two ways.

        The models expect images with pixel values in [0, 255]; preprocessing is
        part of them.

        Example:

        >>> model = keras_shift.zoo.<name>(shortcut="zero_padding")
        >>> model.compile("sgd", "sparse_categorical_crossentropy")

        Args:
            <input_shape>
            alpha: Float, the width, which scales the number of channels of all
                layers but the classifier. Numbers are rounded down. The papers'
                net-wise reduction of parameters by r is `alpha=r**-0.5`. Defaults
                to `1.0`.
            <top>
            shortcut: The shortcut of modules that change the number of channels:
                `"projection"` for a 1x1 convolution with batch normalization
                (option B of the ResNet paper), or `"zero_padding"` for channels of
                zeros, which need no parameters (option A). Defaults to
                `"projection"`.
            module_reduction: Float, divides the number of filters of each
                module's first convolution, rounding down (the papers'
                module-wise reduction). With the shortcut `"projection"`, a module
                also gets a projection if the first convolution does not have as
                many filters as the module has input channels, as in the ShiftNet
                authors' code. Defaults to `1.0`.
            <kernels>

        Returns:
            A `keras.Model`, flat (not nested), without compilation.

        Raises:
            ValueError: If an argument is none of the above.

        References:

        - [Deep Residual Learning for Image Recognition](
            https://arxiv.org/abs/1512.03385), Section 4.2
        """
        arguments.check_positive("alpha", alpha)
        arguments.check_choice("shortcut", shortcut, SHORTCUTS)
        arguments.check_positive("module_reduction", module_reduction)
        style = blocks.BlockStyle(
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            batch_norm_momentum=batch_norm_momentum,
        )

        def body(x):
            groups = cifar_groups(depth)
            x = blocks.convolution(
                x, width(groups[0][1], alpha), 3, style, "stem", activation="relu"
            )
            for index, (modules, filters, first_stride) in enumerate(groups):
                for module in range(modules):
                    x = _basic_module(
                        x,
                        width(filters, alpha),
                        width(filters, alpha / module_reduction),
                        style,
                        f"group{index + 1}_module{module + 1}",
                        strides=first_stride if module == 0 else 1,
                        shortcut=shortcut,
                    )
            return x

        return network.Body(f"resnet{depth}", body)

    return ResNet


ResNet20 = _cifar_constructor(20)
ResNet56 = _cifar_constructor(56)
ResNet110 = _cifar_constructor(110)


@network.constructor("ResNet50")
def ResNet50(
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
    kernel_initializer: str | keras.initializers.Initializer = "he_normal",
    kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
    batch_norm_momentum: float = 0.99,
) -> network.Body:
    """Instantiates ResNet50, the baseline of `ShiftResNet50`.

    It is the network of Table 3 of the ShiftNet paper. Unlike the one of
    keras.applications it has no biases, and its 3x3 convolutions have the strides.

    The models expect images with pixel values in [0, 255]; preprocessing is part
    of them.

    Example:

    >>> model = keras_shift.zoo.ResNet50((64, 64, 3), alpha=0.25, classes=10)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        input_shape: Tuple, the shape of one image without the batch, such as
            `(96, 96, 3)`. Height and width may be `None`, and any number of
            channels is allowed. Channels come first if Keras'
            `image_data_format()` says so. Defaults to `None`: the images of
            published weights, otherwise `(224, 224, 3)`, or `(None, None, 3)` without
            the top.
        alpha: Float, the width, which scales the number of channels of all layers
            but the classifier. Numbers are rounded down. The paper's reduction of
            parameters by r is `alpha=r**-0.5`. Defaults to `1.0`.
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
        kernel_initializer: Initializer of all kernels but the classifier's.
            Defaults to `"he_normal"`.
        kernel_regularizer: Regularizer of all kernels, or `None`. Defaults to
            `None`.
        batch_norm_momentum: Float, momentum of batch normalization. Defaults to
            `0.99`.

    Returns:
        A `keras.Model`, flat (not nested), without compilation.

    Raises:
        ValueError: If an argument is none of the above.

    References:

    - [Deep Residual Learning for Image Recognition](
        https://arxiv.org/abs/1512.03385)
    """
    arguments.check_positive("alpha", alpha)
    style = blocks.BlockStyle(
        kernel_initializer=kernel_initializer,
        kernel_regularizer=kernel_regularizer,
        batch_norm_momentum=batch_norm_momentum,
    )

    def middle(x, filters, name, strides):
        return blocks.convolution(
            x, filters, 3, style, f"{name}_middle", strides, activation="relu"
        )

    return network.Body("resnet50", lambda x: bottlenecks(x, alpha, middle, style))


def bottlenecks(
    x: Tensor,
    alpha: float,
    middle: Callable[[Tensor, int, str, int], Tensor],
    style: blocks.BlockStyle,
) -> Tensor:
    """Applies the layers of ResNet-50 between its images and its classifier.

    Args:
        x: A batch of images.
        alpha: The width.
        middle: Function that is applied between the 1x1 convolutions of each
            bottleneck. It takes a tensor, a number of filters, a prefix of names and
            a stride, and returns a tensor.
        style: A `BlockStyle`.

    Returns:
        The last map.
    """
    x = blocks.convolution(
        x, width(64, alpha), 7, style, "stem", strides=2, activation="relu"
    )
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    groups = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
    for index, (modules, filters, first_stride) in enumerate(groups):
        for module in range(modules):
            name = f"group{index + 1}_module{module + 1}"
            strides = first_stride if module == 0 else 1
            wide = 4 * width(filters, alpha)
            y = blocks.convolution(
                x, width(filters, alpha), 1, style, f"{name}_reduce", activation="relu"
            )
            y = middle(y, width(filters, alpha), name, strides)
            y = blocks.convolution(y, wide, 1, style, f"{name}_expand")
            if module == 0:
                x = projection(x, wide, style, name, strides)
            x = keras.layers.Add(name=f"{name}_add")([x, y])
            x = keras.layers.Activation("relu", name=f"{name}_relu")(x)
    return x


def projection(
    x: Tensor, filters: int, style: blocks.BlockStyle, name: str, strides: int
) -> Tensor:
    """Applies a shortcut with another number of channels: 1x1 convolution and BN."""
    return blocks.convolution(x, filters, 1, style, f"{name}_shortcut", strides)


def width(filters: int, alpha: float) -> int:
    """Returns a scaled number of channels, rounded down, but at least one."""
    return max(1, int(filters * alpha))


def _basic_module(x, filters, first_filters, style, name, *, strides, shortcut):
    channels = x.shape[blocks.channel_axis()]
    y = blocks.convolution(
        x, first_filters, 3, style, f"{name}_first", strides, activation="relu"
    )
    y = blocks.convolution(y, filters, 3, style, f"{name}_second")
    if shortcut == "projection" and (strides > 1 or channels != first_filters):
        x = projection(x, filters, style, name, strides)
    elif strides > 1:
        x = _zero_padded(x, filters - channels, name, strides)
    y = keras.layers.Add(name=f"{name}_add")([x, y])
    return keras.layers.Activation("relu", name=f"{name}_relu")(y)


def _zero_padded(x, channels, name, strides):
    """Takes pixels at a distance of `strides` and adds `channels` channels of zeros."""
    x = keras.layers.MaxPooling2D(1, strides, name=f"{name}_shortcut")(x)
    padding = [[0, 0], [0, 0], [0, 0], [0, 0]]
    padding[blocks.channel_axis()] = [0, channels]
    return ops.pad(x, padding)
