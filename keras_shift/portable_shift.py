"""Computes shifts with `keras.ops`, on every backend.

All movers take NHWC images and displacements of shape `(2, channels)`, which
`keras_shift.ops` checks and clips. Displacements are floats, also where they hold whole
numbers, because jax.custom_gradient has no gradients for integers.
"""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_shift.typing import Tensor

# Displacements of this size and above move everything out of any image. `ops` clips
# them to it, so that neither the cast to integers nor the sum with a pixel's index
# can overflow. This number is exact in float32.
FAR = 2.0**29

# On JAX, displacements up to this become a choice among moved images.
_LARGEST_CHOICE = 2

# A mover is a function of images and displacements that returns moved images.
Mover = Callable[[Tensor, Tensor], Tensor]


# The next functions move whole pixels, in three ways.


def _mover(max_displacement):
    """Returns the function that moves `x` by whole displacements."""
    return WAYS[way(max_displacement)](max_displacement)


def way(max_displacement: int | None) -> str:
    """Returns in which way whole pixels move: nowhere else is this decided.

    benchmarks/accelerator.py compares all ways on JAX.

    Args:
        max_displacement: A bound on the displacements, or `None` for no bound.

    Returns:
        A key of `WAYS`.
    """
    if max_displacement is None:
        return "gather"
    if keras.backend.backend() == "jax":
        # XLA makes one pass over memory of slices.
        return "slices" if max_displacement <= _LARGEST_CHOICE else "gather"
    return "convolution"


def gather(x: Tensor, displacements: Tensor) -> Tensor:
    """Moves pixels with one gather from the flattened image, by any displacement."""
    batch, height, width, channels = ops.shape(x)
    # A displacement that is NaN moves its channel out of the image, as in the op.
    far = ops.where(ops.isnan(displacements), FAR, displacements)
    rows, columns = ops.unstack(ops.cast(far, "int32"))
    rows = ops.arange(height, dtype="int32")[:, None, None] + rows
    columns = ops.arange(width, dtype="int32")[None, :, None] + columns
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = (rows * width + columns) * channels + ops.arange(channels, dtype="int32")
    index = ops.where(inside, index, ops.zeros_like(index))
    moved = ops.take(
        ops.reshape(x, (batch, height * width * channels)),
        ops.reshape(index, (-1,)),
        axis=1,
    )
    moved = ops.reshape(moved, (batch, height, width, channels))
    return ops.where(inside, moved, ops.zeros_like(moved))


def _select(x, displacements, radius):
    """Moves pixels by choosing one of all images that are moved by at most `radius`."""
    height, width = ops.shape(x)[1:3]
    padded = ops.pad(x, ((0, 0), (radius, radius), (radius, radius), (0, 0)))
    rows, columns = ops.unstack(displacements)
    result = ops.zeros_like(x)
    for a in range(-radius, radius + 1):
        for b in range(-radius, radius + 1):
            top, left = radius + a, radius + b
            moved = padded[:, top : top + height, left : left + width]
            result = ops.where((rows == a) & (columns == b), moved, result)
    return result


def _convolve(x, kernel):
    return ops.depthwise_conv(
        x, ops.cast(kernel, x.dtype), padding="same", data_format="channels_last"
    )


def _one_hot_kernel(displacements, radius):
    """Returns kernels with a single 1, of shape `(taps, taps, channels, 1)`."""
    # A displacement that is NaN gets a negative index, for which no tap is 1.
    index = ops.where(ops.isnan(displacements), -radius - 1, displacements)
    index = ops.cast(index, "int32") + radius
    rows, columns = ops.unstack(ops.one_hot(index, 2 * radius + 1, axis=1))
    return ops.expand_dims(rows[:, None, :] * columns[None, :, :], -1)


# These functions make a mover from a bound on displacements. Only a gather needs no
# bound.
WAYS: dict[str, Callable[[int], Mover]] = {
    "gather": lambda radius: gather,
    "slices": lambda radius: lambda x, displacements: _select(x, displacements, radius),
    "convolution": lambda radius: lambda x, displacements: _convolve(
        x, _one_hot_kernel(displacements, radius)
    ),
}


# The next functions return the differentiable shifts, each as a function of
# (x, displacements), and `both_gradients` the gradients of one of them. Keras passes
# the incoming gradient to a custom gradient as a positional argument on TensorFlow and
# JAX, and as `upstream` on torch.


def integer_shift(max_displacement: int | None) -> Mover:
    """Returns the integer shift, whose gradient is the inverse shift (Eq. 7)."""
    move = _mover(max_displacement)

    @ops.custom_gradient
    def shift(x, displacements):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return move(upstream, -displacements), ops.zeros_like(displacements)

        return move(x, displacements), gradient

    return shift


def rounded_shift(max_displacement: int | None) -> Mover:
    """Returns the rounded shift, whose gradients are Eq. 7 and Eq. 6."""
    move = _mover(max_displacement)
    gradients = both_gradients(max_displacement)

    @ops.custom_gradient
    def sparse_shift(x, displacements):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return gradients(x, upstream, displacements)

        return move(x, ops.round(displacements)), gradient

    return sparse_shift


def both_gradients(
    max_displacement: int | None, input_relu: bool = False
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns the function that computes Eq. 7 and Eq. 6 from an incoming gradient.

    Args:
        max_displacement: Int, the largest displacement, or `None` if any is allowed.
        input_relu: Boolean, whether the shift moves `relu(x)`. Defaults to `False`.

    Returns:
        A function of the images, the incoming gradient and the displacements. It
        returns the gradients of the images and of the displacements.
    """
    move = _mover(max_displacement)

    def gradients(x, upstream, displacements):
        by_image = move(upstream, -ops.round(displacements))
        if input_relu:
            by_image = ops.where(x > 0, by_image, ops.zeros_like(by_image))
            x = ops.relu(x)
        corner = ops.floor(displacements)
        # The four neighbours of Eq. 6 lie in one image, which has one more row and one
        # more column.
        moved = move(ops.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), corner)
        height, width = ops.shape(x)[1:3]
        accumulate = keras.backend.result_type(x.dtype, "float32")
        sums = {}
        for offset in ((0, 0), (0, 1), (1, 0), (1, 1)):
            top, left = offset
            neighbour = moved[:, top : top + height, left : left + width]
            product = ops.cast(neighbour, accumulate) * ops.cast(upstream, accumulate)
            sums[offset] = ops.cast(
                ops.sum(product, axis=(0, 1, 2)), displacements.dtype
            )
        rows, columns = ops.unstack(displacements - corner)
        by_rows = (1 - columns) * (sums[1, 0] - sums[0, 0]) + columns * (
            sums[1, 1] - sums[0, 1]
        )
        by_columns = (1 - rows) * (sums[0, 1] - sums[0, 0]) + rows * (
            sums[1, 1] - sums[1, 0]
        )
        return by_image, ops.stack([by_rows, by_columns])

    return gradients


def interpolation(move: Mover) -> Mover:
    """Returns the bilinear shift as the weighted sum of four integer shifts."""

    def active_shift(x, displacements):
        corner = ops.floor(ops.stop_gradient(displacements))
        upper = displacements - corner
        weights = (1 - upper, upper)
        total = 0
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = ops.cast(weights[a][0] * weights[b][1], x.dtype)
            total = total + weight * move(x, corner + _column((a, b), corner.dtype))
        return total

    return active_shift


def bilinear_convolution(max_displacement: int) -> Mover:
    """Returns the bilinear shift as a depthwise convolution."""
    taps = 2 * max_displacement + 3

    def active_shift(x, displacements):
        corner = ops.floor(ops.stop_gradient(displacements))
        upper = (displacements - corner)[:, None, :]
        index = ops.cast(corner, "int32") + (max_displacement + 1)
        dtype = displacements.dtype
        lines = (1 - upper) * ops.one_hot(index, taps, axis=1, dtype=dtype)
        lines = lines + upper * ops.one_hot(index + 1, taps, axis=1, dtype=dtype)
        rows, columns = ops.unstack(lines)
        return _convolve(x, ops.expand_dims(rows[:, None, :] * columns[None], -1))

    return active_shift


def _column(pair, dtype):
    return ops.convert_to_tensor(np.reshape(pair, (2, 1)), dtype)
