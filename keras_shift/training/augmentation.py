"""Mirrors and moves training images. The results depend on a random generator only."""

import numpy as np


def flip(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mirrors each image from left to right with a probability of one half.

    Args:
        images: Array of shape `(count, height, width, channels)`.
        random: A `numpy.random.Generator`.

    Returns:
        An array like `images`.
    """
    mirrored = random.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def crop(images: np.ndarray, padding: int, random: np.random.Generator) -> np.ndarray:
    """Moves every image by a random number of pixels and fills the rest with zeros.

    Args:
        images: Array of shape `(count, height, width, channels)`.
        padding: Int, the largest number of pixels by which an image moves up, down,
            left or right.
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
    # These have the shape (count, channels, height, width).
    moved = windows[np.arange(count), top, left]
    return np.ascontiguousarray(np.moveaxis(moved, 1, -1))


def augment(
    images: np.ndarray, augmentation: str, padding: int, random: np.random.Generator
) -> np.ndarray:
    """Augments images of their final size as a recipe's `augmentation` says.

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
