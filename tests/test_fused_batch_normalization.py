"""FusedBatchNormalization against Keras' layer."""

import keras
import numpy as np
import pytest

from keras_shift.layers import FusedBatchNormalization

SHAPES = [(4, 5, 3, 6), (1, 1, 1, 3), (2, 1, 7, 1), (3, 8, 8, 32)]


def twins(shape, dtype="float32", **options):
    """Keras' layer and ours with the same random weights."""
    random = np.random.default_rng(0)
    both = (
        keras.layers.BatchNormalization(dtype=dtype, **options),
        FusedBatchNormalization(dtype=dtype, **options),
    )
    for layer in both:
        layer.build(shape)
    weights = [random.uniform(0.5, 2, w.shape) for w in both[0].weights]
    for layer in both:
        layer.set_weights(weights)
    return both


def step(layer, x, compiled):
    """Output, loss gradients and moving statistics of a training step."""
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    weights = np.random.default_rng(1).normal(size=x.shape)

    def loss(y_true, y_pred):
        return keras.ops.sum(keras.ops.cast(y_pred, "float32") * y_true) / len(x)

    before = [keras.ops.convert_to_numpy(w) for w in layer.trainable_weights]
    model.compile(
        keras.optimizers.SGD(1.0), loss, run_eagerly=not compiled, jit_compile=False
    )
    model.train_on_batch(x, weights)
    after = [keras.ops.convert_to_numpy(w) for w in layer.weights]
    return [b - a for b, a in zip(before, after)] + after[2:]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_training_step_equals_keras(shape, compiled):
    x = np.random.default_rng(2).normal(3, 2, shape).astype("float32")
    keras_layer, ours = twins(shape, momentum=0.9)
    for expected, value in zip(step(keras_layer, x, compiled), step(ours, x, compiled)):
        np.testing.assert_allclose(value, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_input_gradients_equal_keras(shape, dtype):
    x = np.random.default_rng(2).normal(3, 2, shape).astype("float32")
    weights = np.random.default_rng(3).normal(size=shape).astype("float32")
    tolerance = 1e-4 if dtype == "float32" else 0.05
    results = []
    for layer in twins(shape, dtype):
        y = layer(x, training=True)
        gradient = input_gradient(layer, x, weights)
        results.append(
            [
                keras.ops.convert_to_numpy(keras.ops.cast(v, "float32"))
                for v in (y, gradient)
            ]
        )
    for expected, value in zip(*results):
        np.testing.assert_allclose(
            value,
            expected,
            rtol=tolerance,
            atol=tolerance * max(1, abs(expected).max()),
        )


def input_gradient(layer, x, weights):
    if keras.backend.backend() != "tensorflow":
        return keras.ops.zeros_like(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        x = tf.convert_to_tensor(x)
        tape.watch(x)
        y = tf.cast(layer(x, training=True), "float32")
        loss = tf.reduce_sum(y * weights)
    return tape.gradient(loss, x)


@pytest.mark.parametrize(
    "options",
    [{"center": False}, {"scale": False}, {"axis": 1}, {"dtype": "float64"}],
)
def test_takes_keras_own_way_elsewhere(options):
    shape = (2, 4, 5, 3)
    x = np.random.default_rng(2).normal(3, 2, shape)
    expected, value = (layer(x, training=True) for layer in twins(shape, **options))
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (value, expected)))


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_other_ranks(rank):
    shape = (3, 2, 4, 5, 6)[:rank]
    x = np.random.default_rng(2).normal(3, 2, shape).astype("float32")
    expected, value = (layer(x, training=True) for layer in twins(shape))
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (value, expected)))


def test_frozen_and_at_inference_it_uses_its_statistics():
    shape = (2, 4, 5, 3)
    x = np.random.default_rng(2).normal(3, 2, shape).astype("float32")
    keras_layer, ours = twins(shape)
    expected = keras.ops.convert_to_numpy(keras_layer(x, training=False))
    np.testing.assert_array_equal(ours(x, training=False), expected)
    ours.trainable = False
    before = ours.get_weights()
    np.testing.assert_array_equal(ours(x, training=True), expected)
    for value, kept in zip(ours.get_weights(), before):
        np.testing.assert_array_equal(value, kept)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [True, False])
def test_trains_under_xla_and_with_any_size(jit_compile):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            FusedBatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model.compile("sgd", "mse", jit_compile=jit_compile)
    for size in (4, 7):
        history = model.fit(
            np.ones((4, size, size, 3)), np.ones((4, 3)), verbose=0, batch_size=2
        )
        assert np.isfinite(history.history["loss"]).all()
