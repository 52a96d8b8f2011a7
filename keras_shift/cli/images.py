"""Reads the images of `--data`."""

import os
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH_SIZE = 32

_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}


def load_images(folder: str, model: keras.Model, shuffle: bool) -> "tf.data.Dataset":
    """Returns images with pixel values in [0, 255], as large as the model takes them.

    Args:
        folder: Path of a folder with one folder of images for each class.
        model: A `keras.Model`.
        shuffle: Whether their order is random. It is the same in every call.

    Returns:
        A `tf.data.Dataset` of batches of images and labels, with `class_names` and
        `file_paths`.

    Raises:
        ValueError: If there are no images, or the model takes none of a fixed size.
    """
    shapes = [
        tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or ()
    ]
    fixed = len(shapes) == 1 and len(shapes[0]) == 3 and None not in shapes[0]
    if not fixed or shapes[0][2] not in _MODES:
        raise ValueError(
            "The network must take images of a fixed size with 1, 3 or 4 channels to "
            f"be shown those of --data. Received: inputs of shape {shapes}"
        )
    if not os.path.isdir(folder):
        raise ValueError(f"--data must be a folder. Received: --data {folder}")
    height, width, channels = shapes[0]
    return keras.utils.image_dataset_from_directory(
        folder,
        color_mode=_MODES[channels],
        batch_size=_BATCH_SIZE,
        image_size=(height, width),
        shuffle=shuffle,
        seed=0,
        crop_to_aspect_ratio=True,
        verbose=False,
    )
