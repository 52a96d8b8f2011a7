"""Augmentation against what it may do to an image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_shift.training.augmentation import augment, crop, flip


def random_images(count, height=6, width=5):
    # No value twice, so that every change shows.
    values = np.random.default_rng(0).permutation(count * height * width * 3)
    return values.reshape(count, height, width, 3)


def test_flip_mirrors_about_half_of_the_images():
    images = random_images(400)
    flipped = flip(images, np.random.default_rng(0))
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


@given(padding=st.integers(0, 7), seed=st.integers(0, 2**32))
def test_crop_moves_each_image_by_its_own_pixels(padding, seed):
    images = random_images(20)
    _, height, width, _ = images.shape
    border = [(padding, padding)] * 2 + [(0, 0)]
    moves = set()
    for image, moved in zip(images, crop(images, padding, np.random.default_rng(seed))):
        padded = np.pad(image, border)
        found = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if (padded[top : top + height, left : left + width] == moved).all()
        ]
        assert found
        moves.update(found)
    assert len(moves) > 1 or padding == 0


@pytest.mark.parametrize("augmentation", ["none", "flip", "flip_crop"])
def test_keeps_shape_and_dtype_of_any_number_of_images(augmentation):
    for count in (0, 1, 3):
        images = random_images(count).astype("uint8")
        changed = augment(images, augmentation, 2, np.random.default_rng(0))
        assert changed.shape == images.shape and changed.dtype == images.dtype


def test_none_changes_nothing():
    images = random_images(3)
    assert augment(images, "none", 2, np.random.default_rng(0)) is images
