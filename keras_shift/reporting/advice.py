"""What a user may do next, as a network's figures suggest."""

import keras
import numpy as np

from keras_shift import analysis
from keras_shift.deploy import ShiftCosts, TFLiteReport
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.training.layer_costs import costs_per_channel

# With this share of unshifted channels, and with displacements of one pixel, files are
# hardly slower than without shifts (benchmarks/results/frontier.csv).
_SPARSE = 0.8

# A layer of which fewer channels are shifted pays for its first shift, not for these.
_FEW = 0.1

# How many layers are named.
_NAMED = 3


def advice(
    model: keras.Model,
    summary: analysis.Summary,
    files: dict[str, TFLiteReport],
    costs: ShiftCosts | None,
    trained: bool,
) -> list[str]:
    """Returns what the user may do next, the most important first.

    Args:
        model: A `keras.Model`.
        summary: Its `keras_shift.analysis.summary`.
        files: What `to_tflite` reported, by the type of the file.
        costs: What `shift_costs` measured, or `None`.
        trained: Whether the weights are trained ones.

    Returns:
        A list of sentences.
    """
    points = []
    if not trained:
        points.append(
            "Train the network, or name published weights (keras-shift list --weights) "
            "with --weights: accuracy, shifts and explanations of random weights say "
            "nothing. Only sizes and times are those of a trained network."
        )
    if summary.shift_channels:
        points += _of_shifts(model, summary, costs)
    points += _of_files(files)
    return points


def _of_shifts(model, summary, costs):
    layers = shift_layers(model)
    shifted = [round((1 - layer.sparsity) * layer.channels) for layer in layers]
    if not any(shifted):
        yield "No channel is shifted, so shifts cost nothing and bring nothing."
        return
    if summary.unshifted < _SPARSE:
        yield (
            f"{summary.unshifted:.1%} of the channels are unshifted. Train on with "
            f"keras_shift.training.SparsifyShifts(unshifted={_SPARSE}), which takes "
            "away the shifts that matter least: files become faster."
        )
    far = sum(
        count
        for (dy, dx), count in (summary.histogram or {}).items()
        if max(abs(dy), abs(dx)) > 1
    )
    if far:
        yield (
            f"{far:,} channels move by more than one pixel. Shifts of one pixel are "
            "faster in a file: build the network with max_displacement=1 and train on."
        )
    names = [layer.name for layer in layers]
    if costs is not None:
        own = {name: cost.own for name, cost in costs.layers.items()}
        yield "The shifts that cost most: " + _listed(own, "{:.1%} of the file's time")
    else:
        pixels = np.multiply(shifted, costs_per_channel(layers, "pixels"))
        shares = dict(zip(names, pixels / pixels.sum()))
        yield (
            "The shifts that move most pixels, and so cost most: "
            + _listed(shares, "{:.0%} of all moved pixels")
            + " --costs measures the times."
        )
    few = [
        layer.name
        for layer, count in zip(layers, shifted)
        if 0 < count < _FEW * layer.channels
    ]
    if few:
        yield (
            f"{len(few)} layers shift less than a tenth of their channels, such as "
            f"{', '.join(few[:_NAMED])}. A layer's first shift costs more than the "
            "next: SparsifyShifts(layer_cost=...) takes away the shifts of whole "
            "layers, and keras_shift.analysis.remove_shifts those of layers that you "
            "name."
        )


def _listed(values, form):
    best = sorted(values.items(), key=lambda item: -item[1])[:_NAMED]
    named = [f"{name} ({form.format(value)})" for name, value in best if value > 0]
    return ", ".join(named) + "."


def _of_files(files):
    for kind, report in files.items():
        if (report.partitions or 1) > 1:
            yield (
                f"XNNPACK cuts the {kind} file into {report.partitions} parts, and "
                "each cut costs time: it does not run the operations between them."
            )
    if "int8" not in files:
        yield (
            "Name a folder of training images with --data to see an int8 file, which "
            "is a quarter as large, and what the network looks at in your images."
        )
