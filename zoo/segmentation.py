"""Defines a segmentation network: any backbone, and a head of dilated shifts."""

import re
from collections.abc import Callable, Sequence
from typing import Literal

import keras

from keras_shift.typing import Tensor
from keras_shift.zoo import arguments, blocks, network, resizing


def SegmentationNet(
    backbone: keras.Model,
    classes: int,
    classifier_activation: str | Callable[[Tensor], Tensor] | None = "softmax",
    name: str | None = None,
    *,
    filters: int = 64,
    expansion: int = 2,
    dilation_rates: Sequence[int] = (1, 2, 3),
    spatial: Literal[
        "sparse_shift", "grouped_shift", "active_shift", "depthwise", "none"
    ] = "grouped_shift",
    kernel_initializer: str | keras.initializers.Initializer = "he_normal",
    kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """Instantiates a network that tells the class of every pixel of an image.

    A head is put on the maps of a backbone. Residual units with dilated shifts, one for
    each of `dilation_rates`, work on the coarsest map, and so see far. Then, from map
    to map, the result is enlarged bilinearly, added to a 1x1 convolution of the finer
    map, and goes through one more unit. A 1x1 convolution gives the scores of the
    classes, which are enlarged to the image's size.

    Units are those of FE-Net: a 1x1 convolution, BN, ReLU, a shift, a 1x1 convolution,
    and BN. However far their shifts move pixels, they cost the same: in a .tflite
    file, grouped shifts become depthwise convolutions of 3x3 taps, dilated like them.

    Example:

    >>> backbone = keras_shift.zoo.FENet(
    ...     (96, 96, 3), alpha=0.35, include_top=False, features=(4, 8, 16)
    ... )
    >>> model = keras_shift.zoo.SegmentationNet(backbone, classes=3)
    >>> model.output_shape
    (None, 96, 96, 3)

    Args:
        backbone: A `keras.Model` from images of a known height and width to a dict of
            4D maps, as `keras_shift.zoo.FENet(include_top=False, features=...)`
            returns it. The key `"Pn"` stands for the stride `2 ** n`: height and width
            of that map are those of the image, divided by the stride and rounded up.
            Other maps than FE-Net's serve as well, such as the `pyramid_outputs` of a
            KerasHub backbone. The backbone's layers are shared, not copied, and
            training trains them too where they are trainable.
        classes: Int, number of classes, the background included.
        classifier_activation: Activation of the scores of every pixel, or `None` for
            logits. Defaults to `"softmax"`.
        name: Name of the model, or `None` for the backbone's with `_segmentation`
            behind it. Defaults to `None`.
        filters: Int, number of channels of all maps in the head. Defaults to `64`.
        expansion: Int, number of channels of a unit's wide tensor divided by
            `filters`. Defaults to `2`.
        dilation_rates: Tuple of ints, the distances of neighbouring positions in the
            3x3 windows of the units on the coarsest map, in pixels of that map. Rates
            without a common factor leave no pixel out. Defaults to `(1, 2, 3)`.
        spatial: What exchanges information between pixels in the head:
            `"grouped_shift"`, `"sparse_shift"` or `"active_shift"` (whose learned
            displacements start like those of grouped shifts, and have no bound),
            `"depthwise"` (3x3 convolutions with batch normalization and ReLU, dilated
            alike) or `"none"`. Defaults to `"grouped_shift"`.
        kernel_initializer: Initializer of all kernels of the head but the
            classifier's. Defaults to `"he_normal"`.
        kernel_regularizer: Regularizer of all kernels of the head, or `None`. Defaults
            to `None`.
        batch_norm_momentum: Float, momentum of the head's batch normalization.
            Defaults to `0.99`.

    Returns:
        A `keras.Model`, flat (not nested), without compilation. Its output has the
        shape `(batch_size, height, width, classes)` for every image data format, since
        Keras' losses and metrics expect the classes in the last axis.

    Raises:
        ValueError: If an argument is none of the above.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Fig. 4: the
        units
    - [Understanding Convolution for Semantic Segmentation](
        https://arxiv.org/abs/1702.08502), Section 3.2: the dilation rates
    - [Feature Pyramid Networks for Object Detection](
        https://arxiv.org/abs/1612.03144): the way from coarse maps to fine ones
    """
    classes = arguments.integer("classes", classes)
    filters = arguments.integer("filters", filters)
    wide_filters = filters * arguments.integer("expansion", expansion)
    dilation_rates = _checked_rates(dilation_rates)
    style = blocks.BlockStyle(
        spatial=spatial,
        kernel_initializer=kernel_initializer,
        kernel_regularizer=kernel_regularizer,
        batch_norm_momentum=batch_norm_momentum,
    )
    maps = _checked_maps(backbone)

    *finer, coarsest = sorted(maps)
    x = blocks.convolution(maps[coarsest], filters, 1, style, "context")
    for index, rate in enumerate(dilation_rates):
        x = blocks.inverted_bottleneck(
            x,
            filters,
            wide_filters,
            style,
            f"context_unit{index + 1}",
            residual=True,
            dilation_rate=rate,
        )
    level = coarsest
    for finer_level in reversed(finer):
        prefix = f"p{finer_level}"
        lateral = blocks.convolution(
            maps[finer_level], filters, 1, style, f"{prefix}_lateral"
        )
        x = resizing.enlarge(
            x, 2 ** (level - finer_level), resizing.size(lateral), "bilinear", prefix
        )
        x = keras.layers.Add(name=f"{prefix}_add")([x, lateral])
        x = blocks.inverted_bottleneck(
            x, filters, wide_filters, style, f"{prefix}_unit", residual=True
        )
        level = finer_level
    # Scores are computed in float32 even under a mixed dtype policy, in which they
    # would lose digits.
    dtype = "float32" if network.is_mixed() else None
    x = keras.layers.Conv2D(
        classes,
        1,
        kernel_regularizer=kernel_regularizer,
        dtype=dtype,
        name="scores",
    )(x)
    x = resizing.enlarge(
        x, 2**level, resizing.size(backbone.inputs[0]), "bilinear", "scores", dtype
    )
    if blocks.channel_axis() == 1:
        x = keras.layers.Permute((2, 3, 1), dtype=dtype, name="classes_last")(x)
    x = keras.layers.Activation(classifier_activation, dtype=dtype, name="predictions")(
        x
    )
    return keras.Model(
        backbone.inputs[0], x, name=name or f"{backbone.name}_segmentation"
    )


def _checked_rates(dilation_rates):
    if not isinstance(dilation_rates, (tuple, list)):
        raise ValueError(
            "Argument `dilation_rates` must be a tuple of integers. "
            f"Received: dilation_rates={dilation_rates!r}"
        )
    return [arguments.integer("dilation_rates", rate) for rate in dilation_rates]


def _checked_maps(backbone):
    """Returns the maps of a backbone by their levels, the logarithms of strides."""
    maps = getattr(backbone, "output", None)
    if (
        not isinstance(backbone, keras.Model)
        or len(getattr(backbone, "inputs", None) or ()) != 1
        or not isinstance(maps, dict)
        or not maps
        or not all(re.fullmatch(r"P\d", str(key)) for key in maps)
    ):
        raise ValueError(
            "Argument `backbone` must be a functional model from images to a dict of "
            'maps with keys such as "P2" for stride 4, as `FENet(include_top=False, '
            "features=(4, 8, 16))` returns it. "
            f"Received: backbone={backbone!r}"
            + (f" with the outputs {list(maps)}" if isinstance(maps, dict) else "")
        )
    image = backbone.inputs[0]
    if len(image.shape) != 4 or None in resizing.size(image):
        raise ValueError(
            "Argument `backbone` must be built for images of a known height and width, "
            "such as `input_shape=(224, 224, 3)`. Its weights serve other sizes as "
            f"well. Received: a backbone for images of shape {tuple(image.shape[1:])}"
        )
    for key, features in maps.items():
        expected = tuple(-(-size // 2 ** int(key[1:])) for size in resizing.size(image))
        if len(features.shape) != 4 or resizing.size(features) != expected:
            raise ValueError(
                f"Argument `backbone` must return a map of height and width {expected} "
                f"as {key!r}, since its images have {resizing.size(image)}. "
                f"Received: a map of shape {tuple(features.shape[1:])}"
            )
    return {int(key[1:]): features for key, features in maps.items()}
