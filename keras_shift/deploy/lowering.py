"""Expresses shift layers in layers that every runtime has."""

import dataclasses
import functools
from typing import Literal

import keras
import numpy as np

from keras_shift.deploy import splitting
from keras_shift.deploy.shift_kernels import bilinear_kernel, shift_convolutions
from keras_shift.deploy.units import find_units
from keras_shift.layers import (
    ActiveShift2D,
    FusedChain2D,
    FusedUnit2D,
    GroupedShift2D,
    SparseShift2D,
)
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.portable_shift import FAR
from keras_shift.rewriting import Replacement, models_inside, rewrite

# With no more filters than these, a convolution of 2x2 takes less time in int8 than
# pooling and a 1x1 convolution (benchmarks/results/lowering_forms.csv). XNNPACK has no
# int8 pooling, so nine taps of a depthwise kernel do its work.
_POOLED_FILTERS = 32


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A model for LiteRT, and what became of the units of the original model.

    Attributes:
        model: A `keras.Model` without shift layers.
        units: What became of every unit, by the name of its first layer. With
            `"split"`, only wide channels that move go through a depthwise convolution;
            with `"depthwise"`, all of them do. Nothing moves in units of `"pooling"`
            and of `"no shift"`.
        left_alone: Names of the shift layers outside of units.
    """

    model: keras.Model
    units: dict[str, str]
    left_alone: tuple[str, ...]


def lower_layers(
    model: keras.Model, quantize: Literal["float16", "dynamic", "int8"] | None = None
) -> Lowered:
    """Returns a copy of a model for inference that has no shift layers.

    A shift becomes a depthwise convolution with constant kernels. They are just large
    enough for the layer's displacements, and one-hot if these are whole numbers. A
    shift that moves nothing becomes an identity. Instance normalization, which is a
    `keras.layers.GroupNormalization` with a group for each channel, gets by with four
    axes. The copy computes in float32, whatever the dtype policy of the model was.

    Args:
        model: A functional or sequential `keras.Model`.
        quantize: As in `to_tflite`. For `"int8"`, average pooling becomes a depthwise
            convolution with equal weights if its windows neither overlap nor leave the
            map. XNNPACK runs no int8 average pooling, which therefore cuts a graph in
            parts, and that costs more than the pooling. Defaults to `None`.

    Returns:
        A `Lowered` without units.

    Raises:
        ValueError: If the model is subclassed, since its layers cannot be exchanged, if
            it has layers that were quantized or have LoRA, or if displacements of an
            `ActiveShift2D` are not numbers.
    """
    left_alone = tuple(layer.name for layer in shift_layers(model))
    return Lowered(rewrite(model, _substitute(quantize)), {}, left_alone)


def lower_units(
    model: keras.Model, quantize: Literal["float16", "dynamic", "int8"] | None = None
) -> Lowered:
    """Does what `lower_layers` does, and makes units with a shift faster.

    The wide channels of a unit (see `find_units`) are divided into those that move and
    those that do not. Both parts have 1x1 convolutions of their own before and after
    them, and only the part that moves goes through a depthwise convolution. The sum of
    both is narrow. Channels that are always zero are left out. For `"int8"`, average
    pooling by windows inside of the map and a second convolution of few filters become
    one convolution.

    Args:
        model: A functional or sequential `keras.Model`.
        quantize: As in `lower_layers`. Defaults to `None`.

    Returns:
        A `Lowered`. In its names, layers of a model inside of the model have that
        model's name and a slash in front.

    Raises:
        ValueError: As `lower_layers` does, and if the model was made by
            `keras_shift.deploy.fuse`.
    """
    kinds: dict[str, str] = {}
    left_alone: list[str] = []
    replacements: dict[str, list[Replacement]] = {}
    for path, part in models_inside(model).items():
        _refuse_fused(part)
        units = find_units(part)
        left_alone += [
            path + name
            for name in units.left_alone
            if not isinstance(part.get_layer(name), keras.Model)
        ]
        replacements[path] = []
        for unit in units.found:
            shorter = unit.without_zeros()
            kind = kinds[path + unit.name] = _kind(unit, shorter, quantize)
            # Where nothing moves, strides come earlier. A unit without channels has a
            # constant output, and stays as it is.
            if kind == "pooling":
                changed = _pools_in_projection(unit, quantize)
            else:
                changed = kind != "no shift" or unit.strides != (1, 1)
            if changed and len(shorter.expand_bias):
                write = functools.partial(_write_unit, shorter, quantize)
                replacements[path].append(Replacement(unit.layers, write))
    lowered = rewrite(model, _substitute(quantize), replacements)
    return Lowered(lowered, kinds, tuple(left_alone))


def _refuse_fused(model):
    if any(isinstance(layer, (FusedChain2D, FusedUnit2D)) for layer in model.layers):
        raise ValueError(
            "Phones have no compiled op for the units of a fused model: pass the "
            "model that it was made of. "
            f"Received: a model of FusedUnit2D or FusedChain2D layers, {model.name!r}"
        )


def _kind(unit, shorter, quantize):
    """Returns what becomes of a unit, which is `shorter` without its zeros."""
    if unit.displacements is not None:
        return "split" if splitting.apart(shorter, quantize) else "depthwise"
    return "no shift" if unit.pool_padding is None else "pooling"


def _pools_in_projection(unit, quantize):
    """Returns whether pooling and the second convolution become one."""
    return (
        quantize == "int8"
        # A window that leaves the map has the mean of fewer pixels.
        and not (
            unit.pool_padding == "same"
            and any(size is None or size % 2 for size in unit.map_size)
        )
        and unit.strides == (1, 1)
        and unit.project_kernel.shape[1] <= _POOLED_FILTERS
    )


def _substitute(quantize):
    return _for_int8 if quantize == "int8" else _for_any_type


def _for_any_type(layer, shapes):
    return (
        shift_as_convolution(layer, shapes)
        or _stride_as_convolution(layer, shapes)
        or _plain_normalization(layer, shapes)
    )


def _for_int8(layer, shapes):
    return _for_any_type(layer, shapes) or _mean_as_convolution(layer, shapes)


def _write_unit(unit, quantize, x):
    """Returns a unit's output for an input, both tensors of a Keras graph."""
    parts = [
        _write_part(part, quantize, x, f"{unit.name}_part{number}", first=number == 1)
        for number, part in enumerate(splitting.parts(unit, quantize), 1)
    ]
    y = parts[0]
    if len(parts) > 1:
        y = keras.layers.Add(name=f"{unit.name}_both", dtype="float32")(parts)
    if unit.output_relu:
        y = keras.layers.ReLU(name=f"{unit.name}_output", dtype="float32")(y)
    if unit.residual:
        y = keras.layers.Add(name=f"{unit.name}_residual", dtype="float32")([x, y])
    return y


def _write_part(unit, quantize, x, name, *, first):
    """Returns what some of a unit's wide channels add to its output."""
    convolutions = shift_convolutions(unit.displacements, quantize, unit.strides)
    # Of a unit with strides, no more pixels are computed than the second matrix takes,
    # where that can be: in the first matrix if nothing moves.
    early = late = (1, 1)
    if not convolutions:
        early = unit.strides
    elif convolutions[-1].strides == (1, 1):
        late = unit.strides
    kernel = unit.expand_kernel[None, None]
    y = _convolution(x, kernel, unit.expand_bias, f"{name}_expand", early)
    y = keras.layers.ReLU(unit.ceiling, name=f"{name}_relu", dtype="float32")(y)
    for index, convolution in enumerate(convolutions):
        y = _depthwise(y, convolution, f"{name}_shift{index + 1}")
    # The bias is added once.
    bias = unit.project_bias if first else None
    kernel = unit.project_kernel[None, None]
    if unit.pool_padding is not None:
        kernel, late = np.tile(kernel / 4, (2, 2, 1, 1)), (2, 2)
    return _convolution(y, kernel, bias, f"{name}_project", late)


def _depthwise(x, convolution, name):
    kernel_size = convolution.kernel.shape[:2]
    padding = "same"
    if convolution.strides != (1, 1):
        # With strides, the padding "same" depends on the map's size.
        padding = "valid"
        around = tuple(length // 2 for length in kernel_size)
        x = keras.layers.ZeroPadding2D(around, name=f"{name}_pad", dtype="float32")(x)
    layer = keras.layers.DepthwiseConv2D(
        kernel_size,
        strides=convolution.strides,
        dilation_rate=convolution.dilation_rate,
        padding=padding,
        use_bias=False,
        dtype="float32",
        name=name,
    )
    y = layer(x)
    layer.set_weights([convolution.kernel])
    return y


def _convolution(x, kernel, bias, name, strides):
    convolution = keras.layers.Conv2D(
        kernel.shape[-1],
        kernel.shape[:2],
        strides=strides,
        use_bias=bias is not None,
        dtype="float32",
        name=name,
    )
    y = convolution(x)
    convolution.set_weights([kernel] if bias is None else [kernel, bias])
    return y


def shift_as_convolution(
    layer: keras.Operation, shapes: list[tuple[int | None, ...]]
) -> tuple[keras.layers.Layer, list[np.ndarray]] | None:
    """Returns a layer of Keras that computes what a shift layer does, for `rewrite`.

    Args:
        layer: A `keras.layers.Layer`, or an operation of `keras.ops`. Subclasses of the
            shift layers may compute something else, so they are not recognised.
        shapes: Shapes of all inputs of all of the layer's calls.

    Returns:
        A pair of the layer that takes its place and the list of that layer's weights,
        or `None` if `layer` is no shift layer.

    Raises:
        ValueError: If displacements of an `ActiveShift2D` are not numbers.
    """
    if type(layer) not in (ActiveShift2D, GroupedShift2D, SparseShift2D):
        return None
    displacements = np.array(layer.displacement_array(), "float32")
    if type(layer) is not ActiveShift2D:
        displacements = np.rint(displacements)
    elif np.isnan(displacements).any():
        raise ValueError(
            "Argument `model` must have numbers for the displacements of an "
            "ActiveShift2D: nothing but NaN comes out where they are none. "
            f"Received: NaN among those of the layer {layer.name!r}"
        )
    # A displacement that is not a number also moves its channel out of the map.
    gone = ~(np.abs(displacements) < FAR).all(axis=0)
    displacements[:, gone] = 0
    for axis, sizes in enumerate(_map_sizes(layer, shapes)):
        if None not in sizes:
            # A displacement by the map's size already moves everything out of it.
            displacements[axis] = displacements[axis].clip(-max(sizes), max(sizes))
    relu = layer.input_relu
    if not (displacements.any() or gone.any()):
        nothing = keras.layers.ReLU if relu else keras.layers.Identity
        return nothing(name=layer.name, dtype="float32"), []
    kernel = bilinear_kernel(displacements)
    kernel[:, :, gone] = 0
    convolution = keras.layers.DepthwiseConv2D(
        kernel.shape[:2],
        padding="same",
        use_bias=False,
        # The layer applies ReLU before the shift. For whole pixels, that is the same.
        activation="relu" if relu else None,
        data_format=layer.data_format,
        dtype="float32",
        name=layer.name,
    )
    return convolution, [kernel]


def _stride_as_convolution(layer, shapes):
    """Takes single pixels by a depthwise convolution: XNNPACK pools no single ones."""
    pooling = keras.layers.MaxPooling2D, keras.layers.AveragePooling2D
    if type(layer) not in pooling or tuple(layer.pool_size) != (1, 1):
        return None
    channels = shapes[0][-1 if layer.data_format == "channels_last" else 1]
    convolution = keras.layers.DepthwiseConv2D(
        1,
        strides=layer.strides,
        use_bias=False,
        data_format=layer.data_format,
        dtype="float32",
        name=layer.name,
    )
    return convolution, [np.ones((1, 1, channels, 1))]


class _InstanceNormalization(keras.layers.Layer):
    """Normalizes each channel of each image, in tensors of four axes.

    `keras.layers.GroupNormalization` needs a fifth one, which XNNPACK leaves to slower
    kernels.
    """

    def __init__(self, axes, epsilon, **kwargs):
        super().__init__(**kwargs)
        self.axes = axes
        self.epsilon = epsilon

    def build(self, input_shape):
        shape = [
            1 if axis == 0 or axis in self.axes else size
            for axis, size in enumerate(input_shape)
        ]
        self.gamma = self.add_weight(shape=shape, name="gamma")
        self.beta = self.add_weight(shape=shape, name="beta")

    def call(self, inputs):
        mean = keras.ops.mean(inputs, self.axes, keepdims=True)
        centred = inputs - mean
        variance = keras.ops.mean(keras.ops.square(centred), self.axes, keepdims=True)
        scale = keras.ops.rsqrt(variance + self.epsilon) * self.gamma
        return centred * scale + self.beta


def _plain_normalization(layer, shapes):
    if type(layer) is not keras.layers.GroupNormalization:
        return None
    channels = shapes[0][layer.axis]
    if len(shapes[0]) != 4 or layer.groups != channels:
        return None
    axes = [axis for axis in (1, 2, 3) if axis != layer.axis % 4]
    shape = [channels if axis == layer.axis % 4 else 1 for axis in range(4)]
    gamma, beta = np.ones(channels), np.zeros(channels)
    if layer.scale:
        gamma = keras.ops.convert_to_numpy(layer.gamma)
    if layer.center:
        beta = keras.ops.convert_to_numpy(layer.beta)
    normalization = _InstanceNormalization(
        axes, layer.epsilon, dtype="float32", name=layer.name
    )
    return normalization, [gamma.reshape(shape), beta.reshape(shape)]


def _mean_as_convolution(layer, shapes):
    if type(layer) is not keras.layers.AveragePooling2D:
        return None
    size = layer.pool_size
    if tuple(layer.strides) != tuple(size):
        return None
    for axis, sizes in enumerate(_map_sizes(layer, shapes)):
        if None in sizes or any(pixels % size[axis] for pixels in sizes):
            return None
    channels = shapes[0][-1 if layer.data_format == "channels_last" else 1]
    convolution = keras.layers.DepthwiseConv2D(
        size,
        strides=size,
        use_bias=False,
        data_format=layer.data_format,
        dtype="float32",
        name=layer.name,
    )
    return convolution, [np.full((*size, channels, 1), 1 / (size[0] * size[1]))]


def _map_sizes(layer, shapes):
    """Returns the heights and the widths of all maps that a layer is called with."""
    first = 1 if layer.data_format == "channels_last" else 2
    return [{shape[axis] for shape in shapes} for axis in (first, first + 1)]
