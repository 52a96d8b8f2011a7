"""Loads files of trained weights into networks."""

import collections
import functools
import inspect
import os
from collections.abc import Callable
from typing import TypeVar

import h5py
import keras
import numpy as np

from keras_shift.graph_walk import source_inputs
from keras_shift.zoo import published_weights
from keras_shift.zoo.record import as_tuple

Constructor = TypeVar("Constructor", bound=Callable[..., keras.Model])

# These arguments may differ from those of the training: they change neither the shape
# nor the meaning of the backbone's weights.
FREE = {
    "batch_norm_momentum",
    "classes",
    "classifier_activation",
    "displacement_initializer",
    "displacement_regularizer",
    "dropout_rate",
    "features",
    "include_preprocessing",
    "include_top",
    "input_shape",
    "input_tensor",
    "kernel_initializer",
    "kernel_regularizer",
    "name",
    "output_stride",
    "pooling",
    "weights",
}

_CLASSIFIER = "predictions"


def loads_published_weights(constructor: Constructor) -> Constructor:
    """Lets a constructor load published weights, whose name it takes as `weights`.

    For such a name it builds the network with the arguments of the weights' record. It
    refuses arguments of the caller that contradict the record, but ignores the defaults
    of the other arguments.

    Args:
        constructor: A function that returns a `keras.Model` and takes `None` or a path
            as `weights`.

    Returns:
        A function with the same signature.
    """
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def with_weights(*args, **kwargs):
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # The constructor itself raises a better error below.
            given = {}
        weights = given.get("weights")
        if not isinstance(weights, str) or _is_path(weights):
            return constructor(*args, **kwargs)
        defaults = {
            key: parameter.default for key, parameter in signature.parameters.items()
        }
        record = published_weights.find(
            constructor.__name__, weights, given.get("alpha", defaults["alpha"])
        )
        if unknown := sorted(set(record.arguments) - set(defaults)):
            path = published_weights.folder() / f"{record.name}.json"
            raise ValueError(
                f"{path} is no record of weights: {constructor.__name__} has no "
                f"arguments {unknown}."
            )
        trained = {**defaults, **record.arguments}
        _check_contradictions(record, given, trained)
        path = published_weights.checked_file(record)
        arguments = {**record.arguments, **given}
        arguments["input_shape"] = _input_shape(given, record)
        if given.get("classes") is None:
            arguments["classes"] = record.classes
        same_classifier = (
            given.get("include_top", True) and arguments["classes"] == record.classes
        )
        same_layers = (
            same_classifier
            and given.get("input_tensor") is None
            and arguments.get("output_stride") == trained.get("output_stride")
        )
        if same_layers:
            return constructor(**{**arguments, "weights": path})
        model = constructor(**{**arguments, "weights": None})
        source = constructor(
            **record.arguments,
            classes=record.classes,
            input_shape=_in_data_format(record.input_shape),
            weights=path,
        )
        left_out = set() if same_classifier else {_CLASSIFIER}
        left_out |= _names_in_front_of(given.get("input_tensor"))
        _transfer(source, model, left_out)
        return model

    # It has the constructor's signature, since `wraps` copies that.
    return with_weights  # type: ignore[return-value]


def load(model: keras.Model, weights: str | os.PathLike[str]) -> None:
    """Loads the weights of a file into a network.

    Args:
        model: A `keras.Model`.
        weights: Path of a `.weights.h5` file.

    Raises:
        ValueError: If there is no such file or it does not fit the network.
    """
    if not isinstance(weights, (str, os.PathLike)) or not os.path.isfile(weights):
        raise ValueError(
            "Argument `weights` must be None (random weights), the name of published "
            "weights (`keras_shift.zoo.list_weights()` lists them) or the path of a "
            ".weights.h5 file, and there is no such file. "
            f"Received: weights={weights!r}"
        )
    # Keras ignores layers that only the file has, and if a shape does not fit, its
    # error prints all numbers of the weight.
    wanted = collections.Counter(tuple(weight.shape) for weight in model.weights)
    try:
        stored = _stored_shapes(weights)
        if stored in (None, wanted):
            model.load_weights(weights)
            return
    # The type of the error depends on where the file is damaged.
    except Exception as error:
        raise _does_not_fit(model, weights, str(error).split("\n")[0]) from error
    other = (stored - wanted).total()
    raise _does_not_fit(
        model,
        weights,
        f"{other} of the {stored.total()} weights in the file have shapes that the "
        f"network's {wanted.total()} do not have",
    )


def _does_not_fit(model, path, why):
    return ValueError(
        f"Argument `weights` must be a file of this network's weights: {path} is "
        f"damaged, or does not belong to {model.name} with these arguments ({why}). "
        "Build the network with the arguments (`alpha`, `classes`, `include_top` and "
        "the like) that it had when the file was saved. "
        f"Received: weights={os.fspath(path)!r}"
    )


def _stored_shapes(path):
    """Counts the weights of each shape in a .weights.h5 file.

    It returns `None` for a file with another ending.
    """
    if not os.fspath(path).endswith(".weights.h5"):
        return None
    shapes: collections.Counter[tuple[int, ...]] = collections.Counter()

    def visit(name, item):
        # The file also holds the optimizer's variables if the model was compiled.
        if isinstance(item, h5py.Dataset) and name.startswith("layers/"):
            shapes[item.shape] += 1

    with h5py.File(path) as file:
        file.visititems(visit)
    return shapes


def _is_path(weights):
    return os.path.basename(weights) != weights or weights.endswith((".h5", ".keras"))


def _check_contradictions(record, given, trained):
    for argument, value in given.items():
        if argument not in FREE and as_tuple(value) != trained[argument]:
            raise ValueError(
                f"Argument `{argument}` contradicts the published weights "
                f"{record.weights!r} of {record.constructor}, which were trained with "
                f"{argument}={trained[argument]!r}. Leave it out, or take other "
                f"weights. Received: {argument}={value!r}, weights={record.weights!r}"
            )


def _input_shape(given, record):
    """Returns the shape of images, that of the training unless the caller gave one."""
    shape, tensor = given.get("input_shape"), given.get("input_tensor")
    received = tensor.shape[1:] if keras.utils.is_keras_tensor(tensor) else shape
    channels = record.input_shape[2]
    if received is None:
        size = record.input_shape[:2] if given.get("include_top", True) else (None,) * 2
        return _in_data_format((*size, channels))
    axis = 0 if keras.config.image_data_format() == "channels_first" else -1
    # If this is no shape, the constructor raises an error.
    is_shape = isinstance(received, (tuple, list)) and len(received) == 3
    if is_shape and received[axis] != channels:
        raise ValueError(
            f"The published weights {record.weights!r} of {record.constructor} are "
            f"for images with {channels} channels: the kernel of the first "
            "convolution fits no others. Received: images of shape "
            f"{tuple(received)}"
        )
    return shape


def _in_data_format(shape):
    if keras.config.image_data_format() == "channels_first":
        return (shape[2], *shape[:2])
    return shape


def _names_in_front_of(tensor):
    """Returns the names of the caller's layers that lead to an `input_tensor`."""
    if tensor is None:
        return set()
    model = keras.Model(source_inputs(tensor), tensor)
    return {layer.name for layer in model.layers}


def _transfer(source, model, left_out):
    """Copies weights between layers of the same name, except the layers `left_out`.

    The order of layers, by which files are read, cannot be used: the caller's layers in
    front of an `input_tensor` would come first.
    """
    trained = {layer.name: layer for layer in source.layers}
    for layer in model.layers:
        if layer.name in left_out:
            continue
        if layer.name in trained and layer.weights:
            layer.set_weights(trained[layer.name].get_weights())
        elif layer.name not in trained and hasattr(layer, "displacements"):
            # With fewer strides, this shift is where the trained network has pooling.
            layer.displacements.assign(np.zeros(layer.displacements.shape))
