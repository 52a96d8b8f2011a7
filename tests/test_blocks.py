"""Blocks, against the papers' figures written in NumPy."""

import keras
import numpy as np
import pytest

from keras_shift.zoo import blocks
from networks import predict, randomize
from reference import integer_shift

pytestmark = pytest.mark.tensorflow


def numpy_convolution(x, model, layer):
    kernel = model.get_layer(layer).kernel.numpy()[0, 0].astype("float64")
    strides = model.get_layer(layer).strides[0]
    return x[:, ::strides, ::strides] @ kernel


def numpy_normalization(x, model, layer):
    layer = model.get_layer(layer)
    gamma, beta, mean, variance = (w.astype("float64") for w in layer.get_weights())
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def numpy_shift(x, model, layer):
    return integer_shift(x, np.rint(model.get_layer(layer).displacements.numpy()))


def numpy_unit(x, model, name, residual=False, pool=False):
    """A unit of Fig. 4, written without the package."""

    y = numpy_convolution(x, model, f"{name}_expand")
    y = np.maximum(numpy_normalization(y, model, f"{name}_expand_bn"), 0)
    batch, height, width, channels = y.shape
    if pool:
        y = y.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    else:
        y = numpy_shift(y, model, f"{name}_shift")
    y = numpy_convolution(y, model, f"{name}_project")
    y = numpy_normalization(y, model, f"{name}_project_bn")
    return x + y if residual else y


class TestFEBlock:
    @pytest.fixture(params=[1, 2], ids=["IB-SSL", "IB-Pool"])
    def model(self, request):
        keras.utils.set_random_seed(0)
        images = keras.Input((6, 8, 8))
        outputs = blocks.fe_block(
            images,
            filters=12,
            units=3,
            wide_filters=lambda channels, filters: 3 * channels,
            style=blocks.BlockStyle(max_displacement=2),
            name="block",
            strides=request.param,
        )
        return randomize(keras.Model(images, outputs))

    @pytest.fixture
    def images(self):
        return np.random.default_rng(1).normal(size=(2, 6, 8, 8)).astype("float32")

    def test_equals_figure_3_in_numpy(self, model, images):
        x = images.astype("float64")
        first = numpy_unit(x[..., :2], model, "block_unit1", residual=True)
        second = numpy_unit(
            np.concatenate([first, x[..., 2:4]], -1),
            model,
            "block_unit2",
            residual=True,
        )
        whole = np.concatenate([second, x[..., 4:]], -1)
        pool = model.output_shape[1] == 3
        expected = numpy_unit(whole, model, "block_unit3", pool=pool)
        np.testing.assert_allclose(
            predict(model, images), expected, rtol=1e-4, atol=1e-4
        )

    def test_what_a_unit_leaves_out_passes_unchanged(self, model, images):
        names = ["block_unit1_mix", "block_unit2_mix"]
        mixes = keras.Model(
            model.inputs[0], [model.get_layer(name).output for name in names]
        )
        first, second = (np.asarray(mix) for mix in mixes(images))
        assert (first.shape[-1], second.shape[-1]) == (4, 8)
        np.testing.assert_array_equal(first[..., 2:], images[..., 2:4])
        np.testing.assert_array_equal(second[..., 4:], images[..., 4:])
        assert not np.array_equal(first[..., :2], images[..., :2])


class TestConvShiftConv:
    """Fig. 3 of the ShiftNet paper, and the order of its authors' code."""

    @pytest.mark.parametrize("strides", [1, 2])
    @pytest.mark.parametrize("shift_twice", [False, True], ids=["CSC", "SC2"])
    @pytest.mark.parametrize("preactivation", [False, True])
    def test_equals_numpy(self, preactivation, shift_twice, strides):
        keras.utils.set_random_seed(0)
        images = keras.Input((6, 5, 3))
        outputs = blocks.conv_shift_conv(
            images,
            4,
            9,
            blocks.BlockStyle(),
            "module",
            strides=strides,
            preactivation=preactivation,
            shift_twice=shift_twice,
        )
        model = randomize(keras.Model(images, outputs))
        x = np.random.default_rng(1).normal(size=(2, 6, 5, 3))

        def normalized_relu(y, layer):
            return np.maximum(numpy_normalization(y, model, f"module_{layer}_bn"), 0)

        y = x
        if preactivation:
            y = normalized_relu(y, "input")
        if shift_twice:
            y = numpy_shift(y, model, "module_input_shift")
        y = numpy_convolution(y, model, "module_expand")
        y = numpy_shift(normalized_relu(y, "expand"), model, "module_shift")
        y = numpy_convolution(y, model, "module_project")
        if not preactivation:
            y = normalized_relu(y, "project")
        assert y.shape == (2, -(-6 // strides), -(-5 // strides), 4)
        np.testing.assert_allclose(
            predict(model, x.astype("float32")), y, rtol=1e-4, atol=1e-4
        )


class TestSpatial:
    @pytest.mark.parametrize("spatial", blocks.SPATIAL)
    def test_window(self, spatial):
        """What one bright pixel reaches: the window, dilated."""
        keras.utils.set_random_seed(0)
        images = keras.Input((11, 11, 25))
        outputs = blocks.spatial(
            images, blocks.BlockStyle(spatial), "unit", kernel_size=5, dilation_rate=2
        )
        model = keras.Model(images, outputs)
        x = np.zeros((1, 11, 11, 25), "float32")
        x[:, 5, 5] = 1
        if spatial == "depthwise":
            model.layers[1].set_weights([np.ones((5, 5, 25, 1))])
        rows, columns = np.nonzero(predict(model, x)[0].sum(-1))
        reached = [5] if spatial == "none" else [1, 3, 5, 7, 9]
        assert sorted(set(rows)) == sorted(set(columns)) == reached
        assert len(rows) == len(reached) ** 2

    def test_unknown(self):
        with pytest.raises(ValueError, match="`spatial`.*spatial=shift"):
            blocks.BlockStyle("shift")
