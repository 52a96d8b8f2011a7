"""Shifts as functions: the equations of both papers.

A shift moves every channel of an image by its own displacement. Where it would
read outside the image, it reads zero. All functions here take displacements of
shape `(2, channels)`: row 0 counts rows of the image (the first spatial index
of Eq. 1), row 1 counts columns.

References:

- [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285) ("SSL"):
  Eq. 1 to 7.
- [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
    https://arxiv.org/abs/1711.08141) ("ShiftNet"): kernel size and dilation.
"""

import functools

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_shift import dispatch, portable_shift
from keras_shift.integers import positive_integer
from keras_shift.shift_arguments import check_displacements, check_image, is_floating
from keras_shift.typing import DataFormat, Tensor

# Displacements with known values become a convolution if none is larger than this, and
# a gather otherwise.
_LARGEST_WINDOW = 8


def grouped_displacements(
    channels: int, kernel_size: int = 3, dilation_rate: int = 1
) -> np.ndarray:
    """Returns the displacements of a grouped shift (SSL paper, Eq. 2).

    With `K = kernel_size`, the channels are divided into `K**2` groups of
    `channels // K**2`, and group `g` is displaced by

    ```
    (g // K - K // 2, g % K - K // 2) * dilation_rate
    ```

    The remaining channels, and those of the middle group, are not displaced. (The
    paper prints `c / K**2` in Eq. 2, where it means the number of the group.)

    Example:

    >>> keras_shift.ops.grouped_displacements(10)
    array([[-1, -1, -1,  0,  0,  0,  1,  1,  1,  0],
           [-1,  0,  1, -1,  0,  1, -1,  0,  1,  0]], dtype=int32)

    Args:
        channels: Int, the number of channels.
        kernel_size: Odd int, the size `K` of the window that the displacements
            cover. Defaults to `3`.
        dilation_rate: Int, the distance of neighbouring displacements. Defaults to
            `1`.

    Returns:
        A NumPy array of shape `(2, channels)` and dtype `int32`.

    Raises:
        ValueError: If an argument is not a positive integer, or `kernel_size` is
            even.
    """
    channels = positive_integer("channels", channels)
    kernel_size = positive_integer("kernel_size", kernel_size)
    dilation_rate = positive_integer("dilation_rate", dilation_rate)
    if kernel_size % 2 == 0:
        raise ValueError(
            "Argument `kernel_size` must be odd, so that the window has a "
            f"centre. Received: kernel_size={kernel_size}"
        )
    window = np.arange(kernel_size) - kernel_size // 2
    pattern = np.stack(np.meshgrid(window, window, indexing="ij")).reshape(2, -1)
    displacements = np.zeros((2, channels), "int32")
    moved = np.repeat(pattern, channels // kernel_size**2, axis=1)
    displacements[:, : moved.shape[1]] = moved * dilation_rate
    return displacements


def shift(
    x: Tensor,
    displacements: npt.ArrayLike | Tensor,
    max_displacement: int | None = None,
    data_format: DataFormat | None = None,
    native: bool | None = None,
    training: bool | None = None,
) -> Tensor:
    """Shifts every channel by whole pixels (SSL paper, Eq. 1).

    ```
    y[n, i, j, c] = x[n, i + displacements[0, c], j + displacements[1, c], c]
    ```

    The result is zero where the right-hand side lies outside the image. The
    gradient of `x` is the inverse shift of the incoming gradient. Displacements get
    no gradient.

    Example:

    >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
    >>> y = keras_shift.ops.shift(x, [[1], [0]])
    >>> keras.ops.convert_to_numpy(y)[0, :, :, 0]
    array([[2., 3.],
           [0., 0.]])

    Args:
        x: A tensor of shape `(batch, height, width, channels)`, or
            `(batch, channels, height, width)` with
            `data_format="channels_first"`. It may have any dtype.
        displacements: Whole numbers of shape `(2, channels)`, in pixels. In a NumPy
            array or a list, fractions are an error. The values of a tensor are not
            checked: fractions are cut off, and NaN moves its channel out of the
            image.
        max_displacement: Int, a bound on the absolute values of the displacements,
            or `None` for no bound. Displacements beyond the bound are clipped to
            it. Where the compiled op does not run, a bound allows a depthwise
            convolution with one-hot kernels of `2 * max_displacement + 1` taps,
            which is usually faster than a gather. With `None`, the bound comes from
            `displacements` if these are a NumPy array or a list of small numbers.
            Defaults to `None`.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            Keras' `image_data_format()`. Defaults to `None`.
        native: Boolean, whether to run the compiled TensorFlow op, which runs on
            the CPU; `False` runs `keras.ops`. With `None`, the op runs in eager
            mode on machines without other devices than CPUs, and `keras.ops` run
            in traced functions, unless `training=True`, so that these can be
            exported and compiled. Defaults to `None`.
        training: Boolean, whether this is part of a training step. Such a function is
            not exported, so that with `native=None` the op runs in it as in eager
            mode, unless XLA compiles it. `None` counts as `False`. Defaults to `None`.

    Returns:
        A tensor of the shape and dtype of `x`.

    Raises:
        ValueError: If an argument has a wrong shape or value, or if `native=True`
            and the op cannot run here.
    """
    x, data_format = check_image(x, data_format)
    if isinstance(displacements, (np.ndarray, list, tuple)):
        displacements = np.asarray(displacements, "float32")
        if not np.array_equal(displacements, np.rint(displacements)):
            raise ValueError(
                "Argument `displacements` must be whole numbers; "
                "keras_shift.ops.sparse_shift rounds them. "
                f"Received: displacements={displacements}"
            )
        largest = np.abs(displacements).max(initial=0)
        if max_displacement is None and largest <= _LARGEST_WINDOW:
            max_displacement = int(largest)
    displacements, max_displacement = check_displacements(
        displacements, x, data_format, max_displacement
    )
    displacements = ops.stop_gradient(displacements)
    move: portable_shift.Mover
    if kernels := _kernels(x, native, training):
        move = kernels.shift
    elif is_floating(x):
        move = portable_shift.integer_shift(max_displacement)
    else:
        move = portable_shift.gather  # Convolutions take floats only.
    return _channels_last(move, x, displacements, data_format)


def active_shift(
    x: Tensor,
    displacements: npt.ArrayLike | Tensor,
    max_displacement: int | None = None,
    data_format: DataFormat | None = None,
    native: bool | None = None,
    training: bool | None = None,
) -> Tensor:
    """Shifts every channel by a real displacement (SSL paper, Eq. 3).

    Values between pixels come from bilinear interpolation. With
    `f = floor(displacements[:, c])` and `r = displacements[:, c] - f`,

    ```
    y[n, i, j, c] = (1 - r[0]) * (1 - r[1]) * x[n, i + f[0],     j + f[1],     c]
                  + (1 - r[0]) *      r[1]  * x[n, i + f[0],     j + f[1] + 1, c]
                  +      r[0]  * (1 - r[1]) * x[n, i + f[0] + 1, j + f[1],     c]
                  +      r[0]  *      r[1]  * x[n, i + f[0] + 1, j + f[1] + 1, c]
    ```

    where `x` is zero outside the image. Both `x` and `displacements` get gradients.
    At a whole number, where Eq. 3 has a kink, a displacement gets the derivative
    towards larger displacements.

    Args:
        x: A float tensor of shape `(batch, height, width, channels)`, or
            `(batch, channels, height, width)` with
            `data_format="channels_first"`.
        displacements: Floats of shape `(2, channels)`, in pixels.
        max_displacement: Int, a bound on the absolute values of the displacements,
            or `None` for no bound, as in `keras_shift.ops.shift`. Defaults to
            `None`.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            Keras' `image_data_format()`. Defaults to `None`.
        native: As in `keras_shift.ops.shift`. Defaults to `None`.
        training: As in `keras_shift.ops.shift`. Defaults to `None`.

    Returns:
        A tensor of the shape and dtype of `x`.

    Raises:
        ValueError: If an argument has a wrong shape, dtype or value, or if
            `native=True` and the op cannot run here.
    """
    x, data_format = check_image(x, data_format, floating=True)
    displacements, max_displacement = check_displacements(
        displacements, x, data_format, max_displacement
    )
    if kernels := _kernels(x, native, training):
        interpolate = portable_shift.interpolation(kernels.shift)
    elif max_displacement is None:
        interpolate = portable_shift.interpolation(portable_shift.integer_shift(None))
    else:
        interpolate = portable_shift.bilinear_convolution(max_displacement)
    return _channels_last(interpolate, x, displacements, data_format)


def sparse_shift(
    x: Tensor,
    displacements: npt.ArrayLike | Tensor,
    max_displacement: int | None = None,
    data_format: DataFormat | None = None,
    native: bool | None = None,
    input_relu: bool = False,
    training: bool | None = None,
) -> Tensor:
    """Shifts by rounded displacements that can be learned (SSL paper, Eq. 5-7).

    In the forward pass, displacements are rounded (half to even), so that whole
    pixels move and nothing is interpolated (Eq. 5):

    ```
    y[n, i, j, c] = x[n, i + round(displacements[0, c]),
                         j + round(displacements[1, c]), c]
    ```

    In the backward pass, `x` gets the inverse shift of the incoming gradient
    (Eq. 7), and the displacements get the gradient of the unrounded, bilinear
    shift (Eq. 6). With `f` and `r` as in `keras_shift.ops.active_shift` and
    `s[a, b] = sum(gradient[n, i, j, c] * x[n, i + f[0] + a, j + f[1] + b, c])`
    over `n`, `i`, `j`,

    ```
    d displacements[0, c] = (1 - r[1]) * (s[1, 0] - s[0, 0])
                          +      r[1]  * (s[1, 1] - s[0, 1])
    d displacements[1, c] = (1 - r[0]) * (s[0, 1] - s[0, 0])
                          +      r[0]  * (s[1, 1] - s[1, 0])
    ```

    The sums are computed in float32 or a higher precision. A displacement that is
    NaN moves its channel out of the image, and makes NaN appear in the gradient of
    the channel's displacements.

    With `input_relu=True`, `max(x, 0)` takes the place of `x` in all formulas, and the
    gradient of `x` goes through that ReLU.

    Eq. 6 is a custom gradient. In forward mode (`tf.autodiff.ForwardAccumulator`),
    TensorFlow does not know custom gradients, and displacements count as constants.

    Example:

    >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
    >>> y = keras_shift.ops.sparse_shift(x, [[0.7], [-0.4]])
    >>> keras.ops.convert_to_numpy(y)[0, :, :, 0]
    array([[2., 3.],
           [0., 0.]])

    Args:
        x: A float tensor of shape `(batch, height, width, channels)`, or
            `(batch, channels, height, width)` with
            `data_format="channels_first"`.
        displacements: Floats of shape `(2, channels)`, in pixels.
        max_displacement: Int, a bound on the absolute values of the displacements,
            or `None` for no bound, as in `keras_shift.ops.shift`. Defaults to
            `None`.
        data_format: `"channels_last"`, `"channels_first"` or `None` for
            Keras' `image_data_format()`. Defaults to `None`.
        native: As in `keras_shift.ops.shift`. Defaults to `None`.
        input_relu: Boolean, whether `x` goes through a ReLU first. In the compiled op
            this costs next to nothing, while a separate ReLU passes over the memory of
            the whole tensor once more, forward and backward. Defaults to `False`.
        training: As in `keras_shift.ops.shift`. Defaults to `None`.

    Returns:
        A tensor of the shape and dtype of `x`.

    Raises:
        ValueError: If an argument has a wrong shape, dtype or value, or if
            `native=True` and the op cannot run here.
    """
    x, data_format = check_image(x, data_format, floating=True)
    displacements, max_displacement = check_displacements(
        displacements, x, data_format, max_displacement
    )
    move: portable_shift.Mover
    if kernels := _kernels(x, native, training):
        move = functools.partial(kernels.sparse_shift, input_relu=input_relu)
    else:
        x = ops.relu(x) if input_relu else x
        move = portable_shift.rounded_shift(max_displacement)
    return _channels_last(move, x, displacements, data_format)


def _kernels(x, native, training):
    dtype = keras.backend.standardize_dtype(x.dtype)
    return dispatch.choose(dtype, native, in_graph=training).kernels


def _channels_last(function, x, displacements, data_format):
    if data_format == "channels_last":
        return function(x, displacements)
    y = function(ops.transpose(x, (0, 2, 3, 1)), displacements)
    return ops.transpose(y, (0, 3, 1, 2))
