"""What is known of a file of trained weights."""

import dataclasses
import functools
import math
import re
from typing import Any, NoReturn, Self

from keras_shift.json_text import fields_of, to_json
from keras_shift.zoo import predictions


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
                self.refuse(field, f"must be {rule}")
        set_field = functools.partial(object.__setattr__, self)
        set_field("input_shape", tuple(self.input_shape))
        arguments = {key: as_tuple(value) for key, value in self.arguments.items()}
        set_field("arguments", arguments)
        if not isinstance(self.class_names, str):
            set_field("class_names", tuple(self.class_names))
        set_field("unshifted", {k: tuple(v) for k, v in self.unshifted.items()})
        set_field("moved", {k: tuple(v) for k, v in self.moved.items()})
        for layer, (_, channels) in self.moved.items():
            if self.unshifted.get(layer, (0, None))[1] != channels:
                self.refuse("moved", "must have layers of `unshifted`, as wide")
        if self.weights.split(".")[0] != self.dataset:
            self.refuse("weights", f"must begin with the dataset, {self.dataset!r}")
        if not self.name.endswith(f".{self.weights}"):
            self.refuse("name", f"must end in .{self.weights}")
        if len(self.labels()) != self.classes:
            self.refuse("class_names", f"must name {self.classes} classes")

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

    def names(self) -> list[str]:
        """Returns what the classes are called, where `labels` may be identifiers."""
        if isinstance(self.class_names, str):
            return [name for _, name in predictions.class_names(self.class_names)]
        return list(self.class_names)

    def to_json(self) -> str:
        """Returns the record as text, which `from_json` reads."""
        return to_json(self)

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
        saved = fields_of(text, "record")
        keys, fields = set(saved), {field.name for field in dataclasses.fields(cls)}
        if keys != fields:
            raise ValueError(
                f"A record has the fields {sorted(fields)}. Received: one without "
                f"{sorted(fields - keys)} and with {sorted(keys - fields)} beside them"
            )
        return cls(**saved)

    def refuse(self, field: str, rule: str) -> NoReturn:
        """Raises the error for a field that cannot be true.

        Args:
            field: Name of the field.
            rule: What it must be.
        """
        raise ValueError(
            f"Field `{field}` of a record {rule}. "
            f"Received: {field}={getattr(self, field)!r}"
        )


def as_tuple(value: Any) -> Any:
    """Returns a list as a tuple, since JSON has none, and other values as they are."""
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
