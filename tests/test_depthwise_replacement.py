"""Shifts in the place of depthwise convolutions, in networks that are not ours."""

import warnings

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.deploy import LiteRTModel, find_units, to_tflite
from keras_shift.deploy.agreement import compare
from keras_shift.layers import SparseShift2D
from keras_shift.layers.shift_layer import shift_layers
from marks import exhaustive
from networks import pixels, predict, randomize

CHANNELS = 6


def one_hot(layer, seed=0):
    """Gives a depthwise convolution one tap of 1 in each channel, any of them."""
    random = np.random.default_rng(seed)
    rows, columns, channels, _ = layer.kernel.shape
    kernel = np.zeros((rows * columns, channels))
    kernel[random.integers(rows * columns, size=channels), np.arange(channels)] = 1
    layer.kernel.assign(kernel.reshape(rows, columns, channels, 1))


def network(size, *, pad=None, behind=True, follower="pointwise", **options):
    """A 1x1 convolution, a depthwise convolution, and what follows it in MobileNets."""
    keras.utils.set_random_seed(0)
    images = keras.Input((*size, 3))
    x = keras.layers.Conv2D(CHANNELS, 1, name="expand")(images)
    x = keras.layers.BatchNormalization(name="expand_bn")(x)
    x = keras.layers.ReLU(6, name="expand_relu")(x)
    if pad is not None:
        x = keras.layers.ZeroPadding2D(pad, name="pad")(x)
    x = keras.layers.DepthwiseConv2D(use_bias=False, name="depthwise", **options)(x)
    if behind:
        x = keras.layers.BatchNormalization(name="depthwise_bn")(x)
        x = keras.layers.ReLU(6, name="depthwise_relu")(x)
    if follower == "pointwise":
        x = keras.layers.Conv2D(4, 1, name="project")(x)
    elif follower == "pooling":
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = randomize(keras.Model(images, x))
    one_hot(model.get_layer("depthwise"))
    return model


# Every size has another border, and TensorFlow's padding depends on it.
@pytest.mark.parametrize(
    "size", [(8, 8), exhaustive((9, 8)), (7, 11), exhaustive((1, 5))], ids=str
)
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": "same", "strides": 2},
        {"kernel_size": (5, 3), "padding": "same", "strides": 2},
        {"kernel_size": 2, "padding": "same"},
        {"kernel_size": 3, "padding": "same", "strides": 3},
        {"kernel_size": 3, "padding": "same", "dilation_rate": 2},
        {"kernel_size": 3, "padding": "same", "pad": 0},
        {"kernel_size": 3, "pad": 1},
        {"kernel_size": 5, "pad": (2, 2), "strides": 2},
    ],
    ids=str,
)
class TestKernelsOfOnePixel:
    """What takes one pixel is a shift, and both must compute the same everywhere."""

    @pytest.mark.parametrize("follower", ["pointwise", "pooling", None])
    def test_nothing_behind(self, size, options, follower):
        model = network(size, behind=False, follower=follower, **options)
        shifted = keras_shift.replace_depthwise(model)
        assert [type(layer) for layer in shift_layers(shifted)] == [SparseShift2D]
        images = pixels(2, *size, 3) / 255
        np.testing.assert_allclose(
            predict(shifted, images), predict(model, images), rtol=1e-5, atol=1e-5
        )
        strided = options.get("strides", 1) > 1
        if follower == "pointwise" and strided:
            strides = shifted.get_layer("project").strides
            assert strides == (options["strides"],) * 2

    def test_normalization_that_stays(self, size, options):
        model = network(size, **options)
        shifted = keras_shift.replace_depthwise(model, keep_normalization=True)
        images = pixels(2, *size, 3) / 255
        np.testing.assert_allclose(
            predict(shifted, images), predict(model, images), rtol=1e-5, atol=1e-5
        )


def test_padding_of_keras_applications():
    """Where a stride follows, they pad a map of even size behind it alone."""
    size, pad = (9, 8), ((1, 1), (0, 1))
    model = network(size, behind=False, kernel_size=3, strides=2, pad=pad)
    shifted = keras_shift.replace_depthwise(model)
    assert "pad" not in [layer.name for layer in shifted.layers]
    batch = pixels(2, *size, 3) / 255
    np.testing.assert_allclose(
        predict(shifted, batch), predict(model, batch), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "options", [{"padding": "same"}, {"pad": ((0, 1), (0, 1)), "padding": "valid"}]
)
def test_sizes_that_are_not_known(options):
    model = network((None, None), behind=False, kernel_size=3, strides=2, **options)
    shifted = keras_shift.replace_depthwise(model)
    batch = pixels(2, 8, 12, 3) / 255
    np.testing.assert_allclose(
        predict(shifted, batch), predict(model, batch), rtol=1e-5, atol=1e-5
    )


def test_what_is_behind_goes_and_the_rest_stays():
    model = network((8, 8), kernel_size=3, padding="same", strides=2)
    shifted = keras_shift.replace_depthwise(model)
    assert [layer.name for layer in shifted.layers[1:]] == [
        "expand",
        "expand_bn",
        "expand_relu",
        "depthwise_shift",
        "project",
    ]
    for name in ("expand", "expand_bn", "project"):
        kept, before = (m.get_layer(name).get_weights() for m in (shifted, model))
        for one, other in zip(kept, before):
            np.testing.assert_array_equal(one, other)
    assert shifted.output_shape == model.output_shape
    # ReLU6 is part of the unit.
    (unit,) = find_units(shifted).found
    assert (unit.ceiling, unit.strides) == (6, (2, 2))


class TestStart:
    # From the pixel in the middle: one up, and two to the right.
    kernel = np.array([[0, -3.0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])

    def displacements(self, kernel, **options):
        images = keras.Input((8, 8, 1))
        layer = keras.layers.DepthwiseConv2D(kernel.shape, padding="same")
        model = keras.Model(images, layer(images))
        layer.kernel.assign(kernel[:, :, None, None])
        (shift,) = shift_layers(keras_shift.replace_depthwise(model, **options))
        return shift.displacements.numpy()[:, 0].tolist()

    def test_strongest(self):
        assert self.displacements(self.kernel) == [-1, -1]

    def test_center_of_mass(self):
        # By hand: rows (-1 * 3 + 0 * 1) / 4, columns (-1 * 3 + 2 * 1) / 4.
        found = self.displacements(self.kernel, start="center_of_mass")
        assert found == [-0.75, -0.25]

    @pytest.mark.parametrize("start", ["strongest", "center_of_mass"])
    def test_zeros(self, start):
        kernel = np.zeros((3, 3))
        found = self.displacements(kernel, start=start)
        # The first of equal taps is no better than another, but within the window.
        assert found == ([-1, -1] if start == "strongest" else [0, 0])

    def test_bound(self):
        kernel = np.zeros((1, 5))
        kernel[0, 4] = 1
        assert self.displacements(kernel) == [0, 2]
        assert self.displacements(kernel, max_displacement=1) == [0, 1]

    def test_learns_from_there(self):
        model = network((8, 8), kernel_size=3, padding="same")
        shifted = keras_shift.replace_depthwise(
            model, displacement_regularizer=keras.regularizers.L2(0.5)
        )
        (shift,) = shift_layers(shifted)
        before = np.array(shift.displacements.numpy())
        shifted.compile(keras.optimizers.SGD(0.1), "mse")
        images = pixels(4, 8, 8, 3) / 255
        shifted.fit(images, np.zeros((4, *shifted.output_shape[1:])), verbose=0)
        assert (shift.displacements.numpy() != before)[before != 0].any()


def test_models_inside_of_models_and_sequential_ones():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.DepthwiseConv2D(3, padding="same", name="inner"),
            keras.layers.Conv2D(4, 1),
        ]
    )
    one_hot(inner.layers[0])
    outer = keras.Sequential([keras.Input((8, 8, 3)), inner])
    shifted = keras_shift.replace_depthwise(outer)
    assert [layer.name for layer in shift_layers(shifted)] == ["inner_shift"]
    images = pixels(2, 8, 8, 3) / 255
    np.testing.assert_allclose(
        predict(shifted, images), predict(outer, images), rtol=1e-5, atol=1e-5
    )


def test_dtype_policy_and_model_stay_as_they_are():
    images = keras.Input((8, 8, 3))
    layer = keras.layers.DepthwiseConv2D(
        3, padding="same", dtype="mixed_bfloat16", activation="relu"
    )
    model = keras.Model(images, layer(images))
    config, weights = model.get_config(), model.get_weights()
    shifted = keras_shift.replace_depthwise(model, keep_normalization=True)
    assert model.get_config() == config
    for one, other in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(one, other)
    assert [layer.compute_dtype for layer in shifted.layers[1:]] == ["bfloat16"] * 2


def test_keras_file(tmp_path):
    model = network((8, 8), kernel_size=3, padding="same", strides=2)
    shifted = keras_shift.replace_depthwise(model, start="center_of_mass")
    shifted.save(tmp_path / "shifted.keras")
    loaded = keras.models.load_model(tmp_path / "shifted.keras")
    images = pixels(2, 8, 8, 3) / 255
    np.testing.assert_array_equal(predict(loaded, images), predict(shifted, images))


class TestErrors:
    def chain(self, *layers):
        images = x = keras.Input((8, 8, 3))
        for layer in layers:
            x = layer(x)
        return keras.Model(images, x, name="chain")

    @pytest.mark.parametrize(
        "options, reason",
        [
            ({"depth_multiplier": 2, "padding": "same"}, "a depth multiplier of 2"),
            ({"padding": "valid"}, "a border that it does not pad"),
            ({"kernel_size": 1}, "sees one pixel only"),
        ],
    )
    def test_convolutions_that_stay(self, options, reason):
        options = {"kernel_size": 3, "name": "odd", **options}
        odd = keras.layers.DepthwiseConv2D(**options)
        with pytest.raises(ValueError, match=f"'chain', in which odd .*{reason}"):
            keras_shift.replace_depthwise(self.chain(odd))
        plain = keras.layers.DepthwiseConv2D(3, padding="same", name="plain")
        model = self.chain(odd, plain)
        with pytest.warns(UserWarning, match=f"odd .*{reason}"):
            shifted = keras_shift.replace_depthwise(model)
        assert [layer.name for layer in shifted.layers[1:]] == ["odd", "plain_shift"]

    def test_called_twice(self):
        layer = keras.layers.DepthwiseConv2D(3, padding="same", name="twice")
        with pytest.raises(ValueError, match="twice is called several times"):
            keras_shift.replace_depthwise(self.chain(layer, layer))

    def test_subclasses_stay(self):
        class Other(keras.layers.DepthwiseConv2D):
            pass

        with pytest.raises(ValueError, match="there are none"):
            keras_shift.replace_depthwise(self.chain(Other(3, padding="same")))

    def test_arguments(self):
        model = network((8, 8), kernel_size=3, padding="same")
        for arguments, message in (
            ({"start": "middle"}, "`start` must be one of .* Received: start='middle'"),
            ({"max_displacement": -1}, "`max_displacement` must be a whole number"),
            ({"keep_normalization": 1}, "`keep_normalization` must be a boolean"),
        ):
            with pytest.raises(ValueError, match=message):
                keras_shift.replace_depthwise(model, **arguments)

    def test_no_graph(self):
        class Subclassed(keras.Model):
            def call(self, images):
                return images

        with pytest.raises(ValueError, match="functional or sequential"):
            keras_shift.replace_depthwise(Subclassed())


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "name, arguments",
    [
        ("MobileNetV2", {"alpha": 0.35}),
        exhaustive("MobileNet", {"alpha": 0.25}),
        exhaustive("MobileNetV2", {"alpha": 1.0}),
        exhaustive("MobileNet", {}),
        exhaustive("MobileNetV3Small", {}),
        exhaustive("MobileNetV3Small", {"minimalistic": True}),
        exhaustive("MobileNetV3Large", {}),
        exhaustive("MobileNetV3Large", {"minimalistic": True}),
        exhaustive("EfficientNetB0", {}),
        exhaustive("EfficientNetV2B0", {}),
    ],
)
def test_networks_of_keras_applications(name, arguments, tmp_path):
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(
        input_shape=(64, 64, 3), weights=None, classes=5, **arguments
    )
    with warnings.catch_warnings():
        # That is what nothing of them may cause.
        warnings.filterwarnings("error", message="Some depthwise")
        shifted = keras_shift.replace_depthwise(model)
    depthwise = keras.layers.DepthwiseConv2D
    before = sum(isinstance(layer, depthwise) for layer in model.layers)
    assert len(shift_layers(shifted)) == before > 10
    assert not any(isinstance(layer, depthwise) for layer in shifted.layers)
    assert shifted.output_shape == model.output_shape
    shifted.compile("sgd", "sparse_categorical_crossentropy")
    images = pixels(8, 64, 64, 3)
    shifted.fit(images, np.arange(8) % 5, epochs=1, verbose=0)
    report = to_tflite(shifted, tmp_path / "shifted.tflite")
    assert report.partitions == 1
    outputs = LiteRTModel(report.path).predict(images)
    assert compare(outputs, predict(shifted, images)).relative_difference < 1e-4
