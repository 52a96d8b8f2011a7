"""zoo.MobileNetV2 against keras.applications'."""

import keras
import numpy as np
import pytest

from keras_shift import layers, zoo
from keras_shift.analysis import multiply_adds
from marks import exhaustive
from networks import predict


@pytest.mark.parametrize("alpha", [0.35, exhaustive(1.0)])
def test_is_keras_applications_network(alpha):
    ours = zoo.MobileNetV2((64, 64, 3), alpha, classes=7, include_preprocessing=False)
    theirs = keras.applications.MobileNetV2((64, 64, 3), alpha, weights=None, classes=7)
    assert ours.count_params() == theirs.count_params()
    ours.set_weights(theirs.get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3))
    np.testing.assert_allclose(
        predict(ours, images), predict(theirs, images), rtol=1e-5
    )


@pytest.mark.parametrize("output_stride", [exhaustive(32), 16, exhaustive(8), 4])
def test_output_stride(output_stride):
    model = zoo.MobileNetV2(
        (64, 64, 3), 0.35, include_top=False, output_stride=output_stride
    )
    size = 64 // output_stride
    assert model.output_shape[1:3] == (size, size)


def test_options_of_training():
    model = zoo.MobileNetV2(
        (32, 32, 3),
        0.35,
        classes=5,
        kernel_regularizer=keras.regularizers.L2(1e-4),
        batch_norm_momentum=0.9,
        dropout_rate=0.3,
        name="peer",
    )
    assert model.name == "peer"
    assert model.get_layer("dropout").rate == 0.3
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert type(layer) is layers.FusedBatchNormalization
            assert layer.momentum == 0.9
    regularized = {
        type(layer).__name__
        for layer in model.layers
        if getattr(layer, "kernel_regularizer", None) is not None
    }
    assert regularized == {"Conv2D", "Dense"}


def test_pooling_and_names():
    model = zoo.get_model("MobileNetV2", alpha=0.35, include_top=False, pooling="avg")
    assert model.output_shape == (None, 1280)
    assert model.name == "mobilenet_v2_0.35"


def test_refuses_other_strides():
    with pytest.raises(ValueError, match="`output_stride` must be one of"):
        zoo.MobileNetV2((64, 64, 3), output_stride=64)


@pytest.mark.parametrize(
    "argument, value",
    [("alpha", "1"), ("batch_norm_momentum", float("nan")), ("include_top", "no")],
)
def test_refuses_values_that_make_no_sense(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must .*{value}"):
        zoo.MobileNetV2((64, 64, 3), **{argument: value})


def test_matches_fenet_in_multiply_adds():
    # What "at no more MAdds" means on Tiny-ImageNet.
    arguments = {"input_shape": (64, 64, 3), "classes": 200}
    fenet = multiply_adds(zoo.FENet(**arguments))
    assert fenet == pytest.approx(multiply_adds(zoo.MobileNetV2(**arguments)), rel=0.03)
