"""What stands before a network's images and after its predictions."""

from pathlib import Path

import keras
import numpy as np

_CLASS_NAMES = Path(__file__).parent / "class_names"

# Keras has the names of its classes.
_IMAGENET, _IMAGENET_CLASSES = "imagenet2012", 1000

# So many classes tell which dataset they are of: ten are anybody's.
_TELLING = 100


def preprocess_input(x, data_format=None):
    """Returns images as they are: preprocessing is part of the models.

    It stands here since the networks of keras.applications have one. Models of
    the zoo take pixel values in [0, 255], unless they were made with
    `include_preprocessing=False`.

    Example:

    >>> x = keras_shift.zoo.preprocess_input(images)

    Args:
        x: A batch of images, an array or tensor.
        data_format: Unused.

    Returns:
        `x`.
    """
    return x


def decode_predictions(preds, top=5, dataset=None):
    """Names the classes of predictions.

    Example:

    >>> model = keras_shift.zoo.get_model("shiftresnet20_e3")
    >>> preds = model.predict(images, verbose=0)
    >>> best = keras_shift.zoo.decode_predictions(preds, 3, dataset="cifar10")
    >>> identifier, name, score = best[0][0]

    Args:
        preds: Array of shape `(images, classes)`, the scores of a batch.
        top: How many classes to return for each image.
        dataset: Whose classes they are: `"cifar10"`, `"cifar100"`,
            `"tiny_imagenet"` or `"imagenet2012"` (whose names Keras downloads
            once); or a list with the name of every class. By default that of these
            datasets which has as many classes, if they are a hundred or more.

    Returns:
        For each image a list of tuples `(identifier, name, score)`, largest
        score first. The identifier is a WordNet id for ImageNet's classes, and
        elsewhere the name once more.

    Raises:
        ValueError: If the dataset is unknown, or has another number of classes.
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
    order = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [
        [(*classes[index], float(scores[index])) for index in indices]
        for indices, scores in zip(order, preds)
    ]


def class_names(dataset):
    """Returns the classes of a dataset.

    Args:
        dataset: Name of a file in zoo/class_names: one class on each line, either
            its name or its identifier, a tab, and its name.

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
    """Names of the datasets whose classes are in files."""
    return sorted(path.stem for path in _CLASS_NAMES.iterdir())


def _dataset_of(preds):
    """The dataset that has as many classes as there are scores."""
    counts = {dataset: len(class_names(dataset)) for dataset in _listed()}
    counts[_IMAGENET] = _IMAGENET_CLASSES
    found = [
        name
        for name, count in counts.items()
        if preds.shape[1:] == (count,) and count >= _TELLING
    ]
    if len(found) != 1:
        raise ValueError(
            "Argument `dataset` must be given, for the number of classes does not tell "
            f"which one it is ({counts}). Received: preds of shape {preds.shape}, "
            "dataset=None"
        )
    return found[0]
