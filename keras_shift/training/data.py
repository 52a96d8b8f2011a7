"""Loads images for training and evaluation."""

import dataclasses
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

import keras
import numpy as np

from keras_shift.image_files import naming_unreadable
from keras_shift.recipe import AUGMENTATIONS, Recipe
from keras_shift.training.augmentation import augment
from keras_shift.training.distribution import Division
from keras_shift.training.streaming import (
    ClassFolders,
    StreamedData,
    TFDSSplit,
    import_tensorflow,
)

# These are the names of held-out splits. The first one that exists is used.
_HELD_OUT = ("validation", "val", "test")

_DECODING_BATCH = 256

# The array `classes` is optional.
_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")

# No dataset has nearly as many classes, so a larger number cannot be a label.
_LARGEST_LABEL = 10**6

# Seeds of `numpy.random.default_rng` begin with one of these numbers, so that the order
# of images and their augmentation never get the same random numbers.
_ORDER, _AUGMENTATION = 1, 2


@dataclasses.dataclass(frozen=True)
class Data:
    """Holds a dataset that fits into memory.

    Attributes:
        name: The dataset's name.
        train_images: Array of shape `(count, height, width, channels)`, uint8.
        train_labels: Array of shape `(count,)`, int32.
        held_out_images: The held-out images, an array like `train_images`.
        held_out_labels: Their labels, an array like `train_labels`.
        class_names: List of the classes' names.

    Raises:
        ValueError: If there is not exactly one label for each image, or if a label is
            not the number of a class.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray
    class_names: list[str]

    def __post_init__(self) -> None:
        classes = len(self.class_names)
        for images, labels in (
            (self.train_images, self.train_labels),
            (self.held_out_images, self.held_out_labels),
        ):
            if np.shape(labels) != np.shape(images)[:1]:
                raise ValueError(
                    f"{self.name} does not have one label for each image. Received: "
                    f"images of shape {np.shape(images)} with labels of shape "
                    f"{np.shape(labels)}"
                )
            labels = np.asarray(labels)
            if (
                labels.dtype.kind not in "iu"
                or not ((0 <= labels) & (labels < classes)).all()
            ):
                raise ValueError(
                    f"The labels of {self.name} must be integers from 0 to "
                    f"{classes - 1}, the numbers of its classes. Received: "
                    f"{_range(labels)}"
                )

    @property
    def train_count(self) -> int:
        """The number of training images."""
        return len(self.train_images)

    @property
    def files(self) -> list[str]:
        """The paths of the files that training reads. The list is empty."""
        return []

    def fit_arguments(
        self, recipe: Recipe, epoch: int, division: Division
    ) -> dict[str, Any]:
        """Returns the arguments of `Model.fit` that hold the images and labels.

        Args:
            recipe: A `Recipe`.
            epoch: Int, the first epoch, counted from 0.
            division: A `keras_shift.training.distribution.Division`.

        Returns:
            A dict of arguments.
        """
        batches = TrainingBatches(
            self.train_images,
            self.train_labels,
            recipe.batch_size,
            recipe.augmentation,
            recipe.crop_padding,
            recipe.seed,
            epoch=epoch,
            share=division.share,
        )
        # Devices that share batches need equal parts.
        complete = len(self.held_out_images) // division.devices * division.devices
        part = slice(division.index, complete, division.processes)
        # Keras reads a first batch before it trains. Whether this ends an epoch depends
        # on the version and the backend.
        order = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: batches.start_epoch(epoch)
        )
        return {
            "x": batches,
            "callbacks": [order],
            "validation_data": (self.held_out_images[part], self.held_out_labels[part]),
            "validation_batch_size": division.evaluation_batch // division.processes,
        }

    def held_out_batches(self, batch_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns the held-out images and their labels in batches.

        Args:
            batch_size: Int, number of images in a batch.

        Returns:
            A list of pairs of arrays, images and labels.
        """
        return in_batches(self.held_out_images, self.held_out_labels, batch_size)

    def training_examples(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns training images of all classes, always the same ones, and labels.

        Args:
            count: Int, number of images. If the dataset has fewer, all are returned.

        Returns:
            A pair of arrays, of shape `(count, height, width, channels)` and of shape
            `(count,)`.
        """
        # The images are taken at equal distances, since a dataset from folders is
        # sorted by class.
        last = len(self.train_images) - 1
        chosen = np.linspace(0, last, min(count, last + 1)).round().astype(int)
        return self.train_images[chosen], self.train_labels[chosen]

    def subset(
        self, images_per_class: int, held_out_per_class: int | None = None
    ) -> Self:
        """Returns a dataset of the first images of every class.

        Args:
            images_per_class: Int, number of training images of each class.
            held_out_per_class: Int, number of held-out images of each class, or `None`
                for all of them. Defaults to `None`.

        Returns:
            A `Data`.
        """
        train = _first(self.train_labels, images_per_class)
        held_out = _first(self.held_out_labels, held_out_per_class)
        return dataclasses.replace(
            self,
            train_images=self.train_images[train],
            train_labels=self.train_labels[train],
            held_out_images=self.held_out_images[held_out],
            held_out_labels=self.held_out_labels[held_out],
        )


@overload
def load_data(
    name: str,
    image_size: Sequence[int],
    data_dir: str | os.PathLike[str] | None = None,
    augmentation: Literal["none", "flip", "flip_crop"] = "none",
) -> Data: ...


@overload
def load_data(
    name: str,
    image_size: Sequence[int],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    augmentation: Literal["inception"],
) -> StreamedData: ...


@overload
def load_data(
    name: str,
    image_size: Sequence[int],
    data_dir: str | os.PathLike[str] | None = None,
    augmentation: str = "none",
) -> Data | StreamedData: ...


def load_data(
    name: str,
    image_size: Sequence[int],
    data_dir: str | os.PathLike[str] | None = None,
    augmentation: str = "none",
) -> Data | StreamedData:
    """Loads a dataset.

    It loads the first of these that exists:

    1.  The file `data_dir/name.npz` with the arrays `x_train` and `x_test` (images,
        uint8), `y_train` and `y_test` (numbers of classes) and optionally `classes`
        (names of the classes).
    2.  The folder `data_dir/name/`, or `data_dir` itself if that is called `name`. It
        has a folder `train` and one of the folders `validation`, `val` and `test`, and
        each of them has one folder of images for each class. This needs TensorFlow.
    3.  The dataset of this name in TensorFlow Datasets.

    Images of another size are cropped in the middle to the aspect ratio and then
    resized. The augmentation `"inception"` is different: it uses parts of images of any
    size, so the images are not loaded now but read during training.

    Example:

    >>> data = keras_shift.training.load_data("cifar10", (32, 32), data_dir=".")
    >>> data.train_images.shape[1:]
    (32, 32, 3)

    Args:
        name: Name of the dataset.
        image_size: Height and width of images, in pixels.
        data_dir: Path of a folder, or `None` for the folder of TensorFlow Datasets.
            Defaults to `None`.
        augmentation: The recipe's augmentation. Defaults to `"none"`.

    Returns:
        A `Data`, or with the augmentation `"inception"` a `StreamedData`.

    Raises:
        ValueError: If there is no such dataset or it cannot be used.
    """
    image_size = tuple(image_size)
    streamed = augmentation == "inception"
    if data_dir is not None:
        folder = Path(data_dir)
        if (folder / f"{name}.npz").is_file():
            if streamed:
                raise ValueError(
                    f"{folder / name}.npz holds images of one size; the augmentation "
                    '"inception" takes parts of whole photographs, from folders or '
                    "TensorFlow Datasets."
                )
            return _from_arrays(name, folder / f"{name}.npz", image_size)
        if folder.name != name:
            folder = folder / name
        if (folder / "train").is_dir():
            return _from_folders(name, folder, image_size, streamed)
    return _from_tfds(name, image_size, data_dir, streamed)


def in_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divides arrays into batches and keeps their order.

    Args:
        images: Array of images.
        labels: Array of as many labels.
        batch_size: Int, number of images in a batch. The last batch may have fewer.

    Returns:
        A list of pairs of arrays, images and labels.
    """
    starts = range(0, len(images), batch_size)
    parts = [slice(start, start + batch_size) for start in starts]
    return [(images[part], labels[part]) for part in parts]


def _from_arrays(name, path, image_size):
    try:
        with open(path, "rb") as file, np.load(file) as members:
            arrays = {key: members[key] for key in _ARRAYS if key in members}
    # The type of the error depends on where the file is damaged.
    except Exception as error:
        raise ValueError(f"{path} is no .npz file, or damaged: {error}") from error
    if missing := sorted(set(_ARRAYS[:4]) - set(arrays)):
        raise ValueError(f"{path} lacks the arrays {missing}.")
    train, held_out = (
        (arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test")
    )
    names = [str(name) for name in arrays.get("classes", ())]
    for images, labels in (train, held_out):
        if (
            images.ndim != 4
            or images.dtype != "uint8"
            or images.shape[1:3] != image_size
        ):
            raise ValueError(
                f"The images of {path} must be arrays of shape (count, height, width, "
                f"channels) and type uint8, of image_size={image_size}. Received: "
                f"arrays of shape {images.shape} and type {images.dtype}"
            )
        if (
            labels.dtype.kind not in "iu"
            or (labels < 0).any()
            or (labels > _LARGEST_LABEL).any()
        ):
            raise ValueError(
                f"The labels of {path} must be integers, none below 0 or above "
                f"{_LARGEST_LABEL}. Received: {_range(labels)}"
            )
    return _checked(name, train, held_out, names)


def _from_folders(name, folder, image_size, streamed):
    held_out = next((s for s in _HELD_OUT if (folder / s).is_dir()), None)
    if held_out is None:
        raise ValueError(f"{folder} must have one of the folders {_HELD_OUT}.")
    if streamed:
        streams = [ClassFolders(folder / split) for split in ("train", held_out)]
        _check_same_classes(folder, held_out, *(split.class_names for split in streams))
        return StreamedData(name, image_size, streams[0].class_names, *streams)
    splits = [
        keras.utils.image_dataset_from_directory(
            folder / split,
            image_size=image_size,
            batch_size=_DECODING_BATCH,
            shuffle=False,
            crop_to_aspect_ratio=True,
            verbose=False,
        )
        for split in ("train", held_out)
    ]
    _check_same_classes(folder, held_out, *(split.class_names for split in splits))
    with naming_unreadable(sum((split.file_paths for split in splits), [])):
        train, others = map(_arrays, splits)
    return _checked(name, train, others, splits[0].class_names)


def _check_same_classes(folder, held_out, train_classes, classes):
    if apart := sorted(set(train_classes) ^ set(classes)):
        raise ValueError(
            "All splits must have the same folders, one for each class. Received: "
            f"{folder}, where only one of train and {held_out} has {apart[:5]}"
        )


def _from_tfds(name, image_size, data_dir, streamed):
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ValueError(
            f"There is neither {name}.npz nor a folder {name}/train in the folder "
            "`data_dir`, and TensorFlow Datasets, where it may be, is not installed: "
            f'pip install "keras-shift[train]". Received: data_dir={data_dir!r}'
        )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            f"There is neither {name}.npz nor a folder {name}/train in the folder "
            f"`data_dir`, nor a dataset of this name in TensorFlow Datasets. "
            f"Received: name={name!r}, data_dir={data_dir!r}"
        ) from error
    builder.download_and_prepare()
    # The builder knows no splits when tests replace its data with made-up examples.
    held_out = next((s for s in _HELD_OUT if s in builder.info.splits), "test")
    splits = [TFDSSplit(builder, split) for split in ("train", held_out)]
    if streamed:
        return StreamedData(name, image_size, splits[0].class_names, *splits)

    def fit(image, label):
        return _fitted(image, image_size), label

    def read(split):
        dataset = builder.as_dataset(split=split, as_supervised=True)
        if builder.info.features[splits[0].image].shape[:2] != image_size:
            dataset = dataset.map(fit)
        return _arrays(dataset.batch(_DECODING_BATCH).prefetch(2))

    return _checked(name, read("train"), read(held_out), splits[0].class_names)


def _fitted(image, image_size):
    """Crops an image in the middle to the aspect ratio, and resizes it.

    `keras.utils.image_dataset_from_directory` does the same. `smart_resize` cannot be
    used, since it computes with the tensors of Keras' backend and not with tf.data's.
    """
    tf = import_tensorflow()
    size = tf.shape(image)[:2]
    height, width = tf.unstack(size)
    target_height, target_width = image_size
    covered = tf.stack(
        [width * target_height // target_width, height * target_width // target_height]
    )
    part = tf.maximum(tf.minimum(size, covered), 1)
    top, left = tf.unstack((size - part) // 2)
    image = tf.image.crop_to_bounding_box(image, top, left, *tf.unstack(part))
    return tf.image.resize(image, image_size)


def _arrays(dataset):
    """Returns the images and the labels of a dataset of batches."""
    images, labels = [], []
    for batch, batch_labels in dataset.as_numpy_iterator():
        images.append(np.clip(np.rint(batch), 0, 255).astype("uint8"))
        labels.append(batch_labels)
    return np.concatenate(images), np.concatenate(labels)


def _checked(name, train, held_out, class_names):
    (train_images, train_labels), (images, labels) = (
        (images, np.asarray(labels, "int32").reshape(-1))
        for images, labels in (train, held_out)
    )
    classes = 1 + max(train_labels.max(initial=-1), labels.max(initial=-1))
    if not class_names:
        class_names = [str(label) for label in range(classes)]
    if len(class_names) < classes:
        raise ValueError(f"{name} has {classes} classes, but {len(class_names)} names.")
    return Data(name, train_images, train_labels, images, labels, list(class_names))


def _range(labels):
    """Describes labels for an error message."""
    first = f"{labels.reshape(-1)[:5]}... of type {labels.dtype}"
    if labels.dtype.kind in "iu" and labels.size:
        return f"{first}, from {labels.min()} to {labels.max()}"
    return first


def _first(labels, per_class):
    """Returns indices of the first `per_class` images of each class, in order."""
    if per_class is None:
        return np.arange(len(labels))
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([members[:per_class] for members in classes]))


class TrainingBatches(keras.utils.PyDataset):
    """Makes batches whose images depend only on the seed, the epoch and the index.

    The order of images and their augmentation are the same on every backend, with any
    number of workers, and whether or not the training was interrupted.

    Example:

    >>> batches = keras_shift.training.TrainingBatches(images, labels, 4, seed=0)
    >>> history = model.fit(batches, epochs=2, verbose=0)

    Args:
        images: Array of shape `(count, height, width, channels)`.
        labels: Array of shape `(count,)`.
        batch_size: Int, number of images in a batch. An incomplete last batch is left
            out.
        augmentation: `"none"`, `"flip"` or `"flip_crop"`, see `Recipe`. Defaults to
            `"none"`.
        crop_padding: Int, see `Recipe`. Defaults to `4`.
        seed: Int, seed of order and augmentation. Defaults to `0`.
        epoch: Int, the first epoch, counted from 0. Defaults to `0`.
        share: Tuple `(index, processes)`, which says what part of every batch this
            process trains on. All processes together train on whole batches. Defaults
            to `(0, 1)`, one process.
        **options: Further arguments of `keras.utils.PyDataset`, such as `workers`.

    Raises:
        ValueError: If the augmentation is unknown or for streamed data only, or if
            `batch_size` is not a multiple of the number of processes.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        augmentation: str = "none",
        crop_padding: int = 4,
        seed: int = 0,
        epoch: int = 0,
        share: tuple[int, int] = (0, 1),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if augmentation == "inception":
            raise ValueError(
                'The augmentation "inception" is for streamed data, which '
                "`load_data(..., augmentation=...)` returns for it. "
                f"Received: augmentation={augmentation!r} with images in memory"
            )
        if augmentation not in AUGMENTATIONS:
            raise ValueError(
                f"Argument `augmentation` must be one of {AUGMENTATIONS}. "
                f"Received: augmentation={augmentation!r}"
            )
        if batch_size % share[1]:
            raise ValueError(
                "Argument `batch_size` must be a multiple of the number of processes. "
                f"Received: batch_size={batch_size}, share={share}"
            )
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.crop_padding = crop_padding
        self.seed = seed
        self.share = share
        self.start_epoch(epoch)

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        first = index * self.batch_size
        rows = self._order[first : first + self.batch_size]
        random = np.random.default_rng((_AUGMENTATION, self.seed, self._epoch, index))
        images = augment(
            self.images[rows], self.augmentation, self.crop_padding, random
        )
        part = slice(self.share[0], None, self.share[1])
        return images[part].astype("float32"), self.labels[rows][part]

    def on_epoch_end(self) -> None:
        self.start_epoch(self._epoch + 1)

    def start_epoch(self, epoch: int) -> None:
        """Switches to the order of an epoch.

        At the end of an epoch, the batches switch to the next one by themselves.

        Args:
            epoch: Int, the epoch, counted from 0.
        """
        random = np.random.default_rng((_ORDER, self.seed, epoch))
        self._order = random.permutation(len(self.images))
        self._epoch = epoch
