"""Datasets from arrays, folders and TensorFlow Datasets, and batches of them."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_shift.training import Data, TrainingBatches, load_data
from networks import run_python

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (23, 6, 5, 3), "uint8")
LABELS = np.arange(23) % 3


def save_npz(folder, **changes):
    arrays = {
        "x_train": IMAGES,
        "y_train": LABELS[:, None],
        "x_test": IMAGES[:7],
        "y_test": LABELS[:7],
        "classes": ["a", "b", "c"],
    }
    arrays = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    np.savez(folder / "tiny.npz", **arrays)


class TestArrays:
    def test_loads_all(self, tmp_path):
        save_npz(tmp_path)
        data = load_data("tiny", (6, 5), tmp_path)
        np.testing.assert_array_equal(data.train_images, IMAGES)
        np.testing.assert_array_equal(data.train_labels, LABELS)
        np.testing.assert_array_equal(data.held_out_images, IMAGES[:7])
        np.testing.assert_array_equal(data.held_out_labels, LABELS[:7])
        assert data.class_names == ["a", "b", "c"]

    def test_classes_without_names_are_numbers(self, tmp_path):
        save_npz(tmp_path, classes=None)
        assert load_data("tiny", (6, 5), tmp_path).class_names == ["0", "1", "2"]

    @pytest.mark.parametrize(
        "changes, image_size, message",
        [
            ({}, (5, 5), r"image_size=\(5, 5\).*\(23, 6, 5, 3\)"),
            ({"x_test": IMAGES[:7, :4]}, (6, 5), r"\(7, 4, 5, 3\)"),
            ({"x_train": IMAGES / 255}, (6, 5), "uint8.*type float64"),
            ({"x_train": IMAGES[..., 0]}, (6, 5), r"\(23, 6, 5\)"),
            ({"y_train": LABELS - 1}, (6, 5), r"none below 0.*\[-1  0  1"),
            ({"y_train": LABELS / 3}, (6, 5), "integers.*float64"),
            ({"y_train": LABELS.astype(str)}, (6, 5), "integers.*'0' '1'"),
            ({"y_test": None}, (6, 5), "lacks the arrays \\['y_test'\\]"),
            ({"y_test": LABELS[:6]}, (6, 5), "one label for each image"),
            ({"classes": ["a", "b"]}, (6, 5), "has 3 classes, but 2 names"),
            ({"y_train": LABELS[:22]}, (6, 5), "one label for each image"),
            ({"y_train": np.eye(3, dtype=int)[LABELS]}, (6, 5), "one label for each"),
            ({"y_train": LABELS + 2**32}, (6, 5), "integers.*from 4294967296 to"),
            ({"y_test": LABELS[:7] + 2**31}, (6, 5), "integers.*from 2147483648 to"),
            (
                {"y_test": LABELS[:7].astype("uint64") + 2**63},
                (6, 5),
                "from 9223372036854775808 to",
            ),
        ],
    )
    def test_refuses_what_does_not_fit(self, tmp_path, changes, image_size, message):
        save_npz(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            load_data("tiny", image_size, tmp_path)

    @pytest.mark.parametrize("left", [0, 100, 1000, 2000, -10])
    def test_refuses_damaged_files(self, tmp_path, left):
        save_npz(tmp_path)
        path = tmp_path / "tiny.npz"
        path.write_bytes(path.read_bytes()[:left])
        with pytest.raises(ValueError, match="tiny.npz is no .npz file, or damaged"):
            load_data("tiny", (6, 5), tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"train_labels": LABELS[:22]}, r"one label for each image.*\(22,\)"),
        ({"held_out_labels": LABELS[:6]}, r"one label for each image.*\(6,\)"),
        ({"train_labels": LABELS[:, None]}, r"one label for each image.*\(23, 1\)"),
        ({"class_names": ["a", "b"]}, "from 0 to 1.*from 0 to 2"),
        ({"held_out_labels": LABELS[:7] - 1}, "from 0 to 2.*from -1 to"),
        ({"held_out_labels": LABELS[:7] / 2}, "integers.*float64"),
    ],
)
def test_data_are_checked(changes, message):
    data = Data("tiny", IMAGES, LABELS, IMAGES[:7], LABELS[:7], ["a", "b", "c"])
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(data, **changes)


# Contents of files that are no images, by their names.
NO_IMAGES = {
    "empty.png": lambda image: b"",
    "cut.jpg": lambda image: image[: len(image) // 2],
    "text.png": lambda image: b"no image",
}


def write_no_image(folder, name):
    """Writes a file that cannot be read as an image, among others that can."""
    path = folder / "0.jpg"
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    keras.utils.save_img(path, image, scale=False)
    content = NO_IMAGES[name](path.read_bytes())
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.tensorflow
class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        for split, count in (("train", 5), ("val", 2)):
            for value, name in enumerate(("cat", "dog")):
                place = tmp_path / "pets" / split / name
                place.mkdir(parents=True)
                for index in range(count):
                    image = np.full((6, 8, 3), 100 * value + index)
                    keras.utils.save_img(place / f"{index}.png", image, scale=False)
        return tmp_path / "pets"

    @pytest.mark.parametrize("parent", [True, False])
    def test_loads_all(self, folder, parent):
        data = load_data("pets", (3, 4), folder.parent if parent else folder)
        assert data.class_names == ["cat", "dog"]
        assert data.train_images.shape == (10, 3, 4, 3)
        assert data.train_images.dtype == "uint8"
        np.testing.assert_array_equal(
            data.train_images[:, 1, 1, 0], [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]
        )
        np.testing.assert_array_equal(data.train_labels, [0] * 5 + [1] * 5)
        np.testing.assert_array_equal(
            data.held_out_images[:, 0, 0, 0], [0, 1, 100, 101]
        )

    @pytest.mark.parametrize("name", NO_IMAGES)
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_images_that_cannot_be_read_are_named(self, folder, split, name):
        path = write_no_image(folder / split / "dog", name)
        with pytest.raises(ValueError, match=f"{path} is no image that can be read"):
            load_data("pets", (3, 4), folder)

    def test_folders_are_no_images(self, folder):
        (folder / "train" / "dog" / "folder.png").mkdir()
        assert load_data("pets", (3, 4), folder).train_count == 10

    def test_needs_a_held_out_split(self, folder):
        (folder / "val").rename(folder / "other")
        with pytest.raises(ValueError, match="must have one of the folders"):
            load_data("pets", (6, 8), folder)

    def test_splits_must_have_the_same_classes(self, folder):
        (folder / "val" / "dog").rename(folder / "val" / "wolf")
        with pytest.raises(ValueError, match=r"same folders.*\['dog', 'wolf'\]"):
            load_data("pets", (6, 8), folder)


@pytest.mark.tensorflow
class TestTFDS:
    def test_loads_what_tfds_has(self):
        tfds = pytest.importorskip("tensorflow_datasets")
        with tfds.testing.mock_data(num_examples=11):
            data = load_data("cifar10", (32, 32))
            small = load_data("cifar10", (8, 16))
        assert data.train_images.shape == data.held_out_images.shape == (11, 32, 32, 3)
        assert small.train_images.shape == (11, 8, 16, 3)
        assert len(data.class_names) == 10  # not their names, which mocks lack
        np.testing.assert_array_equal(small.train_labels, data.train_labels)

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("backend", ["tensorflow", "jax"])
    def test_images_of_other_sizes_are_averaged(self, backend, tmp_path, monkeypatch):
        """By TensorFlow, whatever Keras' backend is."""
        pytest.importorskip("tensorflow_datasets")
        pytest.importorskip(backend)
        monkeypatch.setenv("KERAS_BACKEND", backend)
        code = """
import sys
import numpy as np
import tensorflow_datasets as tfds
from keras_shift.training import load_data
with tfds.testing.mock_data(num_examples=3):
    whole = load_data("cifar10", (32, 32)).held_out_images
    part = load_data("cifar10", (8, 16)).held_out_images
np.savez(sys.argv[1], whole=whole, part=part)
"""
        run_python(code, tmp_path / "images.npz")
        with np.load(tmp_path / "images.npz") as arrays:
            middle = arrays["whole"][:, 8:24].astype("float32")
            blocks = middle.reshape(3, 8, 2, 16, 2, 3).mean((2, 4))
            np.testing.assert_array_equal(arrays["part"], np.rint(blocks))

    def test_refuses_unknown_names(self, tmp_path):
        pytest.importorskip("tensorflow_datasets")
        with pytest.raises(ValueError, match="nor a dataset of this name"):
            load_data("no_such_dataset", (32, 32), tmp_path)


def test_subset_takes_the_first_of_every_class():
    data = Data("tiny", IMAGES, LABELS, IMAGES[:7], LABELS[:7], ["a", "b", "c"])
    subset = data.subset(2, 1)
    np.testing.assert_array_equal(subset.train_images, IMAGES[[0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(subset.held_out_labels, [0, 1, 2])
    assert len(data.subset(2).held_out_images) == 7


class TestBatches:
    def batches(self, **options):
        options = {"augmentation": "flip_crop", "crop_padding": 1, **options}
        return TrainingBatches(IMAGES, LABELS, 4, **options)

    def epoch(self, batches):
        return [batches[index] for index in range(len(batches))]

    def test_an_epoch_has_no_image_twice(self):
        batches = self.epoch(self.batches(augmentation="none"))
        assert len(batches) == 5
        images = np.concatenate([images for images, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        assert images.shape == (20, 6, 5, 3) and images.dtype == "float32"
        rows = [np.flatnonzero((IMAGES == i).all((1, 2, 3)))[0] for i in images]
        assert len(set(rows)) == 20
        np.testing.assert_array_equal(labels, LABELS[rows])

    def test_are_functions_of_seed_epoch_and_index(self):
        one, other = self.batches(seed=3), self.batches(seed=3)
        one.on_epoch_end()
        other.on_epoch_end()
        other[4], other[0]
        later = self.batches(seed=3, epoch=1)
        for index in (2, 0, 4):
            for batches in (other, later):
                for value, expected in zip(batches[index], one[index]):
                    np.testing.assert_array_equal(value, expected)

    @pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 1}])
    def test_differ_with_seed_and_epoch(self, change):
        changed = self.batches(**{"seed": 3, **change})
        for (one, _), (other, _) in zip(
            self.epoch(self.batches(seed=3)), self.epoch(changed)
        ):
            assert not np.array_equal(one, other)

    def test_the_shares_of_processes_are_one_batch(self):
        whole = self.batches()
        parts = [self.batches(share=(index, 2)) for index in range(2)]
        for index in range(len(whole)):
            images, labels = whole[index]
            for start, part in enumerate(parts):
                np.testing.assert_array_equal(part[index][0], images[start::2])
                np.testing.assert_array_equal(part[index][1], labels[start::2])

    def test_shares_must_be_equal(self):
        with pytest.raises(ValueError, match="multiple of the number of processes"):
            self.batches(share=(0, 3))

    @pytest.mark.tensorflow  # which runs layers eagerly
    @pytest.mark.parametrize("workers", [1, 3])
    def test_fit_gets_them_in_order(self, workers):
        seen = []

        class Collect(keras.layers.Layer):
            def call(self, inputs):
                seen.append(keras.ops.convert_to_numpy(inputs))
                return keras.ops.mean(inputs, (1, 2))

        model = keras.Sequential(
            [keras.Input((6, 5, 3)), Collect(), keras.layers.Dense(3)]
        )
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        batches = self.batches(workers=workers)
        order = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: batches.start_epoch(epoch)
        )
        model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[order])
        expected = [x for e in (0, 1) for x, _ in self.epoch(self.batches(epoch=e))]
        np.testing.assert_array_equal(seen[-10:], expected)
