"""Portable models: layers of Keras alone, and the same answers, wherever they run."""

import importlib

import keras
import numpy as np
import pytest

from keras_shift.deploy import fuse, portable
from keras_shift.deploy.agreement import compare
from keras_shift.layers import (
    ActiveShift2D,
    FusedBatchNormalization,
    GroupedShift2D,
    SliceChannels,
    SparseShift2D,
    SqueezeExcite2D,
)
from keras_shift.zoo import FENet, ShiftNetC, ShiftResNet20, blocks
from marks import exhaustive
from networks import flat_layers, load_tool, pixels, predict, randomize, run_python
from unit_models import one_unit

STYLES = [
    {"spatial": "sparse_shift"},
    exhaustive({"spatial": "sparse_shift", "max_displacement": None}),
    exhaustive({"spatial": "grouped_shift"}),
    exhaustive({"spatial": "active_shift"}),
    {"spatial": "depthwise"},
    exhaustive({"spatial": "none"}),
    {"squeeze_excite": "v1"},
    {"squeeze_excite": "v2"},
]


def small(**style):
    """An FE-block with a stem: every kind of layer of FE-Net."""
    keras.utils.set_random_seed(0)
    style = blocks.BlockStyle(squeeze_ratio=2, **{"max_displacement": 2, **style})
    images = keras.Input((13, 9, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    x = blocks.convolution(x, 8, 3, style, "stem")
    x = blocks.fe_block(x, 16, 3, lambda c, f: 3 * c, style, "block", strides=2)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(10)(x), name="small")
    return randomize(model, reach=2.6)


def assert_portable(model):
    """Returns the portable model, which agrees with the one that it is made of."""
    plain = portable(model)
    for layer in flat_layers(plain):
        assert type(layer).__module__.startswith("keras."), layer
        assert layer.compute_dtype == "float32"
    assert "keras_shift" not in plain.to_json()
    images = pixels(4, *model.input_shape[1:])
    assert_same(predict(plain, images), predict(model, images))
    return plain


def assert_same(outputs, expected):
    assert compare(outputs, expected).relative_difference < 1e-5


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_every_kind_of_block(style):
    model = small(**style)
    plain = assert_portable(model)
    assert plain.name == model.name
    # Only gates become several layers.
    names = {layer.name for layer in model.layers}
    assert names <= {layer.name for layer in plain.layers}


@pytest.mark.parametrize("network", [FENet, ShiftNetC, ShiftResNet20])
def test_networks(network):
    keras.utils.set_random_seed(0)
    # Maps of odd size, down to 2x2.
    model = network((33, 45, 3), alpha=0.25, classes=7, classifier_activation=None)
    assert_portable(randomize(model))


def test_sequential_models():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((9, 7, 8)),
        FusedBatchNormalization(epsilon=0.1, center=False),
        SparseShift2D(input_relu=True),
        GroupedShift2D(),
        ActiveShift2D(max_displacement=1),
        SliceChannels(1, 7),
        SqueezeExcite2D(),
    ]
    assert_portable(randomize(keras.Sequential(layers)))


def test_models_in_models_and_layers_that_are_called_twice():
    keras.utils.set_random_seed(0)
    images = keras.Input((9, 7, 6))
    gate = SqueezeExcite2D(squeeze_ratio=2, kernel_initializer="he_normal")
    part, normalize = SliceChannels(2, 5), FusedBatchNormalization()
    x = gate(normalize(images))
    inner = keras.Model(images, gate(normalize(keras.layers.ReLU()(x))))
    images = keras.Input((9, 7, 6))
    x = keras.layers.Add()([part(inner(images)), part(images), images[..., :3]])
    assert_portable(randomize(keras.Model(images, x)))


def test_channels_first():
    """As far as processors without a GPU run it."""
    keras.utils.set_random_seed(0)
    images = keras.Input((6, 9, 7))
    x = SliceChannels(1, 5, data_format="channels_first")(images)
    x = SqueezeExcite2D(2, data_format="channels_first")(x)
    assert_portable(keras.Model(images, x))


def test_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        plain = portable(small(squeeze_excite="v1"))
    finally:
        keras.config.set_dtype_policy(before)
    assert {layer.compute_dtype for layer in plain.layers[1:]} == {"float32"}
    full = small(squeeze_excite="v1")
    images = pixels(4, 13, 9, 3)
    assert_same(predict(plain, images), predict(full, images))


def test_leaves_the_model_alone():
    model = small(squeeze_excite="v2")
    before = [np.array(weight) for weight in model.get_weights()]
    for weight in portable(model).weights:
        weight.assign(weight + 1)
    for weight, value in zip(model.get_weights(), before):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.exhaustive
def test_saved_model_loads_without_the_package(tmp_path):
    model = small(squeeze_excite="v2")
    images = pixels(4, 13, 9, 3)
    portable(model).save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    run_python(
        """
import os
import sys

import keras
import numpy as np

os.chdir(sys.argv[1])
outputs = keras.models.load_model("model.keras")(np.load("images.npy"), training=False)
np.save("outputs.npy", keras.ops.convert_to_numpy(outputs))
assert "keras_shift" not in sys.modules
""",
        tmp_path,
    )
    assert_same(np.load(tmp_path / "outputs.npy"), predict(model, images))


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "runtime, modules",
    [
        ("SavedModel", []),
        ("ONNX Runtime", ["onnxruntime", "tf2onnx"]),
        ("OpenVINO", ["openvino"]),
    ],
)
# Of Keras' exporter to ONNX, and of the runtimes' packages.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_runtimes(runtime, modules):
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    model = small(squeeze_excite="v2")
    tool = load_tool("check_portable")
    (difference,) = tool.differences(model, [runtime])
    assert difference < tool.BOUND


class TestErrors:
    def test_models_that_cannot_be_rewritten(self):
        class Subclassed(keras.Model):
            def call(self, x):
                return x

        for model in (Subclassed(), keras.Sequential([GroupedShift2D()]), "model"):
            with pytest.raises(ValueError, match="functional or sequential.*Received"):
                portable(model)

    def test_fused_models(self):
        message = "the one that it was made of.*Received: a model of FusedUnit2D"
        with pytest.raises(ValueError, match=message):
            portable(fuse(one_unit()))

    def test_layers_inside_of_layers(self):
        images = keras.Input((3, 9, 7, 5))
        inside = keras.layers.TimeDistributed(
            SparseShift2D(displacement_initializer="zeros")
        )
        with pytest.raises(
            ValueError, match="TimeDistributed.*Received.*SparseShift2D"
        ):
            portable(keras.Model(images, inside(images)))
