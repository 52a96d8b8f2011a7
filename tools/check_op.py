"""Checks a compiled op against NumPy in whatever TensorFlow is installed.

    python tools/check_op.py FOLDER

FOLDER is that of keras_shift.custom_ops, which is loaded alone: no other part of the
package is needed. Images and gradients hold small whole numbers and displacements
quarters, so that every sum is exact and the results must be equal.
"""

import importlib.util
import itertools
import math
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np


def load_alone(folder):
    """Loads the package `custom_ops` in `folder` without the one it is a part of."""
    spec = importlib.util.spec_from_file_location(
        "custom_ops", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


def moved(x, rows, columns):
    """Reads a channel `(N, H, W)` `rows` and `columns` further, with zeros outside."""
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
    """Returns Eq. 6: the bilinear shift's gradient, with its floor held constant."""
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


def check(op, tf):
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
    """Returns a matrix as the op reads it: panels of 16 columns, filled with zeros."""
    rows = np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % 16)])
    return rows.reshape(len(rows), -1, 16).transpose(1, 0, 2)


def main():
    import tensorflow as tf

    package = load_alone(Path(sys.argv[1]).resolve())
    op = package.load()
    result = package.why_unavailable()
    if op is not None:
        try:
            check(op, tf)
            result = "equal to NumPy"
        except AssertionError as error:
            result = "WRONG: " + " ".join(str(error).split())[:200]
            op = None
    python = sys.version.split()[0]
    print(f"{tf.__version__:<14}{version('keras'):<10}{python:<10}{result}")
    sys.exit(op is None)


if __name__ == "__main__":
    main()
