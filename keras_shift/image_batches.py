"""Reads images from arrays, datasets and other iterables."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shift.image_files import naming_unreadable

_RANDOM_IMAGES = 8

# No pixel value is larger. With pixel values up to this one, no sum in a network is
# infinite in float32: an infinite range would make LiteRT's converter kill the process.
_LARGEST = 1e9


def random_pixels(shape: Sequence[int]) -> np.ndarray:
    """Returns a few images of random pixel values, the same ones in every call.

    Args:
        shape: Shape of one image.

    Returns:
        A float32 array of 8 images, with values from 0 to 255.
    """
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (_RANDOM_IMAGES, *shape)).astype("float32")


def batches(
    data: ArrayLike | Iterable[Any] | keras.utils.PyDataset,
    shape: tuple[int, ...],
    argument: str,
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Iterates over images in batches, with their labels if there are any.

    Args:
        data: An array of images, a pair of arrays `(images, labels)`, or an iterable
            of images, of batches, or of tuples `(images, labels, ...)`, such as a
            `tf.data.Dataset`, a generator, a list or a `keras.utils.PyDataset`.
        shape: Shape of one image.
        argument: Name of the argument that `data` was passed as, for messages.

    Yields:
        Pairs of a float32 array of shape `(count, *shape)` and an array of `count`
        labels, or `None`. Labels that are a dict are left out.

    Raises:
        ValueError: If there is something else in `data`, an image whose file cannot be
            read, or one with numbers that are not finite or too large for pixels.
    """
    # Datasets of `keras.utils.image_dataset_from_directory` have `file_paths`.
    with naming_unreadable(getattr(data, "file_paths", None)):
        for batch in _iterate(data, shape, argument):
            yield _checked(batch, shape, argument)


def _checked(batch, shape, argument):
    labels = None
    if isinstance(batch, (tuple, list)):
        batch, labels = batch[0], batch[1] if len(batch) > 1 else None
    if isinstance(labels, dict):
        labels = None  # They are not one label for each image.
    if isinstance(batch, dict):
        raise ValueError(
            f"Argument `{argument}` must hold images or tuples (images, labels). "
            f"Received: a dictionary with the keys {list(batch)}. Pass, for "
            'example, `data.map(lambda batch: batch["image"])`.'
        )
    images = np.asarray(batch)
    if images.shape == shape:
        images = images[None]
        labels = None if labels is None else np.asarray(labels)[None]
    if images.shape[1:] != shape or images.dtype.kind not in "biuf":
        raise ValueError(
            f"Argument `{argument}` must hold images of shape {shape}. "
            f"Received: a batch of shape {images.shape} and type {images.dtype}"
        )
    if not ((-_LARGEST <= images) & (images <= _LARGEST)).all():
        raise ValueError(
            f"Argument `{argument}` must hold images of finite numbers, from "
            f"{-_LARGEST:g} to {_LARGEST:g}. Received: images with numbers from "
            f"{images.min():g} to {images.max():g}"
        )
    if labels is not None and np.shape(labels)[:1] != images.shape[:1]:
        raise ValueError(
            f"Argument `{argument}` must hold as many labels as images. Received: "
            f"{len(images)} images with labels of shape {np.shape(labels)}"
        )
    return images.astype("float32"), labels if labels is None else np.asarray(labels)


# More images hardly change the ranges of activations, and a whole training set takes
# hours.
CALIBRATION_IMAGES = 512


def collect(
    data: ArrayLike | Iterable[Any] | keras.utils.PyDataset,
    shape: tuple[int, ...],
    argument: str,
    most: int,
) -> np.ndarray:
    """Returns the first images of `data` as one array.

    Args:
        data: See `batches`.
        shape: See `batches`.
        argument: See `batches`.
        most: How many images to read at most.

    Returns:
        A float32 array of shape `(count, *shape)`.

    Raises:
        ValueError: If there is no image, and as `batches` does.
    """
    parts, missing = [], most
    for images, _ in batches(data, shape, argument):
        parts.append(images[:missing])
        missing -= len(parts[-1])
        if not missing:
            break
    if missing == most:
        raise no_image(argument)
    return np.concatenate(parts)


def no_image(argument: str) -> ValueError:
    """Returns the error to raise where an argument holds no image.

    Args:
        argument: Name of the argument.
    """
    return ValueError(
        f"Argument `{argument}` must hold one image at least. Received: none"
    )


def _iterate(data, shape, argument):
    pair = isinstance(data, tuple) and len(data) == 2
    if pair and np.shape(data[0])[1:] == shape != np.shape(data[1])[1:]:
        return [data]
    if hasattr(data, "shape"):
        return [data]
    if isinstance(data, keras.utils.PyDataset):
        # The loop over a PyDataset itself never ends.
        count = data.num_batches
        numbers = itertools.count() if count is None else range(count)
        return map(data.__getitem__, numbers)
    if isinstance(data, (str, dict)) or not hasattr(data, "__iter__"):
        raise ValueError(
            f"Argument `{argument}` must be an array of images or an iterable of "
            f"images, of batches or of tuples (images, labels). Received: {data!r}"
        )
    return data
