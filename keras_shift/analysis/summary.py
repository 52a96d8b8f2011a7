"""Counts what a model's layers cost and how they shift, and makes tables of it."""

import collections
import csv
import dataclasses
import io
import math
import os
import textwrap
from collections.abc import Sequence

import keras
import rich.box
import rich.table

from keras_shift.analysis.layer_calls import layer_calls
from keras_shift.analysis.multiply_adds import multiply_adds_of_call
from keras_shift.analysis.shift_histogram import (
    channels_by_displacement,
    most_frequent_first,
)
from keras_shift.files import replacing
from keras_shift.layers.shift_layer import ShiftLayer
from keras_shift.table import NARROW, UNBOUNDED, to_text

# The number of displacements named below the table, as many as a 3x3 window has.
_MOST_FREQUENT = 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Counts:
    parameters: int
    displacements: int
    moving_statistics: int
    multiply_adds: int
    shift_channels: int
    unshifted_channels: int
    histogram: dict[tuple[int, int], int] | None

    @property
    def float32_bytes(self) -> int:
        """Size of the parameters at four bytes each."""
        return 4 * self.parameters

    @property
    def int8_bytes(self) -> int:
        """Size of the parameters at one byte each."""
        return self.parameters

    @property
    def unshifted(self) -> float | None:
        """Share of unshifted channels, from 0 to 1, or `None` without shift layers."""
        if not self.shift_channels:
            return None
        return self.unshifted_channels / self.shift_channels


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSummary(_Counts):
    """Holds what one layer costs and how it shifts.

    Attributes:
        name: Name of the layer, preceded by the names of the models that it is in,
            such as `"backbone/stem"`.
        layer_class: Name of the layer's class.
        output_shape: Shape of what the layer returns, including the batch, or a
            tuple of shapes if there are several outputs or calls with different
            shapes.
        calls: Number of times that the model calls the layer. Multiply-adds are the
            sum over all calls; everything else counts once.
        parameters: Number of the layer's weights, trainable or not, without
            `displacements` and `moving_statistics`.
        displacements: Number of learned displacements, two for each channel of a
            shift layer. The papers do not count them.
        moving_statistics: Number of moving means and variances, which inference
            folds into a neighbouring layer.
        multiply_adds: Number of multiply-adds, as
            `keras_shift.analysis.multiply_adds` counts them.
        float32_bytes: Size of the parameters at four bytes each.
        int8_bytes: Size of the parameters at one byte each.
        shift_channels: Number of channels of a shift layer, 0 for other layers.
        unshifted_channels: Number of these channels whose displacements are both
            zero: after rounding, but without it in
            `keras_shift.layers.ActiveShift2D`.
        unshifted: Share of the unshifted channels, from 0 to 1, or `None` for layers
            that are not shift layers.
        histogram: Dict of the number of channels by rounded displacement `(dy, dx)`,
            most frequent first. It is `None` for layers that do not shift by whole
            pixels, such as `keras_shift.layers.ActiveShift2D`.
    """

    name: str
    layer_class: str
    output_shape: tuple
    calls: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary(_Counts):
    """Holds what a model costs and how it shifts, in total and layer by layer.

    The totals have the same names as the counts of one layer in `LayerSummary`:
    `parameters`, `displacements`, `moving_statistics`, `multiply_adds`,
    `float32_bytes`, `int8_bytes`, `shift_channels`, `unshifted_channels`, `unshifted`
    and `histogram`. When it is printed, it is a table of the layers that have
    parameters, multiply-adds or shifts.

    Attributes:
        name: Name of the model.
        layers: A tuple with a `LayerSummary` for every layer and every operation of
            `keras.ops` that the model calls, in their order. Models inside the model
            appear as their layers. Inputs do not appear.
    """

    name: str
    layers: tuple[LayerSummary, ...]

    def __str__(self) -> str:
        table = to_text(_table(self, plain=True))
        notes = [textwrap.fill(note, NARROW) for note in _notes(self)]
        return "\n".join([_headline(self), "", table, "", *notes])

    def head(self) -> tuple[str, ...]:
        """Returns the heads of the printed table's columns."""
        columns = ("Layer", "Output", "Parameters", "MAdds")
        return (*columns, "Unshifted") if self.shift_channels else columns

    def rows(self) -> list[tuple[str, ...]]:
        """Returns the cells of the printed table, row by row; the last is the total."""
        layers = [layer for layer in self.layers if not _is_empty(layer)]
        rows = [
            (_name(layer), _sizes(layer.output_shape), *_cells(layer))
            for layer in layers
        ]
        rows.append(("Total", "", *_cells(self)))
        return [row[: len(self.head())] for row in rows]

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Returns exact numbers as CSV, with a row for every layer and no totals.

        Args:
            path: Path of a file to write them to as well, or `None`. Defaults to
                `None`.

        Returns:
            A string.
        """
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_CSV)
        for layer in self.layers:
            writer.writerow([_csv_cell(getattr(layer, name)) for name in _CSV])
        return _write(file.getvalue(), path)

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Returns the table and its notes, as they are printed, in Markdown.

        Args:
            path: Path of a file to write them to as well, or `None`. Defaults to
                `None`.

        Returns:
            A string.
        """
        table = to_text(_table(self, plain=False), UNBOUNDED)
        parts = [_headline(self), table, *_notes(self)]
        return _write("\n\n".join(parts) + "\n", path)


_SUMS = (
    "parameters",
    "displacements",
    "moving_statistics",
    "multiply_adds",
    "shift_channels",
    "unshifted_channels",
)
_CSV = (
    "name",
    "layer_class",
    "output_shape",
    "calls",
    "parameters",
    "displacements",
    "moving_statistics",
    "multiply_adds",
    "float32_bytes",
    "int8_bytes",
    "shift_channels",
    "unshifted_channels",
    "unshifted",
    "histogram",
)


def summary(model: keras.Model, input_shape: Sequence[int] | None = None) -> Summary:
    """Counts what a model costs, layer by layer, and how it shifts.

    Example:

    >>> result = keras_shift.analysis.summary(keras_shift.zoo.FENet())
    >>> print(f"{result.multiply_adds:,} {result.parameters:,}")
    299,676,320 3,524,544
    >>> result.displacements
    10688
    >>> unshifted = {layer.name: layer.unshifted for layer in result.layers}
    >>> unshifted["unit1_shift"]
    0.125
    >>> text = result.to_csv("fenet.csv")

    Args:
        model: A functional or sequential `keras.Model`.
        input_shape: Shape of one image, such as `(224, 224, 3)`, for a model with
            one input that was built without an image size, or `None` for the size
            it was built with. Defaults to `None`.

    Returns:
        A `Summary`, which prints as a table.

    Raises:
        ValueError: If `keras_shift.analysis.multiply_adds` cannot count the model.
    """
    calls = collections.defaultdict(list)
    for call in layer_calls(model, input_shape):
        calls[id(call.layer)].append(call)
    layers = tuple(map(_layer_summary, calls.values()))
    histograms = [layer.histogram for layer in layers if layer.histogram is not None]
    return Summary(
        name=model.name,
        layers=layers,
        histogram=_histogram(histograms) if histograms else None,
        **{name: sum(getattr(layer, name) for layer in layers) for name in _SUMS},
    )


def _layer_summary(calls):
    layer = calls[0].layer
    shapes = tuple(dict.fromkeys(call.output_shape for call in calls))
    # Operations of keras.ops have no attribute `weights`.
    weights = _size(getattr(layer, "weights", ()))
    statistics = _size(_moving_statistics(layer))
    displacements = shift_channels = unshifted_channels = 0
    histogram = None
    if isinstance(layer, ShiftLayer):
        displacements = weights
        shift_channels = layer.channels
        unshifted_channels = round(layer.sparsity * layer.channels)
        if layer.rounds:
            histogram = _histogram([channels_by_displacement(layer)])
    return LayerSummary(
        name=calls[0].path,
        layer_class=type(layer).__name__,
        output_shape=shapes[0] if len(shapes) == 1 else shapes,
        calls=len(calls),
        parameters=weights - statistics - displacements,
        displacements=displacements,
        moving_statistics=statistics,
        multiply_adds=sum(map(multiply_adds_of_call, calls)),
        shift_channels=shift_channels,
        unshifted_channels=unshifted_channels,
        histogram=histogram,
    )


def _size(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def _moving_statistics(layer):
    # The class decides: in a frozen layer, `trainable` is false for all weights.
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.moving_mean, layer.moving_variance
    if isinstance(layer, keras.layers.Normalization):
        return layer.weights
    return ()


def _histogram(histograms):
    total: collections.Counter = collections.Counter()
    for histogram in histograms:
        total.update(histogram)
    return most_frequent_first(total)


def _headline(summary):
    line = (
        f"{summary.name}: {_millions(summary.multiply_adds, 1)} MAdds, "
        f"{_millions(summary.parameters, 2)} parameters"
    )
    if summary.displacements:
        line += f" and {summary.displacements:,} displacements"
    return line


def _millions(count, digits):
    return f"{count:,}" if count < 1e6 else f"{count / 1e6:.{digits}f} M"


def _table(summary, plain):
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD if plain else rich.box.MARKDOWN,
        collapse_padding=plain,
        pad_edge=not plain,
    )
    # Only the names may be broken to fit a narrow terminal.
    name, output, *numbers = summary.head()
    table.add_column(name, overflow="fold")
    table.add_column(output, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    *rows, total = summary.rows()
    for row in rows:
        table.add_row(*row)
    if plain:
        table.add_section()
    table.add_row(*total)
    return table


def _cells(counts):
    share = "" if counts.unshifted is None else f"{counts.unshifted:.1%}"
    return f"{counts.parameters:,}", f"{counts.multiply_adds:,}", share


def _name(layer):
    return f"{layer.name} ({layer.calls} calls)" if layer.calls > 1 else layer.name


def _sizes(shape):
    if shape and isinstance(shape[0], tuple):
        return ", ".join(map(_sizes, shape))
    return " x ".join(map(str, shape[1:]))


def _is_empty(layer):
    return not (layer.parameters or layer.multiply_adds or layer.shift_channels)


def _notes(summary):
    yield (
        "MAdds: for one image, the products of weights and activations in "
        "convolutions, dense layers and squeeze-and-excite gates. Shifts, biases, "
        "batch normalization, activations, pooling and sums count none."
    )
    apart = []
    if summary.displacements:
        apart.append(
            f"{summary.displacements:,} displacements of shift layers, which the "
            "papers do not count"
        )
    if summary.moving_statistics:
        apart.append(
            f"{summary.moving_statistics:,} moving statistics, which inference folds "
            "into other layers"
        )
    yield (
        "Parameters: weights and biases, with the gamma and beta of batch "
        "normalization, trainable or frozen."
        + (f" Not among them: {'; '.join(apart)}." if apart else "")
    )
    yield (
        f"Size of the parameters alone: {summary.float32_bytes / 1e6:,.2f} MB as "
        f"float32, {summary.int8_bytes / 1e6:,.2f} MB as int8 (4 bytes and 1 byte "
        "each)."
    )
    if summary.shift_channels:
        yield (
            f"Unshifted: {summary.unshifted_channels:,} of the "
            f"{summary.shift_channels:,} channels in shift layers, with both "
            "displacements zero after rounding (without it in ActiveShift2D)."
        )
    if summary.histogram:
        frequent = list(summary.histogram.items())
        listed = ", ".join(
            f"({dy},{dx}): {count:,}" for (dy, dx), count in frequent[:_MOST_FREQUENT]
        )
        others = sum(count for _, count in frequent[_MOST_FREQUENT:])
        yield (
            f"Channels by rounded displacement (rows,columns): {listed}"
            + (f", others: {others:,}" if others else "")
            + "."
        )
    if empty := sum(map(_is_empty, summary.layers)):
        yield (
            f"Layers with nothing to count are not shown ({empty}); `layers` and "
            "`to_csv()` have them."
        )


def _csv_cell(value):
    if isinstance(value, dict):
        return "; ".join(f"{dy} {dx}: {count}" for (dy, dx), count in value.items())
    return value


def _write(text, path):
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return text
