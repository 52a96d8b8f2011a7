"""Images out of whatever holds them."""

import itertools

import keras
import numpy as np
import pytest

from keras_shift.image_batches import batches, collect, random_pixels
from networks import pixels

SHAPE = (4, 3, 2)
IMAGES = pixels(10, *SHAPE)
LABELS = np.arange(10)


class Numbered(keras.utils.PyDataset):
    """Has no end of its own: a slice beyond the images is empty, and no error."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return IMAGES[part], LABELS[part]


class Endless(Numbered):
    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        return super().__getitem__(index % 3)


def dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))


WITHOUT_LABELS = {
    "array": lambda: IMAGES,
    "tensor": lambda: keras.ops.convert_to_tensor(IMAGES),
    "list of images": lambda: list(IMAGES),
    "list of batches": lambda: [IMAGES[:6], IMAGES[6:]],
    "pair of batches": lambda: (IMAGES[:6], IMAGES[6:]),
    "generator": lambda: (image for image in IMAGES),
}
WITH_LABELS = {
    "pair": lambda: (IMAGES, LABELS),
    "list of pairs": lambda: list(zip(IMAGES, LABELS)),
    "generator of batches": lambda: iter([(IMAGES, LABELS, np.ones(10))]),
    "PyDataset": lambda: Numbered(),
    "tf.data": dataset,
    "tf.data in batches": lambda: dataset().batch(4),
}


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", [*WITHOUT_LABELS, *WITH_LABELS])
def test_kinds_of_data(kind):
    made = {**WITHOUT_LABELS, **WITH_LABELS}[kind]()
    found = list(batches(made, SHAPE, "data"))
    images = np.concatenate([images for images, _ in found])
    np.testing.assert_array_equal(images, IMAGES)
    assert images.dtype == "float32"
    if kind in WITH_LABELS:
        labels = np.concatenate([labels for _, labels in found])
        np.testing.assert_array_equal(labels, LABELS)
    else:
        assert {labels is None for _, labels in found} == {True}


def test_integers_become_floats():
    ((images, _),) = batches(IMAGES.astype("uint8"), SHAPE, "data")
    assert images.dtype == "float32"


def test_one_image():
    np.testing.assert_array_equal(collect(IMAGES[0], SHAPE, "data", 5), IMAGES[:1])


def test_labels_that_are_a_dict_are_ignored():
    boxes = {"boxes": np.zeros((10, 2, 4))}
    ((images, labels),) = batches([(IMAGES, boxes)], SHAPE, "data")
    np.testing.assert_array_equal(images, IMAGES)
    assert labels is None
    ((images, labels),) = batches([(IMAGES[0], boxes)], SHAPE, "data")
    assert images.shape == (1, *SHAPE) and labels is None


@pytest.mark.parametrize("endless", [Endless, lambda: itertools.repeat(IMAGES)])
def test_no_more_is_read_than_is_needed(endless):
    assert collect(endless(), SHAPE, "data", 25).shape == (25, *SHAPE)


@pytest.mark.parametrize(
    "data, message",
    [
        ([{"image": IMAGES, "label": LABELS}], r"dictionary.*\['image', 'label'\]"),
        ({"image": IMAGES}, "Received: {'image'"),
        ("photographs", "Received: 'photographs'"),
        (7, "Received: 7"),
        ([], "one image at least"),
        (IMAGES[:0], "one image at least"),
        (IMAGES[:, :3], r"shape \(4, 3, 2\).*shape \(10, 3, 3, 2\)"),
        ([IMAGES[0, 0]], r"shape \(4, 3, 2\).*shape \(3, 2\)"),
        ([["a.png", "b.png"]], "type <U5"),
        ((IMAGES, LABELS[:9]), r"10 images with labels of shape \(9,\)"),
    ],
)
def test_message_says_what_was_received(data, message):
    with pytest.raises(ValueError, match=f"(?s)`data` must.*{message}"):
        collect(data, SHAPE, "data", 5)


@pytest.mark.tensorflow
def test_files_that_cannot_be_read_are_named(tmp_path):
    for index in range(3):
        keras.utils.save_img(tmp_path / f"{index}.png", pixels(4, 3, 3), scale=False)
    path = tmp_path / "1.png"
    path.write_bytes(path.read_bytes()[:50])
    data = keras.utils.image_dataset_from_directory(
        tmp_path, labels=None, image_size=(4, 3), batch_size=1, verbose=False
    )
    with pytest.raises(ValueError, match=f"{path} is no image that can be read"):
        collect(data, (4, 3, 3), "data", 5)


def test_random_pixels_are_always_the_same():
    pixels = random_pixels(SHAPE)
    np.testing.assert_array_equal(pixels, random_pixels(SHAPE))
    assert pixels.min() >= 0 and 200 < pixels.max() <= 255
