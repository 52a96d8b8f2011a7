"""Checks the arguments that all shifts take, and converts them."""

import keras
import numpy.typing as npt
from keras import ops

from keras_shift import portable_shift
from keras_shift.integers import whole_number
from keras_shift.typing import DataFormat, Tensor


def check_data_format(data_format: DataFormat | None) -> DataFormat:
    """Returns a data format, and that of Keras for `None`.

    Args:
        data_format: `"channels_last"`, `"channels_first"` or `None` for Keras'
            `image_data_format()`.

    Raises:
        ValueError: If `data_format` is something else.
    """
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            'Argument `data_format` must be "channels_last", "channels_first" or '
            f"None. Received: data_format={data_format}"
        )
    return data_format


def check_max_displacement(max_displacement: float | None) -> int | None:
    """Returns a bound on displacements as an int, or `None` for no bound.

    Args:
        max_displacement: Whole number of pixels, zero or more, or `None` for no
            bound.

    Raises:
        ValueError: If `max_displacement` is something else.
    """
    if max_displacement is None:
        return None
    whole = whole_number(max_displacement)
    if whole is None or whole < 0:
        raise ValueError(
            "Argument `max_displacement` must be a whole number of pixels, zero "
            "or more, or None for no bound. "
            f"Received: max_displacement={max_displacement}"
        )
    return whole


def check_image(
    x: Tensor, data_format: DataFormat | None, floating: bool = False
) -> tuple[Tensor, DataFormat]:
    """Returns images as a tensor, and their data format.

    Args:
        x: The images, a tensor of rank 4 or what can become one.
        data_format: As in `check_data_format`.
        floating: Boolean, whether their dtype must be a floating one. Defaults to
            `False`.

    Raises:
        ValueError: If an argument is something else.
    """
    data_format = check_data_format(data_format)
    if keras.utils.is_keras_tensor(x):
        raise ValueError(
            "Argument `x` must be a tensor with values. In a functional model use "
            "the layers of keras_shift.layers, which may hold fixed or learned "
            f"displacements. Received: x={x}"
        )
    x = ops.convert_to_tensor(x)
    if len(x.shape) != 4:
        raise ValueError(
            "Argument `x` must be a batch of images, a tensor of rank 4. "
            f"Received: x.shape={tuple(x.shape)}"
        )
    if floating and not is_floating(x):
        raise ValueError(
            "Argument `x` must have a floating dtype. "
            f"Received: x.dtype={keras.backend.standardize_dtype(x.dtype)}"
        )
    return x, data_format


def check_displacements(
    displacements: npt.ArrayLike | Tensor,
    x: Tensor,
    data_format: DataFormat,
    max_displacement: float | None,
) -> tuple[Tensor, int | None]:
    """Returns displacements as a float tensor of the right shape, and their bound.

    Displacements beyond the bound are clipped to it. Without a bound, they are clipped
    to a number that is larger than any image.

    Args:
        displacements: Numbers of shape `(2, channels)`.
        x: The tensor of images that they displace.
        data_format: `"channels_last"` or `"channels_first"`.
        max_displacement: As in `check_max_displacement`.

    Raises:
        ValueError: If an argument is something else.
    """
    max_displacement = check_max_displacement(max_displacement)
    dtype = keras.backend.standardize_dtype(
        getattr(displacements, "dtype", None) or "float32"
    )
    # The sum makes a tensor of a variable, which tf.custom_gradient does not accept.
    displacements = ops.add(
        ops.cast(displacements, dtype if dtype == "float64" else "float32"), 0
    )
    channels = x.shape[-1 if data_format == "channels_last" else 1]
    shape = tuple(displacements.shape)
    if (
        len(shape) != 2
        or shape[0] != 2
        or None not in (channels, shape[1])
        and (shape[1] != channels)
    ):
        raise ValueError(
            "Argument `displacements` must have the shape (2, channels), here "
            f"(2, {channels}): rows first, columns second. "
            f"Received: displacements.shape={shape}"
        )
    bound = portable_shift.FAR if max_displacement is None else max_displacement
    return _bounded(bound)(displacements), max_displacement


def is_floating(x: Tensor) -> bool:
    """Returns whether a tensor has a floating dtype.

    Args:
        x: The tensor.
    """
    return "float" in keras.backend.standardize_dtype(x.dtype)


def _bounded(bound):
    """Returns a function that clips to a bound and passes gradients on unchanged."""

    @ops.custom_gradient
    def bounded(displacements):
        def gradient(*args, upstream=None):
            return args[0] if upstream is None else upstream

        return ops.clip(displacements, -bound, bound), gradient

    return bounded
