"""Says what a training needs of a dataset."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from keras_shift.recipe import Recipe
from keras_shift.training.distribution import Division


class Dataset(Protocol):
    """What `keras_shift.training.train` and measurements need of a dataset.

    `keras_shift.training.Data` and `keras_shift.training.StreamedData` are datasets.
    """

    @property
    def name(self) -> str:
        """The dataset's name."""

    @property
    def class_names(self) -> list[str]:
        """The names of the classes."""

    @property
    def train_count(self) -> int:
        """The number of training images."""

    @property
    def files(self) -> list[str]:
        """The paths of the files that training reads, each of them one image."""

    def fit_arguments(
        self, recipe: Recipe, epoch: int, division: Division
    ) -> dict[str, Any]:
        """Returns the arguments of `Model.fit` that hold the images and labels.

        Args:
            recipe: A `keras_shift.training.Recipe`.
            epoch: Int, the first epoch, counted from 0.
            division: A `keras_shift.training.distribution.Division`.

        Returns:
            A dict of arguments. Its `"callbacks"` is a list of those that the images
            need.
        """

    def held_out_batches(
        self, batch_size: int
    ) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """Returns the held-out images and their labels in batches.

        Args:
            batch_size: Int, number of images in a batch.

        Returns:
            An iterable of pairs, images and labels.
        """

    def training_examples(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns training images of all classes, always the same ones, and labels.

        Args:
            count: Int, the largest number of images.

        Returns:
            A pair of arrays, images of shape `(count, height, width, channels)` and
            labels of shape `(count,)`.
        """
