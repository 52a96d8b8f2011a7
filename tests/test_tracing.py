"""Where the native op runs: eagerly and in training steps, and nowhere else."""

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift import tracing

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow's traced functions", allow_module_level=True)

import tensorflow as tf  # noqa: E402

X = np.random.default_rng(0).normal(size=(2, 6, 5, 18)).astype("float32")


LAYERS = [
    (keras_shift.layers.GroupedShift2D, {}),
    (keras_shift.layers.ActiveShift2D, {"max_displacement": 2}),
    (keras_shift.layers.ActiveShift2D, {}),
    (keras_shift.layers.SparseShift2D, {"max_displacement": 2}),
    (keras_shift.layers.SparseShift2D, {}),
]


def scattered(layer_class, arguments):
    layer = layer_class(**arguments)
    layer.build(X.shape)
    for weight in layer.weights:
        weight.assign(np.random.default_rng(1).uniform(-2, 2, weight.shape))
    return layer


def native_ops(concrete):
    graph = concrete.graph.as_graph_def()
    nodes = list(graph.node) + [n for f in graph.library.function for n in f.node_def]
    return [node.op for node in nodes if node.op.startswith("KerasShift>")]


@pytest.mark.parametrize("layer_class, arguments", LAYERS)
def test_the_op_is_in_training_steps_and_not_in_inference(layer_class, arguments):
    layer = scattered(layer_class, arguments)
    signature = [tf.TensorSpec((None, None, None, 18))]
    training = tf.function(lambda x: layer(x, training=True), signature)
    inference = tf.function(lambda x: layer(x, training=False), signature)
    assert native_ops(training.get_concrete_function())
    assert not native_ops(inference.get_concrete_function())
    expected = layer(X).numpy()
    np.testing.assert_allclose(training(X), expected, atol=1e-6)
    np.testing.assert_allclose(inference(X), expected, atol=1e-6)


@pytest.mark.parametrize("layer_class, arguments", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_compiled_functions_do_without_the_op(layer_class, arguments, training):
    layer = scattered(layer_class, arguments)
    compiled = tf.function(lambda x: layer(x, training=training), jit_compile=True)
    np.testing.assert_allclose(compiled(X), layer(X), atol=1e-6)


def test_functions_inside_of_compiled_ones_are_recognised():
    seen = []

    @tf.function
    def inner(x):
        seen.append(tracing.under_xla())
        return x + 1

    @tf.function(jit_compile=True)
    def outer(x):
        seen.append(tracing.under_xla())
        return tf.cond(x > 0, lambda: inner(x), lambda: x)

    outer(tf.constant(1.0))
    assert seen == [True, True]
    assert not tracing.under_xla()
    seen.clear()
    tf.function(lambda x: inner(x))(tf.constant([1.0]))
    assert seen == [False]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("max_displacement", [2, None])
def test_training_moves_displacements(jit_compile, run_eagerly, max_displacement):
    if jit_compile and run_eagerly:
        pytest.skip("Keras refuses both at once")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 5, 18)),
            keras_shift.layers.SparseShift2D(max_displacement=max_displacement),
            keras.layers.Conv2D(4, 1),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model.compile("sgd", "mse", jit_compile=jit_compile, run_eagerly=run_eagerly)
    before = model.layers[0].displacement_array()
    model.fit(X, np.ones((2, 4)), batch_size=2, verbose=0)
    after = model.layers[0].displacement_array()
    # The mean over all pixels does not feel a shift but for its border.
    assert np.all((before != after).any(axis=0))
    assert np.abs(after - before).max() < 0.1


def test_jitted_and_plain_training_agree():
    weights = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6, 5, 18)),
                keras_shift.layers.SparseShift2D(max_displacement=2),
                keras.layers.Conv2D(18, 1, activation="relu"),
                keras_shift.layers.SparseShift2D(),
                keras.layers.Conv2D(4, 1),
                keras.layers.Flatten(),
            ]
        )
        for layer in model.layers:
            if isinstance(layer, keras_shift.layers.SparseShift2D):
                d = np.random.default_rng(1).uniform(-1.5, 1.5, (2, 18))
                layer.displacements.assign(d)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        model.fit(X, np.ones((2, 120)), batch_size=2, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for plain, jitted in zip(*weights):
        np.testing.assert_allclose(plain, jitted, atol=1e-5)
