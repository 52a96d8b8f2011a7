"""Exchanges a network's depthwise convolutions for sparse shifts."""

import functools
import warnings
from typing import Literal, NamedTuple

import keras
import numpy as np

from keras_shift.graph import Call, Graph
from keras_shift.initializers import GivenDisplacements
from keras_shift.layers import SparseShift2D
from keras_shift.rewriting import Replacement, models_inside, rewrite
from keras_shift.shift_arguments import check_max_displacement
from keras_shift.typing import RegularizerLike

# Where a size is not known, it counts as this multiple of the stride, which is larger
# than any kernel's reach.
_UNKNOWN_SIZE = 64


def replace_depthwise(
    model: keras.Model,
    *,
    start: Literal["strongest", "center_of_mass"] = "strongest",
    max_displacement: int | None = None,
    displacement_regularizer: RegularizerLike | None = None,
    keep_normalization: bool = False,
) -> keras.Model:
    """Returns a copy of a model with sparse shifts for its depthwise convolutions.

    A depthwise convolution sums several pixels of a channel. A shift takes one of them,
    and leaves the mixing to the 1x1 convolution that follows. Each displacement starts
    from the kernel that it replaces. All other layers keep their names and weights.

    The copy computes something else than the model, and has to be trained on. The
    fewer channels are shifted in the end, the faster is its .tflite file: train with
    `keras_shift.training.SparsifyShifts`, which takes away those that matter least.

    - The batch normalization and the activation behind the convolution go, too. So 1x1
      convolution, batch normalization, ReLU or ReLU6, shift and 1x1 convolution remain,
      which is a unit that `keras_shift.deploy.to_tflite` makes faster.
    - A stride goes to the 1x1 convolution that follows (ShiftNet paper, Section 2.3),
      and where none follows, pixels are taken at its distance. Displacements count
      from the pixel that is taken, so they know the convolution's padding, that of a
      `ZeroPadding2D` included. For sizes that are not known, they are right if the
      stride divides the size.
    - Depthwise convolutions stay, and a warning says why, if they have a depth
      multiplier or another padding, if they are called several times, or if they see
      one pixel only. `SeparableConv2D` and grouped convolutions stay as well.

    Example:

    >>> model = keras.applications.MobileNetV2((96, 96, 3), weights=None)
    >>> shifted = keras_shift.replace_depthwise(model)
    >>> len(shifted.layers), shifted.get_layer("block_1_depthwise_shift").sparsity < 1
    (118, True)

    Args:
        model: A functional or sequential `keras.Model` that is built, such as those of
            keras.applications. Models inside of it are treated likewise.
        start: Where displacements start: `"strongest"` at the kernel's largest absolute
            value, or `"center_of_mass"` at the mean position, weighed by absolute
            values. Defaults to `"strongest"`.
        max_displacement: Int, a bound on the absolute values of the displacements in
            pixels, also on those from which they start. Defaults to `None`: as far as
            the layer's kernel reaches.
        displacement_regularizer: Regularizer of the displacements, or `None`. Defaults
            to `None`.
        keep_normalization: Whether the batch normalization and the activation behind a
            depthwise convolution stay. Defaults to `False`.

    Returns:
        A `keras.Model` with weights of its own. The layer that takes the place of
        `name` is called `name_shift`.

    Raises:
        ValueError: If an argument is none of the above, if the model is subclassed,
            since its layers cannot be exchanged, if it has layers that were quantized
            or have LoRA, or if it has no depthwise convolution that can be exchanged.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Sections 2.3 and 5
    """
    if start not in _STARTING_POINTS:
        raise ValueError(
            f"Argument `start` must be one of {tuple(_STARTING_POINTS)}. "
            f"Received: start={start!r}"
        )
    if not isinstance(keep_normalization, bool):
        raise ValueError(
            "Argument `keep_normalization` must be a boolean. "
            f"Received: keep_normalization={keep_normalization!r}"
        )
    options = _Options(
        start,
        check_max_displacement(max_displacement),
        keras.regularizers.get(displacement_regularizer),
        keep_normalization,
    )
    replacements: dict[str, list[Replacement]] = {}
    stay: dict[str, str] = {}
    for path, part in models_inside(model).items():
        replacements[path], reasons = _replacements(part, options)
        stay.update((path + name, reason) for name, reason in reasons.items())
    staying = "; ".join(f"{name} {reason}" for name, reason in stay.items())
    if not any(replacements.values()):
        raise ValueError(
            "Argument `model` must have depthwise convolutions that shifts can "
            f"replace. Received: {model.name!r}, in which {staying or 'there are none'}"
        )
    shifted = rewrite(model, lambda layer, shapes: None, replacements, dtype=None)
    if stay:
        warnings.warn(
            f"Some depthwise convolutions stay: {staying}.", UserWarning, stacklevel=2
        )
    return shifted


class _Options(NamedTuple):
    """The arguments of `replace_depthwise` that say how a shift is made."""

    start: str
    max_displacement: int | None
    regularizer: keras.regularizers.Regularizer | None
    keep_normalization: bool


def _replacements(model, options):
    """Returns a model's `Replacement`s, and why other depthwise convolutions stay."""
    graph = Graph(model)
    replacements: list[Replacement] = []
    stay: dict[str, str] = {}
    for call in graph.calls:
        if type(call.layer) is not keras.layers.DepthwiseConv2D:
            continue
        padding = _padding_before(graph, call)
        if reason := _why_it_stays(graph, call, padding):
            stay[call.layer.name] = reason
            continue
        behind = [] if options.keep_normalization else _normalization(graph, call)
        calls = [padding, call, *behind] if padding else [call, *behind]
        strides = tuple(call.layer.strides)
        follower = None if strides == (1, 1) else _taking_strides(graph, calls[-1])
        if follower is not None:
            write = functools.partial(_write_strided, follower.layer, strides)
            replacements.append(Replacement((follower.layer.name,), write))
            strides = (1, 1)
        positions = _positions(call, padding)
        write = functools.partial(_write_shift, call.layer, positions, strides, options)
        names = tuple(each.layer.name for each in calls)
        replacements.append(Replacement(names, write))
    return replacements, stay


def _write_shift(layer, positions, strides, options, x):
    """Returns what a shift makes of an input, both tensors of a Keras graph."""
    bound = options.max_displacement
    if bound is None:
        bound = int(max(np.abs(axis).max() for axis in positions))
    kernel = np.abs(keras.ops.convert_to_numpy(layer.kernel)[..., 0])
    displacements = _STARTING_POINTS[options.start](kernel, positions)
    common = {"data_format": layer.data_format, "dtype": layer.dtype_policy}
    y = SparseShift2D(
        GivenDisplacements(displacements.clip(-bound, bound)),
        displacement_regularizer=options.regularizer,
        max_displacement=bound,
        name=f"{layer.name}_shift",
        **common,
    )(x)
    if strides != (1, 1):
        y = keras.layers.MaxPooling2D(
            1, strides, name=f"{layer.name}_stride", **common
        )(y)
    if options.keep_normalization and not _is_linear(layer):
        y = keras.layers.Activation(
            layer.activation,
            name=f"{layer.name}_activation",
            dtype=layer.dtype_policy,
        )(y)
    return y


def _write_strided(layer, strides, x):
    """Returns what a convolution with other strides makes of an input."""
    strided = keras.layers.Conv2D.from_config(
        {**layer.get_config(), "strides": strides}
    )
    y = strided(x)
    strided.set_weights(layer.get_weights())
    return y


def _strongest(kernel, positions):
    """Returns where each channel of a kernel is largest, in pixels."""
    flat = kernel.reshape(-1, kernel.shape[-1]).argmax(axis=0)
    places = np.unravel_index(flat, kernel.shape[:2])
    return np.stack([axis[place] for axis, place in zip(positions, places)])


def _center_of_mass(kernel, positions):
    """Returns the mean position of each channel of a kernel, in pixels."""
    total = kernel.sum(axis=(0, 1))
    # A channel of zeros is not moved.
    shares = np.divide(kernel, total, out=np.zeros_like(kernel), where=total > 0)
    return np.stack(
        [positions[0] @ shares.sum(axis=1), positions[1] @ shares.sum(axis=0)]
    )


# These functions compute displacements from the absolute values of a kernel, and from
# the positions of its rows and columns.
_STARTING_POINTS = {"strongest": _strongest, "center_of_mass": _center_of_mass}


def _is_linear(layer):
    return layer.activation is keras.activations.linear


def _padding_before(graph: Graph, call: Call) -> Call | None:
    """Returns the call that pads a convolution's input for it alone, or `None`."""
    before = graph.maker(call.inputs[0])
    if (
        before is not None
        and type(before.layer) is keras.layers.ZeroPadding2D
        # Padding by nothing is what MobileNetV2 of the zoo has where a stride is left
        # out.
        and (call.layer.padding == "valid" or not np.any(before.layer.padding))
        and before.layer.data_format == call.layer.data_format
        and graph.is_simple(before)
        and graph.only_user(before) is call
    ):
        return before
    return None


def _why_it_stays(graph, call, padding):
    """Returns why a depthwise convolution cannot be replaced, or `None`."""
    layer = call.layer
    if not graph.is_simple(call):
        return "is called several times"
    if layer.depth_multiplier != 1:
        return f"has a depth multiplier of {layer.depth_multiplier}"
    if tuple(layer.kernel_size) == (1, 1):
        return "sees one pixel only"
    if layer.padding != "same" and any(
        _valid_size(*axis) != -(-axis[0] // axis[3]) for axis in _axes(call, padding)
    ):
        return "has a border that it does not pad"
    return None


def _axes(call, padding):
    """Yields the size of a convolution's map, its padding, stride and reach, by axis.

    The padding is that before and behind the map by a `ZeroPadding2D`.
    """
    layer = call.layer
    x = call.inputs[0] if padding is None else padding.inputs[0]
    first = 1 if layer.data_format == "channels_last" else 2
    for axis in (0, 1):
        stride = layer.strides[axis]
        size = x.shape[first + axis]
        before, behind = (0, 0) if padding is None else padding.layer.padding[axis]
        reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
        yield (
            _UNKNOWN_SIZE * stride if size is None else size,
            before,
            behind,
            stride,
            reach,
        )


def _valid_size(size, before, behind, stride, reach):
    """Returns the size of what a convolution makes of a map that it does not pad."""
    return (size + before + behind - reach) // stride + 1


def _positions(call, padding):
    """Returns where the kernel's rows and its columns lie, from the pixel taken."""
    layer = call.layer
    positions = []
    for axis, (size, before, _, stride, reach) in enumerate(_axes(call, padding)):
        if layer.padding == "same":
            # Frameworks pad as much as is needed, half of it before, rounded down.
            needed = (-(-size // stride) - 1) * stride + reach - size
            before = max(needed, 0) // 2
        taps = np.arange(layer.kernel_size[axis]) * layer.dilation_rate[axis]
        positions.append((taps - before).astype("float32"))
    return positions


def _normalization(graph, call):
    """Returns the calls behind a convolution that normalize and activate its output."""
    behind = []
    last = call
    for kinds in (
        (keras.layers.BatchNormalization,),
        (keras.layers.Activation, keras.layers.ReLU),
    ):
        follower = graph.only_user(last)
        if (
            follower is not None
            and isinstance(follower.layer, kinds)
            and graph.is_simple(follower)
        ):
            behind.append(follower)
            last = follower
    return behind


def _taking_strides(graph, call):
    """Returns the call behind another that is of a plain 1x1 convolution, or `None`."""
    follower = graph.only_user(call)
    if (
        follower is not None
        and type(follower.layer) is keras.layers.Conv2D
        and graph.is_simple(follower)
        and tuple(follower.layer.kernel_size) == (1, 1)
        and tuple(follower.layer.strides) == (1, 1)
    ):
        return follower
    return None
