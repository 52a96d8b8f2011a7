"""The blocks that shift networks are built of: functions from tensor to tensor."""

import dataclasses
from typing import Any

import keras

from keras_shift import initializers
from keras_shift import layers as shift_layers
from keras_shift.zoo import arguments

SPATIAL = ("sparse_shift", "grouped_shift", "active_shift", "depthwise", "none")


@dataclasses.dataclass(frozen=True)
class BlockStyle:
    """What all blocks of one network share.

    Attributes:
        spatial: What a module's wide tensor goes through, one of `SPATIAL`.
        displacement_initializer: Initializer of learned displacements.
        displacement_regularizer: Regularizer of learned displacements.
        max_displacement: Bound of learned displacements, in pixels, or `None`.
        kernel_initializer: Initializer of convolution kernels.
        kernel_regularizer: Regularizer of convolution kernels.
        batch_norm_momentum: Momentum of batch normalization.
        squeeze_excite: `None`, `"v1"` (gates a unit's output) or `"v2"` (gates
            its wide tensor): Fig. 6 of the SSL paper.
        squeeze_ratio: By how much a gate's hidden vector is shorter.
    """

    spatial: str = "sparse_shift"
    displacement_initializer: Any = "grouped"
    displacement_regularizer: Any = None
    max_displacement: int | None = None
    kernel_initializer: Any = "he_normal"
    kernel_regularizer: Any = None
    batch_norm_momentum: float = 0.99
    squeeze_excite: str | None = None
    squeeze_ratio: float | None = None

    def __post_init__(self):
        arguments.check_share("batch_norm_momentum", self.batch_norm_momentum)
        if self.max_displacement is not None:
            arguments.integer("max_displacement", self.max_displacement, least=0)
        if self.spatial not in SPATIAL:
            raise ValueError(
                f"Argument `spatial` must be one of {SPATIAL}. "
                f"Received: spatial={self.spatial}"
            )
        if self.squeeze_excite not in (None, "v1", "v2"):
            raise ValueError(
                'Argument `squeeze_excite` must be None, "v1" or "v2". '
                f"Received: squeeze_excite={self.squeeze_excite}"
            )


def channel_axis():
    """Returns the axis of channels in Keras' image data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def convolution(x, filters, kernel_size, style, name, strides=1, activation=None):
    """Convolution without bias, batch normalization, and an activation if any."""
    x = bare_convolution(x, filters, kernel_size, style, name, strides)
    x = batch_normalization(x, style, f"{name}_bn")
    if activation is not None:
        x = keras.layers.Activation(activation, name=f"{name}_{activation}")(x)
    return x


def bare_convolution(x, filters, kernel_size, style, name, strides=1):
    """Convolution without bias."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=initializers.fresh(style.kernel_initializer),
        kernel_regularizer=style.kernel_regularizer,
        name=name,
    )(x)


def batch_normalization(x, style, name):
    """Batch normalization of channels."""
    return shift_layers.FusedBatchNormalization(
        axis=channel_axis(), momentum=style.batch_norm_momentum, name=name
    )(x)


def normalized_relu(x, style, name):
    """Batch normalization and ReLU."""
    x = batch_normalization(x, style, f"{name}_bn")
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def spatial(x, style, name, kernel_size=3, dilation_rate=1, relu=False):
    """Exchanges information between pixels, as `style.spatial` says.

    Args:
        x: A batch of images.
        style: A `BlockStyle`.
        name: Prefix of the layers' names.
        kernel_size: Size of the window that a depthwise convolution, a grouped
            shift, or the grouped start of learned displacements covers.
        dilation_rate: Distance of neighbouring positions in that window.
        relu: Whether the input goes through a ReLU first, which is part of the
            layer where that is a sparse shift.

    Returns:
        A batch of images of the same shape.
    """
    if relu and style.spatial != "sparse_shift":
        x = keras.layers.Activation("relu", name=f"{name}_relu")(x)
    if style.spatial == "none":
        return x
    if style.spatial == "depthwise":
        x = keras.layers.DepthwiseConv2D(
            kernel_size,
            dilation_rate=dilation_rate,
            padding="same",
            use_bias=False,
            depthwise_initializer=initializers.fresh(style.kernel_initializer),
            depthwise_regularizer=style.kernel_regularizer,
            name=f"{name}_depthwise",
        )(x)
        x = batch_normalization(x, style, f"{name}_depthwise_bn")
        return keras.layers.Activation("relu", name=f"{name}_depthwise_relu")(x)
    if style.spatial == "grouped_shift":
        return shift_layers.GroupedShift2D(
            kernel_size, dilation_rate, name=f"{name}_shift"
        )(x)
    initializer = style.displacement_initializer
    if initializer == "grouped":
        initializer = initializers.GroupedDisplacements(kernel_size, dilation_rate)
    learned = {
        "displacement_initializer": initializers.fresh(initializer),
        "displacement_regularizer": style.displacement_regularizer,
        "max_displacement": style.max_displacement,
        "name": f"{name}_shift",
    }
    if style.spatial == "active_shift":
        return shift_layers.ActiveShift2D(**learned)(x)
    return shift_layers.SparseShift2D(relu=relu, **learned)(x)


def average_pool(x, name):
    """Halves a map by 2x2 average pooling."""
    # "same", so that a map of odd size, or of one pixel, keeps its border.
    return keras.layers.AveragePooling2D(2, padding="same", name=name)(x)


def inverted_bottleneck(
    x, filters, wide_filters, style, name, strides=1, residual=False
):
    """A unit of FE-Net: 1x1, BN, ReLU, shift or pool, 1x1, BN (SSL paper, Fig. 4).

    Args:
        x: A batch of images.
        filters: Number of channels of the output.
        wide_filters: Number of channels between the two convolutions.
        style: A `BlockStyle`.
        name: Prefix of the layers' names.
        strides: 1 for a shift (IB-SSL), 2 for 2x2 average pooling (IB-Pool).
        residual: Whether the input is added to the output (Res-IB-SSL).

    Returns:
        A batch of images with `filters` channels.
    """
    y = convolution(x, wide_filters, 1, style, f"{name}_expand")
    if strides == 1:
        y = spatial(y, style, name, relu=True)
    else:
        y = keras.layers.Activation("relu", name=f"{name}_relu")(y)
        y = average_pool(y, f"{name}_pool")
    if style.squeeze_excite == "v2":
        y = _squeeze_excite(y, style, name)
    y = convolution(y, filters, 1, style, f"{name}_project")
    if style.squeeze_excite == "v1":
        y = _squeeze_excite(y, style, name)
    if residual:
        y = keras.layers.Add(name=f"{name}_add")([x, y])
    return y


def fe_block(x, filters, units, wide_filters, style, name, strides=1):
    """Computes on ever more of the channels (SSL paper, Fig. 3 and Eq. 8).

    The channels are divided into `2 ** (units - 1)` equal parts. The first unit
    works on the first part, every further one on twice as many channels, the
    last one on all of them; what a unit leaves out passes by unchanged. All
    units but the last are residual.

    Args:
        x: A batch of images whose number of channels is a multiple of
            `2 ** (units - 1)`.
        filters: Number of channels of the output.
        units: Number of units.
        wide_filters: Function of a unit's numbers of input and output channels
            that returns the number of channels between its convolutions.
        style: A `BlockStyle`.
        name: Prefix of the layers' names.
        strides: Stride of the last unit, 1 or 2.

    Returns:
        A batch of images with `filters` channels.
    """
    channels = x.shape[channel_axis()]
    ends = [channels // 2 ** (units - 1 - unit) for unit in range(units)]
    parts = [x]
    if units > 1:
        parts = [
            shift_layers.SliceChannels(start, end, name=f"{name}_part{index + 1}")(x)
            for index, (start, end) in enumerate(zip([0] + ends, ends))
        ]
    y = parts[0]
    for unit, end in enumerate(ends[:-1]):
        y = inverted_bottleneck(
            y,
            end,
            wide_filters(end, end),
            style,
            f"{name}_unit{unit + 1}",
            residual=True,
        )
        y = keras.layers.Concatenate(
            axis=channel_axis(), name=f"{name}_unit{unit + 1}_mix"
        )([y, parts[unit + 1]])
    return inverted_bottleneck(
        y,
        filters,
        wide_filters(channels, filters),
        style,
        f"{name}_unit{units}",
        strides=strides,
    )


def conv_shift_conv(
    x,
    filters,
    wide_filters,
    style,
    name,
    *,
    strides=1,
    kernel_size=3,
    dilation_rate=1,
    preactivation=False,
    shift_twice=False,
):
    """The CSC module of the ShiftNet paper (Fig. 3), without its shortcut.

    1x1 convolution, BN, ReLU, shift, 1x1 convolution with the stride, BN, ReLU;
    the figure's order, where BN and ReLU come before each convolution, with
    `preactivation`. Either way BN and ReLU come before the shift.

    Args:
        x: A batch of images.
        filters: Number of channels of the output.
        wide_filters: Number of channels between the two convolutions.
        style: A `BlockStyle`.
        name: Prefix of the layers' names.
        strides: Stride of the second convolution.
        kernel_size: Size of the shifts' window.
        dilation_rate: Distance of neighbouring positions in that window.
        preactivation: Whether BN and ReLU come before each convolution, rather
            than after it.
        shift_twice: Whether the input is shifted too (the SC2 module).

    Returns:
        A batch of images with `filters` channels.
    """
    window = {"kernel_size": kernel_size, "dilation_rate": dilation_rate}
    if not preactivation:
        if shift_twice:
            x = spatial(x, style, f"{name}_input", **window)
        x = convolution(x, wide_filters, 1, style, f"{name}_expand")
        x = spatial(x, style, name, relu=True, **window)
        return convolution(
            x, filters, 1, style, f"{name}_project", strides, activation="relu"
        )
    x = normalized_relu(x, style, f"{name}_input")
    if shift_twice:
        x = spatial(x, style, f"{name}_input", **window)
    x = convolution(x, wide_filters, 1, style, f"{name}_expand")
    x = spatial(x, style, name, relu=True, **window)
    return bare_convolution(x, filters, 1, style, f"{name}_project", strides)


def _squeeze_excite(x, style, name):
    return shift_layers.SqueezeExcite2D(
        squeeze_ratio=style.squeeze_ratio,
        kernel_initializer=initializers.fresh(style.kernel_initializer),
        kernel_regularizer=style.kernel_regularizer,
        name=f"{name}_squeeze_excite",
    )(x)
