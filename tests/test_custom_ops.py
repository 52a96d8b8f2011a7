"""The compiled TensorFlow ops, against NumPy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from keras_shift import custom_ops, native  # noqa: E402

if custom_ops.why_unavailable() is not None:
    pytest.skip(f"{custom_ops.why_unavailable()}", allow_module_level=True)

pytestmark = [pytest.mark.tensorflow, pytest.mark.native]

OPS = custom_ops.load()
FLOATS = [tf.float16, tf.bfloat16, tf.float32, tf.float64]
SHAPES = [
    (0, 3, 4, 5),
    (2, 0, 4, 5),
    (2, 3, 0, 5),
    (1, 1, 1, 1),
    (2, 5, 3, 3),
    (1, 4, 7, 17),
    (3, 7, 7, 48),
]
INT32 = np.iinfo(np.int32)

shapes = st.tuples(*[st.integers(0, 5)] * 3, st.integers(1, 40))
seeds = st.integers(0, 2**32 - 1)


def shift(x, displacements, **kwargs):
    return OPS.keras_shift_shift2d(x=x, displacements=displacements, **kwargs)


def gradients(x, upstream, displacements, **kwargs):
    return OPS.keras_shift_sparse_shift2d_grad(
        x=x, upstream=upstream, displacements=displacements, **kwargs
    )


def expected_shift(x, displacements):
    """Eq. 1, one channel after the other."""
    y = np.zeros_like(x)
    height, width = x.shape[1:3]
    for c, (row, column) in enumerate(np.asarray(displacements, "int64").T):
        if abs(row) >= height or abs(column) >= width:
            continue
        y[
            :,
            max(0, -row) : height - max(0, row),
            max(0, -column) : width - max(0, column),
            c,
        ] = x[
            :,
            max(0, row) : height + min(0, row),
            max(0, column) : width + min(0, column),
            c,
        ]
    return y


def expected_gradients(x, upstream, displacements):
    """Eq. 6 and 7 in float64, and the sums of absolute products in Eq. 6."""
    x, g, d = (np.asarray(a, "float64") for a in (x, upstream, displacements))
    floor = np.floor(d)
    r = d - floor
    s = np.zeros((2, 2, x.shape[-1]))
    scale = np.zeros(x.shape[-1])
    for a in range(2):
        for b in range(2):
            to = np.clip(floor + [[a], [b]], -(10**6), 10**6)
            product = g * expected_shift(x, to)
            s[a, b] = product.sum((0, 1, 2))
            scale += np.abs(product).sum((0, 1, 2))
    gradient = np.stack(
        [
            (1 - r[1]) * (s[1, 0] - s[0, 0]) + r[1] * (s[1, 1] - s[0, 1]),
            (1 - r[0]) * (s[0, 1] - s[0, 0]) + r[0] * (s[1, 1] - s[1, 0]),
        ]
    )
    back = -np.clip(np.round(d), -(10**6), 10**6)
    return expected_shift(g, back), gradient, scale


def draw(shape, dtype, seed=0):
    values = np.random.default_rng(seed).uniform(-100, 100, shape)
    return tf.cast(tf.constant(values), dtype)


def draw_displacements(channels, most=3, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(-most, most, (2, channels), "int32", endpoint=True)


@pytest.mark.parametrize("dtype", [*FLOATS, tf.int8], ids=lambda d: d.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shift(shape, dtype):
    x = draw(shape, dtype)
    d = draw_displacements(shape[-1])
    y = shift(x, d)
    assert y.dtype == dtype and y.shape == x.shape
    np.testing.assert_array_equal(y.numpy(), expected_shift(x.numpy(), d))


def test_displacements_of_any_size():
    extremes = [INT32.min, INT32.min + 1, -4, -3, 0, 3, 4, INT32.max]
    d = np.array(np.meshgrid(extremes, extremes)).reshape(2, -1).astype("int32")
    x = draw((2, 4, 4, d.shape[1]), tf.float32)
    np.testing.assert_array_equal(shift(x, d), expected_shift(x.numpy(), d))


def test_infinities_and_nans_are_moved_like_numbers():
    x = np.array([np.inf, np.nan, -0.0], "float32").reshape(1, 1, 3, 1)
    y = shift(x, [[0], [1]]).numpy().ravel()
    assert np.isnan(y[0]) and np.signbit(y[1]) and y[2] == 0


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
# The last one is large enough to go past the caches.
@pytest.mark.parametrize("shape", [*SHAPES, (2, 192, 192, 128)], ids=str)
def test_relu_is_that_of_tensorflow(shape, dtype):
    x, g = draw(shape, dtype, 1), draw(shape, dtype, 2)
    x = tf.where(tf.abs(x) < 30, tf.zeros_like(x), x)
    d = draw_displacements(shape[-1])
    activated = tf.nn.relu(x)
    np.testing.assert_array_equal(shift(x, d, relu=True), shift(activated, d))
    result = gradients(x, g, tf.cast(d, tf.float32) + 0.3, relu=True)
    expected = gradients(activated, g, tf.cast(d, tf.float32) + 0.3)
    masked = tf.raw_ops.ReluGrad(gradients=expected.input_gradient, features=x)
    np.testing.assert_array_equal(result.input_gradient, masked)
    np.testing.assert_array_equal(
        result.displacement_gradient, expected.displacement_gradient
    )


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
def test_relu_of_special_values(dtype):
    # x86's own NaN, that of an operation that has no result, has a sign.
    values = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0]
    x = tf.reshape(tf.constant(values, dtype), (1, 1, 1, 8))
    still = np.zeros((2, 8), "int32")
    y = tf.cast(shift(x, still, relu=True), tf.float32).numpy().ravel()
    np.testing.assert_array_equal(y, [np.nan, np.nan, np.inf, 0, 0, 0, 1, 0])
    assert not np.signbit(y[3:]).any()
    result = gradients(x, tf.ones_like(x), still.astype("float32"), relu=True)
    passed = tf.cast(result.input_gradient, tf.float32).numpy().ravel()
    np.testing.assert_array_equal(passed, [0, 0, 1, 0, 0, 0, 1, 0])


def test_relu_is_for_floats():
    with pytest.raises(tf.errors.InvalidArgumentError, match="`relu` is for floats"):
        shift(tf.cast(X, tf.int8), D, relu=True)


@pytest.mark.parametrize("d_dtype", [tf.float32, tf.float64], ids=lambda d: d.name)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients(shape, dtype, d_dtype):
    x, g = draw(shape, dtype, 1), draw(shape, dtype, 2)
    d = np.random.default_rng(3).uniform(-3, 3, (2, shape[-1]))
    d[:, ::3] = np.round(d[:, ::3])  # Eq. 6 from above
    d[:, 1::5] = np.round(d[:, 1::5]) + 0.5  # half to even
    d = tf.cast(d, d_dtype)
    result = gradients(x, g, d)
    assert result.input_gradient.dtype == dtype
    assert result.displacement_gradient.dtype == d_dtype
    wide = [tf.cast(a, tf.float64).numpy() for a in (x, g, d)]
    input_gradient, gradient, scale = expected_gradients(*wide)
    np.testing.assert_array_equal(
        tf.cast(result.input_gradient, tf.float64), input_gradient
    )
    exact = dtype == tf.float64 and d_dtype == tf.float64
    error = np.abs(result.displacement_gradient - gradient)
    assert (error <= (1e-14 if exact else 1e-6) * scale + 1e-300).all()


def test_long_sums_keep_their_accuracy():
    x = 10 + draw((8, 64, 64, 16), tf.float32, 1) / 100
    g = draw(x.shape, tf.float32, 2)
    d = np.full((2, 16), 0.25, "float32")
    got = gradients(x, g, d).displacement_gradient
    _, expected, scale = expected_gradients(x, g, d)
    assert (np.abs(got - expected) <= 3e-8 * scale).all()


@pytest.mark.parametrize("far", [7.0, 1e9, 3e38])
def test_gradients_far_outside_of_the_image(far):
    x = draw((1, 5, 6, 3), tf.float32)
    for d in ([[far] * 3, [0.0] * 3], [[0.0] * 3, [-far] * 3]):
        result = gradients(x, x, d)
        assert not result.input_gradient.numpy().any()
        assert not result.displacement_gradient.numpy().any()


def test_one_pixel_outside_still_has_a_gradient():
    # At d = -2 in an image of 2 rows, the one at d + 1 is inside.
    x = np.ones((1, 2, 1, 1), "float32")
    result = gradients(x, x, [[-2.0], [0.0]])
    assert not result.input_gradient.numpy().any()
    np.testing.assert_array_equal(result.displacement_gradient, [[1], [0]])


@pytest.mark.parametrize("shape", [(1, 61, 50, 33), (40, 9, 8, 48)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(shape):
    x, g = draw(shape, tf.float32, 1), draw(shape, tf.float32, 2)
    d = draw_displacements(shape[-1])
    real = d + np.float32(0.3)
    y = shift(x, d, num_threads=1)
    one = gradients(x, g, real, num_threads=1)
    for threads in (0, 2, 3, 7):
        np.testing.assert_array_equal(shift(x, d, num_threads=threads), y)
        many = gradients(x, g, real, num_threads=threads)
        for a, b in zip(one, many, strict=True):
            np.testing.assert_array_equal(a, b)


def test_in_functions_with_unknown_shapes():
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, None], tf.float32),
            tf.TensorSpec([2, None], tf.int32),
        ]
    )
    def known_rank(x, d):
        y = shift(x, d)
        assert y.shape.as_list() == [None] * 4
        return y, gradients(x, y, tf.cast(d, tf.float32))

    @tf.function(
        input_signature=[
            tf.TensorSpec(None, tf.float32),
            tf.TensorSpec(None, tf.int32),
        ]
    )
    def unknown_rank(x, d):
        return shift(x, d), gradients(x, x, tf.cast(d, tf.float32))

    for shape in SHAPES:
        x = draw(shape, tf.float32)
        d = draw_displacements(shape[-1])
        expected = expected_shift(x.numpy(), d)
        np.testing.assert_array_equal(known_rank(x, d)[0], expected)
        np.testing.assert_array_equal(unknown_rank(x, d)[0], expected)


def test_shapes_are_inferred():
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, 8, 9, 5])
        d = tf.compat.v1.placeholder(tf.float32, None)
        assert shift(x, tf.cast(d, tf.int32)).shape.as_list() == [None, 8, 9, 5]
        result = gradients(x, x, d)
        assert result.input_gradient.shape.as_list() == [None, 8, 9, 5]
        assert result.displacement_gradient.shape.rank == 2


X = np.zeros((1, 4, 5, 3), "float32")
D = np.zeros((2, 3), "int32")
REAL = np.zeros((2, 3), "float32")


@pytest.mark.parametrize(
    ("x", "d", "message"),
    [
        (X[0], D, r"`x` must have rank 4.*Received: x of shape \(4, 5, 3\)"),
        (X, D[0], r"`displacements` must have.*\(2, 3\).*of shape \(3\)"),
        (X, D[:1], r"`displacements` must have.*of shape \(1, 3\)"),
        (X, D.T, r"`displacements` must have.*of shape \(3, 2\)"),
    ],
)
def test_bad_arguments_of_shift(x, d, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        shift(x, d)


@pytest.mark.parametrize(
    ("x", "g", "d", "message"),
    [
        (X[0], X, REAL, r"`x` must have rank 4"),
        (X, X[:, :3], REAL, r"`upstream` must have the shape.*\(1, 3, 5, 3\)"),
        (X, X[0], REAL, r"`upstream` must have the shape.*\(4, 5, 3\)"),
        (X, X, REAL[:, :2], r"`displacements` must have.*of shape \(2, 2\)"),
    ],
)
def test_bad_arguments_of_gradients(x, g, d, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        gradients(x, g, d)


@pytest.mark.parametrize("threads", [-1, 257, 2**40])
def test_bad_number_of_threads(threads):
    match = f"`num_threads` must be 0 .*Received: num_threads={threads}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=match):
        shift(X, D, num_threads=threads)
    with pytest.raises(tf.errors.InvalidArgumentError, match=match):
        gradients(X, X, REAL, num_threads=threads)


def test_more_threads_of_tensorflow_than_the_op_takes(monkeypatch):
    monkeypatch.setattr(
        tf.config.threading, "get_intra_op_parallelism_threads", lambda: 257
    )
    np.testing.assert_array_equal(native.Kernels().shift(X, REAL), shift(X, D))


@pytest.mark.parametrize(
    ("x_shape", "d_shape", "message"),
    [
        ([4, 5, 3], [2, 3], "rank"),
        ([1, 4, 5, 3], [2], "rank"),
        ([1, 4, 5, 3], [3, 3], "Dimension 0 of argument `displacements`"),
        ([1, 4, 5, 3], [2, 4], "must be 3. Received: 4"),
    ],
)
def test_bad_shapes_are_found_when_a_graph_is_built(x_shape, d_shape, message):
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.float32, x_shape)
        d = tf.compat.v1.placeholder(tf.int32, d_shape)
        with pytest.raises(ValueError, match=message):
            shift(x, d)
        with pytest.raises(ValueError, match=message):
            gradients(x, x, tf.cast(d, tf.float32))


@given(shapes, seeds)
@settings(max_examples=30, deadline=None)
def test_the_inverse_shift_is_the_adjoint(shape, seed):
    # In small integers, which float32 adds without rounding.
    x = tf.round(draw(shape, tf.float32, seed))
    y = tf.round(draw(shape, tf.float32, seed + 1))
    d = draw_displacements(shape[-1], seed=seed)
    forth = tf.reduce_sum(shift(x, d) * y)
    back = tf.reduce_sum(x * shift(y, -d))
    assert forth == back


@given(shapes, seeds)
@settings(max_examples=20, deadline=None)
def test_no_displacement_changes_nothing(shape, seed):
    x = draw(shape, tf.float32, seed)
    d = np.zeros((2, shape[-1]), "float32")
    np.testing.assert_array_equal(shift(x, d.astype("int32")), x)
    np.testing.assert_array_equal(gradients(x, x, d).input_gradient, x)


@given(shapes, seeds)
@settings(max_examples=30, deadline=None)
def test_channels_do_not_depend_on_each_other(shape, seed):
    x, g = draw(shape, tf.float32, seed), draw(shape, tf.float32, seed + 1)
    random = np.random.default_rng(seed)
    d = random.uniform(-3, 3, (2, shape[-1])).astype("float32")
    order = random.permutation(shape[-1])
    whole = np.round(d).astype("int32")
    permuted = [tf.gather(a, order, axis=-1) for a in (x, g, d)]
    np.testing.assert_array_equal(
        shift(permuted[0], whole[:, order]),
        tf.gather(shift(x, whole), order, axis=-1),
    )
    for a, b in zip(gradients(*permuted), gradients(x, g, d), strict=True):
        np.testing.assert_array_equal(a, tf.gather(b, order, axis=-1))


# ---------------------------------------------------------------------------
# Without the compiled op.

# Stands for Keras where that is all that is asked of it: it takes long to import.
KERAS = """
import sys, types
sys.modules["keras"] = types.SimpleNamespace(
    backend=types.SimpleNamespace(backend=lambda: {backend!r}))
"""

SCRIPT = """
import sys, warnings
import custom_ops
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        assert custom_ops.load() is None
    reason = custom_ops.why_unavailable()
mine = [w for w in caught if "keras_shift" in str(w.message)]
print(len(mine), [w.category.__name__ for w in mine], reason)
print(*[w.message for w in mine])
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package's folder, and how to run a script with it."""
    folder = tmp_path / "custom_ops"
    shutil.copytree(Path(custom_ops.__file__).parent, folder)

    def run(script=SCRIPT, **environ):
        environ = {**os.environ, "PYTHONPATH": str(tmp_path), **environ}
        result = subprocess.run(
            [sys.executable, "-c", script],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return folder, run


def test_a_missing_file_is_reported_once(package):
    folder, run = package
    (folder / "_shift_ops.so").unlink()
    output = run(KERAS.format(backend="tensorflow") + SCRIPT)
    assert output.startswith("1 ['RuntimeWarning'] it was not compiled")
    assert "pip install" in output


def test_a_stale_file_is_reported_once(package):
    folder, run = package
    (folder / "cc").mkdir(exist_ok=True)
    (folder / "cc" / "new.cc").write_text("// changes the stamp")
    output = run(KERAS.format(backend="tensorflow") + SCRIPT)
    assert output.startswith("1 ['RuntimeWarning']") and "is stale" in output


@pytest.mark.exhaustive
def test_a_file_that_does_not_load_is_reported_once(package):
    folder, run = package
    shutil.rmtree(folder / "cc", ignore_errors=True)
    (folder / "_shift_ops.so").write_bytes(b"keras_shift_stamp=unstamped no ELF")
    output = run(KERAS.format(backend="tensorflow") + SCRIPT)
    assert output.startswith("1 ['RuntimeWarning']")
    assert "cannot be loaded" in output


def test_switching_it_off_is_silent(package):
    _, run = package
    output = run(KERAS_SHIFT_DISABLE_NATIVE_OP="1")
    assert output.startswith("0 [] the environment variable")


def test_another_backend_is_silent(package):
    _, run = package
    output = run(KERAS.format(backend="jax") + SCRIPT)
    assert output.startswith("0 [] Keras runs on jax")


def test_a_python_without_tensorflow_is_silent(package):
    _, run = package
    output = run("import sys\nsys.modules['tensorflow'] = None\n" + SCRIPT)
    assert output.startswith("0 [] TensorFlow is not installed")


def test_a_lesser_instruction_set_can_be_forced(package):
    _, run = package
    script = """
import ctypes, numpy as np
import custom_ops
ops = custom_ops.load()
isa = ctypes.CDLL(str(custom_ops._LIBRARY)).keras_shift_isa
isa.restype = ctypes.c_char_p
x = np.arange(640, dtype="float32").reshape(1, 4, 4, 40)
y = ops.keras_shift_shift2d(x=x, displacements=np.ones((2, 40), "int32"))
assert (y.numpy()[:, :3, :3] == x[:, 1:, 1:]).all()
assert not y.numpy()[:, 3:].any() and not y.numpy()[:, :, 3:].any()
print(isa().decode())
"""
    script = KERAS.format(backend="tensorflow") + script
    assert run(script, KERAS_SHIFT_ISA="baseline").strip() == "baseline"
