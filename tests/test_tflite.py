"""From a Keras model to a .tflite file: what is in it, and what it computes."""

import os
import stat
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_shift.deploy import LiteRTModel, agreement
from keras_shift.deploy import tflite as tflite_module
from keras_shift.deploy import to_tflite, with_random_biases
from keras_shift.deploy.agreement import compare
from keras_shift.deploy.flatbuffer import TFLiteFile
from keras_shift.deploy.lowering import lower_layers
from keras_shift.deploy.shift_kernels import bilinear_kernel
from keras_shift.deploy.timing import time_alternately
from keras_shift.layers import ActiveShift2D, GroupedShift2D, SparseShift2D
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.zoo import FENet, MobileNetV2, blocks
from networks import ROOT, pixels, predict, python_environment, randomize, run_python

pytestmark = pytest.mark.tensorflow

# Of the largest output. Weights in half precision are rounded by up to 2**-11 of
# themselves, int8 ones and activations by half a step of 1/127 of the largest in
# their channel or map; what FE-Net's 42 layers make of that was measured (6e-4, 0.02
# and 0.03) and tripled. `test_bounds_would_notice_a_wrong_shift` says why it is enough.
BOUNDS = {None: 1e-5, "float16": 2e-3, "dynamic": 0.06, "int8": 0.1}


def small(image_shape=(12, 12, 3), name="small", **style):
    """Two FE-blocks with a stem: every kind of layer of FE-Net, converted quickly."""
    style = blocks.BlockStyle(squeeze_ratio=2, **{"max_displacement": 2, **style})
    images = keras.Input(image_shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    x = blocks.convolution(x, 8, 3, style, "stem")
    x = blocks.fe_block(x, 16, 3, lambda c, f: 3 * c, style, "block1", strides=2)
    x = blocks.fe_block(x, 16, 2, lambda c, f: 3 * c, style, "block2")
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(10)(x), name=name)


def shift_only(layer, image_shape=(9, 7, 5)):
    return keras.Sequential([keras.Input(image_shape), layer])


def content(path):
    with open(path, "rb") as file:
        return file.read()


def check(report, images, model, bound=1e-5):
    """A file holds builtin operations, and computes what the model does."""
    file = TFLiteFile.read(report.path)
    assert not file.not_builtin
    assert report.operations == file.operations
    lite = LiteRTModel(report.path)
    same = compare(lite.predict(images), predict(model, images))
    assert same.relative_difference < bound
    assert report.agreement.relative_difference < bound


@pytest.fixture(scope="module")
def fenet():
    keras.utils.set_random_seed(0)
    model = FENet((64, 64, 3), alpha=0.5, classes=100, classifier_activation=None)
    return randomize(model)


@pytest.fixture(scope="module")
def small_model():
    keras.utils.set_random_seed(0)
    return randomize(small())


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_file_is_parsed_once(small_model, tmp_path, quantize, monkeypatch):
    calls = []
    parse = TFLiteFile.parse.__func__

    def counted(cls, content):
        calls.append(len(content))
        return parse(cls, content)

    monkeypatch.setattr(TFLiteFile, "parse", classmethod(counted))
    report = to_tflite(
        small_model,
        tmp_path / "small.tflite",
        quantize,
        pixels(4, 12, 12, 3),
        labels=[f"class {number}" for number in range(10)],
    )
    assert len(calls) == 1
    written = TFLiteFile.read(report.path)
    assert written.operations == report.operations
    assert len(written.content) == report.bytes


class TestFENet:
    def test_int8_file_computes_what_the_model_does(self, fenet, tmp_path):
        """As float files of every network do, in tests/test_zoo.py."""
        images = pixels(32, 64, 64, 3)
        path = tmp_path / "fenet.tflite"
        report = to_tflite(fenet, path, "int8", representative_data=images)
        check(report, images, fenet, BOUNDS["int8"])
        assert report.path == str(path)
        assert report.bytes == path.stat().st_size
        assert report.quantize == "int8"
        assert report.input_shape == (1, 64, 64, 3)
        assert report.compared_on == "representative_data"
        assert report.agreement.images == 32
        parameters = fenet.count_params()
        # Beside a byte for each, the graph and a scale for every channel.
        assert 0.9 < report.bytes / parameters < 1.6
        assert report.partitions == 1
        for text in ("fenet.tflite", "int8", "CONV_2D", "32 images"):
            assert text in str(report)

    def test_bounds_would_notice_a_wrong_shift(self, fenet):
        wrong = keras.models.clone_model(fenet)
        wrong.set_weights(fenet.get_weights())
        displacements = wrong.get_layer("fe_block4_unit3_shift").displacements
        displacements.assign(displacements[::-1])
        images = pixels(32, 64, 64, 3)
        same = compare(predict(wrong, images), predict(fenet, images))
        assert same.relative_difference > max(BOUNDS.values())


class TestVariants:
    @pytest.mark.parametrize(
        "style",
        [
            {"spatial": "grouped_shift"},
            {"spatial": "active_shift"},
            {"spatial": "depthwise"},
            {"spatial": "none"},
            {"squeeze_excite": "v1"},
            {"squeeze_excite": "v2"},
            {"max_displacement": None},
        ],
        ids=str,
    )
    def test_every_kind_of_block(self, tmp_path, style):
        model = randomize(small(**style))
        report = to_tflite(model, tmp_path / "model.tflite")
        check(report, pixels(4, 12, 12, 3), model)
        assert report.compared_on == "random pixels"

    @pytest.mark.parametrize("quantize", ["float16", "dynamic"])
    def test_quantized_weights(self, fenet, tmp_path, quantize):
        """Of a network with kernels of 1024 numbers: smaller ones stay as they are."""
        images = pixels(16, 64, 64, 3)
        path = tmp_path / "model.tflite"
        report = to_tflite(fenet, path, quantize, images)
        check(report, images, fenet, BOUNDS[quantize])
        # They are rounded, so the result is close but not equal.
        assert report.agreement.relative_difference > BOUNDS[None]

    @pytest.mark.parametrize(
        "size, quantize", [((13, 9), None), ((13, 9), "int8"), ((5, 3), None)]
    )
    def test_maps_of_odd_size(self, tmp_path, size, quantize):
        model = randomize(small((*size, 3)))
        images = pixels(32, *size, 3)
        report = to_tflite(model, tmp_path / "model.tflite", quantize, images)
        check(report, images, model, BOUNDS[quantize])

    @pytest.mark.parametrize("quantize", [None, "int8"])
    def test_batches(self, tmp_path, quantize):
        model = shift_only(GroupedShift2D(), (12, 12, 9))
        model.add(keras.layers.Conv2D(4, 3))
        # Three do not divide the number of images.
        images = pixels(16, 12, 12, 9)
        path = tmp_path / "model.tflite"
        report = to_tflite(model, path, quantize, images, batch_size=3)
        assert report.input_shape == (3, 12, 12, 9)
        check(report, images, model, BOUNDS[quantize])

    def test_a_whole_number_of_any_type_is_a_batch_size(self, small_model, tmp_path):
        report = to_tflite(small_model, tmp_path / "model.tflite", batch_size=2.0)
        assert LiteRTModel(report.path).input_shape[0] == 2

    def test_fewer_images_than_a_batch_still_make_an_int8_file(self, tmp_path):
        model = shift_only(keras.layers.Conv2D(4, 3))
        path = tmp_path / "model.tflite"
        report = to_tflite(model, path, "int8", pixels(3, 9, 7, 5), batch_size=8)
        assert report.operations["QUANTIZE"] > 0

    def test_mixed_precision(self, tmp_path):
        """The file computes in float32 what the model computes in float16."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = randomize(small())
        finally:
            keras.config.set_dtype_policy(before)
        full = small()
        full.set_weights(model.get_weights())
        images = pixels(8, 12, 12, 3)
        report = to_tflite(model, tmp_path / "model.tflite")
        # Half precision has eleven bits.
        assert report.agreement.relative_difference < 1e-2
        lite = LiteRTModel(report.path)
        same = compare(lite.predict(images), predict(full, images))
        assert same.relative_difference < 1e-5

    def test_sequential_model(self, tmp_path):
        model = keras.Sequential(
            [
                keras.Input((9, 7, 25)),
                GroupedShift2D(kernel_size=5, dilation_rate=2),
                keras.layers.Conv2D(4, 1),
            ]
        )
        report = to_tflite(model, tmp_path / "model.tflite")
        check(report, pixels(3, 9, 7, 25), model)
        assert report.operations == {"DEPTHWISE_CONV_2D": 1, "CONV_2D": 1}

    @pytest.mark.parametrize("layer", [SparseShift2D, ActiveShift2D])
    def test_displacements_larger_than_the_map(self, tmp_path, layer):
        model = shift_only(layer())
        displacements = [[0, 30.4, -8.5, 2.5, 3e5], [-40, 6.7, 0.2, -7.5, -6.5]]
        model.layers[0].displacements.assign(displacements)
        report = to_tflite(model, tmp_path / "model.tflite")
        check(report, pixels(3, 9, 7, 5), model)

    def test_shift_of_nothing_vanishes(self, tmp_path):
        model = shift_only(SparseShift2D())
        model.add(keras.layers.Conv2D(4, 1))
        model.layers[0].displacements.assign([[0.4] * 5, [-0.5] * 5])
        report = to_tflite(model, tmp_path / "model.tflite")
        assert report.operations == {"CONV_2D": 1}
        check(report, pixels(3, 9, 7, 5), model)

    def test_displacements_beyond_the_bound_are_clipped_as_in_the_layer(self, tmp_path):
        model = shift_only(SparseShift2D(max_displacement=1))
        model.layers[0].displacements.assign([[3.0] * 5, [-2.0] * 5])
        report = to_tflite(model, tmp_path / "model.tflite")
        check(report, pixels(3, 9, 7, 5), model)

    def test_models_inside_of_models(self, tmp_path):
        backbone = small((None, None, 3))
        images = keras.Input((12, 12, 3))
        outputs = keras.layers.Dense(3)(backbone(images))
        model = randomize(keras.Model(images, outputs))
        report = to_tflite(model, tmp_path / "model.tflite")
        check(report, pixels(3, 12, 12, 3), model)

    def test_layers_of_arbitrary_code(self, tmp_path):
        images = keras.Input((9, 7, 5))
        outputs = GroupedShift2D()(keras.layers.Lambda(lambda x: x / 255)(images))
        model = keras.Model(images, outputs)
        check(to_tflite(model, tmp_path / "model.tflite"), pixels(3, 9, 7, 5), model)


class TestRepresentativeData:
    def test_kinds_of_iterables(self, tmp_path):
        """All of them are the same images, and make the same file."""
        import tensorflow as tf

        model = shift_only(keras.layers.Conv2D(4, 3))
        images = pixels(10, 9, 7, 5)
        dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(10)))
        kinds = [
            images,
            dataset.batch(4),
            dataset,
            iter(images),
            [images[:6], images[6:]],
        ]
        files = []
        for kind in kinds:
            path = tmp_path / "model.tflite"
            report = to_tflite(model, path, "int8", representative_data=kind)
            assert report.agreement.images == 10
            files.append(content(path))
        assert len(set(files)) == 1

    def test_no_more_is_read_than_is_needed(self, tmp_path):
        def forever():
            while True:
                yield pixels(100, 9, 7, 5)

        model = shift_only(GroupedShift2D())
        report = to_tflite(model, tmp_path / "m.tflite", "int8", forever())
        assert report.agreement.images == 32

    @pytest.mark.parametrize("pixel", [np.nan, np.inf, -np.inf, 3e38, 1e300])
    @pytest.mark.parametrize("quantize", [None, "int8"])
    def test_pixels_that_are_none(self, tmp_path, quantize, pixel):
        images = pixels(4, 9, 7, 5).astype("float64")
        images[2, 3, 4, 1] = pixel
        model = shift_only(keras.layers.Conv2D(4, 3))
        with pytest.raises(ValueError, match="`representative_data`.*finite numbers"):
            to_tflite(model, tmp_path / "model.tflite", quantize, images)
        assert list(tmp_path.iterdir()) == []


class TestWrongFiles:
    """A file that has little to do with its model is never kept without a word."""

    @pytest.fixture
    def model(self):
        keras.utils.set_random_seed(0)
        return shift_only(keras.layers.Conv2D(4, 3))

    @pytest.mark.parametrize("quantize", [None, "int8"])
    def test_outputs_of_another_model(self, model, tmp_path, monkeypatch, quantize):
        wrong = keras.models.clone_model(model)
        wrong.set_weights([-weight for weight in model.get_weights()])
        monkeypatch.setattr(
            tflite_module, "lower_units", lambda model, quantize: lower_layers(wrong)
        )
        path = tmp_path / "model.tflite"
        with pytest.warns(UserWarning, match=r"not compute.*top-1 for 0.0%.*range"):
            report = to_tflite(model, path, quantize, pixels(8, 9, 7, 5))
        assert report.agreement.top1 == 0 and path.exists()

    def test_outputs_closer_than_steps(self, tmp_path):
        """As a network that is not trained gives them."""
        model = shift_only(keras.layers.GlobalAveragePooling2D())
        model.add(keras.layers.Dense(1000, "softmax", kernel_initializer="zeros"))
        model.layers[-1].bias.assign(np.linspace(0, 0.1, 1000))
        path = tmp_path / "model.tflite"
        report = to_tflite(model, path, "int8", pixels(8, 9, 7, 5))
        assert report.agreement.largest_difference < 2 / 256
        assert TFLiteFile.read(path).output_step == 1 / 256

    def test_steps_of_float_files(self, model, tmp_path):
        to_tflite(model, tmp_path / "model.tflite")
        assert TFLiteFile.read(tmp_path / "model.tflite").output_step == 0


class TestOtherLayers:
    def test_adapted_normalization(self, tmp_path):
        layer = keras.layers.Normalization()
        layer.adapt(pixels(20, 9, 7, 5) * np.arange(1, 6))
        model = shift_only(layer)
        model.add(keras.layers.Conv2D(4, 3))
        check(to_tflite(model, tmp_path / "model.tflite"), pixels(3, 9, 7, 5), model)

    def test_subclasses_compute_what_they_say(self, tmp_path):
        class Doubled(SparseShift2D):
            def call(self, inputs, training=None):
                return 2 * super().call(inputs, training=training)

        model = shift_only(Doubled(name="doubled"))
        report = to_tflite(model, tmp_path / "model.tflite")
        check(report, pixels(3, 9, 7, 5), model)
        assert report.left_alone == ("doubled",)

    def test_subclasses_of_pooling(self, tmp_path):
        class Doubled(keras.layers.AveragePooling2D):
            def call(self, inputs):
                return 2 * super().call(inputs)

        model = shift_only(Doubled(2), (8, 8, 3))
        images = pixels(8, 8, 8, 3)
        report = to_tflite(model, tmp_path / "model.tflite", "int8", images)
        check(report, images, model, BOUNDS["int8"])

    @pytest.mark.parametrize("displacement", [np.nan, np.inf])
    @pytest.mark.parametrize("max_displacement", [None, 2])
    def test_displacements_that_are_none(
        self, tmp_path, displacement, max_displacement
    ):
        model = shift_only(SparseShift2D(max_displacement=max_displacement))
        values = np.zeros((2, 5))
        values[1, 3] = displacement
        model.layers[0].displacements.assign(values)
        images = pixels(3, 9, 7, 5)
        check(to_tflite(model, tmp_path / "model.tflite"), images, model)
        bounded = max_displacement and not np.isnan(displacement)
        assert predict(model, images)[..., 3].any() == bool(bounded)

    def test_model_with_a_call_of_its_own(self, tmp_path):
        class Doubled(keras.Model):
            def call(self, inputs, training=None, mask=None):
                return 2 * super().call(inputs, training=training, mask=mask)

        images = keras.Input((9, 7, 5))
        model = Doubled(images, GroupedShift2D()(images))
        with pytest.raises(ValueError, match="functional or sequential"):
            to_tflite(model, tmp_path / "model.tflite")


class TestPlainExport:
    """Keras' and TensorFlow's own exporters work on models with shifts."""

    @pytest.fixture(scope="class")
    @classmethod
    def images(cls):
        return pixels(4, 12, 12, 3)

    def test_litert(self, small_model, tmp_path, images):
        path = str(tmp_path / "model.tflite")
        small_model.export(path, format="litert", verbose=False)
        assert not TFLiteFile.read(path).not_builtin
        outputs = LiteRTModel(path).predict(images)
        assert compare(outputs, predict(small_model, images)).relative_difference < 1e-5

    def test_from_keras_model(self, small_model, tmp_path, images):
        import tensorflow as tf

        path = tmp_path / "model.tflite"
        converter = tf.lite.TFLiteConverter.from_keras_model(small_model)
        path.write_bytes(converter.convert())
        assert not TFLiteFile.read(path).not_builtin
        outputs = LiteRTModel(path).predict(images)
        assert compare(outputs, predict(small_model, images)).relative_difference < 1e-5

    @pytest.mark.exhaustive
    def test_saved_models_run_without_the_package(self, small_model, tmp_path, images):
        import tensorflow as tf

        small_model.export(
            tmp_path / "exported", format="tf_saved_model", verbose=False
        )
        tf.saved_model.save(small_model, str(tmp_path / "saved"))
        np.save(tmp_path / "images.npy", images)
        np.save(tmp_path / "outputs.npy", predict(small_model, images))
        run_python(
            """
import sys
sys.modules["keras_shift"] = None  # importing it fails
sys.modules["keras"] = None
import numpy as np, tensorflow as tf
folder = sys.argv[1]
images = tf.constant(np.load(f"{folder}/images.npy"))
expected = np.load(f"{folder}/outputs.npy")
exported = tf.saved_model.load(f"{folder}/exported")
saved = tf.saved_model.load(f"{folder}/saved")
(signature,) = saved.signatures["serving_default"](images).values()
for outputs in (exported.serve(images), signature):
    np.testing.assert_allclose(outputs, expected, atol=1e-5 * np.abs(expected).max())
""",
            tmp_path,
        )


def test_libraries_do_not_write_on_the_screen(tmp_path):
    """Imports by way of the examples' module, then the converter and LiteRT."""
    code = """
import sys
sys.path.insert(0, "examples")
import quiet_start
import keras, numpy as np
from keras_shift import deploy
model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(5, 1)])
images = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype("float32")
deploy.to_tflite(model, sys.argv[1], "int8", images)
deploy.LiteRTModel(sys.argv[1])
print("ours", file=sys.stderr)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "model.tflite")]
    environment = python_environment()
    del environment["TF_CPP_MIN_LOG_LEVEL"]
    result = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "ours\n")


class TestErrors:
    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"quantize": "int4"}, "`quantize`.*quantize=int4"),
            ({"quantize": "int8"}, "int8.*representative_data=None"),
            ({"batch_size": 0}, "`batch_size`.*batch_size=0"),
            (
                {"representative_data": pixels(2, 8, 8, 3)},
                r"`representative_data`.*\(9, 7, 5\).*\(2, 8, 8, 3\)",
            ),
            (
                {"representative_data": [pixels(2, 9, 7, 5), pixels(2, 9, 7, 3)]},
                r"`representative_data`.*\(2, 9, 7, 3\)",
            ),
            ({"representative_data": []}, "`representative_data`.*one image"),
            ({"normalization": (0, 1e-300)}, "1e-06 to 1e"),
            ({"normalization": (0, 1e300)}, "`normalization`.*1e.300"),
            ({"path": "model.onnx"}, "`path`.*tflite.*model.onnx"),
            ({"path": "no_such_folder/model.tflite"}, "`path`.*no_such_folder"),
        ],
    )
    def test_message_names_the_argument_and_what_was_received(
        self, tmp_path, monkeypatch, arguments, message
    ):
        monkeypatch.chdir(tmp_path)
        arguments = {"path": "model.tflite", **arguments}
        with pytest.raises(ValueError, match="(?s)" + message):
            to_tflite(shift_only(GroupedShift2D()), **arguments)
        assert list(tmp_path.iterdir()) == []

    def test_unknown_image_size(self, tmp_path):
        model = shift_only(GroupedShift2D(), (None, None, 3))
        with pytest.raises(ValueError, match=r"fixed image size.*\(None, None, 3\)"):
            to_tflite(model, tmp_path / "model.tflite")

    def test_models_that_cannot_be_rewritten(self, tmp_path):
        class Subclassed(keras.Model):
            def call(self, x):
                return x

        two = [keras.Input((9, 7, 5)), keras.Input((9, 7, 5))]
        several = keras.Model(two, keras.layers.Add()(two))
        for model in (Subclassed(), keras.Sequential([GroupedShift2D()]), several):
            with pytest.raises(ValueError, match="functional or sequential"):
                to_tflite(model, tmp_path / "model.tflite")

    def test_operations_that_are_not_builtin(self, tmp_path):
        images = keras.Input((9, 7, 5))
        model = keras.Model(images, keras.ops.erfinv(images / 256))
        with pytest.raises(RuntimeError, match="Erfinv"):
            to_tflite(model, tmp_path / "model.tflite")
        assert list(tmp_path.iterdir()) == []

    def test_activations_that_are_always_zero(self, tmp_path):
        """LiteRT's interpreter does not refuse such a file, but may crash on it."""
        model = keras.Sequential(
            [
                keras.Input((1, 1, 3)),
                keras.layers.Conv2D(4, 1),
                SparseShift2D(displacement_initializer="ones", name="out_of_the_map"),
                keras.layers.Conv2D(4, 1),
            ]
        )
        with pytest.raises(RuntimeError, match="zeros.*out_of_the_map"):
            to_tflite(model, tmp_path / "model.tflite", "int8", pixels(4, 1, 1, 3))
        assert list(tmp_path.iterdir()) == []

    def test_networks_that_were_never_trained(self, tmp_path):
        keras.utils.set_random_seed(0)
        model = MobileNetV2((32, 32, 3), alpha=0.35, classes=4)
        path, images = tmp_path / "model.tflite", pixels(4, 32, 32, 3)
        with pytest.raises(RuntimeError, match="with_random_biases") as refusal:
            to_tflite(model, path, "int8", images)
        named = str(refusal.value).split("comes out of ")[1].split(" more")[0]
        assert named.count(", ") == 2 and " and " in named
        report = to_tflite(with_random_biases(model), path, "int8", images)
        assert report.agreement.largest_difference < 0.05
        assert LiteRTModel(path).predict(images).std(1).min() > 0.01


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def fail(*args, **kwargs):
    raise RuntimeError("broken")


class TestNothingHalfWritten:
    @pytest.mark.parametrize("exception", [interrupt, fail])
    @pytest.mark.parametrize(
        "where", ["_convert", "compare_with_model", "LiteRTModel.predict", "os.replace"]
    )
    def test_failure_leaves_the_folder_as_it_was(
        self, tmp_path, monkeypatch, where, exception
    ):
        path = tmp_path / "model.tflite"
        path.write_bytes(b"an earlier model")
        owner, _, name = where.rpartition(".")
        owner = {"os": os, "LiteRTModel": LiteRTModel}.get(owner, tflite_module)
        monkeypatch.setattr(owner, name, exception)
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            to_tflite(shift_only(GroupedShift2D()), path)
        assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
        assert path.read_bytes() == b"an earlier model"

    def test_success_replaces_an_existing_file(self, tmp_path):
        path = tmp_path / "model.tflite"
        path.write_bytes(b"an earlier model")
        report = to_tflite(shift_only(GroupedShift2D()), path)
        assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
        assert LiteRTModel(report.path).input_shape == (1, 9, 7, 5)

    def test_file_has_the_mode_of_any_new_file(self, tmp_path):
        report = to_tflite(shift_only(GroupedShift2D()), tmp_path / "model.tflite")
        other = tmp_path / "other"
        other.touch()
        modes = {stat.S_IMODE(os.stat(path).st_mode) for path in (report.path, other)}
        assert len(modes) == 1


class TestLowering:
    def test_equals_the_model_and_has_no_shift_layers(self, fenet):
        lowered = lower_layers(fenet).model
        images = pixels(4, 64, 64, 3)
        same = compare(predict(lowered, images), predict(fenet, images))
        assert same.relative_difference < 1e-5
        assert shift_layers(lowered) == []
        assert lowered.name == fenet.name

    def test_leaves_the_model_alone(self, small_model):
        before = [weight.numpy() for weight in small_model.weights]
        lowered = lower_layers(small_model).model
        for weight in lowered.weights:
            weight.assign(weight + 1)
        for weight, value in zip(small_model.weights, before):
            np.testing.assert_array_equal(weight.numpy(), value)

    def test_kernels_are_just_large_enough(self):
        model = shift_only(SparseShift2D())
        model.layers[0].displacements.assign([[0, 3, 0, 0, -1], [0, 0, 1.2, 0, 0]])
        kernel = lower_layers(model).model.layers[0].kernel.numpy()
        assert kernel.shape == (7, 3, 5, 1)
        assert sorted(np.unique(kernel)) == [0, 1]
        assert (kernel.sum((0, 1)) == 1).all()

    def test_bilinear_kernel(self):
        kernel = bilinear_kernel([[0.25], [-1.0]])[..., 0, 0]
        expected = [[0, 0, 0], [0.75, 0, 0], [0.25, 0, 0]]
        np.testing.assert_array_equal(kernel, expected)

    def test_int8_pooling_becomes_a_convolution_where_it_is_a_plain_mean(self):
        pools = {
            "halves": keras.layers.AveragePooling2D(2),
            "unequal": keras.layers.AveragePooling2D((4, 2), padding="same"),
            "ragged": keras.layers.AveragePooling2D(3, padding="same"),
            "overlapping": keras.layers.AveragePooling2D(3, 2, padding="same"),
        }
        images = pixels(2, 8, 8, 3)
        for name, pool in pools.items():
            model = shift_only(pool, (8, 8, 3))
            lowered = lower_layers(model, "int8").model
            replaced = isinstance(lowered.layers[0], keras.layers.DepthwiseConv2D)
            assert replaced == (name in ("halves", "unequal")), name
            if name == "unequal":
                # TensorFlow has such a convolution only where oneDNN has it.
                assert lowered.layers[0].strides == (4, 2)
                assert (lowered.layers[0].get_weights()[0] == 1 / 8).all()
                continue
            same = compare(predict(lowered, images), predict(model, images))
            assert same.relative_difference < 1e-6

    @pytest.mark.parametrize("quantize", [None, "int8"])
    def test_single_pixels_do_not_cut_a_file_in_parts(self, quantize, tmp_path):
        """Shifts of `replace_depthwise` leave strides to such a pooling."""
        model = keras.Sequential(
            [
                keras.Input((9, 8, 3)),
                keras.layers.Conv2D(4, 1),
                keras.layers.MaxPooling2D(1, 2),
                keras.layers.Conv2D(4, 1),
            ]
        )
        images = pixels(4, 9, 8, 3)
        report = to_tflite(
            model,
            tmp_path / "model.tflite",
            quantize=quantize,
            representative_data=images,
        )
        assert report.partitions == 1 and "MAX_POOL_2D" not in report.operations
        outputs = LiteRTModel(report.path).predict(images)
        difference = compare(outputs, predict(model, images)).relative_difference
        assert difference < (0.05 if quantize else 1e-5)


class TestLiteRTModel:
    @pytest.fixture
    def path(self, tmp_path):
        model = shift_only(GroupedShift2D())
        return to_tflite(model, tmp_path / "model.tflite", batch_size=4).path

    def test_predict_takes_any_number_of_images(self, path):
        model = shift_only(GroupedShift2D())
        lite = LiteRTModel(path)
        for count in (0, 1, 4, 9):
            images = pixels(count, 9, 7, 5)
            outputs = lite.predict(images)
            assert outputs.shape == (count, 9, 7, 5)
            assert outputs.dtype == "float32"
            if count:
                np.testing.assert_array_equal(outputs, predict(model, images))

    @pytest.mark.parametrize("count", [4096, 257, 0, -1, 1.5])
    def test_threads_are_bounded(self, path, count):
        with pytest.raises(ValueError, match=f"`num_threads`.*256.*{count}"):
            LiteRTModel(path, num_threads=count)

    def test_predict_names_the_shape_it_wants(self, path):
        with pytest.raises(ValueError, match=r"\(9, 7, 5\).*\(2, 5, 5, 5\)"):
            LiteRTModel(path).predict(pixels(2, 5, 5, 5))

    def test_integer_inputs_and_outputs_are_scaled(self, tmp_path):
        import tensorflow as tf

        model = shift_only(GroupedShift2D())
        images = pixels(64, 9, 7, 5)
        converter = tf.lite.TFLiteConverter.from_keras_model(lower_layers(model).model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        path = tmp_path / "model.tflite"
        path.write_bytes(converter.convert())
        lite = LiteRTModel(path)
        # One step of 255 levels.
        np.testing.assert_allclose(
            lite.predict(images), predict(model, images), atol=1.01
        )


class TestCompare:
    def test_numbers(self):
        same = compare([[1.0, 2.0], [3.0, 1.0]], [[1.0, 4.0], [1.0, 2.0]])
        assert same.images == 2
        assert same.top1 == 0.5
        assert same.largest_difference == 2.0
        assert same.largest_output == 4.0
        assert same.relative_difference == 0.5

    def test_maps_are_compared_whole(self):
        reference = np.arange(24.0).reshape(2, 3, 4)
        assert compare(reference, reference).top1 == 1
        assert compare(-reference, reference).top1 == 0

    def test_zeros_have_no_relative_difference_to_divide_by(self):
        assert compare([[0.5]], [[0.0]]).relative_difference == 0.5

    @pytest.mark.parametrize("shape", [(2, 3), (0, 4)])
    def test_shapes_must_agree_and_hold_an_image(self, shape):
        with pytest.raises(ValueError, match="`outputs` and `reference`"):
            compare(np.zeros(shape), np.zeros((shape[0], 4)))

    def test_what_is_not_a_number_agrees_with_nothing(self):
        same = compare([[np.nan, 1.0], [1.0, 2.0]], [[np.nan, 1.0], [1.0, 2.0]])
        assert same.top1 == 0.5
        assert np.isnan(same.largest_difference)

    @pytest.mark.parametrize("first", [False, True])
    def test_batches_are_pooled_with_all_that_is_not_a_number(self, first):
        good, bad = compare([[1.0]], [[1.1]]), compare([[np.nan]], [[-2.0]])
        pooled = agreement.pool([bad, good] if first else [good, bad])
        assert pooled.images == 2 and pooled.top1 == 0.5
        assert np.isnan(pooled.largest_difference)
        assert np.isnan(pooled.relative_difference)
        assert (pooled.lowest, pooled.highest, pooled.largest_output) == (-2, 1.1, 2)


class TestTimeAlternately:
    def test_every_call_is_made_twice_a_round(self):
        made = {"one": 0, "other": 0}

        def call(name):
            made[name] += 1

        calls = {name: lambda name=name: call(name) for name in made}
        timings = time_alternately(calls, repeats=5)
        assert made == {"one": 10, "other": 10}
        assert list(timings) == ["one", "other"]
        assert timings["one"].ratio == 1
        for timing in timings.values():
            assert 0 <= timing.low <= timing.median <= timing.high
            assert timing.ratio_low <= timing.ratio <= timing.ratio_high

    def test_ratio_is_to_the_first(self, monkeypatch):
        clock = [0.0]
        monkeypatch.setattr(
            "keras_shift.deploy.timing.time.perf_counter", lambda: clock[0]
        )

        def take(seconds):
            clock[0] += seconds

        timings = time_alternately({"a": lambda: take(2.0), "b": lambda: take(3.0)})
        assert timings["a"].median == 2
        assert timings["b"].median == 3
        assert timings["b"].ratio == 1.5

    @pytest.mark.parametrize("calls, repeats", [({}, 3), ({"a": interrupt}, 0)])
    def test_nothing_to_time(self, calls, repeats):
        with pytest.raises(ValueError, match="`calls` and `repeats`"):
            time_alternately(calls, repeats)


@pytest.mark.exhaustive
def test_int8_file_is_as_accurate_as_the_float_file(tmp_path):
    """A trained FE-Net loses at most a point of top-1 on held-out digits."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("float32")
    images = images.repeat(2, axis=1).repeat(2, axis=2)
    x, held_out, y, truth = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )
    keras.utils.set_random_seed(0)
    model = FENet(
        (16, 16, 1),
        alpha=0.25,
        classes=10,
        output_stride=8,
        batch_norm_momentum=0.9,
        classifier_activation=None,
    )
    epochs = 3
    steps = epochs * -(-len(x) // 32)
    model.compile(
        keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(0.05, steps), momentum=0.9
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    accuracy = np.mean(predict(model, held_out).argmax(-1) == truth)
    path = tmp_path / "model.tflite"
    report = to_tflite(model, path, "int8", representative_data=x[:200])
    assert report.partitions == 1
    found = LiteRTModel(path).predict(held_out).argmax(-1)
    assert accuracy > 0.9
    assert np.mean(found == truth) >= accuracy - 0.01
