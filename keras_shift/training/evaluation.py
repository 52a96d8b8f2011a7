"""Measures how good a trained network is."""

import dataclasses
from collections.abc import Callable, Iterable

import keras
import numpy as np
import numpy.typing as npt
import rich.console
import rich.progress

from keras_shift.training.data import in_batches
from keras_shift.typing import Tensor


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Holds the result of `evaluate`.

    Attributes:
        images: Number of images.
        top1: Share of the images whose class has the largest score.
        top5: Share of the images whose class is among the five largest scores.
    """

    images: int
    top1: float
    top5: float

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%} of {self.images:,} images"


def evaluate(
    model: keras.Model | Callable[[np.ndarray], Tensor],
    images: np.ndarray | Iterable[tuple[Tensor, Tensor]],
    labels: npt.ArrayLike | None = None,
    batch_size: int = 250,
    description: str = "Evaluating",
) -> Accuracy:
    """Measures the accuracy of a network.

    If scores are equal, the first one counts as the largest, as in `argmax`. On a
    terminal, a progress bar estimates the time left.

    Example:

    >>> accuracy = keras_shift.training.evaluate(model, images, labels)
    >>> print(accuracy)
    top-1 ..., top-5 ... of 8 images

    Args:
        model: A `keras.Model`, or any function from a batch of images to an array of
            shape `(images, classes)`.
        images: Array of shape `(count, height, width, channels)` with values in the
            range that the model expects, or batches of images and labels, such as a
            `tf.data.Dataset`.
        labels: Array of shape `(count,)`, the numbers of the images' classes, or `None`
            if `images` are batches. Defaults to `None`.
        batch_size: Int, number of images in a batch. It is ignored if `images` are
            batches. Defaults to `250`.
        description: Text beside the progress bar. Defaults to `"Evaluating"`.

    Returns:
        An `Accuracy`.

    Raises:
        ValueError: If there are no images, or if images, labels and model do not fit
            together.
    """
    if labels is None and hasattr(images, "shape"):
        raise ValueError(
            "Argument `labels` must be given with an array of images. Received: "
            f"images of shape {images.shape}, labels=None"
        )
    batches = images if labels is None else _batches(images, labels, batch_size)
    console = rich.console.Console(stderr=True)
    right, count = np.zeros(2, int), 0
    with rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        for batch, numbers in bar.track(batches, description=description):
            numbers = np.asarray(numbers).reshape(-1)
            scores = _scores(model, np.asarray(batch, "float32"))
            right += _right(scores, numbers)
            count += len(numbers)
    if not count:
        raise ValueError("There must be one image at least. Received: no batches")
    top1, top5 = (right / count).tolist()
    return Accuracy(count, top1, top5)


def _batches(images, labels, batch_size):
    labels = np.asarray(labels).reshape(-1)
    if len(images) != len(labels) or not len(labels):
        raise ValueError(
            "Arguments `images` and `labels` must have the same length, one at least. "
            f"Received: {len(images)} images, {len(labels)} labels"
        )
    return in_batches(images, labels, batch_size)


def _scores(model, images):
    if not isinstance(model, keras.Model):
        return np.asarray(model(images))
    if keras.backend.backend() == "jax":
        # A call of the model would compile every operation on its own.
        return model.predict_on_batch(images)
    # `predict_on_batch` may use XLA, in which TensorFlow's depthwise convolutions are
    # slow on CPUs.
    return keras.ops.convert_to_numpy(model(images, training=False))


def _right(scores, labels):
    """Counts the images whose class has the best score, or one of the five best."""
    if scores.ndim != 2 or len(scores) != len(labels):
        raise ValueError(
            "There must be one label, a number, and one row of scores for each image. "
            f"Received: {len(labels)} labels, and outputs of shape {scores.shape}"
        )
    if not (0 <= labels).all() or labels.max() >= scores.shape[1]:
        raise ValueError(
            "Argument `labels` must hold numbers of the model's classes. Received: "
            f"labels from {labels.min()} to {labels.max()}, and a model with outputs "
            f"of shape {scores.shape}"
        )
    # The negative of an integer that int8 or uint8 holds may be another one's.
    scores = scores.astype("float64")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits = best == labels[:, None]
    # Scores that are not finite count as a wrong answer.
    hits &= np.isfinite(scores).all(axis=1)[:, None]
    return np.array([hits[:, 0].sum(), hits.any(axis=1).sum()])
