"""Training images, mirrored and moved: functions of a random generator alone."""

import numpy as np


def flip(images, random):
    """Mirrors every other image, left to right, at random.

    Args:
        images: Array of shape `(count, height, width, channels)`.
        random: A `numpy.random.Generator`.

    Returns:
        An array like `images`.
    """
    mirrored = random.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def crop(images, padding, random):
    """Moves every image by its own number of pixels, over a border of zeros.

    Args:
        images: Array of shape `(count, height, width, channels)`.
        padding: Int, by how many pixels at most, up, down, left and right.
        random: A `numpy.random.Generator`.

    Returns:
        An array like `images`.
    """
    if not len(images):
        return images
    count, height, width, _ = images.shape
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(images, border), (height, width), axis=(1, 2)
    )
    top, left = random.integers(0, 2 * padding + 1, (2, count))
    moved = windows[np.arange(count), top, left]  # (count, channels, height, width)
    return np.ascontiguousarray(np.moveaxis(moved, 1, -1))


def augment(images, augmentation, padding, random):
    """Does what a recipe's `augmentation` says to images of their final size.

    Args:
        images: Array of shape `(count, height, width, channels)`.
        augmentation: `"none"`, `"flip"` or `"flip_crop"`.
        padding: Int, `Recipe.crop_padding`.
        random: A `numpy.random.Generator`.

    Returns:
        An array like `images`.
    """
    if augmentation == "none":
        return images
    images = flip(images, random)
    return images if augmentation == "flip" else crop(images, padding, random)
