"""Measures what every layer's shifts cost in an exported file."""

import collections
import dataclasses
import os
import tempfile
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import rich.box
import rich.table
from numpy.typing import ArrayLike

from keras_shift.deploy.export_arguments import check_export
from keras_shift.deploy.interpreter import LiteRTModel
from keras_shift.deploy.tflite import to_tflite
from keras_shift.deploy.timing import machine, time_alternately, warm_up
from keras_shift.image_batches import CALIBRATION_IMAGES, collect
from keras_shift.integers import positive_integer
from keras_shift.layers.shift_layer import LearnedShift, shift_layers
from keras_shift.rewriting import duplicate
from keras_shift.table import to_text

# For every layer, two files shift these shares of its channels. Their times tell the
# fixed part of the cost from the part per channel.
_SHARES = (1 / 8, 1 / 2)

# These are all displacements in a 3x3 window but that of the centre.
_MOVES = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)])


@dataclasses.dataclass(frozen=True)
class ShiftCost:
    """What the shifts of one layer cost, as shares of a file's time without shifts.

    Attributes:
        map_size: Height and width of the layer's map, in pixels.
        channels: Number of channels.
        shifted: Number of channels that the model shifts.
        own: Cost of the model's own shifts in this layer: how much longer the file
            takes with them than without any shift.
        fixed: Cost of having any shift in the layer, fitted.
        per_channel: Cost of each shifted channel in addition, fitted.
    """

    map_size: tuple[int, int]
    channels: int
    shifted: int
    own: float
    fixed: float
    per_channel: float


@dataclasses.dataclass(frozen=True)
class ShiftCosts:
    """What `shift_costs` measured, which prints as a table.

    Attributes:
        layers: `ShiftCost` of every layer with learned shifts, by its name.
        total: How much longer the file takes with all of the model's shifts than
            without any, as a share.
        quantize: How the files were quantized, as in `keras_shift.deploy.to_tflite`.
        machine: The processor and its number of cores.
    """

    HEAD: ClassVar = ("Layer", "Map", "Shifted", "Own cost", "First shift", "100 more")

    layers: dict[str, ShiftCost]
    total: float
    quantize: str | None
    machine: str

    @property
    def per_channel(self) -> dict[str, float]:
        """Cost of a shifted channel by layer, its share of the fixed part included.

        `keras_shift.training.penalize_shifts` and `SparsifyShifts` take it as `costs`.
        """
        # No shift may be free, since training would not avoid a free one.
        return {
            name: max(cost.fixed / cost.channels + cost.per_channel, 1e-6)
            for name, cost in self.layers.items()
        }

    def __str__(self) -> str:
        table = rich.table.Table(
            box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
        )
        table.add_column(self.HEAD[0], overflow="fold")
        for column in self.HEAD[1:]:
            table.add_column(column, justify="right", no_wrap=True)
        for row in self.rows():
            table.add_row(*row)
        return f"{to_text(table)}\n\n{self.note}"

    def rows(self) -> list[tuple[str, ...]]:
        """Returns the table's cells, row by row, below `HEAD`."""
        return [
            (
                name,
                "{}x{}".format(*cost.map_size),
                f"{cost.shifted} of {cost.channels}",
                f"{cost.own:.1%}",
                f"{cost.fixed:.1%}",
                f"{100 * cost.per_channel:.1%}",
            )
            for name, cost in self.layers.items()
        ]

    @property
    def note(self) -> str:
        """What stands below the table: of what the costs are shares."""
        return (
            f"Shares of the time of the {self.quantize or 'float32'} file without "
            f"shifts, to which all shifts together add {self.total:.1%}. One image, "
            f"one thread, {self.machine}."
        )


def shift_costs(
    model: keras.Model,
    quantize: Literal["float16", "dynamic", "int8"] | None = None,
    representative_data: (
        ArrayLike | Iterable[Any] | keras.utils.PyDataset | None
    ) = None,
    *,
    repeats: int = 50,
) -> ShiftCosts:
    """Measures what the shifts of every layer cost in a .tflite file.

    A shift in a map of 112x112 pixels takes more time than one in a map of 7x7, and the
    first shift of a layer takes more than the next. So it matters more in which layers
    channels are shifted than how many of them are.

    For every layer, three files are timed in turns with files without shifts. They
    have shifts in this layer only: the model's own, an eighth of the channels shifted
    by one pixel, and half of them. The last two tell the cost of the layer's first
    shift from the cost of each shifted channel.

    Example:

    >>> costs = keras_shift.deploy.shift_costs(model)
    >>> print(costs)
    Layer ...
    >>> keras_shift.training.penalize_shifts(model, 1e-4, costs.per_channel)

    Args:
        model: As in `keras_shift.deploy.to_tflite`, built for the image size that the
            phone will use. It is left as it is.
        quantize: As in `to_tflite`. Defaults to `None`.
        representative_data: As in `to_tflite`. Defaults to `None`.
        repeats: Int, number of counted runs of every file. Defaults to 50.

    Returns:
        A `ShiftCosts`.

    Raises:
        ImportError: As `to_tflite` does.
        ValueError: If the model has no learned shifts, if `repeats` is not a positive
            integer, and as `to_tflite` does.
        RuntimeError: As `to_tflite` does.
    """
    repeats = positive_integer("repeats", repeats)
    check_export(model, "model.tflite", quantize, representative_data)
    copy = duplicate(model)
    learned = [layer for layer in shift_layers(copy) if isinstance(layer, LearnedShift)]
    layers = {layer.name: layer for layer in learned}
    if len(layers) < len(learned):
        raise ValueError(
            "Argument `model` must have shift layers of different names. "
            f"Received: {[layer.name for layer in learned]}"
        )
    if not layers:
        raise ValueError(
            "Argument `model` has no layers with learned shifts. "
            f"Received: model={model.name!r}"
        )
    if representative_data is not None:
        # An iterable may give its images once, and they are needed for every file.
        shape, name = tuple(model.input_shape[1:]), "representative_data"
        representative_data = collect(
            representative_data, shape, name, CALIBRATION_IMAGES
        )
    own = {
        name: (
            layer.whole_displacements() if layer.rounds else layer.displacement_array()
        )
        for name, layer in layers.items()
    }
    # Every file has displacements for some of the layers. The others have none.
    variants: dict[Any, dict] = {("none", ""): {}, ("all", ""): own}
    for name, displacements in own.items():
        variants[name, "own"] = {name: displacements}
        for share in _SHARES:
            scattered = _scattered(displacements.shape[1], share)
            variants[name, share] = {name: scattered}
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[Any, str] = {}
        for key, displaced in variants.items():
            paths[key] = os.path.join(folder, f"{len(paths)}.tflite")
            _displace(layers, displaced)
            to_tflite(copy, paths[key], quantize, representative_data)
        ratios = _ratios(paths, repeats)
    extra = {key: ratio - 1 for key, ratio in ratios.items()}
    costs = {}
    for name, layer in layers.items():
        fixed, per_channel = _fit(
            [_shifted(variants[name, share][name]) for share in _SHARES],
            [extra[name, share] for share in _SHARES],
        )
        shape = layer.input.shape
        costs[name] = ShiftCost(
            map_size=shape[1:3] if layer.data_format == "channels_last" else shape[2:],
            channels=layer.channels,
            shifted=_shifted(own[name]),
            own=extra[name, "own"] if _shifted(own[name]) else 0.0,
            fixed=fixed,
            per_channel=per_channel,
        )
    return ShiftCosts(costs, extra["all", ""], quantize, machine())


def _ratios(paths, repeats):
    """Returns the times of files, as multiples of the first one's.

    Where a file happens to lie in memory changes its time by a few percent. Files that
    are loaded one right after the other differ less, and the first one, with which all
    are compared, is loaded several times.
    """
    first, *others = paths
    turns = [first, *others[::2], first, *others[1::2], first]
    files = [LiteRTModel(paths[key]) for key in turns]
    for file in files:
        warm_up(file)
    calls = {number: file.invoke for number, file in enumerate(files)}
    timings = time_alternately(calls, repeats)
    ratios = collections.defaultdict(list)
    for number, key in enumerate(turns):
        ratios[key].append(timings[number].ratio)
    unit = np.median(ratios[first])
    return {key: float(np.median(found) / unit) for key, found in ratios.items()}


def _shifted(displacements):
    return int(np.count_nonzero(displacements.any(axis=0)))


def _scattered(channels, share):
    """Returns displacements of some channels, the same ones in every call."""
    random = np.random.default_rng(0)
    displacements = np.zeros((2, channels), "float32")
    count = max(1, round(share * channels))
    moved = random.choice(channels, count, replace=False)
    displacements[:, moved] = np.resize(_MOVES, (count, 2)).T
    return displacements


def _displace(layers, displacements):
    """Sets the displacements of layers by their names, and those of others to zero."""
    for name, layer in layers.items():
        nothing = np.zeros(layer.displacements.shape)
        layer.displacements.assign(displacements.get(name, nothing))


def _fit(counts, costs):
    """Returns the fixed part and the part per channel, neither of them negative."""
    (few, many), (low, high) = counts, costs
    per_channel = max((high - low) / (many - few), 0.0) if many > few else 0.0
    return max(low - per_channel * few, 0.0), per_channel
