"""Prepares classifiers for tf-keras-vis, which is no requirement of this package."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_shift.rewriting import duplicate


def visualization(module: str) -> Any:
    """Imports a module of tf-keras-vis.

    Args:
        module: String, the name of a module inside of `tf_keras_vis`.

    Raises:
        ImportError: If tf-keras-vis is not installed, or not beside a SciPy that it
            works with.
        ValueError: If Keras' backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "tf-keras-vis needs TensorFlow as Keras' backend. "
            f"Received: backend {keras.backend.backend()}"
        )
    try:
        with warnings.catch_warnings():
            # It warns of modules of its own, which it imports itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module(f"tf_keras_vis.{module}")
    except ImportError as error:
        raise ImportError(
            f"Explanations need tf-keras-vis ({error}). Install it with "
            '`pip install "keras-shift[explain]"`.'
        ) from error


def check_classifier(model: keras.Model) -> None:
    """Refuses models that tf-keras-vis cannot explain.

    Args:
        model: A `keras.Model`.

    Raises:
        ValueError: If the model does not classify colour images, holds other models, or
            ends in an operation instead of a layer.
    """
    if problem := _problem(model):
        raise ValueError(
            "Argument `model` must be a functional or sequential classifier of colour "
            f"images, (height, width, 3). Received: {model.name}, which {problem}"
        )


def is_classifier(model: keras.Model) -> bool:
    """Returns whether `check_classifier` accepts a model.

    Args:
        model: A `keras.Model`.
    """
    return _problem(model) is None


def _problem(model):
    if not getattr(model, "inputs", None):
        return "is neither"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        return "has more than one input or output"
    if len(model.outputs[0].shape) != 2:
        return f"has outputs of shape {model.outputs[0].shape[1:]}"
    if len(model.inputs[0].shape) != 4 or model.inputs[0].shape[-1] != 3:
        return f"takes inputs of shape {model.inputs[0].shape[1:]}"
    if any(isinstance(layer, keras.Model) for layer in model.layers):
        return "contains another model, into which tf-keras-vis does not look"
    if not any(layer.output is model.outputs[0] for layer in model.layers):
        return "ends in an operation instead of a layer, such as Softmax"
    return None


def check_classes(classes: Sequence[int], model: keras.Model, argument: str) -> None:
    """Refuses classes that a classifier does not have.

    Args:
        classes: A list of indices of classes.
        model: A `keras.Model`.
        argument: Name of the argument that holds the classes, for the message.

    Raises:
        ValueError: If one of them is none of the model's.
    """
    count = model.outputs[0].shape[-1]
    for index in classes:
        if index != int(index) or not 0 <= index < count:
            raise ValueError(
                f"Argument `{argument}` must be of classes from 0 to {count - 1} for "
                f"{model.name}. Received: {argument}={index}"
            )


def layer_with_map(model: keras.Model, name: str | None = None) -> str:
    """Returns the name of the layer whose output Grad-CAM++ looks at.

    Args:
        model: A `keras.Model` that `check_classifier` accepts.
        name: Name of a layer to be checked, or `None` for the last one whose output has
            height and width. Defaults to `None`.

    Raises:
        ValueError: If there is no such layer.
    """
    shapes = {layer.name: _output_shape(layer) for layer in model.layers}
    maps = [key for key, shape in shapes.items() if len(shape) == 4]
    if name is not None:
        if name not in maps:
            raise ValueError(
                "Argument `layer` must name a layer whose output has height and width, "
                f"of {model.name} such as {maps[-5:]}. Received: layer={name!r}"
            )
        return name
    # A pooling that keeps its axes is no map, nor is what follows it.
    larger = [key for key in maps if shapes[key][1:3] != (1, 1)]
    if not larger:
        raise ValueError(
            "Argument `model` must have a layer whose output has height and width. "
            f"Received: {model.name}, which has none"
        )
    return larger[-1]


def _output_shape(layer):
    if isinstance(layer, keras.layers.InputLayer):
        return ()
    return tuple(getattr(layer.output, "shape", ()))


def with_logits(model: keras.Model) -> keras.Model:
    """Returns a copy of a classifier without its softmax or sigmoid.

    Where a softmax is sure of a class, its gradients vanish.

    Args:
        model: A `keras.Model` that `check_classifier` accepts. It is left as it is.

    Returns:
        A `keras.Model` whose inputs are a list, as tf-keras-vis passes them.
    """
    copy = duplicate(model)
    (outputs,) = copy.outputs
    (last,) = [layer for layer in copy.layers if layer.output is outputs]
    if isinstance(last, keras.layers.Softmax):
        outputs = last.input
    elif hasattr(last, "activation"):
        last.activation = keras.activations.linear
    return keras.Model([copy.inputs[0]], [outputs], name=model.name)


def logits_of(classes: Sequence[int]) -> Callable[[Any], Any]:
    """Returns a function from all logits to those of `classes`, one for each image.

    Args:
        classes: A list of the index of a class for each image.
    """
    indices = np.reshape(classes, (-1, 1))

    def score(logits):
        return keras.ops.take_along_axis(logits, indices, axis=1)[:, 0]

    return score
