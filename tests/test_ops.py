import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from differentiate import value_and_gradients
from keras_shift.ops import active_shift, grouped_displacements, shift, sparse_shift
from reference import bilinear_shift, displacement_gradient, integer_shift

FLOATS = ["float16", "bfloat16", "float32", "float64"]
SHAPES = [(2, 5, 7, 11), (1, 1, 1, 3), (3, 1, 6, 20), (1, 8, 8, 33), (0, 4, 4, 5)]


def images(shape, dtype="float32", seed=0):
    # Few digits, so that half precision holds them, too.
    values = np.random.default_rng(seed).integers(-8, 9, shape) / 4
    return ops.convert_to_numpy(ops.cast(values, dtype))


def displacements(channels, seed=0, bound=3.0):
    return np.random.default_rng(seed).uniform(-bound, bound, (2, channels))


# Grouped displacements


@pytest.mark.parametrize("channels", [1, 8, 9, 10, 18, 96, 100])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_grouped_displacements_follow_equation_2(channels, size, dilation):
    result = grouped_displacements(channels, size, dilation)
    for c in range(channels):
        group = c // (channels // size**2) if channels >= size**2 else size**2
        expected = (0, 0)
        if group < size**2:
            expected = (
                (group // size - size // 2) * dilation,
                (group % size - size // 2) * dilation,
            )
        assert tuple(result[:, c]) == expected


def test_grouped_displacements_leave_13_percent_of_shiftresnet20_unshifted():
    # Four layers of 96 channels, three of 192, two of 384: Table 2 of the SSL paper.
    channels = [96] * 4 + [192] * 3 + [384] * 2
    patterns = [grouped_displacements(c) for c in channels]
    unshifted = sum(np.sum(~pattern.any(axis=0)) for pattern in patterns)
    assert (unshifted, sum(channels)) == (232, 1728)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0,), "`channels` must be a positive integer. Received: channels=0"),
        ((9, 4), "`kernel_size` must be odd.*Received: kernel_size=4"),
        ((9, 3, 0), "`dilation_rate`.*Received: dilation_rate=0"),
        ((9, 2.5), "`kernel_size`.*Received: kernel_size=2.5"),
    ],
)
def test_grouped_displacements_reject(arguments, message):
    with pytest.raises(ValueError, match=message):
        grouped_displacements(*arguments)


# Values


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_shift_moves_pixels_exactly(path, shape, dtype):
    x = images(shape, dtype)
    d = np.rint(displacements(shape[-1]))
    y = shift(x, ops.convert_to_tensor(d, "float32"), **path)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    np.testing.assert_array_equal(ops.convert_to_numpy(y), integer_shift(x, d))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_shift_moves_integers(dtype):
    x = np.arange(2 * 4 * 3 * 5, dtype=dtype).reshape(2, 4, 3, 5)
    d = np.array([[0, 1, -1, 2, 0], [1, 0, 1, -2, 0]])
    y = shift(x, d, max_displacement=None)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    np.testing.assert_array_equal(ops.convert_to_numpy(y), integer_shift(x, d))


@pytest.mark.parametrize("far", [3, 7, 100, 2**31, 1e30])
def test_displacements_beyond_the_image_give_zero(far):
    x = images((1, 3, 3, 4)) + 10
    d = np.array([[far, -far, 0, 0], [0, 0, far, -far]], "float32")
    for native in (None, False):
        y = shift(x, ops.convert_to_tensor(d), native=native)
        np.testing.assert_array_equal(ops.convert_to_numpy(y), np.zeros_like(x))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_sparse_shift_moves_by_rounded_displacements(path, shape, dtype):
    x, d = images(shape, dtype), displacements(shape[-1])
    y = sparse_shift(x, d, **path)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    expected = integer_shift(x, np.rint(d))
    np.testing.assert_array_equal(ops.convert_to_numpy(y), expected)


def test_halves_are_rounded_to_even(path):
    d = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5], [0] * 6])
    x = images((1, 9, 2, 6))
    y = sparse_shift(x, d, **path)
    expected = integer_shift(x, np.array([[0, 2, 2, 0, -2, -2], [0] * 6]))
    np.testing.assert_array_equal(ops.convert_to_numpy(y), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_active_shift_interpolates(path, shape):
    x, d = images(shape, "float64"), displacements(shape[-1])
    y = active_shift(x, d, **path)
    expected = bilinear_shift(x, d)
    np.testing.assert_allclose(ops.convert_to_numpy(y), expected, atol=1e-12)


@pytest.mark.parametrize("function", [shift, sparse_shift, active_shift])
def test_channels_first_is_a_transposition(path, function):
    x, d = images((2, 4, 5, 6)), np.rint(displacements(6)).astype("float32")
    d = ops.convert_to_tensor(d)
    y = function(np.transpose(x, (0, 3, 1, 2)), d, data_format="channels_first", **path)
    expected = function(x, d, data_format="channels_last", **path)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(y),
        np.transpose(ops.convert_to_numpy(expected), (0, 3, 1, 2)),
    )


# Gradients


def points(kind, channels):
    d = displacements(channels, seed=1, bound=2.9)
    if kind == "whole":
        return np.rint(d)
    if kind == "half":
        return np.floor(d) + 0.5
    return d


@pytest.mark.parametrize("kind", ["between", "whole", "half"])
@pytest.mark.parametrize("shape", [(2, 5, 7, 11), (1, 1, 4, 18), (3, 6, 6, 33)])
def test_sparse_shift_has_the_gradients_of_the_oracle(path, shape, kind):
    x, d = images(shape, "float64"), points(kind, shape[-1])
    upstream = images(shape, "float64", seed=2)
    _, (by_x, by_d) = value_and_gradients(
        lambda x, d: sparse_shift(x, d, **path), (x, d), upstream
    )
    np.testing.assert_array_equal(by_x, integer_shift(upstream, -np.rint(d)))
    expected = displacement_gradient(x, upstream, d)
    np.testing.assert_allclose(by_d, expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("kind", ["between", "whole", "half"])
def test_sparse_shift_of_relu(path, kind, data_format):
    shape = (2, 5, 7, 11)
    x, d = images(shape, "float64"), points(kind, 11)
    upstream = images(shape, "float64", seed=2)
    assert (x == 0).any()
    axes = (0, 1, 2, 3) if data_format == "channels_last" else (0, 3, 1, 2)
    y, (by_x, by_d) = value_and_gradients(
        lambda x, d: sparse_shift(
            x, d, data_format=data_format, input_relu=True, **path
        ),
        (x.transpose(axes), d),
        upstream.transpose(axes),
    )
    activated = np.maximum(x, 0)
    moved = integer_shift(activated, np.rint(d))
    np.testing.assert_array_equal(y, moved.transpose(axes))
    moved = np.where(x > 0, integer_shift(upstream, -np.rint(d)), 0)
    np.testing.assert_array_equal(by_x, moved.transpose(axes))
    expected = displacement_gradient(activated, upstream, d)
    np.testing.assert_allclose(by_d, expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("kind", ["between", "whole"])
def test_active_shift_has_the_gradients_of_the_oracle(path, kind):
    shape = (2, 5, 7, 11)
    x, d = images(shape, "float64"), points(kind, 11)
    upstream = images(shape, "float64", seed=2)
    _, (by_x, by_d) = value_and_gradients(
        lambda x, d: active_shift(x, d, **path), (x, d), upstream
    )
    expected = displacement_gradient(x, upstream, d)
    np.testing.assert_allclose(by_d, expected, rtol=1e-12, atol=1e-10)
    # The shift is linear in x, and its gradient the adjoint.
    direction = images(shape, "float64", seed=3)
    moved = np.sum(bilinear_shift(direction, d) * upstream)
    np.testing.assert_allclose(np.sum(direction * by_x), moved, rtol=1e-10)


def test_displacement_gradients_are_finite_differences(path):
    # Of the interpolating shift, in float64, between the whole numbers.
    shape, step = (1, 6, 5, 4), 1e-6
    x, upstream = images(shape, "float64"), images(shape, "float64", seed=2)
    d = np.array([[0.3, -1.6, 2.2, -0.1], [1.7, 0.4, -2.3, -0.8]])
    for function in (sparse_shift, active_shift):
        _, (_, by_d) = value_and_gradients(
            lambda x, d: function(x, d, **path), (x, d), upstream
        )
        for place in np.ndindex(d.shape):
            up, down = d.copy(), d.copy()
            up[place] += step
            down[place] -= step
            change = bilinear_shift(x, up) - bilinear_shift(x, down)
            numeric = np.sum(change * upstream) / (2 * step)
            np.testing.assert_allclose(by_d[place], numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_half_precision_sums_gradients_in_single(path, dtype):
    # The sum of 4096 products would lose all but three digits in float16.
    shape = (4, 32, 32, 18)
    x, upstream = images(shape, dtype), images(shape, dtype, seed=2)
    d = points("between", 18).astype("float32")
    _, (by_x, by_d) = value_and_gradients(
        lambda x, d: sparse_shift(x, d, **path), (x, d), upstream
    )
    assert by_x.dtype == x.dtype and by_d.dtype == np.float32
    expected = displacement_gradient(x, upstream, d.astype("float64"))
    np.testing.assert_allclose(by_d, expected, rtol=1e-4, atol=1e-2)


def test_integer_shift_gives_displacements_no_gradient(path):
    shape = (2, 4, 4, 9)
    x, d = images(shape), grouped_displacements(9).astype("float32")
    upstream = images(shape, seed=2)
    _, (by_x, by_d) = value_and_gradients(
        lambda x, d: shift(x, d, **path), (x, d), upstream
    )
    np.testing.assert_array_equal(by_x, integer_shift(upstream, -d))
    assert by_d is None or not by_d.any()


# Laws, for the native op (where there is one), convolution and gather

PATHS = [{}, {"native": False, "max_displacement": 3}, {"native": False}]
whole_displacements = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=20
).map(lambda pairs: np.array(pairs, "float32").T)
sizes = st.tuples(st.integers(0, 2), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=40, deadline=None)
@given(sizes, whole_displacements)
def test_the_inverse_shift_is_the_adjoint(size, d):
    shape = (*size, d.shape[1])
    x, y = images(shape, "float64"), images(shape, "float64", seed=1)
    for arguments in PATHS:
        there = ops.convert_to_numpy(shift(x, ops.convert_to_tensor(d), **arguments))
        back = ops.convert_to_numpy(shift(y, ops.convert_to_tensor(-d), **arguments))
        np.testing.assert_allclose(np.sum(there * y), np.sum(x * back), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(sizes, whole_displacements, st.randoms(use_true_random=False))
def test_permuted_channels_are_shifted_alike(size, d, random):
    order = list(range(d.shape[1]))
    random.shuffle(order)
    x = images((*size, d.shape[1]))
    for arguments in PATHS:
        permuted = shift(x[..., order], ops.convert_to_tensor(d[:, order]), **arguments)
        y = shift(x, ops.convert_to_tensor(d), **arguments)
        expected = ops.convert_to_numpy(y)[..., order]
        np.testing.assert_array_equal(ops.convert_to_numpy(permuted), expected)


@settings(max_examples=40, deadline=None)
@given(sizes, whole_displacements)
def test_shifts_of_one_direction_add_up(size, d):
    x = images((*size, d.shape[1]))
    again = ops.convert_to_numpy(shift(shift(x, d), d))
    np.testing.assert_array_equal(again, ops.convert_to_numpy(shift(x, 2 * d)))


@settings(max_examples=20, deadline=None)
@given(sizes, st.integers(1, 40))
def test_zero_displacements_change_nothing(size, channels):
    x = images((*size, channels))
    for arguments in PATHS:
        y = shift(x, ops.zeros((2, channels)), **arguments)
        np.testing.assert_array_equal(ops.convert_to_numpy(y), x)


# Errors


@pytest.mark.parametrize("function", [shift, sparse_shift, active_shift])
@pytest.mark.parametrize(
    "x, d, arguments, message",
    [
        ((4, 4, 3), (2, 3), {}, r"`x`.*rank 4. Received: x.shape=\(4, 4, 3\)"),
        ((1, 4, 4, 3), (2, 4), {}, r"\(2, 3\).*Received: displacements.shape=\(2, 4\)"),
        ((1, 4, 4, 3), (3, 2), {}, r"Received: displacements.shape=\(3, 2\)"),
        ((1, 4, 4, 3), (3,), {}, r"Received: displacements.shape=\(3,\)"),
        ((1, 4, 4, 3), (2, 3), {"data_format": "NHWC"}, "Received: data_format=NHWC"),
        ((1, 4, 4, 3), (2, 3), {"max_displacement": -1}, "max_displacement=-1"),
        ((1, 4, 4, 3), (2, 3), {"max_displacement": 1.5}, "max_displacement=1.5"),
        ((1, 4, 4, 3), (2, 3), {"max_displacement": np.inf}, "max_displacement=inf"),
        ((1, 4, 4, 3), (2, 3), {"max_displacement": [1]}, r"max_displacement=\[1\]"),
    ],
)
def test_bad_arguments_are_named(function, x, d, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(np.zeros(x, "float32"), np.zeros(d, "float32"), **arguments)


@pytest.mark.parametrize("function", [sparse_shift, active_shift])
def test_integer_images_cannot_be_differentiated(function):
    with pytest.raises(ValueError, match="floating dtype. Received: x.dtype=int32"):
        function(np.zeros((1, 2, 2, 1), "int32"), np.zeros((2, 1)))


def test_native_on_demand_says_why_it_cannot():
    x = np.zeros((1, 2, 2, 1), "int32")
    reason = "the op is TensorFlow's"
    if keras.backend.backend() == "tensorflow":
        reason = "it has no kernel for int32"
    with pytest.raises(ValueError, match=f"compiled op cannot serve: {reason}"):
        shift(x, np.zeros((2, 1)), native=True)


def test_fractions_are_not_cut_off_silently():
    with pytest.raises(ValueError, match="must be whole numbers; keras_shift.ops.sp"):
        shift(np.zeros((1, 2, 2, 1)), [[0.7], [-1.0]])


def test_what_is_not_a_number_leaves_the_image(path):
    x = images((1, 3, 4, 5), "float64") + 10
    d = np.zeros((2, 5))
    d[0, 1] = np.nan
    y, (by_x, by_d) = value_and_gradients(
        lambda x, d: sparse_shift(x, d, **path), (x, d), np.ones_like(x)
    )
    for result in (y, by_x):
        assert not result[..., 1].any() and result[..., [0, 2, 3, 4]].all()
    assert np.isnan(by_d[:, 1]).any() and np.isfinite(by_d[:, [0, 2, 3, 4]]).all()


@pytest.mark.parametrize("function", [sparse_shift, active_shift])
@pytest.mark.parametrize("bound", [None, 2])
def test_infinite_displacements_are_very_large_ones(path, function, bound):
    path = {**path, "max_displacement": bound}
    x = images((1, 6, 4, 4), "float64") + 10
    d = np.array([[np.inf, -np.inf, 0.5, 0], [0, 0, 0.5, -np.inf]])
    near = np.clip(d, -(bound or 20), bound or 20)
    upstream = images(x.shape, "float64", seed=2)
    results, expected = [
        value_and_gradients(lambda x, d: function(x, d, **path), (x, d), upstream)
        for d in (d, near)
    ]
    for found, wanted in zip(
        [results[0], *results[1]], [expected[0], *expected[1]], strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("function", [shift, sparse_shift, active_shift])
def test_displacements_beyond_the_bound_count_as_the_bound(path, function):
    x = images((2, 9, 8, 4))
    d = np.array([[3.0, -4, 1, 0], [0, 2, -9, 1e9]], "float32")
    path = {**path, "max_displacement": 2}
    y = function(x, ops.convert_to_tensor(d), **path)
    expected = integer_shift(x, np.clip(d, -2, 2))
    np.testing.assert_array_equal(ops.convert_to_numpy(y), expected)


@pytest.mark.tensorflow
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_gradients_of_gradients(traced, relu):
    """Those of the compiled op are those of `keras.ops`, and finite differences."""
    import tensorflow as tf

    x, upstream = images((2, 5, 7, 4), "float64") + 0.1, images((2, 5, 7, 4), "float64")
    d = points("between", 4)

    def first(x, d, native):
        with tf.GradientTape() as tape:
            tape.watch([x, d])
            y = sparse_shift(x, d, native=native, input_relu=relu)
            loss = tf.reduce_sum(upstream * y * y)
        by_x, by_d = tape.gradient(loss, [x, d])
        return tf.reduce_sum(tf.sin(by_x)) + tf.reduce_sum(by_d * by_d)

    def second(x, d, native):
        with tf.GradientTape() as tape:
            tape.watch([x, d])
            value = first(x, d, native)
        return tape.gradient(value, [x, d])

    function = tf.function(second) if traced else second
    x, d = tf.constant(x), tf.constant(d)
    for found, expected in zip(function(x, d, True), second(x, d, False)):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    step = np.zeros((2, 5, 7, 4))
    step[1, 2, 3, 2] = 1e-6
    change = first(x + step, d, False) - first(x - step, d, False)
    by_x, _ = second(x, d, True)
    np.testing.assert_allclose(by_x[1, 2, 3, 2], change / 2e-6, rtol=1e-5, atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("function", [shift, sparse_shift, active_shift])
def test_gradients_in_forward_mode(function, traced):
    """Those of the compiled op are those of `keras.ops`, and transposes of its own."""
    import tensorflow as tf

    shape = (2, 5, 7, 4)
    x, tangent, upstream = (
        tf.constant(images(shape, "float64", seed)) for seed in range(3)
    )
    d = points("between", 4)
    d = tf.constant(np.rint(d) if function is shift else d)
    d_tangent = tf.constant(displacements(4, seed=3))

    def forward(native):
        with tf.autodiff.ForwardAccumulator([x, d], [tangent, d_tangent]) as forward:
            y = function(x, d, native=native)
        return forward.jvp(y)

    found = (tf.function(forward) if traced else forward)(True)
    np.testing.assert_allclose(found, forward(False), rtol=1e-12, atol=1e-12)
    with tf.GradientTape() as tape:
        tape.watch([x, d])
        y = function(x, d, native=True)
    by_x, by_d = tape.gradient(y, [x, d], upstream, unconnected_gradients="zero")
    if function is sparse_shift:
        # In forward mode, TensorFlow differentiates what it computes, which is constant
        # between two whole displacements, and not the custom gradient.
        by_d = np.zeros((2, 4))
    backward = np.sum(by_x * tangent) + np.sum(by_d * d_tangent)
    np.testing.assert_allclose(np.sum(found * upstream), backward, rtol=1e-9)


@pytest.mark.tensorflow
@pytest.mark.parametrize("relu", [False, True])
def test_products_with_second_derivatives_in_forward_mode(relu):
    """The product of the Hessian and a vector is the tangent of the gradient."""
    import tensorflow as tf

    x, tangent = (
        tf.constant(images((2, 5, 7, 4), "float64", seed)) for seed in range(2)
    )
    d = tf.constant(points("between", 4))

    def product(native):
        with tf.autodiff.ForwardAccumulator(x, tangent) as forward:
            with tf.GradientTape() as tape:
                tape.watch([x, d])
                y = sparse_shift(x, d, native=native, input_relu=relu)
                loss = tf.reduce_sum(tf.sin(y))
            gradients = tape.gradient(loss, [x, d])
        return forward.jvp(gradients)

    for found, expected in zip(product(True), product(False), strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", [shift, sparse_shift, active_shift])
def test_functional_models_are_pointed_to_the_layers(function):
    with pytest.raises(ValueError, match="use the layers of keras_shift.layers"):
        function(keras.Input((6, 5, 9)), np.zeros((2, 9)))
