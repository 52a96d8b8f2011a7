"""The compiled op of fused units, against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from keras_shift import custom_ops  # noqa: E402

if custom_ops.why_unavailable() is not None:
    pytest.skip(f"{custom_ops.why_unavailable()}", allow_module_level=True)

pytestmark = [pytest.mark.tensorflow, pytest.mark.native]

OPS = custom_ops.load()
INT32 = np.iinfo(np.int32)


def panels(kernel, bias):
    """Panels of 16 columns, each a row of biases and those of the kernel."""
    rows, columns = kernel.shape
    count = -(-columns // 16)
    packed = np.zeros((1 + rows, 16 * count), "float32")
    packed[0, :columns] = bias
    packed[1:, :columns] = kernel
    return packed.reshape(1 + rows, count, 16).swapaxes(0, 1)


def shifted(x, displacements):
    y = np.zeros_like(x)
    height, width = x.shape[1:3]
    for c, (row, column) in enumerate(np.asarray(displacements, "int64").T):
        for i in range(max(0, -row), min(height, height - row)):
            for j in range(max(0, -column), min(width, width - column)):
                y[:, i, j, c] = x[:, i + row, j + column, c]
    return y


def pooled(x, padding):
    height, width = x.shape[1:3]
    if padding == "valid":
        x = x[:, : height // 2 * 2, : width // 2 * 2]
    else:
        x = np.pad(
            x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge"
        )  # which leaves the mean of what there is as it is
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


class Unit:
    """A unit with random weights: what the op takes, and what it should return."""

    def __init__(self, expanded, hidden, filters, *, seed=0, displacements=None, **how):
        random = np.random.default_rng(seed)
        self.kernels = [
            random.uniform(-1, 1, (expanded, hidden)),
            random.uniform(-1, 1, (hidden, filters)),
        ]
        self.biases = [random.uniform(-1, 1, n) for n in (hidden, filters)]
        if displacements is None:
            most = 0 if how.get("pool", "none") != "none" else 2
            displacements = random.integers(-most, most, (2, hidden), endpoint=True)
        self.displacements = np.asarray(displacements, "int32")
        self.how = {"filters": filters, "strides": [1, 1], **how}

    def inputs(self):
        expand, project = map(panels, self.kernels, self.biases)
        return {
            "expand": expand,
            "project": project,
            "displacements": self.displacements,
        }

    def __call__(self, x, **kwargs):
        return OPS.keras_shift_fused_unit2d(
            x=x, **self.inputs(), **{**self.how, **kwargs}
        )

    def expected(self, x):
        x = np.asarray(x, "float64")
        expanded = len(self.kernels[0])
        rest = x[..., expanded:]
        x = x[..., :expanded]
        wide = np.maximum(x @ self.kernels[0] + self.biases[0], 0)
        pool = self.how.get("pool", "none")
        moved = (
            shifted(wide, self.displacements) if pool == "none" else pooled(wide, pool)
        )
        rows, columns = self.how["strides"]
        y = moved[:, ::rows, ::columns] @ self.kernels[1] + self.biases[1]
        if self.how.get("relu"):
            y = np.maximum(y, 0)
        if self.how.get("residual"):
            y = y + x
        return np.concatenate([y, rest], axis=-1) if rest.shape[-1] else y

    def check(self, x, **kwargs):
        y = self(x, **kwargs)
        assert y.dtype == tf.float32
        expected = self.expected(x)
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"relu": True},
        {"residual": True},
        {"relu": True, "residual": True},
        {"strides": [2, 1]},
        {"strides": [2, 3], "relu": True},
        {"pool": "valid"},
        {"pool": "same"},
        {"pool": "same", "strides": [2, 1], "relu": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 7, 7), (1, 9, 16), (3, 14, 5)])
def test_units(size, how):
    for channels, hidden, filters in [(1, 1, 1), (5, 33, 5), (16, 96, 40)]:
        if how.get("residual"):
            filters = channels
        unit = Unit(channels, hidden, filters, **how)
        unit.check(draw(*size, channels))


@pytest.mark.parametrize("residual", [False, True])
def test_channels_that_are_not_expanded_are_copied(residual):
    x = draw(2, 7, 6, 37)
    for expanded in (1, 16, 36):
        Unit(expanded, 48, expanded, residual=residual).check(x)
    unit = Unit(20, 48, 9)
    unit.check(x)
    np.testing.assert_array_equal(unit(x)[..., 9:], x[..., 20:])


def test_displacements_of_any_size():
    extremes = [INT32.min, INT32.min + 1, -4, -3, 0, 3, 4, INT32.max]
    d = np.array(np.meshgrid(extremes, extremes)).reshape(2, -1)
    Unit(6, d.shape[1], 10, displacements=d).check(draw(2, 4, 4, 6))


@given(
    st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 20)),
    st.integers(1, 20),
    st.integers(1, 50),
    st.integers(1, 40),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(["none", "valid", "same"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_any_shapes(size, channels, hidden, filters, strides, pool, seed):
    unit = Unit(channels, hidden, filters, seed=seed, strides=list(strides), pool=pool)
    unit.check(draw(*size, channels, seed=seed))


@pytest.mark.parametrize("size", [(0, 4, 4), (2, 0, 4), (2, 4, 0), (0, 0, 0)], ids=str)
@pytest.mark.parametrize("pool", ["none", "valid", "same"])
def test_nothing(size, pool):
    Unit(4, 20, 5, pool=pool).check(draw(*size, 4))


def test_pooling_may_leave_nothing():
    assert Unit(4, 20, 5, pool="valid")(draw(2, 1, 6, 4)).shape == (2, 0, 3, 5)


@pytest.mark.parametrize("how", [{}, {"pool": "same"}, {"strides": [2, 2]}], ids=str)
@pytest.mark.parametrize("size", [(1, 15, 14), (1, 90, 61), (5, 14, 14)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(size, how):
    unit = Unit(24, 192, 40, **how)
    x = draw(*size, 24)
    one = unit(x, num_threads=1)
    np.testing.assert_allclose(one, unit.expected(x), rtol=1e-5, atol=1e-4)
    for threads in (0, 2, 3, 7):
        np.testing.assert_array_equal(unit(x, num_threads=threads), one)


class UnitInBfloat16(Unit):
    """A unit whose matrices are pairs of rows, in bfloat16."""

    def inputs(self):
        inputs = super().inputs()
        for name in ("expand", "project"):
            rows = inputs[name]
            rows = np.pad(rows, [(0, 0), (1, 1 - rows.shape[1] % 2), (0, 0)])
            pairs = rows.reshape(len(rows), -1, 2, 16).swapaxes(2, 3)
            inputs[name] = tf.cast(pairs.reshape(*pairs.shape[:2], 32), tf.bfloat16)
        return inputs | {"channels": len(self.kernels[0])}


@pytest.mark.parametrize("how", [{}, {"pool": "same"}, {"strides": [2, 2]}], ids=str)
@pytest.mark.parametrize("size", [(1, 15, 14), (1, 90, 61), (5, 14, 14)], ids=str)
def test_bfloat16(size, how):
    for channels, hidden, filters in [(1, 1, 1), (5, 33, 5), (24, 192, 40)]:
        unit = UnitInBfloat16(channels, hidden, filters, **how)
        x = draw(*size, channels)
        one = unit(x, num_threads=1)
        expected = unit.expected(x)
        error = np.abs(one - expected).max() / np.abs(expected).max()
        assert 0 < error < 2**-6
        for threads in (0, 2, 3, 7):
            np.testing.assert_array_equal(unit(x, num_threads=threads), one)


def test_in_functions_with_unknown_shapes():
    unit = Unit(12, 40, 12, residual=True)

    @tf.function(input_signature=[tf.TensorSpec([None] * 4, tf.float32)])
    def known_rank(x):
        y = unit(x)
        assert y.shape.as_list() == [None] * 4
        return y

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def unknown_rank(x):
        return unit(x)

    for shape in [(2, 7, 7, 12), (0, 7, 7, 12), (1, 3, 20, 30)]:
        x = draw(*shape)
        np.testing.assert_array_equal(known_rank(x), unit(x))
        np.testing.assert_array_equal(unknown_rank(x), unit(x))


def test_the_batch_is_inferred():
    # TensorFlow's C API hides the attributes, on which the rest depends.
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.float32, [5, 8, 9, 12])
        assert Unit(12, 40, 7)(x).shape.as_list() == [5, None, None, None]


X = draw(1, 4, 6, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": X[0]}, r"`x` must have rank 4.*of shape \(4, 6, 3\)"),
        ({"expand": X[0]}, r"`expand` must have shape.*Received: .*\(4, 6, 3\)"),
        ({"expand": X}, r"`expand` must have shape.*\(1, 4, 6, 3\)"),
        ({"expand": np.zeros((2, 1, 16), "f")}, r"`expand` must .*\(2, 1, 16\)"),
        ({"expand": np.zeros((2, 5, 16), "f")}, r"`expand` must .*here 3.*k=4"),
        ({"expand": np.zeros((1, 4, 16), "f")}, r"`expand` must have 2 panels"),
        ({"project": X[0]}, r"`project` must have shape.*\(4, 6, 3\)"),
        ({"project": np.zeros((1, 1, 16), "f")}, r"`project` must .*\(1, 1, 16\)"),
        ({"project": np.zeros((2, 21, 16), "f")}, r"`project` must have 1 panels"),
        ({"displacements": np.zeros((2, 3), "i")}, r"`displacements`.*\(2, 3\)"),
        ({"displacements": np.zeros((3, 20), "i")}, r"`displacements`.*\(3, 20\)"),
        ({"displacements": np.zeros(20, "i")}, r"`displacements`.*\(20\)"),
        ({"filters": 0}, "`filters` must be at least 1.*filters=0"),
        ({"filters": -3}, "`filters` must be at least 1.*filters=-3"),
        ({"filters": 17}, "`project` must have 2 panels, for 17 filters"),
        ({"filters": 2**62}, "`filters`.*Received: filters="),
        ({"strides": [1]}, "`strides` must be two numbers.*Received: 1"),
        ({"strides": [1, 2, 1]}, "`strides` must be two numbers.*Received: 3"),
        ({"strides": [0, 1]}, "`strides` must be.*Received: stride=0"),
        ({"strides": [1, 2**40]}, "`strides` must be.*Received: stride="),
        ({"pool": "max"}, "pool"),
        ({"pool": "same"}, "`displacements` must be zero.*Received"),
        ({"residual": True}, "`residual` needs.*filters=5.*expanded channels=3"),
        (
            {"residual": True, "filters": 3, "strides": [1, 2]},
            r"`residual` needs.*strides=\(1, 2\)",
        ),
        (
            {"residual": True, "filters": 3, "pool": "valid"},
            "`residual` needs.*no pooling",
        ),
        ({"x": draw(1, 4, 6, 4), "strides": [1, 2]}, "`expand` must.*3 of 4 channels"),
        ({"x": draw(1, 4, 6, 4), "pool": "same"}, "`expand` must.*3 of 4 channels"),
        ({"num_threads": -1}, "`num_threads` must.*num_threads=-1"),
        ({"num_threads": 257}, "`num_threads` must.*num_threads=257"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments(changed, message):
    unit = Unit(3, 20, 5, displacements=np.ones((2, 20)))
    arguments = {"x": X, **unit.inputs(), **unit.how, **changed}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        OPS.keras_shift_fused_unit2d(**arguments)


BFLOAT16 = tf.bfloat16.as_numpy_dtype


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"expand": np.zeros((2, 3, 16), BFLOAT16)}, r"1 \+ pairs, 32.*\(2, 3, 16\)"),
        ({"channels": 5}, "`expand` must have rows for 5 channels.*Received: "),
        ({"channels": 2}, "`expand` must have rows for 2 channels.*Received: "),
        ({"channels": -1}, "`expand` must have rows for -1 channels"),
        ({"channels": 0}, "here 3. Received: k=4"),
        ({"displacements": np.zeros((2, 18), "int32")}, r"displacements.*\(2, 18\)"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_in_bfloat16(changed, message):
    unit = UnitInBfloat16(3, 19, 5)
    arguments = {"x": X, **unit.inputs(), **unit.how, **changed}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        OPS.keras_shift_fused_unit2d(**arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": [4, 6, 3]}, "rank"),
        ({"expand": [4, 16]}, "rank"),
        ({"project": [None]}, "rank"),
        ({"displacements": [20]}, "rank"),
        ({"expand": [2, 4, 8]}, "Dimension 2 of argument `expand` must be 16"),
        ({"project": [1, 21, 8]}, "Dimension 2 of argument `project` must be 16"),
        ({"expand": [3, 4, 16]}, "Dimension 0 of argument `expand`.*must be 2"),
        ({"expand": [2, 5, 16]}, "`expand` must not have more rows.*Received: 5"),
        ({"displacements": [3, 20]}, "Dimension 0 of argument `displacements`"),
        ({"displacements": [2, 21]}, "hidden channels, must be 20. Received: 21"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_shapes_are_found_when_a_graph_is_built(changed, message):
    shapes = {
        "x": [1, 4, 6, 3],
        "expand": [2, 4, 16],
        "project": [1, 21, 16],
        "displacements": [2, 20],
    }
    with tf.Graph().as_default():
        inputs = {
            name: tf.compat.v1.placeholder(
                tf.int32 if name == "displacements" else tf.float32, shape
            )
            for name, shape in {**shapes, **changed}.items()
        }
        with pytest.raises(ValueError, match=message):
            OPS.keras_shift_fused_unit2d(**inputs, filters=5, strides=[1, 1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"expand": [2, 3, 16]}, "Dimension 2 of argument `expand` must be 32"),
        ({"project": [1, 11, 16]}, "Dimension 2 of argument `project` must be 32"),
        ({"project": [1, 20, 32]}, "`project` must be 11. Received: 20"),
        ({"expand": [3, 3, 32]}, "Dimension 0 of argument `expand`.*must be 2"),
        ({"expand": [2, 4, 32]}, "`expand` must not have more rows.*Received: 4"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_shapes_in_bfloat16(changed, message):
    shapes = {"expand": [2, 3, 32], "project": [1, 11, 32]}
    with tf.Graph().as_default():
        matrices = {
            name: tf.compat.v1.placeholder(tf.bfloat16, shape)
            for name, shape in {**shapes, **changed}.items()
        }
        x = tf.compat.v1.placeholder(tf.float32, [1, 4, 6, 3])
        d = tf.compat.v1.placeholder(tf.int32, [2, 19])
        with pytest.raises(ValueError, match=message):
            OPS.keras_shift_fused_unit2d(
                x=x, **matrices, displacements=d, filters=5, strides=[1, 1]
            )
