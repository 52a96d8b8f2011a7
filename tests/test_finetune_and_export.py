"""The example: its data, its two networks, and the whole way from start to end."""

import csv

import keras
import numpy as np
import pytest

from keras_shift import zoo
from keras_shift.deploy import LiteRTModel
from marks import exhaustive
from networks import load_example, pixels

pytestmark = pytest.mark.tensorflow

tf = pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def example():
    return load_example("finetune_and_export")


@pytest.fixture
def tiny(example, monkeypatch):
    """Replaces the networks by tiny ones, and the digits by a few images."""

    def network(name):
        images = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 3)(images)
        x = keras.layers.GlobalAveragePooling2D()(x)
        outputs = keras.layers.Dense(3, activation="softmax")(x)
        return keras.Model(images, outputs, name=name)

    def data(image_size, batch_size, seed):
        images, labels = pixels(24, 8, 8, 3, seed=seed), np.arange(24) % 3
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
        return example.Data("tiny", dataset, dataset, 3, 8)

    def build(constructor, alpha, data, output_stride, weights, seed):
        return network(f"{constructor.__name__}_{alpha}"), f"random (seed {seed})"

    monkeypatch.setattr(example, "build", build)
    monkeypatch.setattr(example, "digits", data)
    return example


class TestData:
    def test_digits(self, example):
        data = example.digits(image_size=12, batch_size=50, seed=0)
        images, labels = example.collect(data.train)
        held_out, held_out_labels = example.collect(data.held_out)
        assert images.shape == (1437, 12, 12, 3)
        assert held_out.shape == (360, 12, 12, 3)
        assert data.classes == 10
        assert images.min() == 0 and images.max() == 255
        assert set(held_out_labels) == set(range(10))
        # No image is on both sides.
        seen = {image.tobytes() for image in images}
        assert not any(image.tobytes() in seen for image in held_out)

    @pytest.fixture
    def photographs(self, tmp_path):
        """Ten images of each class; every class has a colour of its own."""
        for label, name in enumerate(["apple", "banana", "cherry"]):
            (tmp_path / name).mkdir()
            for index in range(10):
                image = np.full((20, 30 + index, 3), 80 * label, "uint8")
                keras.utils.save_img(
                    tmp_path / name / f"{index}.png", image, scale=False
                )
        return tmp_path

    def test_folder(self, example, photographs):
        data = example.folder(photographs, image_size=16, batch_size=4, seed=0)
        images, labels = example.collect(data.train)
        held_out, held_out_labels = example.collect(data.held_out)
        assert data.name == photographs.name
        assert data.classes == 3
        assert images.shape == (24, 16, 16, 3)
        assert held_out.shape == (6, 16, 16, 3)
        for pictures, numbers in [(images, labels), (held_out, held_out_labels)]:
            np.testing.assert_array_equal(pictures[:, 0, 0, 0], 80 * numbers)

    @pytest.mark.filterwarnings("ignore")  # from inside TFDS
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("held_out_split", ["test", "validation"])
    def test_tfds(self, example, tmp_path, monkeypatch, channels, held_out_split):
        """A data set with names, sizes and splits of its own, made by TFDS."""
        tfds = pytest.importorskip("tensorflow_datasets")

        class Leaves(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = {
                    "picture": tfds.features.Image(shape=(None, None, channels)),
                    "kind": tfds.features.ClassLabel(names=["oak", "elm", "fir"]),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("picture", "kind"),
                )

            def _split_generators(self, dl_manager):
                return {"train": self._examples(9), held_out_split: self._examples(5)}

            def _generate_examples(self):
                raise NotImplementedError

            def _examples(self, count):
                for index in range(count):
                    image = np.full((20, 30 + index, channels), 80 * (index % 3))
                    kind = index % 3
                    yield index, {"picture": image.astype("uint8"), "kind": kind}

        def load(name, **arguments):
            assert name == "leaves"
            builder = Leaves(data_dir=tmp_path)
            builder.download_and_prepare()
            assert arguments == {"as_supervised": True, "with_info": True}
            return builder.as_dataset(as_supervised=True), builder.info

        monkeypatch.setattr(tfds, "load", load)
        data = example.tfds_dataset("leaves", image_size=16, batch_size=2, seed=0)
        assert (data.name, data.classes, data.image_size) == ("leaves", 3, 16)
        for dataset, count in [(data.train, 9), (data.held_out, 5)]:
            images, labels = example.collect(dataset)
            assert images.shape == (count, 16, 16, 3)
            np.testing.assert_array_equal(images[:, 3, 3, 2], 80 * labels)
        images, labels = example.collect(data.train, count=3)
        assert len(images) == len(labels) == 3

    def test_tfds_with_nothing_to_hold_out(self, example, monkeypatch):
        tfds = pytest.importorskip("tensorflow_datasets")
        monkeypatch.setattr(tfds, "load", lambda *args, **kwargs: ({"train": 0}, None))
        with pytest.raises(SystemExit, match="leaves has no split to hold out"):
            example.tfds_dataset("leaves", image_size=16, batch_size=2, seed=0)


class TestNetworks:
    @pytest.mark.parametrize("output_stride", [exhaustive(32), 16, exhaustive(8), 4])
    def test_both_have_the_same_total_stride_and_momentum(self, example, output_stride):
        data = example.Data("none", None, None, 7, 32)
        for constructor in (zoo.FENet, zoo.MobileNetV2):
            model, start = example.build(
                constructor, 0.5, data, output_stride, "random", 3
            )
            assert start == "random (seed 3)"
            assert model.name == f"{constructor.__name__}_0.5"
            assert model.input_shape == (None, 32, 32, 3)
            assert model.output_shape == (None, 7)
            maps = [layer.output.shape for layer in model.layers]
            last = [shape for shape in maps if len(shape) == 4][-1]
            assert last[1:3] == (32 // output_stride, 32 // output_stride)
            momenta = {
                layer.momentum
                for layer in model.layers
                if isinstance(layer, keras.layers.BatchNormalization)
            }
            assert momenta == {0.9}

    def test_starts_from_few_shifts_and_keeps_them(self, example):
        arguments = example.parse([])
        data = example.Data("none", None, None, 7, 32)
        assert arguments.alpha == [0.75, 1.0]
        for alpha in arguments.alpha:
            model, start = example.build(
                zoo.FENet, alpha, data, 16, arguments.weights, 3
            )
            assert start in ("tiny_imagenet.sparse", "tiny_imagenet.few_shifts")
            assert example.unshifted(model) >= 0.8
        model, start = example.build(
            zoo.MobileNetV2, 1.0, data, 16, arguments.weights, 3
        )
        assert start == "tiny_imagenet"
        assert example.unshifted(model) == ""

    def test_starts_from_the_weights_of_a_name(self, example):
        assert example.start_of("FENet", 1.0, "tiny_imagenet") == "tiny_imagenet"
        assert example.start_of("FENet", 0.3, "tiny_imagenet") is None
        sparsified = "tiny_imagenet.sparsified"
        assert example.start_of("FENet", 1.0, sparsified) == sparsified
        assert example.start_of("MobileNetV2", 1.0, sparsified) == "tiny_imagenet"

    def test_refuses_weights_that_no_network_has(self, example):
        with pytest.raises(SystemExit, match="Received: --weights tiny_imagnet"):
            example.start_of("FENet", 1.0, "tiny_imagnet")

    def test_starts_from_a_file(self, example, tmp_path):
        data = example.Data("none", None, None, 7, 32)
        model, _ = example.build(zoo.FENet, 0.25, data, 16, "random", 3)
        path = str(tmp_path / "some.weights.h5")
        model.save_weights(path)
        again, start = example.build(zoo.FENet, 0.25, data, 16, path, 4)
        assert start == path
        for weight, expected in zip(again.get_weights(), model.get_weights()):
            np.testing.assert_array_equal(weight, expected)
        _, start = example.build(zoo.MobileNetV2, 0.35, data, 16, path, 4)
        assert start == "random (seed 4)"


class TestMain:
    FILES = {
        f"{name}{ending}"
        for name in ("fenet_0.75", "fenet_1.0", "mobilenetv2_1.0")
        for ending in (".keras", "_float32.tflite", "_int8.tflite")
    } | {"results.csv"}

    def run(self, example, folder, *arguments):
        options = ["--epochs", "1", "--batch-size", "8", "--output", str(folder)]
        example.main(example.parse([*options, *arguments]))

    def test_prints_the_table_and_writes_complete_files(self, tiny, tmp_path, capsys):
        self.run(tiny, tmp_path / "new" / "folder", "--seed", "3")
        folder = tmp_path / "new" / "folder"
        assert {path.name for path in folder.iterdir()} == self.FILES
        for path in folder.glob("*.tflite"):
            assert LiteRTModel(path).input_shape == (1, 8, 8, 3)
        with open(folder / "results.csv") as file:
            rows = list(csv.DictReader(file))
        names = [row["network"] for row in rows]
        assert names == ["FENet_0.75", "FENet_1.0", "MobileNetV2_1.0"]
        for row in rows:
            assert row["start"] == "random (seed 3)"
            assert float(row["million MAdds"]) == (6 * 6 * 27 * 4 + 4 * 3) / 1e6
            model = keras.saving.load_model(folder / f"{row['network'].lower()}.keras")
            found = model.predict(pixels(24, 8, 8, 3, seed=3), verbose=0).argmax(-1)
            accuracy = np.mean(found == np.arange(24) % 3)
            assert float(row["Keras top-1"]) == pytest.approx(accuracy)
            assert float(row["float32 top-1"]) == pytest.approx(accuracy)
            size = (folder / f"{row['network'].lower()}_int8.tflite").stat().st_size
            assert float(row["int8 kB"]) == size / 1000
            assert float(row["float32 ms"]) > 0 and float(row["int8 ms"]) > 0
        table = capsys.readouterr().out.split("total stride 16")[-1]
        for text in [*names, *rows[0].keys() - tiny.NOT_IN_TABLE]:
            assert text in table
        assert "random (seed 3)" in table

    @pytest.mark.parametrize("stage", ["save", "to_tflite", "write_csv"])
    def test_interruption_leaves_nothing_half_written(
        self, tiny, tmp_path, monkeypatch, stage
    ):
        """Whatever exists afterwards is a complete file under its own name."""

        def half_save(model, path, **kwargs):
            with open(path, "wb") as file:
                file.write(b"half")
            raise KeyboardInterrupt

        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        if stage == "save":
            monkeypatch.setattr(keras.Model, "save", half_save)
        elif stage == "to_tflite":
            compare = "keras_shift.deploy.tflite.compare_with_model"
            monkeypatch.setattr(compare, interrupt)
        else:
            monkeypatch.setattr(csv.DictWriter, "writerows", interrupt)
        with pytest.raises(KeyboardInterrupt):
            self.run(tiny, tmp_path)
        left = {path.name for path in tmp_path.iterdir()}
        expected = {"save": set(), "to_tflite": {"fenet_0.75.keras"}}
        assert left == expected.get(stage, self.FILES - {"results.csv"})

    def test_defaults_need_no_download(self, example):
        arguments = example.parse([])
        assert arguments.data is None and arguments.dataset is None

    def test_a_file_of_weights_is_of_one_width(self, example, tmp_path, capsys):
        with pytest.raises(SystemExit):
            example.parse(["--weights", str(tmp_path)])
        assert "needs --alpha with its width" in capsys.readouterr().err
        example.parse(["--weights", str(tmp_path), "--alpha", "0.5"])

    def test_a_folder_and_a_data_set_exclude_each_other(self, example, capsys):
        with pytest.raises(SystemExit):
            example.parse(["--data", "photographs", "--dataset", "cifar10"])
        assert "not allowed with" in capsys.readouterr().err
