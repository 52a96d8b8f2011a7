"""Verifies that a .tflite file answers as the Keras model does."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shift.deploy.agreement import Agreement, compare, pool
from keras_shift.deploy.interpreter import LiteRTModel
from keras_shift.image_batches import batches, no_image, random_pixels

# One call of the Keras model takes this number of images.
_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a .tflite file holds, and how it compares with a Keras model.

    Attributes:
        path: Path of the file.
        bytes: Size of the file in bytes.
        input_shape: Shape of the input, with the batch size in front.
        input_type: Type of the input.
        output_shape: Shape of the output, with the batch size in front.
        output_type: Type of the output.
        operations: Number of builtin operations by name, the most frequent first.
        not_builtin: Number of the other operations by name, which a plain runtime does
            not have.
        partitions: Into how many parts XNNPACK cut the file. See
            `keras_shift.deploy.LiteRTModel.partitions`.
        agreement: Agreement with the Keras model.
        compared_on: Name of the argument that the images were passed as, or
            `"random pixels"`.
        accuracy: Top-1 accuracy of the file, or `None` without labels.
        keras_accuracy: Top-1 accuracy of the Keras model, or `None` without labels.
    """

    path: str
    bytes: int
    input_shape: tuple[int, ...]
    input_type: str
    output_shape: tuple[int, ...]
    output_type: str
    operations: dict[str, int]
    not_builtin: dict[str, int]
    partitions: int | None
    agreement: Agreement
    compared_on: str
    accuracy: float | None
    keras_accuracy: float | None

    def __str__(self) -> str:
        rows = self.rows()
        width = max(map(len, rows))
        lines = (f"  {name:<{width}}  {text}" for name, text in rows.items())
        return "\n".join([self.path, *lines])

    def rows(self) -> dict[str, str]:
        """Returns what is printed: texts by their names."""
        same = self.agreement
        pixels = "the pixels of " if len(self.output_shape) > 2 else ""
        rows = {
            "size": _size(self.bytes),
            "input": f"{self.input_shape} {self.input_type}",
            "output": f"{self.output_shape} {self.output_type}",
            "same top-1 as Keras": f"{same.top1:.1%} of {pixels}{same.images} images "
            f"({self.compared_on})",
            "largest difference": f"{same.largest_difference:.2g} "
            f"({same.relative_difference:.2g} of the largest output)",
        }
        if self.accuracy is not None:
            rows["top-1 accuracy"] = (
                f"{self.accuracy:.1%}, and {self.keras_accuracy:.1%} in Keras"
            )
        rows["XNNPACK partitions"] = (
            "not known" if self.partitions is None else str(self.partitions)
        )
        rows["operations"] = _counted(self.operations)
        if self.not_builtin:
            rows["not builtin"] = _counted(self.not_builtin)
        return rows


def verify(
    path: str | os.PathLike[str],
    model: keras.Model,
    data: ArrayLike | Iterable[Any] | keras.utils.PyDataset | None = None,
) -> Verification:
    """Runs a .tflite file beside the Keras model that it was made from.

    Example:

    >>> check = keras_shift.deploy.verify("model.tflite", model, (images, labels))
    >>> check.agreement.top1
    1.0
    >>> print(check)
    model.tflite
      size                 ...

    Args:
        path: Path of the file, which has one input and one output.
        model: A functional or sequential `keras.Model` with one input and one output.
        data: Images in the range that the model expects: an array, a pair of
            arrays `(images, labels)`, or an iterable (such as a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator) of images,
            of batches, or of tuples `(images, labels)`. All of them are compared,
            a batch at a time. Labels are class numbers or one-hot rows, and others are
            ignored. `None` stands for a few images of random pixels from 0 to 255.
            Defaults to `None`.

    Returns:
        A `Verification`, which prints as a table.

    Raises:
        OSError: If there is no such file.
        ValueError: If the file is damaged, or file, model and data do not fit
            together.
    """
    lite = LiteRTModel(path)
    if data is None:
        data, compared_on = random_pixels(lite.input_shape[1:]), "random pixels"
    else:
        compared_on = "data"
    return compare_with_model(lite, model, data, compared_on)


def compare_with_model(
    lite: LiteRTModel,
    model: keras.Model,
    data: ArrayLike | Iterable[Any] | keras.utils.PyDataset,
    compared_on: str,
) -> Verification:
    """Does what `verify` does, for a file that is loaded already.

    Args:
        lite: The file.
        model: As in `verify`.
        data: As in `verify`.
        compared_on: What the `Verification` calls the data.

    Returns:
        A `Verification`.

    Raises:
        ValueError: If file, model and data do not fit together.
    """
    model = _single(model)
    _check_fit(lite, model)
    shape = lite.input_shape[1:]
    agreements, right, labelled = [], np.zeros(2), 0
    for images, labels in _in_batches(batches(data, shape, "data")):
        outputs = lite.predict(images)
        reference = keras.ops.convert_to_numpy(model(images, training=False))
        agreements.append(compare(outputs, reference))
        classes = _classes(labels, outputs.shape)
        if classes is not None:
            labelled += len(classes)
            right += [
                np.sum(scores.argmax(1) == classes) for scores in (outputs, reference)
            ]
    if not agreements:
        raise no_image("data")
    accuracies = right / labelled if labelled else (None, None)
    return Verification(
        path=lite.path,
        bytes=lite.bytes,
        input_shape=lite.input_shape,
        input_type=lite.input_type,
        output_shape=lite.output_shape,
        output_type=lite.output_type,
        operations=lite.operations,
        not_builtin=lite.not_builtin,
        partitions=lite.partitions(),
        agreement=pool(agreements),
        compared_on=compared_on,
        accuracy=accuracies[0],
        keras_accuracy=accuracies[1],
    )


def _single(model):
    """Returns the model without lists around its one input and its one output."""
    inputs = getattr(model, "inputs", None) or ()
    if len(inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "Argument `model` must be a functional or sequential model with one "
            f"input and one output. Received: model={model}"
        )
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _check_fit(lite, model):
    for side, file_shape, model_shape in (
        ("images", lite.input_shape[1:], model.input_shape[1:]),
        ("outputs", lite.output_shape[1:], model.output_shape[1:]),
    ):
        fits = len(file_shape) == len(model_shape) and all(
            wanted in (None, size) for size, wanted in zip(file_shape, model_shape)
        )
        if not fits:
            raise ValueError(
                "Argument `model` must be the model that the file was made from. "
                f"Received: a model with {side} of shape {model_shape}, and "
                f"{lite.path} with {side} of shape {file_shape}"
            )


def _in_batches(pairs):
    for images, labels in pairs:
        for start in range(0, len(images), _BATCH_SIZE):
            part = slice(start, start + _BATCH_SIZE)
            yield images[part], None if labels is None else labels[part]


def _classes(labels, output_shape):
    """Returns labels as class numbers, or `None` if they are no classes."""
    if labels is None or len(output_shape) != 2 or output_shape[1] < 2:
        return None
    if labels.shape == output_shape:
        return labels.argmax(1)
    if labels.size != len(labels) or labels.dtype.kind not in "iu":
        return None
    classes = labels.reshape(-1)
    if not ((0 <= classes) & (classes < output_shape[1])).all():
        raise ValueError(
            f"Argument `data` must have labels from 0 to {output_shape[1] - 1}, the "
            "model's classes. Received: labels from "
            f"{classes.min()} to {classes.max()}"
        )
    return classes


def _size(count):
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _counted(operations):
    return ", ".join(f"{count} {name}" for name, count in operations.items())
