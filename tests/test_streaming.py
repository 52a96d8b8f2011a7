"""Streamed images: their order, their parts, and their shares."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_shift.training import Recipe, StreamedData, TrainingBatches, load_data, train

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

SIZE = (14, 14)
RECIPE = Recipe(
    name="tiny",
    network="none",
    dataset="leaves",
    augmentation="inception",
    undistorted=0.25,
    batch_size=4,
    epochs=4,
    learning_rate=0.1,
)


def photographs(count):
    """Images of many sizes, every pixel of its own colour."""
    random = np.random.default_rng(0)
    for index in range(count):
        height, width = random.integers(17, 40, 2)
        yield random.integers(0, 256, (height, width, 3), "uint8"), index % 3


def write_folders(path):
    for split, count in [("train", 18), ("validation", 7)]:
        for index, (image, label) in enumerate(photographs(count)):
            folder = path / "leaves" / split / f"kind_{label}"
            folder.mkdir(parents=True, exist_ok=True)
            encode = [tf.io.encode_png, tf.io.encode_jpeg][index % 2]
            ending = ["png", "JPEG"][index % 2]
            tf.io.write_file(str(folder / f"{index}.{ending}"), encode(image))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp("folders")
    write_folders(path)
    return load_data("leaves", SIZE, path, augmentation="inception")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A dataset of TFDS in several files, with keys of its own."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class Leaves(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "picture": tfds.features.Image(shape=(None, None, 3)),
                "kind": tfds.features.ClassLabel(num_classes=3),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("picture", "kind"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._examples(18), "validation": self._examples(7)}

        def _generate_examples(self):
            raise NotImplementedError

        def _examples(self, count):
            for index, (image, label) in enumerate(photographs(count)):
                yield index, {"picture": image, "kind": label}

    path = tmp_path_factory.mktemp("tfds")
    files = tfds.download.DownloadConfig(num_shards=3)
    Leaves(data_dir=path).download_and_prepare(download_config=files)
    return load_data("leaves", SIZE, path, augmentation="inception")


@pytest.fixture(params=["folders", "prepared"])
def data(request):
    return request.getfixturevalue(request.param)


def batches(dataset):
    images, labels = zip(*dataset.as_numpy_iterator())
    assert all(batch.dtype == "float32" for batch in images)
    return np.stack(images), np.stack(labels)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore")  # from inside TFDS
class TestTraining:
    def test_everything_is_there_in_an_order_of_every_epoch(self, data):
        assert isinstance(data, StreamedData)
        assert data.train_count == 18 and len(data.class_names) == 3
        images, labels = batches(data.training_batches(RECIPE))
        # An incomplete batch is left out.
        assert images.shape == (4 * 4, 4, *SIZE, 3) and labels.shape == (4 * 4, 4)
        assert images.min() >= 0 and images.max() <= 255
        assert images.max() > 200
        orders = labels.reshape(4, 16)
        assert all(np.bincount(order).min() >= 4 for order in orders)
        assert len({tuple(order) for order in orders}) == 4

    def test_it_goes_on_where_it_was(self, data):
        whole = batches(data.training_batches(RECIPE))
        # Whatever the program has drawn.
        tf.random.set_seed(12)
        for epoch, step in [(0, 0), (0, 3), (2, 0), (3, 1)]:
            rest = batches(data.training_batches(RECIPE, epoch, step))
            assert_same([part[4 * epoch + step :] for part in whole], rest)

    def test_seeds_are_of_consequence(self, data):
        one = batches(data.training_batches(RECIPE))
        other = batches(
            data.training_batches(dataclasses.replace(RECIPE, seed=1), epoch=0)
        )
        assert not np.array_equal(one[1], other[1])
        assert not np.array_equal(one[0], other[0])

    def test_shares_are_a_batch_together(self, data):
        images, labels = batches(data.training_batches(RECIPE))
        for index in range(2):
            part = batches(data.training_batches(RECIPE, share=(index, 2)))
            assert_same(part, (images[:, index::2], labels[:, index::2]))
        images, labels = zip(*data.held_out_batches(4).as_numpy_iterator())
        for index in range(2):
            part = data.held_out_batches(4, (index, 2), 2).as_numpy_iterator()
            part_images, part_labels = map(np.concatenate, zip(*part))
            # Six of seven, in equal parts.
            together = np.concatenate(images)[:6][index::2]
            np.testing.assert_array_equal(part_images, together)
            np.testing.assert_array_equal(
                part_labels, np.concatenate(labels)[:6][index::2]
            )

    def test_the_last_part_is_not_distorted(self, data):
        held_out = dataclasses.replace(data, held_out=data.train).held_out_batches(18)
        plain = next(held_out.as_numpy_iterator())[0]
        mirrored = plain[:, :, ::-1]
        images, _ = batches(data.training_batches(RECIPE))
        found = [
            [self.among(image, plain), self.among(image, mirrored)]
            for image in images.reshape(-1, *SIZE, 3)
        ]
        # A quarter of four epochs.
        assert not np.any(found[:48])
        found = np.array(found[48:])
        assert np.all(found.sum(axis=1) == 1)
        # About half of them.
        assert 2 <= found[:, 0].sum() <= 14

    def among(self, image, images):
        return bool(np.any(np.all(np.isclose(images, image, atol=0.1), axis=(1, 2, 3))))

    def test_batches_must_be_shareable(self, data):
        with pytest.raises(ValueError, match=r"Received: batch_size=4, share=\(0, 3\)"):
            data.training_batches(RECIPE, share=(0, 3))

    def test_other_augmentations_are_refused(self, data):
        recipe = dataclasses.replace(RECIPE, augmentation="flip")
        with pytest.raises(ValueError, match="recipe.augmentation='flip'"):
            data.training_batches(recipe)


def test_what_is_skipped_is_not_decoded(tmp_path):
    write_folders(tmp_path)
    data = load_data("leaves", SIZE, tmp_path, augmentation="inception")
    paths = [path.decode() for path, _ in first_epoch(data)]
    for path in paths[:8]:
        tf.io.write_file(path, "no image")
    whole = data.training_batches(RECIPE)
    with pytest.raises(tf.errors.InvalidArgumentError):
        next(iter(whole))
    images, _ = next(iter(data.training_batches(RECIPE, step=2)))
    assert images.shape == (4, *SIZE, 3)


def first_epoch(data):
    order = tf.data.Dataset.range(1).flat_map(lambda e: data.train.shuffled(0, e))
    return list(order.as_numpy_iterator())


def test_parts_are_those_of_the_papers(folders):
    """Area, aspect ratio, mirror images: an image whose colours say where one is."""
    height, width = 80, 100
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 2, columns * 2, 0 * rows], axis=-1).astype("uint8")
    encoded = tf.io.encode_png(image)

    from keras_shift.training import streaming

    def part(seed):
        result = streaming._random_part(encoded, (50, 50), [0, seed])
        return tf.reshape(result, (50, 50, 3))

    parts = tf.map_fn(part, tf.range(400), tf.float32).numpy()
    # Of the first and the last row and column, whose colours are those at their middle.
    span = lambda values: (values[:, -1] - values[:, 0]) / 2 * 50 / 49  # noqa: E731
    heights, widths = span(parts[:, :, 25, 0]), span(parts[:, 25, :, 1])
    areas, ratios = heights * widths / (height * width), widths / heights
    assert 0.06 < areas.min() < 0.12 and 0.8 < areas.max() < 1.03
    assert 0.7 < ratios.min() < 0.8 and 1.25 < ratios.max() < 1.42


@pytest.mark.parametrize("shape", [(30, 47), (51, 20), (9, 9), (256, 300)])
@pytest.mark.parametrize("size", [(14, 14), (28, 21)])
def test_central_part_equals_an_oracle(shape, size):
    from keras_shift.training.streaming import central_image

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    found = central_image(tf.io.encode_png(image), size).numpy()
    smallest = [round(side * 256 / 224) for side in size]
    scale = max(least / side for least, side in zip(smallest, shape))
    scaled = [max(round(side * scale), least) for side, least in zip(shape, smallest)]
    # Bilinear, with pixels' centres at halves, along one axis after the other.
    expected = image.astype("float64")
    for axis in (0, 1):
        expected = np.moveaxis(expected, axis, 0)
        at = (np.arange(scaled[axis]) + 0.5) * len(expected) / scaled[axis] - 0.5
        low = np.floor(at).astype(int)
        weight = (at - low)[:, None, None]
        below, above = (
            expected[np.clip(index, 0, len(expected) - 1)] for index in (low, low + 1)
        )
        expected = np.moveaxis(below * (1 - weight) + above * weight, 0, axis)
    top, left = ((whole - part) // 2 for whole, part in zip(scaled, size))
    expected = expected[top : top + size[0], left : left + size[1]]
    assert found.shape == (*size, 3) and found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=0.01)


class TestErrors:
    def test_arrays_have_no_photographs(self, tmp_path):
        np.savez(tmp_path / "leaves.npz", x_train=np.zeros((1, 8, 8, 3)))
        with pytest.raises(ValueError, match="takes parts of whole photographs"):
            load_data("leaves", SIZE, tmp_path, augmentation="inception")

    def test_images_in_memory_are_not_distorted(self):
        with pytest.raises(ValueError, match="is for streamed data"):
            TrainingBatches(np.zeros((8, 8, 8, 3)), np.zeros(8), 4, "inception")

    def test_folders_without_images(self, tmp_path):
        (tmp_path / "leaves" / "train" / "oak").mkdir(parents=True)
        (tmp_path / "leaves" / "test").mkdir()
        with pytest.raises(ValueError, match="no folders of classes with images"):
            load_data("leaves", SIZE, tmp_path, augmentation="inception")

    def test_empty_files_are_named(self, tmp_path):
        write_folders(tmp_path)
        path = tmp_path / "leaves" / "validation" / "kind_1" / "empty.png"
        path.touch()
        with pytest.raises(ValueError, match=f"{path} is an empty file"):
            load_data("leaves", SIZE, tmp_path, augmentation="inception")

    def test_folders_are_no_images(self, tmp_path):
        write_folders(tmp_path)
        (tmp_path / "leaves" / "train" / "kind_1" / "folder.png").mkdir()
        data = load_data("leaves", SIZE, tmp_path, augmentation="inception")
        assert data.train_count == 18

    @pytest.mark.parametrize("split", ["train", "validation"])
    def test_training_names_what_cannot_be_read(self, tmp_path, split):
        write_folders(tmp_path)
        data = load_data("leaves", SIZE, tmp_path, augmentation="inception")
        path = tmp_path / "leaves" / split / "kind_1" / "1.JPEG"
        path.write_bytes(path.read_bytes()[:200])
        images = keras.Input((*SIZE, 3))
        x = keras.layers.GlobalAveragePooling2D()(images)
        model = keras.Model(images, keras.layers.Dense(3)(x))
        recipe = dataclasses.replace(RECIPE, batch_size=6)
        with pytest.raises(ValueError, match=f"{path} is no image that can be read"):
            train(model, recipe, data, tmp_path / "run", verbose=0)

    def test_splits_with_different_classes(self, tmp_path):
        write_folders(tmp_path)
        (tmp_path / "leaves" / "validation" / "oak").mkdir()
        with pytest.raises(ValueError, match="All splits must have the same folders"):
            load_data("leaves", SIZE, tmp_path, augmentation="inception")

    @pytest.mark.filterwarnings("ignore")  # from inside TFDS
    def test_datasets_without_labels(self):
        tfds = pytest.importorskip("tensorflow_datasets")
        with tfds.testing.mock_data(num_examples=1):
            for augmentation in ("inception", "none"):
                with pytest.raises(ValueError, match="of images with a label"):
                    load_data("imdb_reviews", SIZE, augmentation=augmentation)


def test_interrupted_training_ends_alike(folders, tmp_path):
    def network():
        keras.utils.set_random_seed(0)
        images = keras.Input((*SIZE, 3))
        x = keras.layers.Rescaling(1 / 127.5, -1)(images)
        x = keras.layers.Conv2D(4, 3)(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(images, keras.layers.Dense(3)(x))

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations.numpy()) == 10:
                raise KeyboardInterrupt

    whole = network()
    rows = train(whole, RECIPE, folders, tmp_path / "whole", verbose=0)
    assert [row["steps"] for row in rows] == [4, 8, 12, 16]
    first = network()
    with pytest.raises(KeyboardInterrupt):
        train(
            first,
            RECIPE,
            folders,
            tmp_path / "parts",
            verbose=0,
            callbacks=[Interrupt()],
        )
    second = network()
    again = train(second, RECIPE, folders, tmp_path / "parts", verbose=0, resume=True)
    assert len(again) == 4
    for one, other in zip(whole.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
