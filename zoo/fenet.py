"""FE-Net, the network of "All You Need is a Few Shifts" (Table 4)."""

import math

from keras_shift.zoo import arguments, blocks, network

# Table 4 below its first two units: filters, number of units, stride.
_FE_BLOCKS = ((64, 3, 2), (128, 4, 2), (128, 4, 1), (256, 4, 2), (256, 3, 1))

_OUTPUT_STRIDES = (32, 16, 8, 4)


@arguments.documented("FENet")
def FENet(
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
    spatial="sparse_shift",
    squeeze_excite=None,
    squeeze_ratio=None,
    head_filters=None,
    expand_from="input",
    displacement_initializer="grouped",
    displacement_regularizer=None,
    max_displacement=2,
    kernel_initializer="he_normal",
    kernel_regularizer=None,
    batch_norm_momentum=0.99,
    dropout_rate=0.2,
):
    """Instantiates FE-Net, the fully exploited network with sparse shifts.

    Table 4 of the SSL paper, with the units of its Fig. 4 in the blocks of
    Fig. 3.

    <figures>

    The models expect images with pixel values in [0, 255]; preprocessing is part
    of them.

    Example:

    >>> model = keras_shift.zoo.FENet(input_shape=(224, 224, 3), classes=10)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        <input_shape>
        alpha: Float, the width multiplier: scales the number of channels of all
            layers but the classifier. Every number is rounded to what its block
            can divide; for multiples of 1/8 only the last convolution needs it.
        <top>
        output_stride: By how much height and width of the last map are smaller
            than the image's: 32 as in the paper, or 16, 8 or 4 for small
            images. The first reductions are left out; an IB-Pool without
            its stride becomes an IB-SSL.
        spatial: What exchanges information between pixels: `"sparse_shift"`
            (the paper's), `"grouped_shift"`, `"active_shift"`, `"depthwise"`
            (3x3; the paper's ablation "DW", with batch normalization and ReLU)
            or `"none"`.
        squeeze_excite: Where every unit has a squeeze-and-excite gate (Fig. 6):
            `None` for nowhere, `"v1"` on its output, `"v2"` on its wide tensor.
        squeeze_ratio: Ratio of that gate; 4 for `"v1"` and 8 for `"v2"` by
            default, which meet Table 7's parameters.
        head_filters: Number of channels of the last 1x1 convolution; 1380 times
            `alpha` by default.
        expand_from: What an IB-Pool multiplies to get its wide tensor:
            `"input"` channels as in the paper, or `"output"` channels as in the
            authors' code of 2022, a larger network.
        <displacements>
        <kernels>
        dropout_rate: Rate of the dropout before the classifier.

    Returns:
        A `keras.Model`, flat (not nested), without compilation.

    Raises:
        ValueError: If an argument is none of the above.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285)
    """
    arguments.check_positive("alpha", alpha)
    arguments.check_choice("output_stride", output_stride, _OUTPUT_STRIDES)
    arguments.check_choice("expand_from", expand_from, ("input", "output"))
    if head_filters is None:
        head_filters = _width(1380, alpha)
    arguments.check_positive("head_filters", head_filters)
    if squeeze_ratio is None:
        squeeze_ratio = {"v1": 4, "v2": 8}.get(squeeze_excite)
    style = blocks.BlockStyle(
        spatial=spatial,
        displacement_initializer=displacement_initializer,
        displacement_regularizer=displacement_regularizer,
        max_displacement=max_displacement,
        kernel_initializer=kernel_initializer,
        kernel_regularizer=kernel_regularizer,
        batch_norm_momentum=batch_norm_momentum,
        squeeze_excite=squeeze_excite,
        squeeze_ratio=squeeze_ratio,
    )
    # Strides of the stem, the IB-Pool, and the three FE-blocks that have one.
    left_out = _OUTPUT_STRIDES.index(output_stride)
    strides = iter([1] * left_out + [2] * (5 - left_out))

    def wide_filters(expansion):
        def rule(channels, filters):
            return expansion * (channels if expand_from == "input" else filters)

        return rule

    def body(x):
        stem = _width(16, alpha)
        x = blocks.convolution(x, stem, 3, style, "stem", strides=next(strides))
        x = blocks.inverted_bottleneck(
            x, stem, wide_filters(4)(stem, stem), style, "unit1"
        )
        filters = _width(32, alpha, divisor=_divisor(_FE_BLOCKS[0]))
        x = blocks.inverted_bottleneck(
            x,
            filters,
            wide_filters(5)(stem, filters),
            style,
            "unit2",
            strides=next(strides),
        )
        followers = [*_FE_BLOCKS[1:], None]
        for index, (block, follower) in enumerate(zip(_FE_BLOCKS, followers)):
            filters, units, stride = block
            x = blocks.fe_block(
                x,
                _width(filters, alpha, divisor=_divisor(follower)),
                units,
                wide_filters(6),
                style,
                f"fe_block{index + 1}",
                strides=next(strides) if stride == 2 else 1,
            )
        return blocks.convolution(x, head_filters, 1, style, "head", activation="relu")

    return network.assemble(
        body,
        name=name or f"fenet_{float(alpha)}",
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


def _divisor(block):
    """Into how many parts an FE-block divides its input's channels."""
    return 1 if block is None else 2 ** (block[1] - 1)


def _width(filters, alpha, divisor=1):
    """Scaled number of channels: the nearest multiple of `divisor`, at least one."""
    return divisor * max(1, math.floor(filters * alpha / divisor + 0.5))
