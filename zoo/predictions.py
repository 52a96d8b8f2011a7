"""Preprocesses the images of networks and decodes their predictions."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_shift.typing import Tensor

_CLASS_NAMES = Path(__file__).parent / "class_names"

# Keras has the names of ImageNet's classes.
_IMAGENET, _IMAGENET_CLASSES = "imagenet2012", 1000

# From this number of classes on, the number tells which dataset they belong to. Many
# datasets have ten classes.
_TELLING = 100


def preprocess_input(x: Tensor, data_format: str | None = None) -> Tensor:
    """Returns images unchanged, since preprocessing is part of the models.

    This function exists because the networks of keras.applications have one. Models
    of the zoo take pixel values in [0, 255], unless they are made with
    `include_preprocessing=False`.

    Example:

    >>> x = keras_shift.zoo.preprocess_input(images)

    Args:
        x: A batch of images, an array or tensor.
        data_format: This argument is not used. Defaults to `None`.

    Returns:
        `x`.
    """
    return x


def decode_predictions(
    preds: Tensor, top: int = 5, dataset: str | Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Returns the names and the scores of the classes with the largest scores.

    Example:

    >>> model = keras_shift.zoo.get_model("shiftresnet20_e3")
    >>> preds = model.predict(images, verbose=0)
    >>> best = keras_shift.zoo.decode_predictions(preds, 3, dataset="cifar10")
    >>> identifier, name, score = best[0][0]

    Args:
        preds: Array or tensor of shape `(images, classes)`, the scores of a batch.
        top: Int, number of classes to return for each image. Defaults to `5`.
        dataset: Name of the dataset that has the classes: `"cifar10"`,
            `"cifar100"`, `"tiny_imagenet"` or `"imagenet2012"` (whose names Keras
            downloads once), or a list with the name of every class. Defaults to
            `None`: the dataset of these four that has as many classes, if there are
            at least a hundred.

    Returns:
        A list with a list of tuples `(identifier, name, score)` for each image,
        largest score first. The identifier is a WordNet id for ImageNet's classes,
        and the same as the name for other classes.

    Raises:
        ValueError: If the dataset is unknown or has another number of classes.
    """
    preds = keras.ops.convert_to_numpy(preds)
    if dataset is None:
        dataset = _dataset_of(preds)
    if isinstance(dataset, str) and dataset == _IMAGENET:
        return keras.applications.imagenet_utils.decode_predictions(preds, top)
    classes = (
        class_names(dataset)
        if isinstance(dataset, str)
        else [(name, name) for name in dataset]
    )
    if preds.ndim != 2 or preds.shape[1] != len(classes):
        raise ValueError(
            "Argument `preds` must have the shape (images, classes) with the "
            f"dataset's {len(classes)} classes. Received: an array of shape "
            f"{preds.shape}"
        )
    # The negative of an integer that int8 or uint8 holds may be another one's.
    order = np.argsort(-preds.astype("float64"), axis=1, kind="stable")[:, :top]
    return [
        [(*classes[index], float(scores[index])) for index in indices]
        for indices, scores in zip(order, preds)
    ]


def class_names(dataset: str) -> list[tuple[str, str]]:
    """Returns the classes of a dataset.

    Args:
        dataset: Name of a file in zoo/class_names, without its ending. Each line of
            the file has one class: its name, or its identifier, a tab, and its name.

    Returns:
        A list of tuples `(identifier, name)`.

    Raises:
        ValueError: If the dataset is unknown.
    """
    if dataset not in _listed():
        raise ValueError(
            f"Argument `dataset` must be one of {_listed()}; or, where predictions are "
            f"decoded, {_IMAGENET!r} or a list of names. Received: dataset={dataset!r}"
        )
    path = _CLASS_NAMES / f"{dataset}.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(line.split("\t")[0], line.split("\t")[-1]) for line in lines]


def _listed():
    """Returns the names of the datasets whose classes are in files."""
    return sorted(path.stem for path in _CLASS_NAMES.iterdir())


def _dataset_of(preds):
    """Returns the dataset that has as many classes as there are scores."""
    counts = {dataset: len(class_names(dataset)) for dataset in _listed()}
    counts[_IMAGENET] = _IMAGENET_CLASSES
    fitting = [
        name
        for name, count in counts.items()
        if preds.shape[1:] == (count,) and count >= _TELLING
    ]
    if len(fitting) != 1:
        raise ValueError(
            "Argument `dataset` must be given, for the number of classes does not tell "
            f"which one it is ({counts}). Received: preds of shape {preds.shape}, "
            "dataset=None"
        )
    return fitting[0]
