"""Finds the units that shift networks consist of, and folds them."""

import dataclasses

import keras
import numpy as np

from keras_shift.deploy import unit_layers
from keras_shift.deploy.folding import folded, is_normalization
from keras_shift.graph import Graph
from keras_shift.layers import SliceChannels
from keras_shift.layers.shift_layer import ShiftLayer
from keras_shift.portable_shift import FAR


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """A unit for inference: two matrices, and what happens between them.

    ```
    wide = min(relu(x @ expand_kernel + expand_bias), ceiling)
    moved = shift(wide, displacements), or the mean of 2x2 pixels, or wide
    y = moved[:, ::strides[0], ::strides[1]] @ project_kernel + project_bias
    y = relu(y) if output_relu
    y = x + y if residual
    ```

    Batch normalization is part of the kernels and biases.

    Attributes:
        layers: Names of the layers that the unit consists of, in the order of their
            calls.
        expand_kernel: float32 array of shape `(channels, wide_channels)`.
        expand_bias: float32 array of shape `(wide_channels,)`.
        project_kernel: float32 array of shape `(wide_channels, filters)`.
        project_bias: float32 array of shape `(filters,)`.
        ceiling: The largest value of the wide tensor, `6` after a ReLU6, or `None` if
            there is none.
        displacements: int32 array of shape `(2, wide_channels)`, or `None` if
            nothing moves.
        pool_padding: Padding of the 2x2 average pooling, `"valid"` or `"same"`, or
            `None` without it.
        strides: Strides of the second convolution.
        output_relu: Whether a ReLU follows the second convolution.
        residual: Whether the input is added to the result.
        map_size: Height and width of the input, each of them `None` if not known.
    """

    layers: tuple[str, ...]
    expand_kernel: np.ndarray
    expand_bias: np.ndarray
    project_kernel: np.ndarray
    project_bias: np.ndarray
    ceiling: float | None = None
    displacements: np.ndarray | None = None
    pool_padding: str | None = None
    strides: tuple[int, int] = (1, 1)
    output_relu: bool = False
    residual: bool = False
    map_size: tuple[int | None, int | None] = (None, None)

    @property
    def name(self) -> str:
        """Name of the first layer."""
        return self.layers[0]

    @property
    def unshifted(self) -> np.ndarray:
        """Boolean array, true for the wide channels that do not move."""
        if self.displacements is None:
            return np.ones(len(self.expand_bias), bool)
        return ~self.displacements.any(axis=0)  # type: ignore[return-value]

    def take(self, channels: np.ndarray) -> "Unit":
        """Returns a unit of some of the wide channels, in the order given.

        Args:
            channels: Array of indices.
        """
        displacements = self.displacements
        if displacements is not None:
            displacements = displacements[:, channels]
            displacements = displacements if displacements.any() else None
        return dataclasses.replace(
            self,
            expand_kernel=self.expand_kernel[:, channels],
            expand_bias=self.expand_bias[channels],
            project_kernel=self.project_kernel[channels],
            displacements=displacements,
        )

    def by_displacement(self) -> "Unit":
        """Returns the unit with its wide channels sorted, the unshifted ones first.

        It computes the same, since both kernels are permuted in the same way.
        """
        if self.displacements is None:
            return self
        rows, columns = self.displacements
        return self.take(np.lexsort((columns, rows, ~self.unshifted)))

    def without_zeros(self) -> "Unit":
        """Returns the unit without the wide channels that are always zero.

        These are the channels that training has switched off for every input, and
        those that are shifted out of the map.
        """
        zero = ~self.expand_kernel.any(axis=0) & (self.expand_bias <= 0)
        if self.displacements is not None:
            for displacement, size in zip(self.displacements, self.map_size):
                zero |= np.abs(displacement) >= (FAR if size is None else size)
        return self.take(np.flatnonzero(~zero))


@dataclasses.dataclass(frozen=True)
class WriteBack:
    """Units that change the first channels of a map, one after the other.

    In an FE-block (SSL paper, Fig. 3 and Eq. 8), every unit but the last works on some
    of the channels, and its output takes their place. The next unit works on more of
    the channels.

    Attributes:
        units: Names of the units, without the last one, which works on all channels.
        layers: Names of the operations that slice channels off the map, and of the
            concatenations that put the map together again.
    """

    units: tuple[str, ...]
    layers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Units:
    """What `find_units` found.

    Attributes:
        found: The units, in the order of their first layers' calls.
        left_alone: Names of the shift layers that are in no unit, and of the models
            inside of the model, which are not searched.
        write_backs: Groups of units that change a part of the same map's channels.
    """

    found: tuple[Unit, ...]
    left_alone: tuple[str, ...]
    write_backs: tuple[WriteBack, ...] = ()


def find_units(model: keras.Model) -> Units:
    """Finds the units of a model, and folds batch normalization into them.

    A unit is a 1x1 convolution, batch normalization (or not), ReLU (which may be part
    of the shift) or ReLU6, a shift by whole pixels or 2x2 average pooling (or neither),
    a 1x1 convolution with any stride, batch normalization (or not), ReLU (or not), and
    the addition of the unit's input (or not). No layer outside of the unit may use its
    intermediate results, and no layer may be called twice. A shift that moves nothing
    counts as none.

    Example:

    >>> model = keras_shift.zoo.FENet()
    >>> units = keras_shift.deploy.find_units(model)
    >>> len(units.found), units.found[0].name, units.left_alone
    (20, 'unit1_expand', ())

    Args:
        model: A functional or sequential `keras.Model` that is built.

    Returns:
        A `Units`, in which no layer is in two units.
    """
    graph = Graph(model)
    taken: set[str] = set()
    matches = []
    # Of several 1x1 convolutions in a row, the two around a shift belong together. So
    # units with a shift are searched for first.
    for middle in (unit_layers.is_whole_shift, unit_layers.is_pooling, None):
        for index, call in enumerate(graph.calls):
            chain = _match(graph, call, middle)
            if chain is None or any(c.layer.name in taken for c in chain.values()):
                continue
            taken.update(c.layer.name for c in chain.values())
            matches.append((index, chain))
    chains = [chain for _, chain in sorted(matches, key=lambda pair: pair[0])]
    return Units(
        found=tuple(map(_fold, chains)),
        left_alone=tuple(
            dict.fromkeys(
                call.layer.name
                for call in graph.calls
                if isinstance(call.layer, (ShiftLayer, keras.Model))
                and call.layer.name not in taken
            )
        ),
        write_backs=tuple(_write_backs(graph, chains)),
    )


def _match(graph, expand, middle):
    """Returns a unit's calls by their roles in it, in order, or `None`."""
    chain = unit_layers.expansion(graph, expand)
    if chain is None:
        return None

    def follow(role, accepts):
        return chain.follow(
            role, lambda call: graph.is_simple(call) and accepts(call.layer)
        )

    follow("expand_bn", is_normalization)
    follow("expand_relu", unit_layers.is_bounded_relu)
    if middle is not None and not follow("middle", middle):
        return None
    calls = chain.calls
    if "expand_relu" not in calls and not unit_layers.has_input_relu(chain.last.layer):
        return None
    if not follow("project", unit_layers.is_pointwise):
        return None
    follow("project_bn", is_normalization)
    follow("project_relu", unit_layers.is_relu)
    add = graph.only_user(chain.last)
    if (
        _keeps_map(calls)
        and add is not None
        and graph.is_simple(add)
        and type(add.layer) is keras.layers.Add
        and len(add.inputs) == 2
        and any(tensor is expand.inputs[0] for tensor in add.inputs)
        # The addition must not broadcast.
        and add.inputs[0].shape == add.inputs[1].shape
    ):
        calls["add"] = add
    return calls


def _fold(chain):
    layers = {part: call.layer for part, call in chain.items()}
    expand_kernel, expand_bias = folded(layers["expand"], layers.get("expand_bn"))
    project_kernel, project_bias = folded(layers["project"], layers.get("project_bn"))
    middle = layers.get("middle")
    displacements = pool_padding = None
    if isinstance(middle, keras.layers.AveragePooling2D):
        pool_padding = middle.padding
    if isinstance(middle, ShiftLayer):
        # A NaN moves its channel out of the map, as it does in the layer.
        far = np.nan_to_num(middle.displacement_array(), nan=FAR).clip(-FAR, FAR)
        rounded = np.rint(far).astype("int32")
        displacements = rounded if rounded.any() else None
    return Unit(
        layers=tuple(layer.name for layer in layers.values()),
        expand_kernel=expand_kernel[0, 0],
        expand_bias=expand_bias,
        project_kernel=project_kernel[0, 0],
        project_bias=project_bias,
        ceiling=unit_layers.ceiling(layers.get("expand_relu")),
        displacements=displacements,
        pool_padding=pool_padding,
        strides=tuple(layers["project"].strides),
        output_relu="project_relu" in layers,
        residual="add" in layers,
        map_size=tuple(chain["expand"].inputs[0].shape[1:3]),
    )


def _write_backs(graph, chains):
    """Yields the `WriteBack`s, which begin where channels are sliced off a map."""
    by_input = {id(chain["expand"].inputs[0]): chain for chain in chains}
    for chain in chains:
        first = graph.maker(chain["expand"].inputs[0])
        write_back = first and _follow_write_back(graph, by_input, first)
        if write_back:
            yield write_back


def _follow_write_back(graph, by_input, first):
    part = _channel_range(graph, first)
    if part is None or part[1] != 0:
        return None
    image, _, end = part
    changed = first.outputs[0]
    units, layers = [], [first.layer.name]
    while end < image.shape[-1]:
        chain = by_input.get(id(changed))
        if chain is None or not _keeps_size(graph, chain):
            return None
        (output,) = list(chain.values())[-1].outputs
        mix = graph.only_user(graph.maker(output))
        if (
            mix is None
            or not graph.is_simple(mix)
            or type(mix.layer) is not keras.layers.Concatenate
            or mix.layer.axis not in (-1, 3)
            or len(mix.inputs) != 2
            or mix.inputs[0] is not output
        ):
            return None
        rest = graph.maker(mix.inputs[1])
        part = rest and _channel_range(graph, rest)
        if not part or part[0] is not image or part[1] != end:
            return None
        if graph.only_user(rest) is not mix:
            return None
        end = part[2]
        (changed,) = mix.outputs
        units.append(chain["expand"].layer.name)
        layers += [rest.layer.name, mix.layer.name]
    return WriteBack(tuple(units), tuple(layers)) if units else None


def _keeps_size(graph, chain):
    """Returns whether a unit's output can take the place of its input."""
    x = chain["expand"].inputs[0]
    return (
        chain["project"].outputs[0].shape == x.shape
        and _keeps_map(chain)
        and all(user in chain.values() for user in graph.users(x))
    )


def _keeps_map(chain):
    """Returns whether a unit keeps the map's size.

    Shapes do not tell it: those of one pixel, or not known, are always equal.
    """
    return tuple(chain["project"].layer.strides) == (1, 1) and not (
        "middle" in chain and unit_layers.is_pooling(chain["middle"].layer)
    )


def _channel_range(graph, call):
    """Returns `x`, `start` and `stop` of a call `x[..., start:stop]`, or `None`."""
    if not graph.is_simple(call):
        return None
    if type(call.layer) is SliceChannels and call.layer.data_format == "channels_last":
        return call.inputs[0], call.layer.start, call.layer.stop
    if type(call.layer).__name__ != "GetItem" or len(call.args) != 2:
        return None
    x, key = call.args
    if not (isinstance(key, tuple) and len(key) == 2 and key[0] is Ellipsis):
        return None
    if not isinstance(key[1], slice) or len(x.shape) != 4:
        return None
    start, stop, step = key[1].indices(x.shape[-1])
    return (x, start, stop) if step == 1 else None
