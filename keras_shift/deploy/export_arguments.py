"""Checks of the arguments of `keras_shift.deploy.to_tflite`."""

import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_shift.deploy.interpreter import interpreter_class
from keras_shift.rewriting import is_its_graph

_QUANTIZE = (None, "float16", "dynamic", "int8")
_TYPES = ("float32", "uint8", "int8")

# These are the limits of `std`, whose inverse is the scale of an uint8 input. LiteRT
# does not crash within them, and the `std` of any real network is near one.
_LEAST_STD, _LARGEST_STD = 1e-6, 1e6


def check_export(
    model: keras.Model,
    path: str | os.PathLike[str],
    quantize: str | None,
    representative_data: Any,
) -> None:
    """Refuses what `to_tflite` cannot export, before it reads any images.

    The arguments are those of `to_tflite`.

    Raises:
        ImportError: If LiteRT's interpreter is not installed.
        ValueError: If an argument is not one that `to_tflite` takes.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "LiteRT's converter reads TensorFlow's graphs. Save the model as .keras "
            "and load it in a process with KERAS_BACKEND=tensorflow. "
            f"Received: backend {keras.backend.backend()}"
        )
    interpreter_class()
    if quantize not in _QUANTIZE:
        raise ValueError(
            f"Argument `quantize` must be one of {_QUANTIZE}. "
            f"Received: quantize={quantize}"
        )
    if quantize == "int8" and representative_data is None:
        raise ValueError(
            'quantize="int8" learns the ranges of activations from images. '
            "Received: representative_data=None. Pass some of the training images."
        )
    if not os.fspath(path).endswith(".tflite"):
        raise ValueError(
            f"Argument `path` must end in .tflite. Received: path={os.fspath(path)}"
        )
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ValueError(
            "Argument `path` must lie in a folder that exists. "
            f"Received: path={os.fspath(path)}"
        )
    if not is_its_graph(model) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "Argument `model` must be a functional or sequential model with one "
            f"input and one output. Received: model={model}"
        )
    if None in model.inputs[0].shape[1:]:
        raise ValueError(
            "A .tflite file has a fixed image size, so the model must be built with "
            "one, such as `input_shape=(224, 224, 3)`. "
            f"Received: a model for images of shape {model.inputs[0].shape[1:]}"
        )


def check_interface(
    quantize: str | None,
    input_type: str,
    output_type: str,
    input_name: str,
    output_name: str,
) -> None:
    """Refuses types and names of a file's input and output that it cannot have.

    The arguments are those of `to_tflite`.

    Raises:
        ValueError: If an argument is not one that `to_tflite` takes.
    """
    allowed = _TYPES if quantize == "int8" else _TYPES[:1]
    for argument, value in {
        "input_type": input_type,
        "output_type": output_type,
    }.items():
        if value not in allowed:
            raise ValueError(
                f"Argument `{argument}` must be one of {allowed} with "
                f'quantize={quantize!r}; quantize="int8" allows {_TYPES}. '
                f"Received: {argument}={value!r}"
            )
    for argument, value in {
        "input_name": input_name,
        "output_name": output_name,
    }.items():
        if not isinstance(value, str) or not value.isidentifier():
            raise ValueError(
                f"Argument `{argument}` must be a name of letters, digits and "
                f"underscores. Received: {argument}={value!r}"
            )


def check_normalization(normalization: tuple[float, float]) -> tuple[float, float]:
    """Refuses a normalization that is none, or that LiteRT crashes on.

    Args:
        normalization: As in `to_tflite`.

    Returns:
        The pair as floats.

    Raises:
        ValueError: If it is something else.
    """
    try:
        given = tuple(normalization)
        # A text would become a number, too.
        texts = any(isinstance(value, (str, bytes)) for value in given)
        mean, std = map(float, given)
        right = 0 <= mean <= 255 and _LEAST_STD <= std <= _LARGEST_STD and not texts
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            "Argument `normalization` must be a pair of numbers (mean, std), a pixel "
            f"value from 0 to 255 and a positive number from {_LEAST_STD:g} to "
            f"{_LARGEST_STD:g}. Received: normalization={normalization!r}"
        )
    return mean, std


def check_labels(labels: Sequence[str] | None, model: keras.Model) -> list[str] | None:
    """Returns the names of a model's classes as a list, or `None` for none.

    Args:
        labels: As in `to_tflite`.
        model: The model, which has one output.

    Raises:
        ValueError: If there is not one line for every class.
    """
    if labels is None:
        return None
    classes = model.outputs[0].shape[-1]
    try:
        names = [] if isinstance(labels, (str, dict)) else list(labels)
    except TypeError:
        names = []
    lines = all(isinstance(name, str) and len(name.splitlines()) == 1 for name in names)
    if not lines or len(names) != classes:
        raise ValueError(
            f"Argument `labels` must be a list of the names of {classes} classes, each "
            f"on one line. Received: {len(names)} names, labels={labels!r}"
        )
    return names
