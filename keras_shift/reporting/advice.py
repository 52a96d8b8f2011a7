"""What a user may do next, as a network's figures suggest."""

import collections
import math

import keras

from keras_shift import analysis
from keras_shift.analysis.layer_calls import layer_calls
from keras_shift.deploy import ShiftCosts, TFLiteReport
from keras_shift.layers import SparseShift2D
from keras_shift.layers.shift_layer import ShiftLayer

# The recipes of the zoo's sparse weights leave at least this share unshifted.
_SPARSE = 0.8

# A layer of which fewer channels are shifted pays for its first shift, not for these.
_FEW = 0.1

# As `keras-shift verify` does by default, this says that a file and Keras disagree.
_AGREEMENT = 0.9

# At most this many layers are named.
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
            "Train the network, or take published weights (keras-shift list "
            "--weights). Accuracy, shifts and explanations of random weights say "
            "nothing; sizes and times are those of a trained network."
        )
    elif summary.shift_channels:
        points += _of_learning(model, summary)
    if summary.shift_channels:
        points += _of_shifts(model, costs)
    points += _of_files(files)
    return points


def _of_learning(model, summary):
    """Returns what `SparsifyShifts` can do for the model."""
    if not any(isinstance(layer, SparseShift2D) for layer in model.layers):
        return
    far = sum(
        count
        for (dy, dx), count in (summary.histogram or {}).items()
        if max(abs(dy), abs(dx)) > 1
    )
    wanted = []
    if summary.unshifted < _SPARSE:
        wanted.append(f"only {summary.unshifted:.1%} of the channels are unshifted")
    if far:
        wanted.append(f"{far:,} channels move by more than one pixel")
    if wanted:
        share = max(_SPARSE, round(summary.unshifted, 2))
        yield (
            f"Shift less: {' and '.join(wanted)}. Train on with the callback "
            f"keras_shift.training.SparsifyShifts(images, labels, unshifted={share}, "
            "max_displacement=1), which takes away the shifts that matter least."
        )


def _of_shifts(model, costs):
    shifted, channels = {}, {}
    pixels: collections.Counter[str] = collections.Counter()
    for call in layer_calls(model):
        if isinstance(call.layer, ShiftLayer):
            count = round((1 - call.layer.sparsity) * call.layer.channels)
            shifted[call.path], channels[call.path] = count, call.layer.channels
            values = math.prod(call.output_shape[1:])
            pixels[call.path] += count * values // call.layer.channels
    if not any(shifted.values()):
        yield "No channel is shifted, so shifts cost nothing and bring nothing."
        return
    if costs is not None:
        own = {name: cost.own for name, cost in costs.layers.items()}
        if listed := _listed(own, "{:.1%} of the time without shifts"):
            yield f"The shifts that cost most: {listed}."
    else:
        shares = {name: count / pixels.total() for name, count in pixels.items()}
        yield (
            "The shifts that move most pixels: "
            + _listed(shares, "{:.0%} of all moved pixels")
            + ". keras_shift.deploy.shift_costs, or --costs on the command line, "
            "measures what they take."
        )
    few = [name for name, count in shifted.items() if 0 < count < _FEW * channels[name]]
    if few:
        yield (
            f"Less than a tenth of the channels are shifted in {', '.join(few)}. A "
            "layer's first shift costs more than the next: "
            "SparsifyShifts(layer_cost=...) takes away the shifts of whole layers, "
            "and keras_shift.analysis.remove_shifts those of layers that you name."
        )


def _listed(values, form):
    largest = sorted(values.items(), key=lambda item: -item[1])[:_NAMED]
    named = [f"{name} ({form.format(value)})" for name, value in largest if value > 0]
    return ", ".join(named)


def _of_files(files):
    for kind, report in files.items():
        if (report.partitions or 1) > 1:
            yield (
                f"XNNPACK cuts the {kind} file into {report.partitions} parts, and "
                "each cut costs time: it does not run the operations between them."
            )
        if not report.agreement.top1 >= _AGREEMENT:
            yield (
                f"The {kind} file and Keras have the same top-1 for "
                f"{report.agreement.top1:.1%} of {report.agreement.images} images. Are "
                "these images like those that the network was trained on?"
            )
