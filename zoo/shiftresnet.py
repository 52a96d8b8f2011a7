"""Defines ShiftResNets, the ResNets with shifts of both papers."""

import os
from collections.abc import Callable, Sequence
from typing import Literal

import keras

from keras_shift.typing import Tensor
from keras_shift.zoo import arguments, blocks, network, resnet, shiftnet

# These are the defaults of `spatial` for each wiring.
DEFAULT_SPATIAL = {"projection": "grouped_shift", "concatenate": "sparse_shift"}


def _cifar_constructor(depth):
    @network.constructor(f"ShiftResNet{depth}", size=32, classes=10)
    def ShiftResNet(
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
        expansion: int = 6,
        wiring: Literal["projection", "concatenate"] = "projection",
        spatial: (
            Literal[
                "sparse_shift", "grouped_shift", "active_shift", "depthwise", "none"
            ]
            | None
        ) = None,
        module: Literal["csc", "sc2"] = "csc",
        without_shift: Sequence[str] = (),
        displacement_initializer: str | keras.initializers.Initializer = "grouped",
        displacement_regularizer: str | keras.regularizers.Regularizer | None = None,
        max_displacement: int | None = 2,
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
        batch_norm_momentum: float = 0.99,
    ) -> network.Body:
        """Instantiates <name> for images of 32x32 pixels, as on CIFAR.

        It is a ResNet whose modules are CSC modules. The two papers have different
        networks of this name, between which `wiring` chooses. The papers do not say
        where batch normalization and ReLU are. Here both follow every convolution, as
        in the ShiftNet authors' code.

        The models expect images with pixel values in [0, 255]; preprocessing is
        part of them.

        Example:

        >>> model = keras_shift.zoo.<name>(expansion=3, classes=100)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")

        Args:
            <input_shape>
            alpha: Float, the width, which scales the number of channels of all
                layers but the classifier. Numbers are rounded down. Defaults to
                `1.0`.
            <top>
            expansion: Int, factor from a module's channels to the channels of its
                wide tensor. Defaults to `6`.
            wiring: Which paper's network to build. `"projection"` is the ShiftNet
                paper's: `expansion` multiplies the channels of a module's output,
                and a module that halves the map has a 1x1 convolution of stride 2
                as its shortcut. `"concatenate"` is the SSL paper's: `expansion`
                multiplies the channels of a module's input, and a module that
                halves the map computes only the additional channels and keeps the
                average-pooled input beside them. Defaults to `"projection"`.
            spatial: What exchanges information between pixels:
                `"grouped_shift"`, `"sparse_shift"`, `"active_shift"`,
                `"depthwise"` or `"none"`. Defaults to `None`: `"grouped_shift"` for
                the wiring `"projection"`, and `"sparse_shift"` for `"concatenate"`.
            module: `"csc"` (convolution, shift, convolution) or `"sc2"`, which
                also shifts before its first convolution (Fig. 3 of the ShiftNet
                paper). Defaults to `"csc"`.
            without_shift: Tuple of names of modules, such as `"group1_module1"`, in
                which nothing exchanges information between pixels (Table 3 of the
                SSL paper). Defaults to `()`.
            <displacements>
            <kernels>

        Returns:
            A `keras.Model`, flat (not nested), without compilation.

        Raises:
            ValueError: If an argument is none of the above.

        References:

        - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
            https://arxiv.org/abs/1711.08141), Section 3.1
        - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285),
            Section 5.1
        """
        arguments.check_positive("alpha", alpha)
        expansion = arguments.integer("expansion", expansion)
        arguments.check_choice("wiring", wiring, tuple(DEFAULT_SPATIAL))
        arguments.check_choice("module", module, shiftnet.MODULES)
        groups = resnet.cifar_groups(depth)
        module_names = _module_names(groups)
        arguments.check_names("without_shift", without_shift, sum(module_names, []))
        style = blocks.BlockStyle(
            spatial=DEFAULT_SPATIAL[wiring] if spatial is None else spatial,
            displacement_initializer=displacement_initializer,
            displacement_regularizer=displacement_regularizer,
            max_displacement=max_displacement,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            batch_norm_momentum=batch_norm_momentum,
            without_shift=without_shift,
        )

        def body(x):
            stem = resnet.width(groups[0][1], alpha)
            x = blocks.convolution(x, stem, 3, style, "stem", activation="relu")
            for (_, filters, first_stride), names in zip(groups, module_names):
                for module_name in names:
                    x = _module(
                        x,
                        resnet.width(filters, alpha),
                        expansion,
                        style,
                        module_name,
                        wiring=wiring,
                        strides=first_stride if module_name == names[0] else 1,
                        shift_twice=module == "sc2",
                    )
            return x

        return network.Body(f"shiftresnet{depth}", body)

    return ShiftResNet


ShiftResNet20 = _cifar_constructor(20)
ShiftResNet56 = _cifar_constructor(56)
ShiftResNet110 = _cifar_constructor(110)


@network.constructor("ShiftResNet50")
def ShiftResNet50(
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
    expansion: int = 3,
    spatial: Literal[
        "sparse_shift", "grouped_shift", "active_shift", "depthwise", "none"
    ] = "grouped_shift",
    displacement_initializer: str | keras.initializers.Initializer = "grouped",
    displacement_regularizer: str | keras.regularizers.Regularizer | None = None,
    max_displacement: int | None = 2,
    kernel_initializer: str | keras.initializers.Initializer = "he_normal",
    kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
    batch_norm_momentum: float = 0.99,
) -> network.Body:
    """Instantiates ShiftResNet50: a CSC module for each 3x3 convolution of ResNet-50.

    It is the network of Table 3 of the ShiftNet paper. The paper does not say where
    the modules are in it. With this arrangement the network has all three of the
    paper's figures.

    The models expect images with pixel values in [0, 255]; preprocessing is part
    of them.

    Example:

    >>> model = keras_shift.zoo.ShiftResNet50((64, 64, 3), alpha=0.25, classes=10)
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
        expansion: Int, factor from the channels of a module's output to the channels
            of its wide tensor. Defaults to `3`.
        spatial: What exchanges information between pixels: `"grouped_shift"`
            (the paper's), `"sparse_shift"`, `"active_shift"`, `"depthwise"` or
            `"none"`. Defaults to `"grouped_shift"`.
        displacement_initializer: Initializer of learned displacements.
            `"grouped"` is the pattern of the grouped shift. Defaults to
            `"grouped"`.
        displacement_regularizer: Regularizer of learned displacements
            (Eq. 4 of the SSL paper), such as `keras.regularizers.L2(1e-4)`, or
            `None`. Defaults to `None`.
        max_displacement: Int, the largest learned displacement in pixels, or
            `None` for no bound. Defaults to `2`.
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

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Section 3.1
    """
    arguments.check_positive("alpha", alpha)
    expansion = arguments.integer("expansion", expansion)
    style = blocks.BlockStyle(
        spatial=spatial,
        displacement_initializer=displacement_initializer,
        displacement_regularizer=displacement_regularizer,
        max_displacement=max_displacement,
        kernel_initializer=kernel_initializer,
        kernel_regularizer=kernel_regularizer,
        batch_norm_momentum=batch_norm_momentum,
    )

    def middle(x, filters, name, strides):
        return blocks.conv_shift_conv(
            x, filters, expansion * filters, style, f"{name}_middle", strides=strides
        )

    return network.Body(
        "shiftresnet50", lambda x: resnet.bottlenecks(x, alpha, middle, style)
    )


def _module_names(groups):
    """Returns a list for each group with the names of its modules."""
    return [
        [f"group{index + 1}_module{number + 1}" for number in range(count)]
        for index, (count, _, _) in enumerate(groups)
    ]


def _module(x, filters, expansion, style, name, *, wiring, strides, shift_twice):
    """Applies a CSC or SC2 module with its shortcut."""
    channels = x.shape[blocks.channel_axis()]
    options = {"strides": strides, "shift_twice": shift_twice}
    if wiring == "concatenate":
        wide_filters = expansion * channels
        if strides > 1 and filters > channels:
            y = blocks.conv_shift_conv(
                x, filters - channels, wide_filters, style, name, **options
            )
            return keras.layers.Concatenate(
                axis=blocks.channel_axis(), name=f"{name}_concatenate"
            )([y, blocks.average_pool(x, f"{name}_pool")])
    else:
        wide_filters = expansion * filters
    y = blocks.conv_shift_conv(x, filters, wide_filters, style, name, **options)
    if strides > 1:
        x = resnet.projection(x, filters, style, name, strides)
    return keras.layers.Add(name=f"{name}_add")([x, y])
