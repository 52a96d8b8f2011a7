"""Chains of fused units: arguments, weights and configuration."""

import keras
import numpy as np
import pytest

from keras_shift.layers import FusedChain2D, FusedUnit2D

UNITS = [
    {"filters": 9, "wide_channels": 20, "output_relu": True},
    {"filters": 4, "wide_channels": 17, "channels": 4, "residual": True},
    {"filters": 6, "wide_channels": 33, "strides": (1, 2)},
    {"filters": 3, "wide_channels": 18, "global_pool": True},
]


def draw(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def randomized(precision, units=UNITS):
    """Built units with random weights, each for the output of the one before."""
    random = np.random.default_rng(1)
    x = keras.Input((7, 6, 5))
    layers = []
    for arguments in units:
        layer = FusedUnit2D(**arguments, precision=precision)
        x = layer(x)
        sizes = layer.channels, layer.wide_channels, layer.filters
        moved = random.integers(-1, 2, (2, layer.wide_channels))
        layer.set_matrices(
            random.uniform(-1, 1, sizes[:2]),
            random.uniform(-1, 1, sizes[1]),
            random.uniform(-1, 1, sizes[1:]),
            random.uniform(-1, 1, sizes[2]),
            None if layer.global_pool else moved,
        )
        layers.append(layer)
    return layers


def chain_of(layers):
    chain = FusedChain2D([x.arguments() for x in layers], layers[0].precision)
    chain.build((None, 7, 6, 5))
    chain.set_units(layers)
    return chain


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_chain_returns_what_its_units_do(precision):
    layers = randomized(precision)
    chain = chain_of(layers)
    assert [weight.path.split("/")[-1] for weight in chain.weights] == [
        "panels",
        "displacements",
    ]
    for batch_size in (0, 1, 3):
        x = y = draw(batch_size, 7, 6, 5)
        for layer in layers:
            y = layer(y)
        outputs = chain(x)
        assert outputs.shape == chain.compute_output_shape(x.shape) == y.shape
        np.testing.assert_array_equal(outputs, y)
    for layer, weights in zip(layers, chain.unit_weights()):
        for weight, expected in zip(weights, layer.weights):
            np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_chain_is_saved_and_loaded(precision, tmp_path):
    inputs = keras.Input((None, None, 5))
    chain = chain_of(randomized(precision))
    model = keras.Model(inputs, chain(inputs))
    x = draw(2, 7, 6, 5)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    assert loaded.layers[-1].get_config() == chain.get_config()
    again = FusedChain2D.from_config(chain.get_config())
    assert [unit.name for unit in again.units] == [unit.name for unit in chain.units]


def test_invalid_arguments():
    with pytest.raises(ValueError, match="(?s)a unit at least.*Received"):
        FusedChain2D([])
    with pytest.raises(ValueError, match="(?s)`precision`.*precision=half"):
        FusedChain2D(UNITS, "half")
    with pytest.raises(ValueError, match="float32 only.*dtype=mixed_float16"):
        FusedChain2D(UNITS, dtype="mixed_float16")
    with pytest.raises(ValueError, match="(?s)`precision` of their own.*Received"):
        FusedChain2D([{**UNITS[0], "precision": "bfloat16"}])
    with pytest.raises(ValueError, match="(?s)`filters`"):
        FusedChain2D([{**UNITS[0], "filters": 0}])
    chain = FusedChain2D(UNITS)
    with pytest.raises(ValueError, match="(?s)residual=True.*channels=4"):
        FusedChain2D([UNITS[0], {**UNITS[1], "filters": 5}]).build((1, 7, 6, 5))
    with pytest.raises(ValueError, match="(?s)`channels` is 4.*images"):
        FusedChain2D(UNITS[1:]).build((1, 7, 6, 3))
    with pytest.raises(ValueError, match="(?s)for inference.*training=True"):
        chain(draw(1, 7, 6, 5), training=True)
    with pytest.raises(ValueError, match="(?s)`units` must have weights.*Received"):
        chain.set_units(randomized("float32")[:-1])


def test_only_tensorflow_goes_without_xla():
    on_tensorflow = keras.backend.backend() == "tensorflow"
    assert FusedChain2D(UNITS).supports_jit != on_tensorflow


@pytest.mark.tensorflow
@pytest.mark.native
def test_the_op_refuses_what_does_not_fit():
    import tensorflow as tf

    from keras_shift import custom_ops

    op = custom_ops.load()
    units = [5, 20, 9, 1, 1, 0, 0, 0]
    count = 2 * 16 * 6 + 16 * 21

    def call(units=units, panels=count, displacements=40):
        return op.keras_shift_fused_chain2d(
            x=draw(1, 3, 4, 5),
            panels=np.zeros(panels, "float32"),
            displacements=np.zeros(displacements, "int32"),
            units=units,
        )

    assert call().shape == (1, 3, 4, 9)
    for message, options in {
        "`units` must have 8 numbers": {"units": units[:-1]},
        "pooling from 0 to 3": {"units": [5, 20, 9, 1, 1, 4, 0, 0]},
        "Unit 0 of the chain": {"units": [6, 20, 9, 1, 1, 0, 0, 0]},
        rf"`panels` must have shape \({count},\)": {"panels": count - 1},
        r"`displacements` must have shape \(40,\)": {"displacements": 41},
    }.items():
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){message}"):
            call(**options)
