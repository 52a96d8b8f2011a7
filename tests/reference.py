"""What shifts mean, in NumPy and float64: the oracle of the tests.

The sparse shift is a depthwise convolution with the kernel
`lin(d) + stop_gradient(lin(round(d)) - lin(d))`, where `lin(d)` is the bilinear
kernel of a displacement. Everything here goes through that kernel, one tap at a
time, and nothing through the formulas of `keras_shift.ops`.
"""

import numpy as np


def integer_shift(x, displacements):
    """Eq. 1 for images `(batch, height, width, channels)`."""
    y = np.zeros_like(x)
    _, height, width, channels = x.shape
    for c in range(channels):
        rows, columns = (int(d) for d in displacements[:, c])
        for i in range(height):
            for j in range(width):
                if 0 <= i + rows < height and 0 <= j + columns < width:
                    y[:, i, j, c] = x[:, i + rows, j + columns, c]
    return y


def line(displacement, radius):
    """Bilinear kernel along one axis, and its derivative by the displacement."""
    floor = int(np.floor(displacement))
    kernel = np.zeros(2 * radius + 1)
    slope = np.zeros(2 * radius + 1)
    kernel[radius + floor] = 1 - (displacement - floor)
    kernel[radius + floor + 1] = displacement - floor
    slope[radius + floor] = -1
    slope[radius + floor + 1] = 1
    return kernel, slope


def bilinear_shift(x, displacements):
    """Eq. 3: the depthwise convolution with the bilinear kernel."""
    x = x.astype("float64")
    radius = _radius(displacements)
    y = np.zeros_like(x)
    for c in range(x.shape[-1]):
        rows, _ = line(displacements[0, c], radius)
        columns, _ = line(displacements[1, c], radius)
        for p in np.nonzero(rows)[0]:
            for q in np.nonzero(columns)[0]:
                move = np.array([[p - radius], [q - radius]])
                moved = integer_shift(x[..., c : c + 1], move)[..., 0]
                y[..., c] += rows[p] * columns[q] * moved
    return y


def displacement_gradient(x, upstream, displacements):
    """Eq. 6: the kernel's gradient, chained with the kernel's slope."""
    x, upstream = x.astype("float64"), upstream.astype("float64")
    radius = _radius(displacements)
    gradient = np.zeros(displacements.shape)
    for c in range(x.shape[-1]):
        rows, row_slope = line(displacements[0, c], radius)
        columns, column_slope = line(displacements[1, c], radius)
        tap = np.zeros((2 * radius + 1, 2 * radius + 1))
        for p in np.nonzero(rows + np.abs(row_slope))[0]:
            for q in np.nonzero(columns + np.abs(column_slope))[0]:
                move = np.array([[p - radius], [q - radius]])
                moved = integer_shift(x[..., c : c + 1], move)[..., 0]
                tap[p, q] = np.sum(upstream[..., c] * moved)
        gradient[0, c] = row_slope @ tap @ columns
        gradient[1, c] = rows @ tap @ column_slope
    return gradient


def _radius(displacements):
    return int(np.ceil(np.abs(displacements).max(initial=0))) + 1
