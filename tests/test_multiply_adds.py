"""Multiply-adds, against counts made by hand and from published tables."""

import keras
import numpy as np
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
        (layers.Conv2DTranspose(5, 3, padding="same"), 10 * 8 * 3 * 3 * 6 * 5),
        (layers.Conv2DTranspose(5, 3, strides=2), 10 * 8 * 3 * 3 * 6 * 5),
        (layers.SeparableConv2D(5, 3, padding="same"), 10 * 8 * (3 * 3 * 6 + 6 * 5)),
        (layers.SeparableConv2D(5, 3, strides=3), 3 * 2 * (3 * 3 * 6 + 6 * 5)),
        (SqueezeExcite2D(squeeze_ratio=2), 6 * 3 + 3 * 6),
        (GroupedShift2D(), 0),
        (SparseShift2D(), 0),
        (ActiveShift2D(), 0),
        (layers.BatchNormalization(), 0),
        (layers.LayerNormalization(axis=(2, 3)), 0),
        (layers.AveragePooling2D(2), 0),
        (layers.PReLU(), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_one_layer(layer, expected):
    model = keras.Sequential([keras.Input((10, 8, 6)), layer])
    assert multiply_adds(model) == expected


@pytest.mark.parametrize(
    "shape, layer",
    [
        ((9, 6), layers.Conv1D(5, 3, strides=2)),
        ((9, 6), layers.Conv1D(4, 3, groups=2, dilation_rate=2)),
        ((9, 6), layers.DepthwiseConv1D(3, depth_multiplier=2)),
        ((9, 6), layers.Conv1DTranspose(5, 3, strides=2)),
        ((9, 8, 6), layers.Conv2D(5, (2, 3), strides=2)),
        ((9, 8, 6), layers.Conv2DTranspose(5, (2, 3), strides=2)),
        ((9, 8, 6), layers.Dense(7)),
        ((5, 6, 7, 3), layers.Conv3D(4, 3)),
        ((5, 6, 7, 3), layers.Conv3DTranspose(4, 2, strides=2)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_products_of_ones(shape, layer):
    """Of ones and without padding, the outputs' sum is the number of products."""
    model = keras.Sequential([keras.Input(shape), layer])
    kernel, bias = layer.weights
    kernel.assign(np.ones(kernel.shape))
    bias.assign(np.zeros(bias.shape))
    outputs = keras.ops.convert_to_numpy(model(np.ones((1, *shape), "float32")))
    assert multiply_adds(model) == outputs.sum()


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


def test_backbone_without_an_image_size():
    backbone = keras.Sequential(
        [
            keras.Input((None, None, 6)),
            layers.Conv2D(5, 3, strides=2),
            layers.Conv2DTranspose(4, 2, strides=2),
        ]
    )
    images = keras.Input((11, 9, 6))
    model = keras.Model(images, layers.Flatten()(backbone(images)))
    assert multiply_adds(model) == 5 * 4 * 3 * 3 * 6 * 5 + 5 * 4 * 2 * 2 * 5 * 4
    assert multiply_adds(backbone, input_shape=(11, 9, 6)) == multiply_adds(model)


def test_every_call_counts():
    backbone = keras.Sequential([keras.Input((None, None, 6)), layers.Conv2D(5, 1)])
    wrapped = keras.Sequential([keras.Input((None, None, 6)), backbone])
    large, small = keras.Input((10, 8, 6)), keras.Input((5, 4, 6))
    head = layers.Dense(3)
    outputs = [
        head(layers.GlobalAveragePooling2D()(features))
        for features in (
            backbone(large),
            backbone(training=False, inputs=small),
            wrapped(small),
        )
    ]
    model = keras.Model([large, small], outputs)
    assert multiply_adds(model) == (10 * 8 + 2 * 5 * 4) * 6 * 5 + 3 * 5 * 3


@pytest.mark.parametrize("named", [True, False])
def test_inputs_go_where_they_belong(named):
    b, a = keras.Input((10, 8, 6), name="b"), keras.Input((10, 8, 2), name="a")
    outputs = [layers.Conv2D(5, 1)(b), layers.Conv2D(7, 1)(a)]
    inner = keras.Model({"b": b, "a": a} if named else [b, a], outputs)
    images, depth = keras.Input((10, 8, 6)), keras.Input((10, 8, 2))
    model = keras.Model([images, depth], inner({"b": images, "a": depth}))
    assert multiply_adds(inner) == 10 * 8 * (6 * 5 + 2 * 7)
    assert multiply_adds(model) == multiply_adds(inner)


def test_models_of_a_class_of_their_own():
    class Classifier(keras.Model):
        def __init__(self, size):
            images = keras.Input((size, size, 6))
            super().__init__(images, layers.Conv2D(5, 1)(images))

    assert multiply_adds(Classifier(4)) == 4 * 4 * 6 * 5


def test_counting_leaves_the_model_alone():
    inner = keras.Sequential([keras.Input((None, None, 6)), layers.Conv2D(5, 1)])
    images = keras.Input((10, 8, 6))
    model = keras.Model(images, layers.Dropout(0.5)(inner(images)))
    config, output = model.get_config(), model.layers[-1].output
    multiply_adds(model)
    assert model.get_config() == config
    assert model.layers[-1].output is output
    assert inner.layers[0].output.shape == (None, None, None, 5)


def test_branches_and_operators_are_followed():
    images = keras.Input((10, 8, 6))
    left = layers.Conv2D(4, 1)(images[..., :2])
    right = layers.Conv2D(4, 1)(images[..., 2:])
    total = keras.ops.sqrt(keras.ops.sum(left))
    model = keras.Model(images, keras.ops.relu(left + right * total))
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


@pytest.mark.parametrize("shape", [(8, 8, 4), (9, 8, 3), (8, 8), (1, 8, 8, 3)])
def test_input_shape_that_the_model_does_not_take(shape):
    model = keras.Sequential([keras.Input((8, None, 3)), layers.Conv2D(4, 1)])
    assert multiply_adds(model, input_shape=(8, 5, 3)) == 8 * 5 * 3 * 4
    with pytest.raises(ValueError, match=r"Received: input_shape.*\(8, None, 3\)"):
        multiply_adds(model, input_shape=shape)


def test_input_shape_of_several_inputs():
    inputs = [keras.Input((None, 3)), keras.Input((None, 3))]
    model = keras.Model(inputs, layers.Add()(inputs))
    with pytest.raises(ValueError, match="only input"):
        multiply_adds(model, input_shape=(8, 3))


class Scale(layers.Layer):
    """Multiplies with a matrix, or with one number for each channel."""

    def __init__(self, columns, **kwargs):
        super().__init__(**kwargs)
        self.columns = columns

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(*self.columns, input_shape[-1]))

    def call(self, x):
        return x * self.scale if not self.columns else keras.ops.matmul(x, self.scale)


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        layers.EinsumDense("abcd,de->abce", (8, 8, 4)),
        layers.TimeDistributed(layers.Dense(2)),
        Scale((3,)),
    ],
    ids=lambda layer: layer.name,
)
def test_layer_with_other_kernels(layer, trainable):
    layer.trainable = trainable
    inner = keras.Sequential([keras.Input((8, 8, 3)), layer], name="inner")
    model = keras.Sequential([keras.Input((8, 8, 3)), inner])
    message = f"'inner/{layer.name}' of class {type(layer).__name__}"
    with pytest.raises(ValueError, match=message):
        multiply_adds(model)


def test_custom_layer_without_matrices():
    model = keras.Sequential([keras.Input((8, 8, 3)), Scale(())])
    assert multiply_adds(model) == 0


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
