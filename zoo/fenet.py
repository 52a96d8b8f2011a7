"""Defines FE-Net, the network of "All You Need is a Few Shifts" (Table 4)."""

import math
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from keras_shift.graph_walk import source_inputs
from keras_shift.typing import Tensor
from keras_shift.zoo import arguments, blocks, network

# The FE-blocks of Table 4 below its first two units. Each has a number of filters, a
# number of units, and a stride.
_FE_BLOCKS = ((64, 3, 2), (128, 4, 2), (128, 4, 1), (256, 4, 2), (256, 3, 1))

_UNITS = (
    "unit1",
    "unit2",
    *(
        f"fe_block{block + 1}_unit{unit + 1}"
        for block, (_, units, _) in enumerate(_FE_BLOCKS)
        for unit in range(units)
    ),
)

_OUTPUT_STRIDES = (32, 16, 8, 4)

# For every stride, from the coarsest on, this is the layer whose output is the last map
# with all channels. The unit behind it halves the map.
_FEATURE_LAYERS = (
    "fe_block5_unit3_project_bn",
    "fe_block4_unit3_mix",
    "fe_block2_unit3_mix",
    "fe_block1_unit2_mix",
    "unit1_project_bn",
)

# With these ratios, gates have the parameters of Table 7.
_SQUEEZE_RATIOS: dict[str | None, int] = {"v1": 4, "v2": 8}


@network.constructor("FENet")
def FENet(
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
    features: Sequence[int] | None = None,
    spatial: Literal[
        "sparse_shift", "grouped_shift", "active_shift", "depthwise", "none"
    ] = "sparse_shift",
    without_shift: Sequence[str] = (),
    squeeze_excite: Literal["v1", "v2"] | None = None,
    squeeze_ratio: float | None = None,
    head_filters: int | None = None,
    expand_from: Literal["input", "output"] = "input",
    displacement_initializer: str | keras.initializers.Initializer = "grouped",
    displacement_regularizer: str | keras.regularizers.Regularizer | None = None,
    max_displacement: int | None = 2,
    kernel_initializer: str | keras.initializers.Initializer = "he_normal",
    kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
    batch_norm_momentum: float = 0.99,
    dropout_rate: float = 0.2,
) -> network.Body:
    """Instantiates FE-Net, the fully exploited network with sparse shifts.

    It is the network of Table 4 of the SSL paper, with the units of its Fig. 4 in the
    blocks of its Fig. 3.

    The models expect images with pixel values in [0, 255]; preprocessing is part
    of them.

    Example:

    >>> model = keras_shift.zoo.FENet(input_shape=(224, 224, 3), classes=10)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Maps for dense prediction, such as `keras_shift.zoo.SegmentationNet`:

    >>> backbone = keras_shift.zoo.FENet(
    ...     input_shape=(224, 224, 3), include_top=False, features=(4, 8, 16, 32)
    ... )
    >>> {name: features.shape for name, features in backbone.output.items()}
    {'P2': (None, 56, 56, 32), 'P3': (None, 28, 28, 64),
     'P4': (None, 14, 14, 128), 'P5': (None, 7, 7, 256)}

    Args:
        input_shape: Tuple, the shape of one image without the batch, such as
            `(96, 96, 3)`. Height and width may be `None`, and any number of
            channels is allowed. Channels come first if Keras'
            `image_data_format()` says so. Defaults to `None`: the images of
            published weights, otherwise `(224, 224, 3)`, or `(None, None, 3)` without
            the top.
        alpha: Float, the width, which scales the number of channels of all layers
            but the classifier. Every number is rounded to one that its block can
            divide. For multiples of 1/8, only the last convolution's number needs
            that. Defaults to `1.0`.
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
            `32` as in the paper, or `16`, `8` or `4` for small images. The first
            strides are left out, and an IB-Pool without its stride becomes an
            IB-SSL. Defaults to `32`.
        features: Tuple of ints, the strides of the maps to return if `include_top`
            is `False`, in ascending order. Strides are counted in pixels of the
            image; those that there are run from `2` (with an `output_stride` below
            32: from `1`) to `output_stride`, each twice the one before. Of every
            stride it is the last map, of all channels: those of `output_stride`
            have 256 channels times `alpha`, and finer ones 128, 64, 32 and 16, in
            this order. The last 1x1 convolution, which prepares the classifier, is
            left out, and so is what no map needs. Defaults to `None`: the output is
            one tensor.
        spatial: What exchanges information between pixels: `"sparse_shift"`
            (the paper's), `"grouped_shift"`, `"active_shift"`, `"depthwise"`
            (3x3 convolutions with batch normalization and ReLU, the paper's
            ablation "DW") or `"none"`. Defaults to `"sparse_shift"`.
        without_shift: Tuple of names of units, such as `"unit1"` or
            `"fe_block1_unit2"`, in which nothing exchanges information between pixels
            but the pooling of an IB-Pool. The larger a unit's map, the more time its
            shifts take. Defaults to `()`.
        squeeze_excite: Where every unit has a squeeze-and-excite gate (Fig. 6):
            `None` for nowhere, `"v1"` for its output, `"v2"` for its wide tensor.
            Defaults to `None`.
        squeeze_ratio: Float, the number of the gate's input channels divided by the
            length of its hidden vector. Defaults to `None`: `4` for `"v1"` and `8`
            for `"v2"`, which give the parameters of Table 7.
        head_filters: Int, number of channels of the last 1x1 convolution. Defaults
            to `None`: 1380 times `alpha`.
        expand_from: What number of channels an IB-Pool multiplies to get its wide
            tensor: `"input"` as in the paper, or `"output"` as in the authors' code
            of 2022, which makes the network larger. Defaults to `"input"`.
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
        dropout_rate: Float, rate of the dropout before the classifier. Defaults to
            `0.2`.

    Returns:
        A `keras.Model`, flat (not nested), without compilation. With `features`, its
        output is a dict of maps, whose keys are KerasHub's names for them: `"P2"` is
        the map of stride 4, and `"Pn"` that of stride `2 ** n`.

    Raises:
        ValueError: If an argument is none of the above, or if `features` come with
            the top or with `pooling`.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285)
    """
    arguments.check_positive("alpha", alpha)
    arguments.integer("output_stride", output_stride)
    arguments.check_choice("output_stride", output_stride, _OUTPUT_STRIDES)
    arguments.check_choice("expand_from", expand_from, ("input", "output"))
    arguments.check_names("without_shift", without_shift, _UNITS)
    layers = _feature_layers(output_stride, squeeze_excite)
    if features is not None:
        features = _checked_features(features, tuple(layers), include_top, pooling)
    if head_filters is None:
        head_filters = _width(1380, alpha)
    head_filters = arguments.integer("head_filters", head_filters)
    if squeeze_ratio is None:
        squeeze_ratio = _SQUEEZE_RATIOS.get(squeeze_excite)
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
        without_shift=without_shift,
    )

    def body(x):
        x = _units(x, alpha, output_stride, expand_from, style)
        if features is not None:
            units = keras.Model(source_inputs(x), x)
            return {
                f"P{stride.bit_length() - 1}": units.get_layer(layers[stride]).output
                for stride in features
            }
        return blocks.convolution(x, head_filters, 1, style, "head", activation="relu")

    return network.Body(f"fenet_{float(alpha)}", body)


def _units(x, alpha, output_stride, expand_from, style):
    """Applies all layers of Table 4 before the last 1x1 convolution."""
    # These are the strides of the stem, the IB-Pool, and three of the FE-blocks.
    left_out = _OUTPUT_STRIDES.index(output_stride)
    strides = iter([1] * left_out + [2] * (5 - left_out))

    def wide_filters(expansion):
        def rule(channels, filters):
            return expansion * (channels if expand_from == "input" else filters)

        return rule

    stem = _width(16, alpha)
    x = blocks.convolution(x, stem, 3, style, "stem", strides=next(strides))
    wide = wide_filters(4)(stem, stem)
    x = blocks.inverted_bottleneck(x, stem, wide, style, "unit1")
    filters = _width(32, alpha, divisor=_divisor(_FE_BLOCKS[0]))
    wide = wide_filters(5)(stem, filters)
    x = blocks.inverted_bottleneck(
        x, filters, wide, style, "unit2", strides=next(strides)
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
    return x


def _feature_layers(output_stride, squeeze_excite):
    """Returns the names of the layers that end each stride, the finest first."""
    names = {
        output_stride >> halvings: name
        for halvings, name in enumerate(_FEATURE_LAYERS)
        if output_stride >> halvings
    }
    if squeeze_excite == "v1":
        # There a unit ends with its gate.
        names = {
            stride: name.replace("project_bn", "squeeze_excite")
            for stride, name in names.items()
        }
    return dict(sorted(names.items()))


def _checked_features(features, allowed, include_top, pooling):
    """Returns the strides of the maps to return as a tuple of Python's ints."""
    for argument, value, needed in (
        ("include_top", include_top, False),
        ("pooling", pooling, None),
    ):
        if value != needed:
            raise ValueError(
                f"Argument `features` needs {argument}={needed}. "
                f"Received: features={features!r}, {argument}={value!r}"
            )
    strides: list[Any] = (
        list(features) if isinstance(features, (tuple, list)) else [None]
    )
    if not strides or any(
        isinstance(stride, bool)
        or not isinstance(stride, numbers.Integral)
        or stride not in allowed
        for stride in strides
    ):
        raise ValueError(
            f"Argument `features` must be a tuple of strides among {allowed}, which "
            f"the network has with output_stride={allowed[-1]}. "
            f"Received: features={features!r}"
        )
    if strides != sorted(set(strides)):
        raise ValueError(
            "Argument `features` must name every stride once, in ascending order. "
            f"Received: features={features!r}"
        )
    return tuple(map(int, strides))


def _divisor(block):
    """Returns the number of parts into which an FE-block divides its channels."""
    return 1 if block is None else 2 ** (block[1] - 1)


def _width(filters, alpha, divisor=1):
    """Scales a number of channels to the nearest multiple of `divisor`, not zero."""
    return divisor * max(1, math.floor(filters * alpha / divisor + 0.5))
