"""Builds the blocks of shift networks. Each function takes and returns a tensor."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras

from keras_shift import initializers
from keras_shift import layers as shift_layers
from keras_shift.typing import Tensor
from keras_shift.zoo import arguments

SPATIAL = ("sparse_shift", "grouped_shift", "active_shift", "depthwise", "none")


@dataclasses.dataclass(frozen=True)
class BlockStyle:
    """Holds the settings that all blocks of a network share.

    Attributes:
        spatial: What exchanges information between pixels of a module's wide tensor,
            one of `SPATIAL`. Defaults to `"sparse_shift"`.
        displacement_initializer: Initializer of learned displacements. Defaults to
            `"grouped"`.
        displacement_regularizer: Regularizer of learned displacements. Defaults to
            `None`.
        max_displacement: Largest learned displacement in pixels, or `None` for no
            bound. Defaults to `None`.
        kernel_initializer: Initializer of convolution kernels. Defaults to
            `"he_normal"`.
        kernel_regularizer: Regularizer of convolution kernels. Defaults to `None`.
        batch_norm_momentum: Momentum of batch normalization. Defaults to `0.99`.
        squeeze_excite: `None`, `"v1"` (gates a unit's output) or `"v2"` (gates
            its wide tensor), see Fig. 6 of the SSL paper. Defaults to `None`.
        squeeze_ratio: Number of a gate's input channels divided by the length of its
            hidden vector. Defaults to `None`.
        without_shift: Names of units or modules in which nothing exchanges information
            between pixels, whatever `spatial` is. Defaults to `()`.

    Raises:
        ValueError: If an attribute has none of these values.
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
    without_shift: Sequence[str] = ()

    def __post_init__(self) -> None:
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

    def of(self, name: str) -> Self:
        """Returns the style of one unit or module, given its name."""
        if name in self.without_shift:
            return dataclasses.replace(self, spatial="none")
        return self


def channel_axis() -> int:
    """Returns the axis of channels in Keras' image data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def convolution(
    x: Tensor,
    filters: int,
    kernel_size: int,
    style: BlockStyle,
    name: str,
    strides: int = 1,
    activation: str | None = None,
) -> Tensor:
    """Applies a convolution without bias, batch normalization, and an activation.

    Args:
        x: A batch of images.
        filters: Int, number of output channels.
        kernel_size: Int, height and width of the kernel.
        style: A `BlockStyle`.
        name: String, the convolution's name. The names of the other layers begin
            with it.
        strides: Int, vertical and horizontal stride. Defaults to `1`.
        activation: Name of the activation, or `None` for none. Defaults to `None`.
    """
    x = bare_convolution(x, filters, kernel_size, style, name, strides)
    x = batch_normalization(x, style, f"{name}_bn")
    if activation is not None:
        x = keras.layers.Activation(activation, name=f"{name}_{activation}")(x)
    return x


def bare_convolution(
    x: Tensor,
    filters: int,
    kernel_size: int,
    style: BlockStyle,
    name: str,
    strides: int = 1,
) -> Tensor:
    """Applies a convolution without bias.

    Args:
        x: A batch of images.
        filters: Int, number of output channels.
        kernel_size: Int, height and width of the kernel.
        style: A `BlockStyle`.
        name: String, the layer's name.
        strides: Int, vertical and horizontal stride. Defaults to `1`.
    """
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


def batch_normalization(x: Tensor, style: BlockStyle, name: str) -> Tensor:
    """Applies batch normalization to the channels."""
    return shift_layers.FusedBatchNormalization(
        axis=channel_axis(), momentum=style.batch_norm_momentum, name=name
    )(x)


def normalized_relu(x: Tensor, style: BlockStyle, name: str) -> Tensor:
    """Applies batch normalization and ReLU."""
    x = batch_normalization(x, style, f"{name}_bn")
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def spatial(
    x: Tensor,
    style: BlockStyle,
    name: str,
    kernel_size: int = 3,
    dilation_rate: int = 1,
    input_relu: bool = False,
) -> Tensor:
    """Exchanges information between pixels as `style.spatial` says.

    Args:
        x: A batch of images.
        style: A `BlockStyle`.
        name: Prefix of the layers' names.
        kernel_size: Size of the window that a depthwise convolution, a grouped
            shift, or the grouped start of learned displacements covers. Defaults
            to `3`.
        dilation_rate: Distance of neighbouring positions in that window. Defaults to
            `1`.
        input_relu: Whether a ReLU is applied first. In a sparse shift it is part of the
            layer. Defaults to `False`.

    Returns:
        A batch of images of the same shape.
    """
    if input_relu and style.spatial != "sparse_shift":
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
    return shift_layers.SparseShift2D(input_relu=input_relu, **learned)(x)


def average_pool(x: Tensor, name: str) -> Tensor:
    """Halves a map by 2x2 average pooling."""
    # With "same", a map of odd size, or of one pixel, keeps its border.
    return keras.layers.AveragePooling2D(2, padding="same", name=name)(x)


def inverted_bottleneck(
    x: Tensor,
    filters: int,
    wide_filters: int,
    style: BlockStyle,
    name: str,
    strides: int = 1,
    residual: bool = False,
    dilation_rate: int = 1,
) -> Tensor:
    """Applies a unit of FE-Net (SSL paper, Fig. 4).

    A unit is a 1x1 convolution, BN, ReLU, a shift or pooling, a 1x1 convolution, and
    BN.

    Args:
        x: A batch of images.
        filters: Number of channels of the output.
        wide_filters: Number of channels between the two convolutions.
        style: A `BlockStyle`.
        name: Prefix of the layers' names.
        strides: `1` for a shift (IB-SSL), `2` for 2x2 average pooling (IB-Pool).
            Defaults to `1`.
        residual: Whether the input is added to the output (Res-IB-SSL). Defaults to
            `False`.
        dilation_rate: Distance of neighbouring positions in a shift's window. Defaults
            to `1`.

    Returns:
        A batch of images with `filters` channels.
    """
    style = style.of(name)
    y = convolution(x, wide_filters, 1, style, f"{name}_expand")
    if strides == 1:
        y = spatial(y, style, name, dilation_rate=dilation_rate, input_relu=True)
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


def fe_block(
    x: Tensor,
    filters: int,
    units: int,
    wide_filters: Callable[[int, int], int],
    style: BlockStyle,
    name: str,
    strides: int = 1,
) -> Tensor:
    """Applies an FE-block, which computes on more channels in each unit.

    Fig. 3 and Eq. 8 of the SSL paper describe it. The channels are divided into
    `2 ** (units - 1)` equal parts. The first unit works on the first part, and every
    further unit works on twice as many channels as the one before it, so the last
    unit works on all channels. A unit does not change the other channels. All units
    but the last are residual.

    Args:
        x: A batch of images whose number of channels is a multiple of
            `2 ** (units - 1)`.
        filters: Number of channels of the output.
        units: Number of units.
        wide_filters: Function from a unit's numbers of input and output channels to
            the number of channels between its convolutions.
        style: A `BlockStyle`.
        name: Prefix of the layers' names.
        strides: Stride of the last unit, `1` or `2`. Defaults to `1`.

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
    x: Tensor,
    filters: int,
    wide_filters: int,
    style: BlockStyle,
    name: str,
    *,
    strides: int = 1,
    kernel_size: int = 3,
    dilation_rate: int = 1,
    preactivation: bool = False,
    shift_twice: bool = False,
) -> Tensor:
    """Applies the CSC module of the ShiftNet paper (Fig. 3), without its shortcut.

    The module is a 1x1 convolution, BN, ReLU, a shift, a 1x1 convolution with the
    stride, BN, and ReLU. With `preactivation` it has the figure's order, in which BN
    and ReLU come before each convolution. In both orders BN and ReLU come before the
    shift.

    Args:
        x: A batch of images.
        filters: Number of channels of the output.
        wide_filters: Number of channels between the two convolutions.
        style: A `BlockStyle`.
        name: Prefix of the layers' names.
        strides: Stride of the second convolution. Defaults to `1`.
        kernel_size: Size of the shifts' window. Defaults to `3`.
        dilation_rate: Distance of neighbouring positions in that window. Defaults to
            `1`.
        preactivation: Whether BN and ReLU come before each convolution and not after
            it. Defaults to `False`.
        shift_twice: Whether the input is shifted, too (the SC2 module). Defaults to
            `False`.

    Returns:
        A batch of images with `filters` channels.
    """
    style = style.of(name)
    window: dict[str, Any] = {
        "kernel_size": kernel_size,
        "dilation_rate": dilation_rate,
    }
    if not preactivation:
        if shift_twice:
            x = spatial(x, style, f"{name}_input", **window)
        x = convolution(x, wide_filters, 1, style, f"{name}_expand")
        x = spatial(x, style, name, input_relu=True, **window)
        return convolution(
            x, filters, 1, style, f"{name}_project", strides, activation="relu"
        )
    x = normalized_relu(x, style, f"{name}_input")
    if shift_twice:
        x = spatial(x, style, f"{name}_input", **window)
    x = convolution(x, wide_filters, 1, style, f"{name}_expand")
    x = spatial(x, style, name, input_relu=True, **window)
    return bare_convolution(x, filters, 1, style, f"{name}_project", strides)


def _squeeze_excite(x, style, name):
    return shift_layers.SqueezeExcite2D(
        squeeze_ratio=style.squeeze_ratio,
        kernel_initializer=initializers.fresh(style.kernel_initializer),
        kernel_regularizer=style.kernel_regularizer,
        name=f"{name}_squeeze_excite",
    )(x)
