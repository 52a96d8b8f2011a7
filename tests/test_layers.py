"""What every layer promises, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from differentiate import value_and_gradients
from keras_shift.layers import (
    ActiveShift2D,
    GroupedShift2D,
    SliceChannels,
    SparseShift2D,
    SqueezeExcite2D,
)
from marks import exhaustive
from networks import run_python
from reference import bilinear_shift, displacement_gradient, integer_shift

LAYERS = [
    (GroupedShift2D, {}),
    (GroupedShift2D, {"kernel_size": 5, "dilation_rate": 2}),
    (ActiveShift2D, {}),
    (ActiveShift2D, {"max_displacement": 2}),
    (SparseShift2D, {}),
    (SparseShift2D, {"input_relu": True}),
    (
        SparseShift2D,
        {
            "displacement_initializer": keras.initializers.RandomUniform(-1, 2, seed=1),
            "displacement_regularizer": keras.regularizers.L1(1e-3),
            "max_displacement": 2,
        },
    ),
    (SliceChannels, {"start": 0, "stop": 50}),
    (SqueezeExcite2D, {}),
    (SqueezeExcite2D, {"squeeze_ratio": 8, "kernel_regularizer": "l2"}),
]
every_layer = pytest.mark.parametrize("layer_class, arguments", LAYERS)


def images(shape=(2, 6, 5, 50), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def scatter(layer, shape, seed=1):
    layer.build(shape)
    for weight in layer.weights:
        values = np.random.default_rng(seed).uniform(-2, 2, weight.shape)
        weight.assign(values)
    return layer


def run(layer, x, **arguments):
    return ops.convert_to_numpy(layer(x, **arguments))


@every_layer
def test_config_round_trip(layer_class, arguments):
    layer = layer_class(**arguments, name="name")
    again = layer_class.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    for name, value in arguments.items():
        if isinstance(value, int):
            assert getattr(again, name) == value
    x = images()
    layer(x), again(x)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(run(again, x), run(layer, x))


@every_layer
@pytest.mark.parametrize("shape", [(2, 6, 5, 50), (1, 1, 1, 50), (0, 3, 4, 50)])
def test_shapes(layer_class, arguments, shape):
    layer = layer_class(**arguments)
    assert layer.compute_output_shape((None, None, 3, 50)) == (None, None, 3, 50)
    assert run(layer, images(shape)).shape == shape
    assert layer(keras.Input(shape[1:])).shape == (None, *shape[1:])


@every_layer
def test_one_model_takes_images_of_any_size(layer_class, arguments):
    inputs = keras.Input((None, None, 50))
    layer = layer_class(**arguments)
    model = keras.Model(inputs, layer(inputs))
    scatter_weights = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(scatter_weights.uniform(-2, 2, weight.shape))
    for shape in ((2, 6, 5, 50), (3, 1, 9, 50), (1, 8, 2, 50)):
        x = images(shape)
        predicted = model.predict(x, verbose=0)
        np.testing.assert_allclose(predicted, run(layer, x), atol=1e-5)


def test_displacements_start_at_an_array():
    start = np.arange(6, dtype="float32").reshape(2, 3)
    layer = SparseShift2D(displacement_initializer=start)
    layer.build((None, 4, 4, 3))
    np.testing.assert_array_equal(layer.displacement_array(), start)
    again = SparseShift2D.from_config(layer.get_config())
    again.build((None, 4, 4, 3))
    np.testing.assert_array_equal(again.displacement_array(), start)
    with pytest.raises(ValueError, match=r"shape \(2, 4\).*Received: \(2, 3\)"):
        SparseShift2D(displacement_initializer=start).build((None, 4, 4, 4))


@every_layer
def test_channels_first_is_a_transposition(layer_class, arguments):
    last = scatter(layer_class(**arguments, data_format="channels_last"), (1, 6, 5, 50))
    first = layer_class(**arguments, data_format="channels_first")
    first.build((1, 50, 6, 5))
    first.set_weights(last.get_weights())
    x = images()
    y = run(first, np.transpose(x, (0, 3, 1, 2)))
    np.testing.assert_allclose(np.transpose(y, (0, 2, 3, 1)), run(last, x), atol=1e-6)


@every_layer
@pytest.mark.parametrize(
    "policy, dtype, tolerance",
    [
        ("mixed_float16", "float16", 2e-2),
        ("mixed_bfloat16", "bfloat16", 1e-1),
        ("float64", "float64", 1e-6),
    ],
)
def test_dtype_policies(layer_class, arguments, policy, dtype, tolerance):
    x = images()
    plain = scatter(layer_class(**arguments), x.shape)
    layer = layer_class(**arguments, dtype=policy)
    layer.build(x.shape)
    layer.set_weights(plain.get_weights())
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(y, "float32")), run(plain, x), atol=tolerance
    )
    if hasattr(layer, "displacements"):
        # Half precision cannot tell 3.499 from 3.5.
        assert layer.displacements.dtype == "float32"


@pytest.mark.exhaustive
def test_saved_models_load_in_a_process_of_their_own(tmp_path):
    # All layers in one process: importing TensorFlow takes longer than the rest.
    for number, (layer_class, arguments) in enumerate(LAYERS):
        inputs = keras.Input((6, 5, 50))
        model = keras.Model(inputs, layer_class(**arguments)(inputs))
        random = np.random.default_rng(1)
        model.set_weights([random.uniform(-2, 2, w.shape) for w in model.weights])
        model.save(tmp_path / f"{number}.keras")
        model.save_weights(tmp_path / f"{number}.weights.h5")
        np.save(tmp_path / f"{number}.npy", run(model, images()))
    np.save(tmp_path / "images.npy", images())
    printed = run_python(
        """
import sys, pathlib
import keras, keras_shift, numpy as np
folder = pathlib.Path(sys.argv[1])
x = np.load(folder / "images.npy")
for path in folder.glob("*.keras"):
    y = np.load(path.with_suffix(".npy"))
    model = keras.models.load_model(path)
    found = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(found, y, atol=1e-6)
    again = keras.models.clone_model(model)
    again.load_weights(path.with_suffix(".weights.h5"))
    found = keras.ops.convert_to_numpy(again(x))
    np.testing.assert_allclose(found, y, atol=1e-6)
    print("equal")
""",
        tmp_path,
    )
    assert printed.count("equal") == len(LAYERS)


@pytest.mark.parametrize(
    "layer_class, arguments, jit_compile",
    [(*layer, False) for layer in LAYERS]
    # Under XLA, one of each class, since their arguments change little there.
    + [
        (
            exhaustive(*layer, True)
            if layer[0] in dict(LAYERS[:number])
            else (*layer, True)
        )
        for number, layer in enumerate(LAYERS)
    ],
)
def test_every_weight_is_trained(layer_class, arguments, jit_compile):
    if keras.backend.backend() == "torch" and jit_compile:
        pytest.skip("torch.compile needs a compiler at run time")
    keras.utils.set_random_seed(0)
    # A penalty would move weights that no data reaches.
    arguments = {k: v for k, v in arguments.items() if "regularizer" not in k}
    inputs = keras.Input((6, 5, 50))
    y = keras.layers.Conv2D(4, 1)(layer_class(**arguments)(inputs))
    model = keras.Model(inputs, keras.layers.Flatten()(y))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    before = model.get_weights()
    history = model.fit(images(), np.ones((2, 120)), epochs=3, verbose=0)
    for old, new in zip(before, model.get_weights()):
        assert np.mean(old != new) > 0.4  # some hidden units of a gate are off
    assert history.history["loss"][-1] < history.history["loss"][0]


@every_layer
@pytest.mark.parametrize("shape", [(6, 5, 50), (2, 6, 5, 50, 1)])
def test_only_images_are_taken(layer_class, arguments, shape):
    with pytest.raises(ValueError, match="expected ndim=4"):
        layer_class(**arguments)(np.zeros(shape, "float32"))


@pytest.mark.parametrize(
    "layer_class, arguments, message",
    [
        (GroupedShift2D, {"kernel_size": 4}, "kernel_size=4"),
        (GroupedShift2D, {"dilation_rate": 0}, "dilation_rate=0"),
        (SparseShift2D, {"max_displacement": -1}, "max_displacement=-1"),
        (ActiveShift2D, {"max_displacement": 0.5}, "max_displacement=0.5"),
        (ActiveShift2D, {"max_displacement": np.inf}, "max_displacement=inf"),
        (SparseShift2D, {"max_displacement": "2"}, "max_displacement=2"),
        (SparseShift2D, {"data_format": "last"}, "data_format=last"),
        (SqueezeExcite2D, {"squeeze_ratio": 0}, "squeeze_ratio=0"),
        (SliceChannels, {"start": -1, "stop": 2}, "start=-1, stop=2"),
        (SliceChannels, {"start": 2, "stop": 2}, "start=2, stop=2"),
        (SliceChannels, {"start": 0.5, "stop": 2}, "start=0.5, stop=2"),
        (SliceChannels, {"start": None, "stop": 3}, "start=None, stop=3"),
        (SliceChannels, {"start": 0, "stop": np.inf}, "start=0, stop=inf"),
        (
            SliceChannels,
            {"start": 0, "stop": 2, "data_format": "last"},
            "data_format=last",
        ),
    ],
)
def test_bad_arguments_are_named(layer_class, arguments, message):
    with pytest.raises(ValueError, match=f"Received: {message}"):
        layer_class(**arguments)


@every_layer
def test_the_number_of_channels_must_be_known(layer_class, arguments):
    with pytest.raises(ValueError, match="number of channels. Received: input_shape"):
        layer_class(**arguments)(keras.Input((4, 4, None)))


# Shifts


def test_grouped_shift_is_that_of_equation_1():
    x = images((2, 6, 5, 20))
    layer = GroupedShift2D(kernel_size=3, dilation_rate=2)
    y = run(layer, x)
    np.testing.assert_array_equal(y, integer_shift(x, layer.displacement_array()))
    assert layer.displacement_array().min() == -2 and not layer.weights
    # Two of 20 channels in the middle group, two left over.
    assert layer.sparsity == pytest.approx(4 / 20)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_grouped_shift_moves_integers_as_well(dtype, training):
    x = np.arange(2 * 6 * 5 * 9).reshape(2, 6, 5, 9).astype(dtype)
    layer = GroupedShift2D(dtype=dtype)
    y = run(layer, x, training=training)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, integer_shift(x, layer.displacement_array()))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("max_displacement", [None, 2])
def test_learned_shifts_are_those_of_the_oracle(max_displacement, training):
    x = images((2, 6, 5, 20))
    active = scatter(ActiveShift2D(max_displacement=max_displacement), x.shape)
    sparse = scatter(SparseShift2D(max_displacement=max_displacement), x.shape)
    d = sparse.displacement_array()
    np.testing.assert_allclose(
        run(active, x, training=training), bilinear_shift(x, d), atol=1e-5
    )
    np.testing.assert_array_equal(
        run(sparse, x, training=training), integer_shift(x, np.rint(d))
    )


@pytest.mark.parametrize("training", [False, True])
def test_relu_is_that_of_a_layer_in_front(training):
    x = images((2, 6, 5, 20))
    layer = scatter(SparseShift2D(input_relu=True), x.shape)
    bare = SparseShift2D()
    bare.build(x.shape)
    bare.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        run(layer, x, training=training),
        run(bare, run(keras.layers.ReLU(), x), training=training),
    )


@pytest.mark.parametrize("max_displacement", [None, 1])
def test_after_one_step_from_the_default_start_displacements_have_moved(
    max_displacement,
):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 5, 45))
    layer = SparseShift2D(max_displacement=max_displacement)
    model = keras.Model(inputs, keras.layers.Flatten()(layer(inputs)))
    x, target = images((4, 6, 5, 45)), images((4, 6, 5, 45), seed=1)
    start = layer.displacement_array()
    y = integer_shift(x, start)
    # d mean(square(y - target)) / d y
    upstream = 2 * (y - target) / (6 * 5 * 45) / len(x)
    gradient = displacement_gradient(x, upstream, start.astype("float64"))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, target.reshape(4, -1), batch_size=4, verbose=0)
    expected = start - 0.1 * gradient
    if max_displacement is not None:
        expected = np.clip(expected, -1, 1)
    np.testing.assert_allclose(layer.displacement_array(), expected, atol=1e-6)
    assert np.all(gradient != 0)
    if max_displacement is None:
        assert np.all(layer.displacement_array() != start)


def test_displacements_have_gradients_outside_of_training_as_well():
    x, upstream = images((2, 6, 5, 9)), images((2, 6, 5, 9), seed=1)
    layer = scatter(SparseShift2D(), x.shape)
    d = layer.displacement_array()

    def call(x, d):
        y, _ = layer.stateless_call([d], [], x)
        return y

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) * upstream)
        by_d = tape.gradient(loss, layer.displacements.value).numpy()
    else:
        _, (_, by_d) = value_and_gradients(call, (x, d), upstream)
    expected = displacement_gradient(x, upstream, d.astype("float64"))
    np.testing.assert_allclose(by_d, expected, rtol=1e-4, atol=1e-4)


def test_regularizer_is_the_penalty_of_equation_4():
    layer = SparseShift2D(displacement_regularizer=keras.regularizers.L1(0.5))
    scatter(layer, (1, 4, 4, 10))
    (penalty,) = layer.losses
    expected = 0.5 * np.abs(layer.displacement_array()).sum()
    assert ops.convert_to_numpy(penalty) == pytest.approx(expected, rel=1e-6)


def test_loaded_displacements_beyond_the_bound_are_clipped():
    x = images((2, 6, 5, 2))
    layer = SparseShift2D(max_displacement=1)
    layer.build(x.shape)
    layer.displacements.assign([[3.0, 0.2], [-2.0, 0.9]])
    expected = integer_shift(x, np.array([[1, 0], [-1, 1]]))
    np.testing.assert_array_equal(run(layer, x), expected)
    np.testing.assert_array_equal(run(layer, x, training=True), expected)
    np.testing.assert_array_equal(
        np.rint(layer.displacement_array()), [[1, 0], [-1, 1]]
    )


def test_sparsity_is_the_share_of_channels_that_round_to_zero():
    layer = SparseShift2D()
    layer.build((1, 4, 4, 4))
    layer.displacements.assign([[0.4, -0.5, 0.6, 0.0], [0.0, 0.5, 0.0, -0.51]])
    assert layer.sparsity == 0.5


# Slices


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "training, kind", [(True, "Slice"), (False, "StridedSlice"), (None, "StridedSlice")]
)
def test_slices_are_trained_by_the_operation_with_the_faster_gradient(training, kind):
    import tensorflow as tf

    layer = SliceChannels(2, 5)
    function = tf.function(lambda x: layer(x, training=training))
    graph = function.get_concrete_function(tf.zeros((1, 2, 2, 6))).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert kinds & {"Slice", "StridedSlice"} == {kind}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_slices_are_those_of_an_index(data_format, training):
    last = data_format == "channels_last"
    index = (..., slice(4, 7)) if last else (slice(None), slice(4, 7))
    x = images((2, 9, 8, 10))
    layer = SliceChannels(4, 7, data_format=data_format)
    upstream = images(x[index].shape, seed=1)
    y, (gradient,) = value_and_gradients(
        lambda x: layer(x, training=training), [x], upstream
    )
    np.testing.assert_array_equal(y, x[index])
    expected = np.zeros_like(x)
    expected[index] = upstream
    np.testing.assert_array_equal(gradient, expected)
    with pytest.raises(ValueError, match="the (9|10) channels.*Received: stop=12"):
        SliceChannels(4, 12, data_format=data_format)(x)


# Squeeze and excite


def test_squeeze_excite_is_its_formula():
    x = images((3, 6, 5, 20))
    layer = scatter(SqueezeExcite2D(squeeze_ratio=8), x.shape)
    squeeze, excite = layer.get_weights()
    assert squeeze.shape == (20, 2) and excite.shape == (2, 20)
    hidden = np.maximum(x.mean((1, 2)) @ squeeze, 0)
    gate = 1 / (1 + np.exp(-hidden @ excite))
    np.testing.assert_allclose(run(layer, x), x * gate[:, None, None], atol=1e-5)


@pytest.mark.parametrize("channels, hidden", [(2, 1), (22, 6), (110, 28), (1, 1)])
def test_squeeze_excite_rounds_its_hidden_length(channels, hidden):
    layer = SqueezeExcite2D(squeeze_ratio=4)
    layer.build((None, 4, 4, channels))
    assert layer.squeeze_kernel.shape == (channels, hidden)
