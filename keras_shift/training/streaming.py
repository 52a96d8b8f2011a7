"""Reads training images that do not fit into memory."""

import contextlib
import dataclasses
import functools
import importlib.util
import os
import stat
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_shift.recipe import Recipe
from keras_shift.training.distribution import Division
from keras_shift.typing import Tensor

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_datasets as tfds

# Held-out images are scaled by this factor more than needed before their middle is cut
# out: to 256 pixels for 224.
_MARGIN = 256 / 224

# The next image is drawn from a buffer of this many encoded images. An ImageNet image
# has 110 kB. The order of files is shuffled, too, and TFDS shuffled their contents when
# it wrote them.
_SHUFFLE_BUFFER = 8192

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


@dataclasses.dataclass(frozen=True)
class StreamedData:
    """Reads, decodes and distorts the images of a dataset while a network trains.

    It replaces `Data` in `train` for recipes whose augmentation is `"inception"`. On
    every backend, the order and the augmentation of training images depend only on the
    seed, the epoch and the index of an image in the whole training. TensorFlow must be
    installed, since tf.data reads the images.

    Example:

    >>> data = keras_shift.training.load_data(
    ...     "imagenet2012", (224, 224), data_dir=".", augmentation="inception"
    ... )
    >>> print(data.image_size)
    (224, 224)

    Attributes:
        name: The dataset's name.
        image_size: Height and width of images for the network, in pixels.
        class_names: List of the classes' names.
        train: The training images, a `ClassFolders` or a `TFDSSplit`.
        held_out: The held-out images, a `ClassFolders` or a `TFDSSplit`.
    """

    name: str
    image_size: tuple[int, int]
    class_names: list[str]
    train: Any
    held_out: Any

    @property
    def train_count(self) -> int:
        """The number of training images."""
        return len(self.train)

    @property
    def files(self) -> list[str]:
        """The paths of the images that training reads, if each has its own file."""
        return [*self.train.paths, *self.held_out.paths]

    def training_batches(
        self,
        recipe: Recipe,
        epoch: int = 0,
        step: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> "tf.data.Dataset":
        """Returns the batches from a point in a training to its end.

        Images before that point and those of other processes are not decoded.

        Args:
            recipe: A `Recipe`.
            epoch: Int, the first epoch, counted from 0. Defaults to `0`.
            step: Int, the first step of that epoch, counted from 0. Defaults to `0`.
            share: Tuple `(index, processes)`, which says what part of every batch this
                process trains on. All processes together train on whole batches.
                Defaults to `(0, 1)`, one process.

        Returns:
            A `tf.data.Dataset` of images, float32 with pixel values in [0, 255], and
            labels, int32.

        Raises:
            ValueError: If the recipe is not for streamed data, or if its batch size is
                not a multiple of the number of processes.
        """
        if recipe.augmentation != "inception":
            raise ValueError(
                'Streamed images get the augmentation "inception". Received: '
                f"recipe.augmentation={recipe.augmentation!r}"
            )
        index, processes = share
        if recipe.batch_size % processes:
            raise ValueError(
                "A recipe's `batch_size` must be a multiple of the number of "
                f"processes. Received: batch_size={recipe.batch_size}, share={share}"
            )
        tf = import_tensorflow()
        steps = recipe.steps_per_epoch(len(self.train))
        epochs = recipe.epochs_of(len(self.train))
        images = steps * recipe.batch_size
        plain = epochs * steps - round(recipe.undistorted * epochs * steps)

        # AutoGraph would convert the code of TFDS, too.
        @tf.autograph.experimental.do_not_convert
        def examples(epoch):
            dataset = self.train.shuffled(recipe.seed, epoch).take(images)
            return dataset.enumerate(epoch * images)

        def prepare(position, example):
            source, label = example
            image = training_image(
                self.train.read(source),
                self.image_size,
                tf.stack([tf.constant(recipe.seed, tf.int64), position]),
                position < plain * recipe.batch_size,
            )
            return image, tf.cast(label, tf.int32)

        return (
            tf.data.Dataset.range(epoch, epochs)
            .flat_map(examples)
            .skip(step * recipe.batch_size)
            .shard(processes, index)
            .map(prepare, tf.data.AUTOTUNE, deterministic=True)
            .batch(recipe.batch_size // processes, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
        )

    def held_out_batches(
        self, batch_size: int, share: tuple[int, int] = (0, 1), multiple: int = 1
    ) -> "tf.data.Dataset":
        """Returns the middle of the held-out images in batches.

        Args:
            batch_size: Int, number of images in a batch, over all processes together.
            share: Tuple `(index, processes)` as in `training_batches`. Defaults to
                `(0, 1)`, one process.
            multiple: Int. The last images are left out so that the number of images is
                a multiple of this, since devices that share batches need equal parts.
                Defaults to `1`.

        Returns:
            A `tf.data.Dataset` like that of `training_batches`.
        """
        tf = import_tensorflow()
        index, processes = share
        return (
            self.held_out.in_order()
            .take(len(self.held_out) // multiple * multiple)
            .shard(processes, index)
            .map(self._central(self.held_out), tf.data.AUTOTUNE, deterministic=True)
            .batch(batch_size // processes)
            .prefetch(tf.data.AUTOTUNE)
        )

    def training_examples(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the middle of training images, always of the same ones, and labels.

        Args:
            count: Int, number of images. If the dataset has fewer, all are returned.

        Returns:
            A pair of arrays of shapes `(count, height, width, 3)` and `(count,)`.
        """
        tf = import_tensorflow()

        @tf.autograph.experimental.do_not_convert
        def examples(epoch):
            return self.train.shuffled(0, epoch).take(count)

        # The images are shuffled, since folders are sorted by class.
        pairs = tf.data.Dataset.range(1).flat_map(examples)
        pairs = pairs.map(self._central(self.train), tf.data.AUTOTUNE)
        images, labels = zip(*pairs.as_numpy_iterator())
        return np.stack(images), np.stack(labels)

    def _central(self, split):
        """Makes a function from a split's examples to images' middles and labels."""
        tf = import_tensorflow()

        def prepare(source, label):
            image = central_image(split.read(source), self.image_size)
            return image, tf.cast(label, tf.int32)

        return prepare

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
        return {
            "x": self.training_batches(recipe, epoch, share=division.share),
            "callbacks": [],
            "steps_per_epoch": recipe.steps_per_epoch(len(self.train)),
            "validation_data": self.held_out_batches(
                division.evaluation_batch, division.share, division.devices
            ),
        }


class ClassFolders:
    """Reads a folder that has one folder of images for each class.

    Damaged images are found by the first epoch of the training, since looking into all
    files beforehand would take as long as that.

    Args:
        folder: Path of a folder.

    Raises:
        ValueError: If there are no images in the folder, or if one of them is an empty
            file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        classes = sorted(path for path in Path(folder).iterdir() if path.is_dir())
        self.class_names = [path.name for path in classes]
        self.paths: list[str] = []
        self.labels: list[int] = []
        for label, path in enumerate(classes):
            images = sorted(
                str(image)
                for image in path.rglob("*")
                if image.suffix.lower() in _ENDINGS and _is_file(image)
            )
            self.paths += images
            self.labels += [label] * len(images)
        if not self.paths:
            raise ValueError(f"{folder} has no folders of classes with images in them.")

    def __len__(self) -> int:
        return len(self.paths)

    def in_order(self) -> "tf.data.Dataset":
        """Returns a `tf.data.Dataset` of paths and labels."""
        tf = import_tensorflow()
        return tf.data.Dataset.from_tensor_slices((self.paths, self.labels))

    def shuffled(self, seed: int, epoch: Tensor) -> "tf.data.Dataset":
        """Returns paths and labels in an order that depends on seed and epoch.

        Args:
            seed: Int, seed of the order.
            epoch: Scalar int64 tensor, the epoch.

        Returns:
            A `tf.data.Dataset` of paths and labels.
        """
        tf = import_tensorflow()
        paths, labels = tf.constant(self.paths), tf.constant(self.labels)
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(self.paths)), tf.stack([tf.constant(seed, tf.int64), epoch])
        )
        return tf.data.Dataset.from_tensor_slices(order).map(
            lambda row: (paths[row], labels[row])
        )

    def read(self, path: Tensor) -> Tensor:
        """Returns the encoded image of a path.

        Args:
            path: Scalar string tensor.

        Returns:
            A scalar string tensor.
        """
        return import_tensorflow().io.read_file(path)


def _is_file(path):
    """Returns whether a path is not that of a folder, and refuses empty files."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return False
    if not status.st_size:
        raise ValueError(f"{path} is an empty file, and no image.")
    return True


class TFDSSplit:
    """Reads the encoded images and the labels of a split of TensorFlow Datasets.

    Args:
        builder: A `tfds.core.DatasetBuilder` whose data are prepared.
        split: Name of the split.

    Raises:
        ValueError: If the dataset's examples are not images with one label each.
    """

    def __init__(self, builder: "tfds.core.DatasetBuilder", split: str) -> None:
        import tensorflow_datasets as tfds

        self.builder = builder
        self.split = split
        self.paths: list[str] = []
        keys: tuple[str, str] = builder.info.supervised_keys or ("", "")
        self.image, self.label = keys
        features = builder.info.features
        if not (
            self.image
            and isinstance(features[self.image], tfds.features.Image)
            and isinstance(features[self.label], tfds.features.ClassLabel)
        ):
            raise ValueError(
                "The dataset must be one of images with a label each. Received: "
                f"{builder.name} with {features}"
            )
        label = features[self.label]
        self.class_names = label.names or [str(i) for i in range(label.num_classes)]
        self._count = int(self.in_order().cardinality())

    def __len__(self) -> int:
        return self._count

    def in_order(self) -> "tf.data.Dataset":
        """Returns a `tf.data.Dataset` of encoded images and labels."""
        return self._dataset()

    def shuffled(self, seed: int, epoch: Tensor) -> "tf.data.Dataset":
        """Returns encoded images and labels in an order of the seed and the epoch.

        Args:
            seed: Int, seed of the order.
            epoch: Scalar int64 tensor of a function that tf.data traces, the epoch.

        Returns:
            A `tf.data.Dataset` of encoded images and labels.
        """
        tf = import_tensorflow()
        # The order depends on its own seed and on the global one. While tf.data traces
        # a function, this sets the global seed of that function only, not that of the
        # program. It must not be 0: TensorFlow would then compare `epoch` with 0, which
        # fails for a tensor.
        tf.random.set_seed(seed + 1)
        dataset = self._dataset(
            shuffle_files=True,
            shuffle_seed=epoch,
            shuffle_reshuffle_each_iteration=False,
        )
        return dataset.shuffle(
            _SHUFFLE_BUFFER, seed=epoch, reshuffle_each_iteration=False
        )

    def read(self, encoded: Tensor) -> Tensor:
        """Returns the encoded image as it is.

        Args:
            encoded: Scalar string tensor.

        Returns:
            `encoded`.
        """
        return encoded

    def _dataset(self, shuffle_files=False, **options):
        import tensorflow_datasets as tfds

        dataset = self.builder.as_dataset(
            split=self.split,
            shuffle_files=shuffle_files,
            decoders={self.image: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False, **options),
        )
        return dataset.map(lambda example: (example[self.image], example[self.label]))


def training_image(
    encoded: Tensor, image_size: tuple[int, int], seed: Tensor, distorted: Tensor
) -> Tensor:
    """Decodes and augments a training image.

    Args:
        encoded: Scalar string tensor, the content of an image file.
        image_size: Height and width of the result.
        seed: Int tensor of shape `(2,)`, on which the result depends.
        distorted: Scalar bool tensor. If it is true, a random part of the image gets
            random colours. Otherwise the middle of the image is cut out. In both cases
            half of the images are mirrored.

    Returns:
        A float32 tensor of shape `(height, width, 3)` with values in [0, 255].
    """
    tf = import_tensorflow()
    seeds = tf.unstack(tf.random.split(seed, num=5), num=5)
    image = tf.cond(
        distorted,
        lambda: _colours(_random_part(encoded, image_size, seeds[0]), seeds[1:4]),
        lambda: central_image(encoded, image_size),
    )
    return tf.image.stateless_random_flip_left_right(image, seeds[4])


def central_image(encoded: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Decodes an image, scales it, and cuts out the middle.

    For an image of 224 pixels, the shorter side is scaled to 256 pixels. Other sizes
    are scaled in proportion.

    Args:
        encoded: Scalar string tensor, the content of an image file.
        image_size: Height and width of the result.

    Returns:
        A float32 tensor of shape `(height, width, 3)` with values in [0, 255].
    """
    tf = import_tensorflow()
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    size = tf.cast(tf.shape(image)[:2], tf.float64)
    # The scaled image must be at least as large as this.
    smallest = tf.constant([round(_MARGIN * side) for side in image_size], tf.int32)
    scale = tf.reduce_max(tf.cast(smallest, tf.float64) / size)
    scaled = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), smallest)
    image = tf.image.resize(image, scaled)
    top, left = tf.unstack((scaled - tf.constant(image_size)) // 2)
    return tf.image.crop_to_bounding_box(image, top, left, *image_size)


@functools.cache
def import_tensorflow() -> ModuleType:
    """Imports TensorFlow and leaves accelerators to Keras' backend.

    Returns:
        The module `tensorflow`.

    Raises:
        ImportError: If TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            "Streamed images are read with TensorFlow, on every backend of Keras: "
            'pip install "keras-shift[cpu]"'
        )
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        # This fails if the program has already used TensorFlow.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
    return tf


def _random_part(encoded, image_size, seed):
    """Decodes a random part of an image, of 8% to 100% of its area."""
    tf = import_tensorflow()

    def part(shape):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            tf.zeros([1, 0, 4]),
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], axis=0)

    def jpeg():
        window = part(tf.image.extract_jpeg_shape(encoded))
        return tf.image.decode_and_crop_jpeg(encoded, window, channels=3)

    def other():
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.image.crop_to_bounding_box(image, *tf.unstack(part(tf.shape(image))))

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    return tf.image.resize(image, image_size)


def _colours(image, seeds):
    """Distorts brightness, saturation and contrast."""
    tf = import_tensorflow()
    image = tf.image.stateless_random_brightness(image, 32.0, seeds[0])
    image = tf.image.stateless_random_saturation(image, 0.5, 1.5, seeds[1])
    image = tf.image.stateless_random_contrast(image, 0.5, 1.5, seeds[2])
    return tf.clip_by_value(image, 0.0, 255.0)
