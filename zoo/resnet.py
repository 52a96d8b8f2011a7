"""ResNets, which both papers compare their networks with."""

import keras
from keras import ops

from keras_shift.zoo import arguments, blocks, network

SHORTCUTS = ("projection", "zero_padding")


def cifar_groups(depth):
    """Number of modules, channels and first stride of a CIFAR ResNet's groups.

    Args:
        depth: Number of layers with kernels, 20, 56 or 110.
    """
    # A stem, a classifier, and three groups of modules with two layers each.
    modules = (depth - 2) // 6
    return ((modules, 16, 1), (modules, 32, 2), (modules, 64, 2))


def _cifar_constructor(depth):
    @arguments.documented(f"ResNet{depth}", size="(32, 32, 3)", classes=10)
    def ResNet(
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
        shortcut="projection",
        module_reduction=1.0,
        kernel_initializer="he_normal",
        kernel_regularizer=None,
        batch_norm_momentum=0.99,
    ):
        """Instantiates <name> for images of 32x32 pixels, as on CIFAR.

        It has no shifts: the papers compare their networks with it, at its own
        size and, in Tables 2 and 5 of the ShiftNet paper, reduced in two ways.

        <figures>

        The models expect images with pixel values in [0, 255]; preprocessing is
        part of them.

        Example:

        >>> model = keras_shift.zoo.<name>(shortcut="zero_padding")
        >>> model.compile("sgd", "sparse_categorical_crossentropy")

        Args:
            <input_shape>
            alpha: Float, the width multiplier: scales the number of channels of
                all layers but the classifier, rounding down. The papers'
                net-wise reduction of parameters by r is `alpha=r**-0.5`.
            <top>
            shortcut: What modules that change the number of channels add to
                their result: `"projection"`, a 1x1 convolution with batch
                normalization (option B of the ResNet paper), or
                `"zero_padding"`, without parameters (option A).
            module_reduction: Float, divides the number of filters of each
                module's first convolution, rounding down (the papers'
                module-wise reduction). Where that differs from the number of
                channels, a projection is added too, as in the ShiftNet authors'
                code.
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

        return network.assemble(
            body,
            name=name or f"resnet{depth}",
            input_shape=input_shape,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            include_preprocessing=include_preprocessing,
            kernel_regularizer=kernel_regularizer,
            default_size=32,
            default_classes=10,
        )

    return ResNet


ResNet20 = _cifar_constructor(20)
ResNet56 = _cifar_constructor(56)
ResNet110 = _cifar_constructor(110)


@arguments.documented("ResNet50")
def ResNet50(
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
    kernel_initializer="he_normal",
    kernel_regularizer=None,
    batch_norm_momentum=0.99,
):
    """Instantiates <name>, the baseline of `ShiftResNet50`.

    The network of Table 3 of the ShiftNet paper. Unlike that of
    keras.applications it has no biases, and the 3x3 convolution has the stride.

    <figures>

    The models expect images with pixel values in [0, 255]; preprocessing is part
    of them.

    Example:

    >>> model = keras_shift.zoo.<name>((64, 64, 3), alpha=0.25, classes=10)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        <input_shape>
        alpha: Float, the width multiplier: scales the number of channels of all
            layers but the classifier, rounding down. The paper's reduction of
            parameters by r is `alpha=r**-0.5`.
        <top>
        <kernels>

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

    return network.assemble(
        lambda x: bottlenecks(x, alpha, middle, style),
        name=name or "resnet50",
        input_shape=input_shape,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        kernel_regularizer=kernel_regularizer,
    )


def bottlenecks(x, alpha, middle, style):
    """ResNet-50 between its images and its classifier.

    Args:
        x: A batch of images.
        alpha: The width multiplier.
        middle: Function of a tensor, a number of filters, a prefix of names and
            a stride: what stands between a bottleneck's 1x1 convolutions.
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


def projection(x, filters, style, name, strides):
    """A shortcut that changes the number of channels: 1x1 convolution and BN."""
    return blocks.convolution(x, filters, 1, style, f"{name}_shortcut", strides)


def width(filters, alpha):
    """Scaled number of channels, rounded down, but at least one."""
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
    """Every second pixel, with `channels` more channels of zeros."""
    x = keras.layers.MaxPooling2D(1, strides, name=f"{name}_shortcut")(x)
    padding = [[0, 0], [0, 0], [0, 0], [0, 0]]
    padding[blocks.channel_axis()] = [0, channels]
    return ops.pad(x, padding)
