"""Describes the files of trained weights and loads them into networks."""

import collections
import dataclasses
import fnmatch
import functools
import hashlib
import inspect
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import h5py
import keras
import numpy as np

from keras_shift.zoo import predictions

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Holds everything that is known about a file of trained weights.

    Attributes:
        name: The file's name without `.weights.h5`, such as
            `"fenet_1.0.tiny_imagenet"`.
        weights: The name that users pass as `weights`: the dataset, or
            `dataset.recipe`.
        constructor: Name of the network's constructor.
        arguments: The constructor's arguments that decide which weights there are
            and what they mean.
        input_shape: Shape of one image: height, width, channels.
        dataset: Name of the dataset.
        classes: Number of classes.
        class_names: Name of a file in zoo/class_names, or a tuple of names.
        recipe: The `keras_shift.training.Recipe` as a dict.
        git_commit: The version of this repository with which the network was trained.
        versions: Dict from the names of libraries to the versions with which it was
            trained.
        backend: Keras' backend on which it was trained.
        device: The machine on which it was trained.
        seconds: Duration of the training in seconds, or `None` if it was not measured.
        sha256: The file's SHA-256.
        bytes: The file's size in bytes.
        licence: The terms under which the weights are published, and what the
            dataset's terms allow.
        images: Number of held-out images with which the accuracies were measured.
        top1: The network's top-1 accuracy in float32, from 0 to 1.
        top5: The network's top-5 accuracy in float32, from 0 to 1.
        int8_top1: Top-1 accuracy of the network's int8 .tflite file, or `None`.
        parameters: Number of trainable parameters without displacements.
        multiply_adds: Number of MAdds for one image of `input_shape`.
        unshifted: Dict from the names of shift layers to pairs: the number of
            unshifted channels and the number of all channels.
        moved: Dict from the names of layers with learned shifts to pairs: the number
            of channels whose rounded displacement the training changed, and the
            number of all channels.

    Raises:
        ValueError: If a field cannot be true, or if fields contradict each other.
    """

    name: str
    weights: str
    constructor: str
    arguments: dict[str, Any]
    input_shape: tuple[int, ...]
    dataset: str
    classes: int
    class_names: str | tuple[str, ...]
    recipe: dict[str, Any]
    git_commit: str
    versions: dict[str, str]
    backend: str
    device: str
    seconds: float | None
    sha256: str
    bytes: int
    licence: str
    images: int
    top1: float
    top5: float
    int8_top1: float | None
    parameters: int
    multiply_adds: int
    unshifted: dict[str, tuple[int, int]]
    moved: dict[str, tuple[int, int]]

    def __post_init__(self) -> None:
        for field, (rule, holds) in _RULES.items():
            if not holds(getattr(self, field)):
                self._refuse(field, f"must be {rule}")
        set_field = functools.partial(object.__setattr__, self)
        set_field("input_shape", tuple(self.input_shape))
        arguments = {key: _as_tuple(value) for key, value in self.arguments.items()}
        set_field("arguments", arguments)
        if not isinstance(self.class_names, str):
            set_field("class_names", tuple(self.class_names))
        set_field("unshifted", {k: tuple(v) for k, v in self.unshifted.items()})
        set_field("moved", {k: tuple(v) for k, v in self.moved.items()})
        for layer, (_, channels) in self.moved.items():
            if self.unshifted.get(layer, (0, None))[1] != channels:
                self._refuse("moved", "must have layers of `unshifted`, as wide")
        if self.weights.split(".")[0] != self.dataset:
            self._refuse("weights", f"must begin with the dataset, {self.dataset!r}")
        if not self.name.endswith(f".{self.weights}"):
            self._refuse("name", f"must end in .{self.weights}")
        if len(self.labels()) != self.classes:
            self._refuse("class_names", f"must name {self.classes} classes")

    @property
    def recipe_name(self) -> str:
        """The recipe's name."""
        return self.recipe["name"]

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.recipe["seed"]

    @property
    def shift_sparsity(self) -> float | None:
        """The sparsity of all shift layers together, or `None` if there are none."""
        channels = sum(channels for _, channels in self.unshifted.values())
        if not channels:
            return None
        return sum(unshifted for unshifted, _ in self.unshifted.values()) / channels

    def labels(self) -> list[str]:
        """Returns the names of the classes as the dataset has them, in its order."""
        if isinstance(self.class_names, str):
            return [label for label, _ in predictions.class_names(self.class_names)]
        return list(self.class_names)

    def to_json(self) -> str:
        """Returns the record as text, which `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Args:
            text: String.

        Returns:
            A `Record`.

        Raises:
            ValueError: If the text is no record, or if the record cannot be true.
        """
        try:
            found = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"This is no JSON: {error}") from error
        fields = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(found, dict) or set(found) != fields:
            keys = set(found) if isinstance(found, dict) else set()
            raise ValueError(
                f"A record has the fields {sorted(fields)}. Received: one without "
                f"{sorted(fields - keys)} and with {sorted(keys - fields)} beside them"
            )
        return cls(**found)

    def _refuse(self, field, rule):
        raise ValueError(
            f"Field `{field}` of a record {rule}. "
            f"Received: {field}={getattr(self, field)!r}"
        )


def _as_tuple(value):
    # JSON has no tuples.
    return tuple(value) if isinstance(value, list) else value


def _is_text(value):
    return isinstance(value, str) and bool(value)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value):
    return _is_integer(value) and value > 0


def _is_share(value):
    return _is_number(value) and 0 <= value <= 1


def _is_list(value):
    return isinstance(value, (list, tuple))


def _is_names(value):
    return _is_list(value) and all(map(_is_text, value))


def _is_recipe(value):
    return (
        isinstance(value, dict)
        and _is_text(value.get("name"))
        and _is_integer(value.get("seed"))
    )


def _is_parts(value):
    return isinstance(value, dict) and all(
        _is_list(pair)
        and len(pair) == 2
        and all(map(_is_integer, pair))
        and 0 <= pair[0] <= pair[1]
        for pair in value.values()
    )


_TEXT = ("a text", _is_text)
_COUNT = ("a positive integer", _is_count)
_SHARE = ("a number from 0 to 1", _is_share)
_RULES = {
    **dict.fromkeys(("name", "weights", "constructor", "dataset"), _TEXT),
    **dict.fromkeys(("backend", "device", "licence"), _TEXT),
    **dict.fromkeys(("classes", "bytes", "images"), _COUNT),
    **dict.fromkeys(("parameters", "multiply_adds"), _COUNT),
    "arguments": (
        "a JSON object with `alpha`",
        lambda value: isinstance(value, dict) and _is_number(value.get("alpha")),
    ),
    "versions": ("a JSON object", lambda value: isinstance(value, dict)),
    **dict.fromkeys(("top1", "top5"), _SHARE),
    "int8_top1": (
        "None or a number from 0 to 1",
        lambda value: value is None or _is_share(value),
    ),
    "input_shape": (
        "three positive integers",
        lambda value: _is_list(value)
        and len(value) == 3
        and all(map(_is_count, value)),
    ),
    "class_names": (
        "the name of a file in zoo/class_names or a list of names",
        lambda value: _is_text(value) or _is_names(value),
    ),
    "recipe": ("a recipe with a name and a seed", _is_recipe),
    "git_commit": (
        "the 40 hexadecimal digits of a commit",
        lambda value: _is_text(value) and re.fullmatch("[0-9a-f]{40}", value),
    ),
    "seconds": (
        "None or a positive number",
        lambda value: value is None or _is_number(value) and 0 < value < math.inf,
    ),
    "sha256": (
        "64 hexadecimal digits",
        lambda value: _is_text(value) and re.fullmatch("[0-9a-f]{64}", value),
    ),
    "unshifted": (
        "pairs of numbers of unshifted and of all channels by layer",
        _is_parts,
    ),
    "moved": ("pairs of numbers of moved and of all channels by layer", _is_parts),
}


def folder() -> Path:
    """Returns the path of the folder with the published weights.

    Returns:
        A `Path`: the environment variable KERAS_SHIFT_WEIGHTS_DIR, or the folder inside
        this package.

    Raises:
        ValueError: If the environment variable does not name a folder.
    """
    chosen = os.environ.get("KERAS_SHIFT_WEIGHTS_DIR")
    if chosen and not os.path.isdir(chosen):
        raise ValueError(
            "The environment variable KERAS_SHIFT_WEIGHTS_DIR must name a folder. "
            f"Received: KERAS_SHIFT_WEIGHTS_DIR={chosen}"
        )
    return Path(chosen or Path(__file__).parent / "weights")


def list_weights(pattern: str = "*") -> list[str]:
    """Lists the published weights.

    A name consists of the network's name and the name that its constructor and
    `get_model` take as `weights`. For example, `FENet(weights="tiny_imagenet")` has
    the weights `"fenet_1.0.tiny_imagenet"`.

    Example:

    >>> names = keras_shift.zoo.list_weights("*.tiny_imagenet")

    Args:
        pattern: Pattern that the names must match. `*` stands for any text and `?`
            for any character. Defaults to `"*"`.

    Returns:
        A list of strings.
    """
    # The folder may hold other JSON files, too.
    names = [name for name in _recorded() if _weights_of(name).exists()]
    return fnmatch.filter(names, pattern)


def _recorded():
    """Returns the names of all files that may be records."""
    return sorted(path.name.removesuffix(".json") for path in folder().glob("*.json"))


def _weights_of(name):
    return folder() / f"{name}.weights.h5"


def get_record(name: str) -> Record:
    """Returns the record of published weights.

    Example:

    >>> for name in keras_shift.zoo.list_weights():
    ...     record = keras_shift.zoo.get_record(name)
    ...     accuracy = record.top1

    Args:
        name: A name that `list_weights` lists.

    Returns:
        A `Record`, whose attributes are the fields of the JSON file beside the
        weights.

    Raises:
        ValueError: If there is no such record or it is damaged.
    """
    if not (folder() / f"{name}.json").is_file():
        raise ValueError(
            "There are no published weights of this name. "
            f"`keras_shift.zoo.list_weights()` lists: {list_weights()}. "
            f"Received: name={name!r}"
        )
    path = folder() / f"{name}.json"
    try:
        record = Record.from_json(path.read_text(encoding="utf-8"))
        if record.name != name:
            record._refuse("name", "must be the file's")
    except ValueError as error:
        raise ValueError(f"{path} is no record of weights: {error}") from error
    return record


def checked_file(record: Record) -> Path:
    """Checks the file of a record's weights and returns its path.

    Args:
        record: A `Record`.

    Returns:
        A `Path`.

    Raises:
        ValueError: If the file is missing, damaged, or not the record's.
    """
    path = _weights_of(record.name)
    if not path.is_file():
        wrong = "is missing"
    elif (size := path.stat().st_size) != record.bytes:
        wrong = f"has {size} bytes in place of the {record.bytes} of its record"
    else:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == record.sha256:
                return path
        wrong = "is damaged or another file: its SHA-256 is not that of its record"
    raise ValueError(
        f"{path} {wrong}. Install keras-shift again, or let the environment variable "
        "KERAS_SHIFT_WEIGHTS_DIR name a folder with undamaged weights and their "
        "records."
    )


def accepts_names(constructor: Constructor) -> Constructor:
    """Lets a constructor take the names of published weights as `weights`.

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
        record = _find(
            constructor.__name__, weights, given.get("alpha", defaults["alpha"])
        )
        if unknown := sorted(set(record.arguments) - set(defaults)):
            path = folder() / f"{record.name}.json"
            raise ValueError(
                f"{path} is no record of weights: {constructor.__name__} has no "
                f"arguments {unknown}."
            )
        trained = {**defaults, **record.arguments}
        _check_contradictions(record, given, trained)
        path = checked_file(record)
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


def _find(constructor, weights, alpha):
    """Returns the record of a constructor's weights by their name and width."""
    published, damaged = [], []
    for name in _recorded():
        try:
            record = get_record(name)
        except ValueError as error:
            damaged.append(str(error))
            continue
        if record.constructor == constructor:
            published.append(record)
    named = [record for record in published if record.weights == weights]
    for record in named:
        if record.arguments["alpha"] == alpha:
            return record
    unread = f"Some could not be read: {'; '.join(damaged)}. " if damaged else ""
    if named:
        widths = sorted(record.arguments["alpha"] for record in named)
        raise ValueError(
            f"The published weights {weights!r} of {constructor} are those of "
            f"alpha={' and '.join(map(str, widths))}. {unread}"
            f"Received: alpha={alpha}, weights={weights!r}"
        )
    names = sorted({record.weights for record in published})
    raise ValueError(
        "Argument `weights` must be None (random weights), the path of a .weights.h5 "
        f"file, or the name of published weights of {constructor}: "
        f"{names or 'there are none yet'}. {_why_not(constructor, weights)}{unread}"
        f"Received: weights={weights!r}"
    )


def _why_not(constructor, weights):
    if weights not in ("imagenet", "imagenet2012"):
        return ""
    # These modules import the networks, which import this module.
    from keras_shift.zoo import models, recipes

    training = [
        name
        for name in recipes.list_recipes("imagenet2012.*")
        if models.constructor_name(recipes.get_recipe(name).network) == constructor
    ]
    how = f"Its recipe is {training[0]!r}. " if training else ""
    return (
        "FE-Net's authors never released weights, and nobody has trained ours on "
        f"ImageNet yet. {how}"
    )


def _check_contradictions(record, given, trained):
    for argument, value in given.items():
        if argument not in FREE and _as_tuple(value) != trained[argument]:
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
    model = keras.Model(keras.utils.get_source_inputs(tensor), tensor)
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
