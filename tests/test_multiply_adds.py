"""Multiply-adds, against counts made by hand and from published tables."""

import keras
import pytest
from keras import layers

import keras_shift
from keras_shift.analysis import multiply_adds
from keras_shift.layers import (
    ActiveShift2D,
    GroupedShift2D,
    SparseShift2D,
    SqueezeExcite2D,
)


@pytest.mark.parametrize(
    "layer, expected",
    [
        (layers.Conv2D(5, 3, padding="same"), 10 * 8 * 3 * 3 * 6 * 5),
        (layers.Conv2D(5, 3, padding="valid"), 8 * 6 * 3 * 3 * 6 * 5),
        (layers.Conv2D(5, 3, padding="same", strides=3), 4 * 3 * 3 * 3 * 6 * 5),
        (layers.Conv2D(5, (1, 7), padding="same"), 10 * 8 * 7 * 6 * 5),
        (layers.Conv2D(4, 3, padding="same", groups=2), 10 * 8 * 3 * 3 * 3 * 4),
        (layers.Conv2D(5, 3, dilation_rate=2), 6 * 4 * 3 * 3 * 6 * 5),
        (layers.DepthwiseConv2D(3, padding="same"), 10 * 8 * 3 * 3 * 6),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 8 * 6 * 3 * 3 * 12),
        # A dense layer works on each pixel.
        (layers.Dense(7), 10 * 8 * 6 * 7),
        (SqueezeExcite2D(squeeze_ratio=2), 6 * 3 + 3 * 6),
        (GroupedShift2D(), 0),
        (SparseShift2D(), 0),
        (ActiveShift2D(), 0),
        (layers.BatchNormalization(), 0),
        (layers.AveragePooling2D(2), 0),
        (layers.PReLU(), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_one_layer(layer, expected):
    model = keras.Sequential([keras.Input((10, 8, 6)), layer])
    assert multiply_adds(model) == expected


def test_channels_first():
    convolution = layers.Conv2D(5, 3, data_format="channels_first", padding="same")
    model = keras.Sequential([keras.Input((6, 10, 8)), convolution])
    assert multiply_adds(model) == 10 * 8 * 3 * 3 * 6 * 5


def test_frozen_layers_count():
    model = keras.Sequential([keras.Input((10, 8, 6)), layers.Conv2D(5, 1)])
    model.trainable = False
    assert multiply_adds(model) == 10 * 8 * 6 * 5


def test_models_inside_of_models_count():
    inner = keras.Sequential([keras.Input((10, 8, 6)), layers.Conv2D(5, 1)])
    images = keras.Input((10, 8, 6))
    pooled = layers.GlobalAveragePooling2D()(inner(images))
    model = keras.Model(images, layers.Dense(3)(pooled))
    assert multiply_adds(model) == 10 * 8 * 6 * 5 + 5 * 3


def test_branches_and_operators_are_followed():
    images = keras.Input((10, 8, 6))
    left = layers.Conv2D(4, 1)(images[..., :2])
    right = layers.Conv2D(4, 1)(images[..., 2:])
    model = keras.Model(images, keras.ops.relu(left + right))
    assert multiply_adds(model) == 10 * 8 * 2 * 4 + 10 * 8 * 4 * 4


def test_mobilenet_v2_from_its_published_table():
    """Sandler et al. 2018, Table 2: expansion, channels, repeats, stride."""
    expected, size, channels = 112 * 112 * 3 * 3 * 3 * 32, 112, 32
    for expansion, filters, repeats, stride in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for repeat in range(repeats):
            wide = expansion * channels
            if expansion > 1:
                expected += size * size * channels * wide
            size //= stride if repeat == 0 else 1
            expected += size * size * wide * (3 * 3 + filters)
            channels = filters
    expected += 7 * 7 * 320 * 1280 + 1280 * 1000

    counted = multiply_adds(keras.applications.MobileNetV2(weights=None))
    assert counted == expected
    # "300M" in the paper.
    assert round(counted / 1e6) == 301


def test_example_of_the_documentation():
    assert multiply_adds(keras_shift.zoo.FENet()) == 299676320


def test_unknown_image_size():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 1)])
    with pytest.raises(ValueError, match=r"known image size.*\(None, None, None, 4\)"):
        multiply_adds(model)


@pytest.mark.parametrize("trainable", [True, False])
def test_layer_with_other_kernels(trainable):
    layer = layers.Conv2DTranspose(4, 3, trainable=trainable)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    with pytest.raises(ValueError, match="class Conv2DTranspose"):
        multiply_adds(model)


def test_model_without_a_graph():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = layers.Conv2D(3, 1)

        def call(self, x):
            return self.convolution(x)

    subclassed = Subclassed()
    subclassed(keras.ops.zeros((1, 8, 8, 3)))
    for model in (subclassed, keras.Sequential([layers.Conv2D(3, 1)])):
        with pytest.raises(ValueError, match="functional and sequential"):
            multiply_adds(model)
