"""Images to train on and to be measured with."""

import dataclasses
import importlib.util
from pathlib import Path

import keras
import numpy as np

from keras_shift.image_files import naming_unreadable
from keras_shift.training.augmentation import augment
from keras_shift.training.recipe import AUGMENTATIONS
from keras_shift.training.streaming import (
    ClassFolders,
    StreamedData,
    TFDSSplit,
    import_tensorflow,
)

# Names that a held-out split has, the first that exists is taken.
_HELD_OUT = ("validation", "val", "test")

_DECODING_BATCH = 256

# The last one need not be there.
_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")

# No dataset has nearly as many classes; what is larger is no label.
_LARGEST_LABEL = 10**6

# What `numpy.random.default_rng` is seeded with first, so that two of them never agree.
_ORDER, _AUGMENTATION = 1, 2


@dataclasses.dataclass(frozen=True)
class Data:
    """A dataset that fits into memory.

    Attributes:
        name: Its name.
        train_images: Array of shape `(count, height, width, channels)`, uint8.
        train_labels: Array of shape `(count,)`, int32.
        images: The held-out images, likewise.
        labels: Their labels, likewise.
        class_names: List of the classes' names.

    Raises:
        ValueError: If there is not one label for each image, a number of a class.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    class_names: list[str]

    def __post_init__(self):
        classes = len(self.class_names)
        for images, labels in (
            (self.train_images, self.train_labels),
            (self.images, self.labels),
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
    def train_count(self):
        """Number of training images."""
        return len(self.train_images)

    @property
    def files(self):
        """Paths of the images that training reads: none."""
        return []

    def fit_arguments(self, recipe, epoch, division):
        """Returns what `Model.fit` is to train on, and to be measured with.

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
        # Devices that share batches want equal parts.
        complete = len(self.images) // division.devices * division.devices
        part = slice(division.index, complete, division.processes)
        return {
            "x": batches,
            "validation_data": (self.images[part], self.labels[part]),
            "validation_batch_size": division.evaluation_batch // division.processes,
        }

    def held_out_batches(self, batch_size):
        """Returns the held-out images in batches, with their labels.

        Args:
            batch_size: Int, images in a batch.

        Returns:
            A list of pairs of arrays.
        """
        return in_batches(self.images, self.labels, batch_size)

    def training_sample(self, count):
        """Returns some training images, always the same, of all classes.

        Args:
            count: Int, number of images; all, if there are fewer.

        Returns:
            An array of shape `(count, height, width, channels)`.
        """
        return self.training_examples(count)[0]

    def training_examples(self, count):
        """Returns what `training_sample` does, and the images' labels.

        Args:
            count: Int, number of images; all, if there are fewer.

        Returns:
            A pair of arrays, of shape `(count, height, width, channels)` and of shape
            `(count,)`.
        """
        # At equal distances: in folders, one class follows the other.
        last = len(self.train_images) - 1
        chosen = np.linspace(0, last, min(count, last + 1)).round().astype(int)
        return self.train_images[chosen], self.train_labels[chosen]

    def subset(self, images_per_class, held_out_per_class=None):
        """Returns the first images of every class.

        Args:
            images_per_class: Number of training images of a class.
            held_out_per_class: Number of held-out ones; all by default.
        """
        train = _first(self.train_labels, images_per_class)
        held_out = _first(self.labels, held_out_per_class)
        return dataclasses.replace(
            self,
            train_images=self.train_images[train],
            train_labels=self.train_labels[train],
            images=self.images[held_out],
            labels=self.labels[held_out],
        )


def load_data(name, image_size, data_dir=None, augmentation="none"):
    """Loads a dataset.

    It is the first of these that exists:

    1.  `data_dir/name.npz` with the arrays `x_train` and `x_test` (images, uint8),
        `y_train` and `y_test` (numbers of classes) and, if there are names, `classes`;
    2.  the folder `data_dir/name/`, or `data_dir` itself if that is its name, with
        one folder for each split, `train` and one of `validation`, `val` and
        `test`, and in it one folder of images for each class (needs TensorFlow);
    3.  the dataset of this name in TensorFlow Datasets.

    Images of another size are cropped in the middle to the aspect ratio, and then
    resized; but with the augmentation `"inception"`, which takes parts of images of any
    size, they stay where they are and are read during training.

    Example:

    >>> data = keras_shift.training.load_data("cifar10", (32, 32))
    >>> data.train_images.shape
    (50000, 32, 32, 3)

    Args:
        name: Name of the dataset.
        image_size: Height and width of images, in pixels.
        data_dir: Path of a folder, or `None` for that of TensorFlow Datasets.
        augmentation: That of the recipe.

    Returns:
        A `Data`, or with the augmentation `"inception"` a `StreamedData`.

    Raises:
        ValueError: If there is no such dataset, or it cannot be used.
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


def in_batches(images, labels, batch_size):
    """Divides arrays into batches, in their order.

    Args:
        images: Array of images.
        labels: Array of as many labels.
        batch_size: Int, images in a batch; the last one may have fewer.

    Returns:
        A list of pairs of arrays.
    """
    starts = range(0, len(images), batch_size)
    parts = [slice(start, start + batch_size) for start in starts]
    return [(images[part], labels[part]) for part in parts]


def _from_arrays(name, path, image_size):
    try:
        with open(path, "rb") as file, np.load(file) as members:
            arrays = {key: members[key] for key in _ARRAYS if key in members}
    # What a damaged file raises depends on where the damage is.
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
    # A builder that reads what tests make up knows no splits.
    held_out = next((s for s in _HELD_OUT if s in builder.info.splits), "test")
    if streamed:
        splits = [TFDSSplit(builder, split) for split in ("train", held_out)]
        return StreamedData(name, image_size, splits[0].class_names, *splits)

    def fit(image, label):
        return _fitted(image, image_size), label

    def read(split):
        dataset = builder.as_dataset(split=split, as_supervised=True)
        if builder.info.features["image"].shape[:2] != image_size:
            dataset = dataset.map(fit)
        return _arrays(dataset.batch(_DECODING_BATCH).prefetch(2))

    label = builder.info.features["label"]
    names = label.names or [str(index) for index in range(label.num_classes)]
    return _checked(name, read("train"), read(held_out), names)


def _fitted(image, image_size):
    """Crops an image in the middle to the aspect ratio, and resizes it.

    As `keras.utils.image_dataset_from_directory` does. `smart_resize` computes with the
    tensors of Keras' backend, which tf.data does not know.
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
    """Images and labels of a dataset of batches."""
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
    """What is said of labels that are refused."""
    first = f"{labels.reshape(-1)[:5]}... of type {labels.dtype}"
    if labels.dtype.kind in "iu" and labels.size:
        return f"{first}, from {labels.min()} to {labels.max()}"
    return first


def _first(labels, per_class):
    """Indices of the first so many images of every class, in the dataset's order."""
    if per_class is None:
        return np.arange(len(labels))
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([members[:per_class] for members in classes]))


class TrainingBatches(keras.utils.PyDataset):
    """Batches in which order and augmentation are functions of seed, epoch and index.

    Neither the backend nor the number of workers makes a difference, nor does it
    whether a training was interrupted.

    Example:

    >>> batches = keras_shift.training.TrainingBatches(images, labels, 32, seed=0)
    >>> history = model.fit(batches, epochs=2, verbose=0)

    Args:
        images: Array of shape `(count, height, width, channels)`.
        labels: Array of shape `(count,)`.
        batch_size: Int, images in a batch; an incomplete one is left out.
        augmentation: `"none"`, `"flip"` or `"flip_crop"`, see `Recipe`.
        crop_padding: Int, see `Recipe`.
        seed: Int.
        epoch: Int, the first epoch, counted from 0.
        share: Which part of every batch this process trains on, as `(index,
            processes)`. All processes together have the images of one.
        **options: `workers` and the like, as in `keras.utils.PyDataset`.
    """

    def __init__(
        self,
        images,
        labels,
        batch_size,
        augmentation="none",
        crop_padding=4,
        seed=0,
        epoch=0,
        share=(0, 1),
        **options,
    ):
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

    def __len__(self):
        return len(self.images) // self.batch_size

    def __getitem__(self, index):
        first = index * self.batch_size
        rows = self._order[first : first + self.batch_size]
        random = np.random.default_rng((_AUGMENTATION, self.seed, self._epoch, index))
        images = augment(
            self.images[rows], self.augmentation, self.crop_padding, random
        )
        part = slice(self.share[0], None, self.share[1])
        return images[part].astype("float32"), self.labels[rows][part]

    def on_epoch_end(self):
        self.start_epoch(self._epoch + 1)

    def start_epoch(self, epoch):
        """Goes to an epoch's order; by itself, the next one follows when one ends.

        Args:
            epoch: Int, the epoch, counted from 0.
        """
        random = np.random.default_rng((_ORDER, self.seed, epoch))
        self._order = random.permutation(len(self.images))
        self._epoch = epoch
