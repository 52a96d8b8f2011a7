"""Checks the keras_shift that is installed, and writes what passed.

    python tools/check_installation.py RESULT.json

tools/versions.py runs it in environments of all kinds, so that it imports nothing but
the package, what that requires, and files of this checkout that do the same. The file
is written before each part, of which it holds the name: a crash says where it was.
"""

import itertools
import json
import math
import platform
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Behind the installed packages, which the checkout must not hide.
sys.path += [str(ROOT / "tests"), str(ROOT / "tools")]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import publish_weights  # noqa: E402

import differentiate  # noqa: E402
import keras_shift  # noqa: E402
import networks  # noqa: E402
import reference  # noqa: E402

WEIGHTS = "fenet_0.75.tiny_imagenet.sparse"
# As tests/test_pretrained.py: rounding, in another order on another backend.
GOLDEN_BOUND = 1e-4


def moved(x, rows, columns):
    """One channel `(N, H, W)`, read `rows` and `columns` further; zero outside."""
    y = np.zeros_like(x)
    height, width = x.shape[1:]
    for row, column in itertools.product(range(height), range(width)):
        if 0 <= row + rows < height and 0 <= column + columns < width:
            y[:, row, column] = x[:, row + rows, column + columns]
    return y


def shifted(x, whole):
    channels = range(x.shape[-1])
    return np.stack([moved(x[..., c], *whole[:, c]) for c in channels], axis=-1)


def displacement_gradient(x, upstream, displacements):
    """Eq. 6 of the paper: that of the bilinear shift, whose floor is held constant."""
    gradient = np.zeros_like(displacements)
    for c, (row, column) in enumerate(displacements.T):
        top, left = math.floor(row), math.floor(column)
        down, right = row - top, column - left
        corner = {
            (i, j): moved(x[..., c], top + i, left + j)
            for i, j in itertools.product((0, 1), (0, 1))
        }
        by_row = (1 - right) * (corner[1, 0] - corner[0, 0])
        by_row += right * (corner[1, 1] - corner[0, 1])
        by_column = (1 - down) * (corner[0, 1] - corner[0, 0])
        by_column += down * (corner[1, 1] - corner[1, 0])
        gradient[0, c] = np.sum(upstream[..., c] * by_row)
        gradient[1, c] = np.sum(upstream[..., c] * by_column)
    return gradient


def check_op():
    """The compiled op, exactly: images, gradients and displacements are such that every
    sum is a whole number or a few quarters."""
    import tensorflow as tf

    op = keras_shift.custom_ops.load()
    if op is None:
        raise AssertionError(keras_shift.custom_ops.why_unavailable())
    random = np.random.default_rng(0)
    shape = 2, 7, 9, 37
    x = random.integers(-8, 9, shape).astype("float64")
    upstream = random.integers(-8, 9, shape).astype("float64")
    displacements = random.integers(-12, 13, (2, shape[-1])) / 4
    whole = np.rint(displacements).astype("int32")

    for dtype, threads in itertools.product(
        ("float16", "bfloat16", "float32", "float64", "int8"), (0, 1, 2)
    ):
        y = op.keras_shift_shift2d(
            x=tf.cast(x, dtype), displacements=whole, num_threads=threads
        )
        np.testing.assert_array_equal(tf.cast(y, "float64"), shifted(x, whole))
        if dtype != "int8":
            y = op.keras_shift_shift2d(
                x=tf.cast(x, dtype), displacements=whole, relu=True, num_threads=threads
            )
            np.testing.assert_array_equal(
                tf.cast(y, "float64"), shifted(np.maximum(x, 0), whole)
            )

    for dtype, threads, relu in itertools.product(
        ("float32", "float64"), (0, 1, 2), (False, True)
    ):
        gradients = op.keras_shift_sparse_shift2d_grad(
            x=tf.cast(x, dtype),
            upstream=tf.cast(upstream, dtype),
            displacements=tf.cast(displacements, dtype),
            relu=relu,
            num_threads=threads,
        )
        np.testing.assert_array_equal(
            tf.cast(gradients.input_gradient, "float64"),
            shifted(upstream, -whole) * (x > 0 if relu else 1),
        )
        np.testing.assert_array_equal(
            tf.cast(gradients.displacement_gradient, "float64"),
            displacement_gradient(
                np.maximum(x, 0) if relu else x, upstream, displacements
            ),
        )

    # One channel of x is handed on, 20 are shifted, and the sums stay whole numbers.
    expand = random.integers(-1, 2, (37, 20)).astype("float64")
    project = random.integers(-1, 2, (21, 36)).astype("float64")
    wide = np.maximum(x[..., :36] @ expand[1:] + expand[0], 0)
    y = np.maximum(shifted(wide, whole[:, :20]) @ project[1:] + project[0], 0)
    for threads in (0, 1, 2):
        result = op.keras_shift_fused_unit2d(
            x=tf.cast(x, "float32"),
            expand=tf.cast(panels(expand), "float32"),
            project=tf.cast(panels(project), "float32"),
            displacements=whole[:, :20],
            filters=36,
            strides=[1, 1],
            relu=True,
            residual=True,
            num_threads=threads,
        )
        np.testing.assert_array_equal(result[..., :36], y + x[..., :36])
        np.testing.assert_array_equal(result[..., 36:], x[..., 36:])


def panels(matrix):
    """As the op reads matrices: columns 16 at a time, zeros to fill up the last."""
    rows = np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % 16)])
    return rows.reshape(len(rows), -1, 16).transpose(1, 0, 2)


def check_shift():
    """`keras_shift.ops.sparse_shift` and its gradients, against tests/reference.py."""
    random = np.random.default_rng(0)
    x, upstream = random.normal(size=(2, 2, 7, 6, 5)).astype("float32")
    displacements = random.uniform(-2, 2, (2, 5)).astype("float32")
    y, (to_images, to_displacements) = differentiate.value_and_gradients(
        keras_shift.ops.sparse_shift, (x, displacements), upstream
    )
    whole = np.rint(displacements)
    np.testing.assert_array_equal(y, reference.integer_shift(x, whole))
    np.testing.assert_array_equal(to_images, reference.integer_shift(upstream, -whole))
    expected = reference.displacement_gradient(x, upstream, displacements)
    np.testing.assert_allclose(to_displacements, expected, rtol=1e-4, atol=1e-4)


def published():
    """A published network, and what it answered when it was published."""
    record = keras_shift.zoo.get_record(WEIGHTS)
    model = keras_shift.zoo.get_model(
        record.constructor,
        alpha=record.arguments["alpha"],
        weights=record.weights,
        classifier_activation=None,
    )
    with np.load(publish_weights.GOLDEN / f"{WEIGHTS}.npz") as golden:
        return model, dict(golden)


def check_golden():
    """What a published network answers is what it answered when it was published."""
    model, golden = published()
    found = publish_weights.golden_outputs(model)
    for key, expected in golden.items():
        compare(found[key], expected, GOLDEN_BOUND)


def compare(found, expected, bound):
    """Raises an error if a difference is above `bound` of the largest value."""
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * largest)


def check_fit():
    """One step of `model.fit` moves displacements, and all weights remain numbers."""
    model = networks.three_shifts(classes=4)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    layer = next(
        layer
        for layer in model.layers
        if isinstance(layer, keras_shift.layers.SparseShift2D)
    )
    before = keras.ops.convert_to_numpy(layer.displacements)
    labels = np.arange(8) % 4
    model.fit(networks.pixels(8, 32, 32, 3), labels, batch_size=8, verbose=0)
    assert (keras.ops.convert_to_numpy(layer.displacements) != before).any()
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def check_save():
    """A network that was saved and loaded answers as before."""
    model = networks.randomize(networks.three_shifts(classes=4))
    images = networks.pixels(4, 32, 32, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
    expected = networks.predict(model, images)
    np.testing.assert_array_equal(networks.predict(loaded, images), expected)


def check_file(quantize, bound):
    """A published network's .tflite file answers in LiteRT as the network did."""
    model, golden = published()
    images = networks.pixels(publish_weights.GOLDEN_IMAGES, *model.input_shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        keras_shift.deploy.to_tflite(model, path, quantize, images)
        found = keras_shift.deploy.LiteRTModel(path).predict(images)
    compare(found, golden["logits"], bound)


def check_float32():
    """A file in float32."""
    check_file(None, 1e-4)


def check_int8():
    """A file in int8, whose images are those that it learned ranges from."""
    check_file("int8", 0.1)


PARTS = {
    "op": check_op,
    "shift": check_shift,
    "golden": check_golden,
    "fit": check_fit,
    "save": check_save,
    "float32 file": check_float32,
    "int8 file": check_int8,
}
# Those that only TensorFlow has.
TENSORFLOW = ("op", "float32 file", "int8 file")


def main(path):
    """Checks part after part until one fails."""
    tensorflow = keras.backend.backend() == "tensorflow"
    found = {
        "python": platform.python_version(),
        "native_op": keras_shift.custom_ops.why_unavailable() is None,
        "passed": ["import"],
        "running": "",
        "failure": "",
    }
    for name, part in PARTS.items():
        if name in TENSORFLOW and not tensorflow:
            continue
        found["running"] = name
        path.write_text(json.dumps(found))
        try:
            part()
        except Exception as error:
            found["failure"] = f"{type(error).__name__}: {error}"
            break
        found["passed"].append(name)
    else:
        found["running"] = ""
    path.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
