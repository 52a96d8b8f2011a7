"""Defines the style transfer networks of the ShiftNet paper, Table 10."""

from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_shift import initializers
from keras_shift import layers as shift_layers
from keras_shift.zoo import arguments, blocks, network, resizing

SPATIAL = ("grouped_shift", "conv")

_DEFAULT_SIZE = (256, 256)

# Maps that have the image's size, half of it and a quarter of it have these numbers of
# channels.
_FILTERS = (32, 64, 128)

_RESIDUAL_BLOCKS = 5
_RESIDUAL_KERNEL_SIZE = 3

# Keras' own 1e-3 would dampen flat parts of an image.
_EPSILON = 1e-5

# The last convolution is multiplied by this in front of the tanh. It has thousands of
# inputs: without this, one step of an optimizer would turn an image black or white,
# where tanh keeps it.
_CONTRAST = 1 / 8


def StyleTransferNet(
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    name: str | None = None,
    *,
    spatial: Literal["grouped_shift", "conv"] = "grouped_shift",
    kernel_sizes: Sequence[int] = (9, 3, 3, 5, 7, 9),
    shift_last_upsampling: bool = False,
    kernel_initializer: str | keras.initializers.Initializer = "he_normal",
    kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
) -> keras.Model:
    """Instantiates a network that paints photographs in the style of a picture.

    It is the network of Johnson et al.: three convolutions, the last two of which halve
    the map, five residual blocks, and three convolutions, the first two of which work
    on maps that were enlarged twofold. All convolutions but the last are followed by
    instance normalization, and all of them but the last of a residual block by ReLU.
    With shifts, a shift and a 1x1 convolution take the place of the convolutions
    between the first and the last.

    `keras_shift.training.StyleTransfer` trains it.

    The defaults are the two networks of Table 10 of the ShiftNet paper, by their
    parameters. The paper's text describes others, whose numbers are not those of the
    table:

    | arguments | parameters | paper |
    |---|---|---|
    | `spatial="grouped_shift"` | 302,979 | 0.3 M |
    | `shift_last_upsampling=True` | 204,675 | as its text has it |
    | `spatial="conv"` | 1,892,227 | 1.9 M |
    | `"conv"`, `kernel_sizes=(9, 3, 3, 3, 3, 9)` | 1,679,235 | Johnson et al. |
    | `"conv"`, `kernel_sizes=(9, 7, 3, 5, 7, 9)` | 1,974,147 | its authors' code |

    The models expect images with pixel values in [0, 255], and return such images;
    what scales them is part of the models.

    Example:

    >>> model = keras_shift.zoo.StyleTransferNet((64, 96, 3))
    >>> model.output_shape
    (None, 64, 96, 3)

    Args:
        input_shape: Tuple, the shape of one image without the batch, with any number
            of channels. Height and width are 5 or more, or `None`; then those of the
            output are the image's, rounded up to multiples of 4. Channels come first
            if Keras' `image_data_format()` says so. Defaults to `None`:
            `(256, 256, 3)`.
        alpha: Float, the width, which scales the number of channels of all maps.
            Defaults to `1.0`.
        name: Name of the model, or `None` for one that tells `spatial`. Defaults to
            `None`.
        spatial: What exchanges information between pixels in all but the first and the
            last convolution: `"grouped_shift"`, or `"conv"` for the convolutions
            themselves. Defaults to `"grouped_shift"`.
        kernel_sizes: Tuple of six odd ints, the kernel sizes of the three convolutions
            before and the three convolutions behind the residual blocks, or of the
            windows of the shifts that take their place. Residual blocks have `3`.
            Defaults to `(9, 3, 3, 5, 7, 9)`.
        shift_last_upsampling: Whether a shift takes the place of the convolution on the
            map that was enlarged last, too. The paper's text says so; the 0.3 M of its
            table, and its authors' code, have a convolution there, of the fifth of
            `kernel_sizes`. Without a meaning for `spatial="conv"`. Defaults to `False`.
        kernel_initializer: Initializer of all kernels. Defaults to `"he_normal"`.
        kernel_regularizer: Regularizer of all kernels, or `None`. Defaults to `None`.

    Input shape:
        4D tensor with shape `(batch_size, height, width, channels)`, or
        `(batch_size, channels, height, width)`.

    Output shape:
        The same as the input's, if height and width are known.

    Returns:
        A `keras.Model`, flat (not nested), without compilation.

    Raises:
        ValueError: If an argument is none of the above.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Section 3.4
    - [Perceptual Losses for Real-Time Style Transfer and Super-Resolution](
        https://arxiv.org/abs/1603.08155), and its supplementary material
    - [Instance Normalization: The Missing Ingredient for Fast Stylization](
        https://arxiv.org/abs/1607.08022)
    """
    arguments.check_positive("alpha", alpha)
    arguments.check_choice("spatial", spatial, SPATIAL)
    arguments.check_choice(
        "shift_last_upsampling", shift_last_upsampling, (True, False)
    )
    kernel_sizes = _checked_kernel_sizes(kernel_sizes)
    images = _images(input_shape, kernel_sizes)
    first, *down, up, last_up, last = kernel_sizes
    filters = [max(1, round(width * alpha)) for width in _FILTERS]
    options: dict[str, Any] = {
        "kernel_initializer": kernel_initializer,
        "kernel_regularizer": kernel_regularizer,
    }

    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(images)
    x = _convolution(x, filters[0], first, "conv", "first", **options)
    x = _normalized(x, "first", relu=True)
    sizes = []
    for level, kernel_size in enumerate(down, 1):
        sizes.append(resizing.size(x))
        x = _convolution(
            x, filters[level], kernel_size, spatial, f"down{level}", 2, **options
        )
        x = _normalized(x, f"down{level}", relu=True)
    for index in range(_RESIDUAL_BLOCKS):
        x = _residual_block(x, spatial, f"residual{index + 1}", options)
    last_spatial = spatial if shift_last_upsampling else "conv"
    for kernel_size, way in ((up, spatial), (last_up, last_spatial)):
        level = len(sizes)
        prefix = f"up{level}"
        # Nearest neighbours in front of a convolution leave no chequered pattern, which
        # transposed convolutions do.
        x = resizing.enlarge(x, 2, sizes.pop(), "nearest", prefix)
        x = _convolution(x, filters[level - 1], kernel_size, way, prefix, **options)
        x = _normalized(x, prefix, relu=True)
    channels = images.shape[blocks.channel_axis()]
    x = _convolution(x, channels, last, "conv", "last", **options)
    # Pixels are computed in float32 even under a mixed dtype policy, in which they
    # would lose digits.
    dtype = "float32" if network.is_mixed() else None
    x = keras.layers.Rescaling(_CONTRAST, dtype=dtype, name="contrast")(x)
    x = keras.layers.Activation("tanh", dtype=dtype, name="tanh")(x)
    x = keras.layers.Rescaling(127.5, offset=127.5, dtype=dtype, name="pixels")(x)
    default_name = {"grouped_shift": "style_shift", "conv": "style_conv"}[spatial]
    return keras.Model(images, x, name=name or default_name)


def _residual_block(x, spatial, name, options):
    filters = x.shape[blocks.channel_axis()]
    y = x
    for part, relu in (("a", True), ("b", False)):
        y = _convolution(
            y, filters, _RESIDUAL_KERNEL_SIZE, spatial, f"{name}{part}", **options
        )
        y = _normalized(y, f"{name}{part}", relu)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def _convolution(
    x,
    filters,
    kernel_size,
    spatial,
    name,
    strides=1,
    *,
    kernel_initializer,
    kernel_regularizer,
):
    """Applies a convolution, or a shift and a 1x1 convolution, with biases."""
    if spatial == "grouped_shift":
        x = shift_layers.GroupedShift2D(kernel_size, name=f"{name}_shift")(x)
        kernel_size = 1
    if kernel_size > 1:
        x = _reflected(x, kernel_size // 2)
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        kernel_initializer=initializers.fresh(kernel_initializer),
        kernel_regularizer=kernel_regularizer,
        name=name,
    )(x)


def _reflected(x, margin):
    """Adds a margin that mirrors the map, of which zeros would leave a frame."""
    spatial = [(margin, margin)] * 2
    if blocks.channel_axis() == -1:
        padding = [(0, 0), *spatial, (0, 0)]
    else:
        padding = [(0, 0), (0, 0), *spatial]
    return keras.ops.pad(x, padding, mode="reflect")


def _normalized(x, name, relu):
    """Applies instance normalization, and ReLU."""
    x = keras.layers.GroupNormalization(
        groups=-1, axis=blocks.channel_axis(), epsilon=_EPSILON, name=f"{name}_norm"
    )(x)
    if relu:
        x = keras.layers.Activation("relu", name=f"{name}_relu")(x)
    return x


def _checked_kernel_sizes(kernel_sizes):
    received = kernel_sizes
    if not isinstance(kernel_sizes, (tuple, list)) or len(kernel_sizes) != 6:
        raise ValueError(
            "Argument `kernel_sizes` must be a tuple of six odd integers. "
            f"Received: kernel_sizes={received!r}"
        )
    kernel_sizes = [arguments.integer("kernel_sizes", size) for size in kernel_sizes]
    if any(size % 2 == 0 for size in kernel_sizes):
        raise ValueError(
            "Argument `kernel_sizes` must be a tuple of six odd integers. "
            f"Received: kernel_sizes={received!r}"
        )
    return kernel_sizes


def _images(input_shape, kernel_sizes):
    if input_shape is None:
        last = blocks.channel_axis() == -1
        input_shape = (*_DEFAULT_SIZE, 3) if last else (3, *_DEFAULT_SIZE)
    input_shape = network.checked_shape(input_shape)
    images = keras.Input(input_shape, name="image")
    # What a margin mirrors must be larger than the margin, wherever there is one.
    strides = (1, 1, 2, 2, 1, 1)
    margins = [s * (size // 2) for s, size in zip(strides, kernel_sizes)]
    margins.append(4 * (_RESIDUAL_KERNEL_SIZE // 2))
    least = 1 + max(margins)
    known = [size for size in resizing.size(images) if size is not None]
    if known and min(known) < least:
        raise ValueError(
            f"Argument `input_shape` must have a height and a width of {least} or more "
            f"with kernel_sizes={tuple(kernel_sizes)}. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    return images
