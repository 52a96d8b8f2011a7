"""Arithmetic intensity, against cases worked out by hand and counted one by one."""

import itertools

import keras
import numpy as np
import pytest

from keras_shift.analysis import (
    convolution_intensity,
    depthwise_convolution_intensity,
    multiply_adds,
    shift_intensity,
)


def counts(intensity):
    return intensity.multiply_adds, intensity.memory_accesses


def test_cases_worked_out_by_hand():
    # Eq. 4 with D_F = 4, D_K = 3, M = 2, N = 5: 2 * 5 * 16 * 9 multiply-adds, maps of
    # 16 * (2 + 5) values and a kernel of 9 * 2 * 5.
    found = convolution_intensity((4, 4, 2), filters=5)
    assert counts(found) == (1440, 112 + 90)
    assert found.ratio == pytest.approx(7.1287, abs=1e-4)
    # Eq. 5 with D_F = 4, D_K = 3, M = 2: 2 * 16 * 9 multiply-adds, maps of 16 * 2 * 2
    # values and a kernel of 9 * 2.
    found = depthwise_convolution_intensity((4, 4, 2))
    assert counts(found) == (288, 64 + 18)
    assert found.ratio == pytest.approx(3.5122, abs=1e-4)
    # A shift reads and writes 16 * 2 values, and multiplies none.
    found = shift_intensity((4, 4, 2))
    assert counts(found) == (0, 64)
    assert found.ratio == 0


def by_looking(shape, kernel_size, filters, batch_size):
    """Goes through all products of a convolution, and notes what each of them touches.

    Without `filters`, the convolution is a depthwise one.
    """
    height, width, channels = shape
    rows, columns = kernel_size
    products, touched = 0, set()
    for image, y, x, m in itertools.product(
        range(batch_size), range(height), range(width), range(channels)
    ):
        for i, j in itertools.product(range(rows), range(columns)):
            row, column = y + i - rows // 2, x + j - columns // 2
            for n in range(filters) if filters else (m,):
                products += 1
                touched.add(("kernel", i, j, m, n))
                touched.add(("output", image, y, x, n))
                if 0 <= row < height and 0 <= column < width:
                    touched.add(("input", image, row, column, m))
    return products, len(touched)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    "kernel_size, pair", [(1, (1, 1)), (3, (3, 3)), ((1, 5), (1, 5))]
)
def test_every_value_is_touched_once(kernel_size, pair, batch_size):
    shape = (6, 5, 3)
    found = convolution_intensity(shape, 4, kernel_size, batch_size)
    assert counts(found) == by_looking(shape, pair, 4, batch_size)
    found = depthwise_convolution_intensity(shape, kernel_size, batch_size)
    assert counts(found) == by_looking(shape, pair, None, batch_size)


def test_multiply_adds_are_those_of_the_layers():
    shape = (8, 6, 4)
    for layer, found in (
        (keras.layers.Conv2D(5, 3, padding="same"), convolution_intensity(shape, 5)),
        (keras.layers.Conv2D(5, 1), convolution_intensity(shape, 5, 1)),
        (
            keras.layers.DepthwiseConv2D(5, padding="same"),
            depthwise_convolution_intensity(shape, 5),
        ),
    ):
        model = keras.Sequential([keras.Input(shape), layer])
        assert multiply_adds(model) == found.multiply_adds


def test_what_the_paper_says_of_the_ratios():
    """ "A lower ratio here means that more time is spent on memory accesses"."""
    for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        shape = (size, size, channels)
        spatial = convolution_intensity(shape, channels).ratio
        depthwise = depthwise_convolution_intensity(shape).ratio
        assert shift_intensity(shape).ratio == 0 < depthwise < 9 / 2 < spatial / 10


def test_numbers_of_numpy_and_lists_are_taken():
    shape = [np.int64(4), 4, np.int32(2)]
    assert convolution_intensity(shape, np.int64(5)) == convolution_intensity(
        (4, 4, 2), 5
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"input_shape": (8, 8)}, r"`input_shape` must be three .*\(8, 8\)"),
        ({"input_shape": 8}, "`input_shape` must be three .*=8"),
        ({"input_shape": (None, 8, 3)}, r"`input_shape` .*\(None, 8, 3\)"),
        ({"input_shape": (8, 0, 3)}, r"`input_shape` .*\(8, 0, 3\)"),
        ({"filters": 0}, "`filters` must be a positive integer. .*filters=0"),
        ({"filters": 1.5}, "`filters` .*=1.5"),
        ({"kernel_size": -1}, "`kernel_size` .*=-1"),
        ({"kernel_size": (3, 3, 3)}, "`kernel_size` must be .* or a pair of them"),
        ({"batch_size": "two"}, "`batch_size` .*=two"),
    ],
)
def test_bad_arguments(arguments, message):
    good = {"input_shape": (8, 8, 3), "filters": 4}
    with pytest.raises(ValueError, match=message):
        convolution_intensity(**(good | arguments))
    others = {"input_shape": (8, 8, 3), **arguments}
    if "filters" not in arguments:
        with pytest.raises(ValueError, match=message):
            depthwise_convolution_intensity(**others)
    if not arguments.keys() & {"filters", "kernel_size"}:
        with pytest.raises(ValueError, match=message):
            shift_intensity(**others)
