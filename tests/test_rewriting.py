"""Copies of models, with functions in the place of some of their layers."""

import keras
import numpy as np
import pytest

from keras_shift.rewriting import Replacement, models_inside, rewrite


def doubled(x):
    return keras.layers.Rescaling(2.0)(x)


def chain():
    """Three layers in a row, the sum with their input, and a ReLU."""
    images = keras.Input((2, 2, 3))
    x = keras.layers.Conv2D(5, 1, name="wide")(images)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
    x = keras.layers.Conv2D(3, 1, name="narrow")(x)
    first = keras.layers.Add(name="first")([x, images])
    return keras.Model(images, keras.layers.ReLU(name="end")(first), name="chain")


def same(layer, shapes):
    return None


def images_of(model):
    return np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))


@pytest.mark.parametrize(
    "layers",
    [
        ("wide", "mean", "narrow", "first"),
        ("wide", "mean", "narrow", "first", "end"),
    ],
    ids=len,
)
def test_the_function_gets_the_first_layers_input(layers):
    """Shapes change between, and the last layer may have a second input."""
    model = chain()
    copy = rewrite(model, same, {"": [Replacement(layers, doubled)]})
    names = {layer.name for layer in copy.layers}
    assert names.isdisjoint(layers)
    images = images_of(model)
    expected = 2 * images
    if "end" not in layers:
        expected = expected.clip(0)
    outputs = keras.ops.convert_to_numpy(copy(images))
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)


def test_models_inside_of_models():
    inner = chain()
    images = keras.Input((2, 2, 3))
    middle = keras.Model(images, inner(images), name="middle")
    model = keras.Sequential([keras.Input((2, 2, 3)), middle], name="outer")
    paths = ["", "middle/", "middle/chain/"]
    assert models_inside(model) == dict(zip(paths, [model, middle, inner]))
    end = Replacement(("end",), doubled)
    copy = rewrite(model, same, {"middle/chain/": [end]})
    images = images_of(model)
    before = keras.Model(inner.inputs[0], inner.get_layer("first").output)(images)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(copy(images)),
        2 * keras.ops.convert_to_numpy(before),
        rtol=1e-5,
    )


def test_subclassed_models_inside_are_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    images = keras.Input((2, 2, 3))
    model = keras.Model(images, Subclassed()(images))
    with pytest.raises(ValueError, match="(?s)functional or sequential.*Received"):
        models_inside(model)


@pytest.mark.parametrize(
    "replacements, received",
    [
        ({"": [Replacement(("nowhere",), doubled)]}, "nowhere"),
        ({"chain/": [Replacement(("end",), doubled)]}, "chain/end"),
        ({"": [Replacement(("wide", "mean"), doubled)] * 2}, "wide"),
    ],
)
def test_layers_that_are_not_there_or_twice(replacements, received):
    with pytest.raises(ValueError, match=f"each once. Received: '{received}'"):
        rewrite(chain(), same, replacements)


def test_a_single_layer_may_be_called_twice():
    images = keras.Input((2, 2, 3))
    shared = keras.layers.Conv2D(3, 1, name="shared")
    model = keras.Model(images, shared(shared(images)))
    copy = rewrite(model, same, {"": [Replacement(("shared",), doubled)]})
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(copy(images_of(model))), 4 * images_of(model)
    )
