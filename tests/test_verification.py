"""A .tflite file beside the Keras model that it was made from."""

import functools
import sys

import keras
import numpy as np
import pytest

from keras_shift.deploy import (
    LiteRTModel,
    Verification,
    benchmark,
    to_tflite,
    verify,
)
from keras_shift.deploy.metadata import read_metadata
from keras_shift.layers import GroupedShift2D
from networks import pixels, predict, randomize

pytestmark = pytest.mark.tensorflow

LABELS = ["cat", "dog", "cow", "emu"]


def classifier(shape=(6, 5, 3), classes=4):
    layers = [
        keras.Input(shape),
        keras.layers.Conv2D(9, 1),
        GroupedShift2D(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(classes),
    ]
    return randomize(keras.Sequential(layers))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return classifier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def path(model, folder):
    return to_tflite(model, folder / "model.tflite", labels=LABELS).path


class TestVerify:
    def test_file_of_the_model(self, model, path):
        result = verify(path, model)
        assert isinstance(result, Verification)
        assert result.agreement.top1 == 1
        assert result.agreement.relative_difference < 1e-5
        assert result.compared_on == "random pixels"
        assert result.accuracy is None and result.keras_accuracy is None
        assert result.partitions == 1
        assert result.operations["CONV_2D"] > 0 and not result.not_builtin
        assert (result.input_shape, result.input_type) == ((1, 6, 5, 3), "float32")
        assert (result.output_shape, result.output_type) == ((1, 4), "float32")
        for text in ("model.tflite", "100.0% of 8 images", "CONV_2D", "float32"):
            assert text in str(result)
        assert "accuracy" not in str(result)

    def test_every_image_counts(self, model, path):
        images = pixels(70, 6, 5, 3)
        result = verify(path, model, (batch for batch in np.split(images, [33, 40])))
        assert result.agreement.images == 70
        assert result.compared_on == "data"

    @pytest.mark.parametrize("one_hot", [False, True])
    def test_accuracy_of_both(self, model, path, one_hot):
        images = pixels(40, 6, 5, 3)
        labels = predict(model, images).argmax(1)
        labels[:10] += 1
        labels %= 4
        given = np.eye(4)[labels] if one_hot else labels
        result = verify(path, model, (images, given))
        assert result.accuracy == result.keras_accuracy == 0.75
        assert "75.0%" in str(result)

    def test_targets_that_are_no_classes(self, model, path):
        images = pixels(5, 6, 5, 3)
        for targets in (images, np.linspace(0, 1, 5)):
            assert verify(path, model, (images, targets)).accuracy is None

    def test_file_of_another_model(self, model, path):
        keras.utils.set_random_seed(1)
        other = classifier()
        result = verify(path, other, pixels(20, 6, 5, 3))
        assert result.agreement.relative_difference > 0.01

    @pytest.mark.parametrize(
        "arguments",
        [{"shape": (6, 6, 3)}, {"shape": (None, None, 1)}, {"classes": 3}],
    )
    def test_model_that_does_not_fit(self, path, arguments):
        with pytest.raises(ValueError, match="(?s)`model`.*made from.*model.tflite"):
            verify(path, classifier(**arguments))

    def test_model_of_any_image_size(self, model, path):
        any_size = classifier((None, None, 3))
        any_size.set_weights(model.get_weights())
        assert verify(path, any_size).agreement.relative_difference < 1e-5

    def test_data_that_do_not_fit(self, model, path):
        images = pixels(5, 6, 5, 3)
        for data, message in {
            "no image": ([], "`data` must hold one image"),
            "labels": ((images, np.arange(5)), "labels from 0 to 3.*from 0 to 4"),
            "shape": (pixels(5, 5, 5, 3), r"\(6, 5, 3\)"),
            "no number": (images * np.nan, "`data`.*finite numbers"),
        }.values():
            with pytest.raises(ValueError, match=message):
                verify(path, model, data)

    def test_several_inputs(self, path):
        two = [keras.Input((6, 5, 3)), keras.Input((6, 5, 3))]
        with pytest.raises(ValueError, match="`model`.*one input"):
            verify(path, keras.Model(two, keras.layers.Add()(two)))


class TestDamagedFiles:
    """LiteRT may crash on them."""

    @pytest.fixture(params=["verify", "benchmark"])
    def use(self, request, model):
        return {
            "verify": lambda path: verify(path, model),
            "benchmark": lambda path: benchmark(path, repeats=1),
        }[request.param]

    def refused(self, use, path, content, match="(?s)undamaged.*broken.tflite"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=match):
            use(path)

    def test_truncated(self, use, path, tmp_path):
        with open(path, "rb") as file:
            content = file.read()
        # The last one ends in the labels, behind the model.
        for length in (0, 5, 8, 100, len(content) // 2, len(content) - 30):
            self.refused(use, tmp_path / "broken.tflite", content[:length])

    def test_something_else(self, use, tmp_path):
        for content in (b"PK\3\4 some archive", b"\0\0\0\0TFL3", b"\xff" * 4 + b"TFL3"):
            self.refused(use, tmp_path / "broken.tflite", content)

    def test_indices_into_nowhere(self, use, model, tmp_path):
        from keras_shift.deploy.flatbuffer import TFLiteFile, pack

        # Without labels, which `pack` does not write.
        to_tflite(model, tmp_path / "whole.tflite")
        content = pack(TFLiteFile.read(tmp_path / "whole.tflite").model)
        (tmp_path / "packed.tflite").write_bytes(content)
        use(tmp_path / "packed.tflite")
        unknown = TFLiteFile.parse(content).model
        for code in unknown.operatorCodes:
            code.builtinCode = 9999
        self.refused(
            use,
            tmp_path / "broken.tflite",
            pack(unknown),
            match="cannot run.*broken.tflite",
        )
        for harm in (
            lambda graph: setattr(graph.operators[0], "inputs", np.array([99])),
            lambda graph: setattr(graph.operators[0], "opcodeIndex", 99),
            lambda graph: setattr(graph.tensors[0], "buffer", 99),
            lambda graph: [setattr(t, "shape", np.array([3])) for t in graph.tensors],
        ):
            broken = TFLiteFile.parse(content).model
            harm(broken.subgraphs[0])
            self.refused(use, tmp_path / "broken.tflite", pack(broken))

    def test_no_file(self, use, tmp_path):
        with pytest.raises(OSError, match="missing.tflite"):
            use(tmp_path / "missing.tflite")


class TestBenchmark:
    def test_one_file(self, path):
        result = benchmark(path, repeats=3)
        timing = result.timings[path]
        assert 0 < timing.low <= timing.median <= timing.high < 1
        assert result.partitions == {path: 1}
        assert (result.num_threads, result.repeats) == (1, 3)
        text = str(result)
        for part in (path, " ms", "3 runs", "1 thread,", result.machine):
            assert part in text
        assert "Ratio" not in text

    def test_files_in_turns(self, model, path, folder):
        other = to_tflite(model, folder / "four.tflite", batch_size=4).path
        result = benchmark(path, other, num_threads=2, repeats=3)
        assert list(result.timings) == [path, other]
        assert result.timings[path].ratio == 1
        assert result.batch_sizes == {path: 1, other: 4}
        assert "Ratio" in str(result) and "2 threads" in str(result)

    def test_errors(self, path):
        for arguments in (
            {"num_threads": 0},
            {"num_threads": 4096},
            {"repeats": 0},
            {"repeats": 1.5},
        ):
            (name,) = arguments
            with pytest.raises(ValueError, match=f"`{name}` must be a positive"):
                benchmark(path, **arguments)
        with pytest.raises(ValueError, match="named once"):
            benchmark(path, path)


def test_without_litert_an_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    (tmp_path / "model.tflite").write_bytes(b"\0\0\0\0TFL3")
    write = functools.partial(to_tflite, classifier())
    for use in (LiteRTModel, read_metadata, write):
        with pytest.raises(ImportError, match="pip install ai-edge-litert"):
            use(tmp_path / "model.tflite")
