"""The example that puts shifts into MobileNetV2: it has them, few, and in its files."""

import csv
import sys

import keras
import numpy as np
import pytest

from networks import load_example, pixels

pytestmark = pytest.mark.tensorflow

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def example(monkeypatch):
    """The example with a small network, and images that are dark or bright."""
    example = load_example("replace_depthwise")

    def data(image_size, batch_size, seed):
        labels = np.arange(64) % 2
        images = (
            pixels(64, 16, 16, 3, seed=seed) / 2 + 120 * labels[:, None, None, None]
        )
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
        return example.workflow.Data("tiny", dataset, dataset, 2, 16)

    def build(name, data, seed):
        keras.utils.set_random_seed(seed)
        images = keras.Input((16, 16, 3))
        x = keras.layers.Rescaling(1 / 127.5, -1)(images)
        for strides in (2, 1):
            x = keras.layers.Conv2D(48, 1)(x)
            x = keras.layers.BatchNormalization(momentum=0.5)(x)
            x = keras.layers.ReLU(6)(x)
            x = keras.layers.DepthwiseConv2D(3, strides, padding="same")(x)
            x = keras.layers.BatchNormalization(momentum=0.5)(x)
            x = keras.layers.ReLU(6)(x)
            x = keras.layers.Conv2D(8, 1)(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        outputs = keras.layers.Dense(2, activation="softmax")(x)
        return keras.Model(images, outputs, name="small")

    monkeypatch.setattr(example.workflow, "digits", data)
    monkeypatch.setattr(example, "build", build)
    yield example
    sys.modules.pop("finetune_and_export", None)


@pytest.mark.exhaustive
def test_it_shifts_little_and_exports(example, tmp_path, capsys):
    options = ["--epochs", "3", "--batch-size", "16", "--learning-rate", "0.02"]
    example.main(
        example.parse([*options, "--unshifted", "0.8", "--output", str(tmp_path)])
    )
    with open(tmp_path / "results.csv", newline="") as file:
        before, after = csv.DictReader(file)
    assert (before["network"], after["network"]) == ("small", "small_shifted")
    assert before["unshifted"] == "" and 0.79 < float(after["unshifted"]) < 0.9
    assert float(after["million MAdds"]) < float(before["million MAdds"])
    for row in (before, after):
        # Dark and bright is no hard question.
        for kind in ("Keras", "float32", "int8"):
            assert float(row[f"{kind} top-1"]) > 0.9
    for kind in ("float32", "int8"):
        assert (tmp_path / f"small_shifted_{kind}.tflite").stat().st_size
    assert (tmp_path / "shifts.png").read_bytes()[:4] == b"\x89PNG"
    assert "before it is trained on" in capsys.readouterr().out


def test_default_network(example, monkeypatch):
    monkeypatch.undo()
    data = example.workflow.Data("tiny", None, None, 3, 32)
    model = load_example("replace_depthwise").build("MobileNetV2", data, 0)
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize(
    "network, message",
    [("NoSuchNet", "must be a network of keras.applications"), ("VGG16", "are none")],
)
def test_other_networks(network, message, monkeypatch, tmp_path):
    example = load_example("replace_depthwise")
    if network == "VGG16":
        monkeypatch.setattr(example.workflow, "fit", lambda *arguments: 0.5)
        monkeypatch.setattr(
            keras.applications,
            "VGG16",
            lambda **arguments: keras.Sequential(
                [keras.Input((32, 32, 3)), keras.layers.Conv2D(2, 1)]
            ),
        )
    with pytest.raises(SystemExit, match=message):
        example.main(
            example.parse(["--network", network, "--output", str(tmp_path / "out")])
        )
    sys.modules.pop("finetune_and_export", None)
