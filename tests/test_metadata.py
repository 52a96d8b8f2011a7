"""What Android's tools find in a .tflite file.

Read here with nothing but `struct` and `zipfile`, by the numbers of the fields in
MediaPipe's metadata_schema.fbs. MediaPipe's Image Classifier was shown such files by
hand, see docs/design.md.
"""

import struct
import zipfile

import keras
import numpy as np
import pytest

from keras_shift.deploy import LiteRTModel, to_tflite
from keras_shift.deploy.flatbuffer import METADATA, TFLiteFile, pack
from keras_shift.deploy.metadata import Metadata, read_metadata
from networks import pixels

pytestmark = pytest.mark.tensorflow

LABELS = ["cat", "dog", "Löwe"]


def classifier(shape=(6, 5, 3)):
    keras.utils.set_random_seed(0)
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential(layers, name="animals")


class Table:
    """A table of a flatbuffer, whose fields are numbered as in the schema."""

    def __init__(self, data, at=None):
        self.data = data
        self.at = self.follow(0) if at is None else at

    def number(self, code, at):
        return struct.unpack_from("<" + code, self.data, at)[0]

    def follow(self, at):
        return at + self.number("I", at)

    def place(self, field):
        """Where a field is, or `None`."""
        fields = self.at - self.number("i", self.at)
        if 4 + 2 * field >= self.number("H", fields):
            return None
        offset = self.number("H", fields + 4 + 2 * field)
        return self.at + offset if offset else None

    def byte(self, field):
        return self.number("B", self.place(field))

    def table(self, field):
        return Table(self.data, self.follow(self.place(field)))

    def bytes(self, field):
        at = self.follow(self.place(field))
        return self.data[at + 4 : at + 4 + self.number("I", at)]

    def text(self, field):
        return self.bytes(field).decode()

    def floats(self, field):
        at = self.follow(self.place(field))
        return struct.unpack_from(f"<{self.number('I', at)}f", self.data, at + 4)

    def tables(self, field):
        at = self.follow(self.place(field))
        return [
            Table(self.data, self.follow(at + 4 + 4 * index))
            for index in range(self.number("I", at))
        ]


def entries(path):
    """All entries of metadata in a .tflite file, by name."""
    model = Table(path.read_bytes())
    buffers = model.tables(4)
    found = {}
    for entry in model.tables(6):
        assert entry.text(0) not in found
        found[entry.text(0)] = buffers[entry.number("I", entry.place(1))].bytes(0)
    return found


def metadata(path):
    """The flatbuffer of metadata in a .tflite file."""
    content = entries(path)["TFLITE_METADATA"]
    assert content[4:8] == b"M001"
    return Table(content)


def test_names_types_and_labels(tmp_path):
    path = tmp_path / "model.tflite"
    report = to_tflite(classifier(), path, labels=LABELS)
    root = metadata(path)
    assert root.text(0) == "animals"
    assert root.text(7) == "1.0.0"
    (subgraph,) = root.tables(3)
    (given,), (returned,) = subgraph.tables(2), subgraph.tables(3)
    assert (given.text(0), returned.text(0)) == ("image", "predictions")

    content = given.table(3)
    assert content.byte(0) == 2  # ImageProperties
    assert content.table(1).byte(0) == 1  # RGB
    (unit,) = given.tables(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    assert unit.table(1).floats(0) == (0,)
    assert unit.table(1).floats(1) == (1,)

    assert returned.table(3).byte(0) == 1  # FeatureProperties
    (file,) = returned.tables(6)
    assert file.byte(2) == 2  # TENSOR_AXIS_LABELS
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [file.text(0)] == ["labels.txt"]
        assert archive.read("labels.txt").decode().splitlines() == LABELS
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
    assert report.labels == 3 and "3 labels" in str(report)


def test_without_labels_there_is_no_archive(tmp_path):
    path = tmp_path / "model.tflite"
    to_tflite(classifier((6, 5, 1)), path, normalization=(127.5, 63.75))
    (subgraph,) = metadata(path).tables(3)
    (given,), (returned,) = subgraph.tables(2), subgraph.tables(3)
    assert given.table(3).table(1).byte(0) == 2  # GRAYSCALE
    normalization = given.tables(4)[0].table(1)
    assert normalization.floats(0) == (127.5,)
    assert normalization.floats(1) == (63.75,)
    assert returned.place(6) is None
    assert not zipfile.is_zipfile(path)


def test_maps_that_are_no_images(tmp_path):
    path = tmp_path / "model.tflite"
    to_tflite(classifier((6, 5, 7)), path)
    (subgraph,) = metadata(path).tables(3)
    assert subgraph.tables(2)[0].table(3).byte(0) == 1  # FeatureProperties


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_half_precision_where_the_weights_have_it(tmp_path, quantize):
    """XNNPACK computes in it only if its sums may be of half precision, too."""
    path = tmp_path / "model.tflite"
    to_tflite(classifier(), path, quantize, pixels(8, 6, 5, 3), labels=LABELS)
    found = entries(path)
    assert "TFLITE_METADATA" in found
    support = found.get("reduced_precision_support")
    assert support == (b"fp16accfp16" if quantize == "float16" else None)


def test_names_in_the_signature(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "model.tflite"
    names = {"input_name": "photo", "output_name": "logits"}
    to_tflite(classifier(), path, labels=LABELS, **names)
    interpreter = Interpreter(str(path))
    signatures = interpreter.get_signature_list()
    assert signatures == {
        "serving_default": {"inputs": ["photo"], "outputs": ["logits"]}
    }
    assert interpreter.get_input_details()[0]["name"] == "photo"
    assert interpreter.get_output_details()[0]["name"] == "logits"


def test_equal_models_are_equal_files(tmp_path):
    model = classifier()
    for name in ("one.tflite", "two.tflite"):
        to_tflite(model, tmp_path / name, labels=LABELS)
    assert (tmp_path / "one.tflite").read_bytes() == (
        tmp_path / "two.tflite"
    ).read_bytes()


class TestTypes:
    """Of the input and of the output."""

    @pytest.fixture(scope="class")
    @classmethod
    def images(cls):
        # Darker than a camera's.
        return np.round(pixels(32, 6, 5, 3) * 0.7)

    @pytest.mark.parametrize("output_type", ["float32", "uint8", "int8"])
    @pytest.mark.parametrize("input_type", ["float32", "uint8", "int8"])
    def test_combinations(self, tmp_path, images, input_type, output_type):
        model = classifier()
        path = tmp_path / "model.tflite"
        types = {"input_type": input_type, "output_type": output_type}
        report = to_tflite(model, path, "int8", images, **types)
        assert (report.input_type, report.output_type) == (input_type, output_type)
        assert f" {input_type}\n" in str(report)
        lite = LiteRTModel(path)
        assert (lite.input_type, lite.output_type) == (input_type, output_type)
        assert report.agreement.relative_difference < 0.05

    @pytest.mark.parametrize("mean, std", [(0, 1), (127, 128)])
    def test_pixels_go_in_as_they_are(self, tmp_path, images, mean, std):
        """Whatever range the images had that the file was calibrated with."""
        from ai_edge_litert.interpreter import Interpreter

        model = classifier()
        path = tmp_path / "model.tflite"
        given = (images - mean) / std
        to_tflite(
            model,
            path,
            "int8",
            given,
            input_type="uint8",
            normalization=(mean, std),
        )
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        details = interpreter.get_input_details()[0]
        assert details["quantization"] == (1 / std, mean)
        interpreter.set_tensor(details["index"], images[:1].astype("uint8"))
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        expected = np.asarray(model(given[:1]))
        # In the calibrated range, they would be 30% off.
        assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"input_type": "uint8"}, "`input_type`.*quantize=None.*'uint8'"),
            ({"output_type": "int8"}, "`output_type`.*'int8'"),
            ({"quantize": "int8", "input_type": "int16"}, "`input_type`.*'int16'"),
            ({"input_name": "an image"}, "`input_name`.*'an image'"),
            ({"output_name": ""}, "`output_name`.*''"),
            ({"labels": ["a", "b"]}, "3 classes.*2 names"),
            ({"labels": "abc"}, "`labels`.*labels='abc'"),
            ({"labels": 5}, "`labels`.*labels=5"),
            ({"labels": ["a", "b", "c\nd"]}, "one line"),
            ({"labels": ["a", "b", ""]}, "one line"),
            ({"normalization": 255}, "`normalization`.*255"),
            ({"normalization": "12"}, "`normalization`.*'12'"),
            ({"normalization": ("127.5", "127.5")}, "pair of numbers.*'127.5'"),
            ({"normalization": (0, 0)}, r"positive number.*\(0, 0\)"),
            ({"normalization": (-1, 1)}, r"0 to 255.*\(-1, 1\)"),
            ({"normalization": (0, 1, 2)}, r"pair.*\(0, 1, 2\)"),
        ],
    )
    def test_errors(self, tmp_path, images, arguments, message):
        with pytest.raises(ValueError, match=f"(?s)Argument.*{message}"):
            to_tflite(
                classifier(),
                tmp_path / "model.tflite",
                representative_data=images,
                **arguments,
            )
        assert list(tmp_path.iterdir()) == []


class TestReading:
    @pytest.mark.parametrize("labels", [None, LABELS])
    def test_what_was_written(self, tmp_path, labels):
        path = tmp_path / "model.tflite"
        to_tflite(classifier(), path, normalization=(127.5, 63.75), labels=labels)
        assert read_metadata(path) == Metadata((127.5,), (63.75,), labels)

    def test_arguments_that_can_be_read_once(self, tmp_path):
        path = tmp_path / "model.tflite"
        normalization = iter((127.5, 63.75))
        to_tflite(classifier(), path, normalization=normalization, labels=iter(LABELS))
        assert read_metadata(path) == Metadata((127.5,), (63.75,), LABELS)

    def test_without_metadata(self, tmp_path):
        path = tmp_path / "model.tflite"
        to_tflite(classifier(), path, normalization=(127.5, 63.75))
        model = TFLiteFile.read(path).model
        model.metadata = []
        path.write_bytes(pack(model))
        assert read_metadata(path) == Metadata((0.0,), (1.0,), None)

    def test_damaged_metadata(self, tmp_path):
        path = tmp_path / "model.tflite"
        to_tflite(classifier(), path)
        model = TFLiteFile.read(path).model
        (entry,) = (entry for entry in model.metadata if entry.name == METADATA)
        model.buffers[entry.buffer].data = np.full(8, 255, "uint8")
        path.write_bytes(pack(model))
        LiteRTModel(path)
        with pytest.raises(ValueError, match="Its metadata cannot.*Received: path=.*"):
            read_metadata(path)
