"""Runs the sub-command `keras-shift plot`."""

import argparse
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_shift import analysis, zoo
from keras_shift.analysis import drawing
from keras_shift.analysis.shift_histogram import has_known_start
from keras_shift.analysis.study_layers import last, most_shifted, study_layers
from keras_shift.cli import models
from keras_shift.cli.images import load_images
from keras_shift.cli.messages import say
from keras_shift.files import replacing
from keras_shift.image_batches import CALIBRATION_IMAGES, collect, random_pixels
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.quiet import quiet

_ENDINGS = (".png", ".svg")
_DOTS_PER_INCH = 150

# These pictures are drawn of one layer, and those below of images. `_PICTURES` has all
# of them.
_OF_LAYERS = (
    "shifts",
    "displacements",
    "correlation",
    "contribution",
    "receptive-field",
)
_OF_IMAGES = ("correlation", "receptive-field", "collapse")


def run(arguments: argparse.Namespace) -> None:
    """Draws what a network's shifts learned.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ImportError: If Matplotlib is not installed.
        OSError: If the picture cannot be written.
        ValueError: If there is no such network, layer, image or log, or the picture's
            name has another ending.
    """
    if not arguments.output.lower().endswith(_ENDINGS):
        raise ValueError(
            "--output must be the name of a .png or .svg file. "
            f"Received: --output {arguments.output}"
        )
    folder = os.path.dirname(arguments.output) or "."
    if not os.path.isdir(folder):
        raise ValueError(
            "--output must be in a folder that is there. "
            f"Received: --output {arguments.output}"
        )
    for option, studies in (("layer", _OF_LAYERS), ("data", _OF_IMAGES)):
        if getattr(arguments, option) is not None and arguments.what not in studies:
            raise ValueError(
                f"--{option} serves only --what {', '.join(studies)}. "
                f"Received: --what {arguments.what}"
            )
    with quiet(arguments.verbose):
        # Matplotlib says so when it makes a list of all fonts, the first time.
        drawing.pyplot().switch_backend("agg")
    axes = _PICTURES[arguments.what](arguments)
    figure = np.ravel(axes)[0].figure
    with replacing(arguments.output) as temporary:
        figure.savefig(temporary, dpi=_DOTS_PER_INCH)
    drawing.pyplot().close(figure)
    print(arguments.output)


def _shifts(arguments):
    target = _model_or_layer(arguments)
    layers = [target]
    if isinstance(target, keras.Model):
        layers = shift_layers(target)
    # Rings show where shifts began, which is not known of random starts.
    known = all(map(has_known_start, layers))
    return analysis.plot_shifts(target, "initial" if known else None)


def _sparsity(arguments):
    return analysis.plot_sparsity(models.load_with_weights(arguments))


def _displacements(arguments):
    return analysis.displacement_distribution(_model_or_layer(arguments)).plot()


def _correlation(arguments):
    model = models.load_with_weights(arguments)
    layer = _layer_or_default(arguments, model, most_shifted)
    images = _images(arguments, model)
    return analysis.channel_correlation(model, layer, images).plot()


def _contribution(arguments):
    model = models.load_with_weights(arguments)
    layer = _layer_or_default(arguments, model, most_shifted)
    return analysis.channel_contribution(model, layer).plot()


def _receptive_field(arguments):
    model = models.load_with_weights(arguments)
    layer = _layer_or_default(arguments, model, last)
    images = _images(arguments, model)
    return analysis.effective_receptive_field(model, layer, images).plot()


def _collapse(arguments):
    if arguments.data is None:
        raise ValueError(
            "--what collapse needs many images: name a folder of photographs with "
            "--data. Received: no --data"
        )
    model = models.load_with_weights(arguments)
    return analysis.feature_collapse(model, _images(arguments, model)).plot()


def _history(arguments):
    return analysis.training_history(_log(arguments)).plot()


_PICTURES: dict[str, Callable[[argparse.Namespace], Any]] = {
    "shifts": _shifts,
    "sparsity": _sparsity,
    "displacements": _displacements,
    "correlation": _correlation,
    "contribution": _contribution,
    "receptive-field": _receptive_field,
    "collapse": _collapse,
    "history": _history,
}


def _model_or_layer(arguments):
    """Returns the network, or the one of its shift layers that --layer names."""
    model = models.load_with_weights(arguments)
    if arguments.layer is None:
        return model
    layers = {layer.name: layer for layer in shift_layers(model)}
    if arguments.layer not in layers:
        raise ValueError(
            f"--layer must be a shift layer of {model.name}: {list(layers)}. "
            f"Received: --layer {arguments.layer}"
        )
    return layers[arguments.layer]


def _layer_or_default(arguments, model, default):
    if arguments.layer is not None:
        return arguments.layer
    layers = study_layers(model)
    if not layers:
        raise ValueError(
            f"{model.name} has no shift layers of its own: name another layer with "
            "--layer, or another network. Received: no --layer"
        )
    name = default(layers)
    say(f"This is the layer {name} of {model.name}; --layer names another one.")
    return name


def _images(arguments, model):
    """Returns images of --data, or random pixels without it."""
    shape = tuple(model.inputs[0].shape[1:])
    if arguments.data is None:
        if None in shape:
            raise ValueError(
                "The network must be of images of a known size. "
                f"Received: {arguments.name}, of images of shape {shape}"
            )
        say("Without --data, the network sees random pixels instead of photographs.")
        return random_pixels(shape)
    images = load_images(arguments.data, model, shuffle=True)
    with quiet(arguments.verbose):
        return collect(images, shape, "data", CALIBRATION_IMAGES)


def _log(arguments):
    """Returns the path of a training's log, or of something that it lies beside."""
    name, weights = arguments.name, arguments.weights
    if os.path.isdir(name) or name.endswith(".csv"):
        return name
    if weights is not None and os.path.isfile(weights):
        return weights
    if record := models.record_of(arguments):
        return zoo.published_weights.folder() / f"{record.name}.log.csv"
    raise ValueError(
        "--what history needs trained weights with their log: name published ones or "
        "the folder of a training in place of the network, or add --weights. "
        f"Received: {name} without --weights"
    )
