"""Initializers of displacements."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_shift.ops import grouped_displacements
from keras_shift.typing import InitializerLike, Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class GroupedDisplacements(keras.initializers.Initializer):
    """Initializes learned displacements with those of a grouped shift.

    The values are those of `keras_shift.ops.grouped_displacements`. The learned
    shifts of the SSL paper start from them, and so do layers with
    `displacement_initializer="grouped"`. This initializer is deterministic. The
    later code of the SSL authors starts from fractional values instead; use
    `keras.initializers.RandomUniform(-1, 2)` for that.

    Example:

    >>> start = keras_shift.initializers.GroupedDisplacements(kernel_size=3)
    >>> layer = keras_shift.layers.SparseShift2D(displacement_initializer=start)

    Args:
        kernel_size: Odd int, the size of the window that the displacements
            cover. Defaults to `3`.
        dilation_rate: Int, the distance of neighbouring displacements. Defaults to
            `1`.

    Raises:
        ValueError: If `kernel_size` is not a positive odd integer, or
            `dilation_rate` not a positive integer. When it is called: if the shape
            is not `(2, channels)`.
    """

    def __init__(self, kernel_size: int = 3, dilation_rate: int = 1) -> None:
        # This call refuses bad arguments here rather than when a layer is built.
        grouped_displacements(1, kernel_size, dilation_rate)
        self.kernel_size = kernel_size
        self.dilation_rate = dilation_rate

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        shape = tuple(shape)
        if len(shape) != 2 or shape[0] != 2:
            raise ValueError(
                "Displacements have the shape (2, channels). "
                f"Received: shape={shape}"
            )
        pattern = grouped_displacements(shape[1], self.kernel_size, self.dilation_rate)
        return ops.convert_to_tensor(pattern, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "dilation_rate": self.dilation_rate}


@keras.saving.register_keras_serializable(package="keras_shift")
class GivenDisplacements(keras.initializers.Initializer):
    """Initializes displacements with an array, whose layer can be saved.

    What `keras.initializers.get` makes of an array cannot be found by its name when a
    layer is loaded.

    Example:

    >>> start = keras_shift.initializers.GivenDisplacements([[0, 1, 0], [1, 0, 0]])
    >>> layer = keras_shift.layers.SparseShift2D(displacement_initializer=start)

    Args:
        displacements: Array of shape `(2, channels)`, in pixels.

    Raises:
        ValueError: When it is called, if the shape is not that of the array.
    """

    def __init__(self, displacements: npt.ArrayLike) -> None:
        self.displacements = np.array(displacements, "float32")

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        if tuple(shape) != self.displacements.shape:
            raise ValueError(
                f"Argument `displacements` must have the shape {tuple(shape)} of the "
                f"layer's displacements. Received: {self.displacements.shape}"
            )
        return ops.convert_to_tensor(self.displacements, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        return {"displacements": self.displacements.tolist()}


def get(identifier: InitializerLike | np.ndarray) -> Callable[..., Tensor]:
    """Returns the initializer that an identifier stands for.

    Args:
        identifier: Anything that `keras.initializers.get` takes, an array of
            displacements, or `"grouped"` for `GroupedDisplacements()`.

    Returns:
        A `keras.initializers.Initializer`, or the function that was given.

    Raises:
        ValueError: If `keras.initializers.get` does not know the identifier.
    """
    if isinstance(identifier, str) and identifier == "grouped":
        return GroupedDisplacements()
    if isinstance(identifier, np.ndarray):
        return GivenDisplacements(identifier)
    return keras.initializers.get(identifier)


def fresh(identifier: InitializerLike | np.ndarray) -> Callable[..., Tensor]:
    """Returns a copy of an initializer, for one weight.

    A random initializer without a seed gives the same values to all weights of the
    same shape. Weights that should differ need a copy of the initializer each.

    Args:
        identifier: As in `get`.

    Returns:
        A new `keras.initializers.Initializer`, or the function that was given.

    Raises:
        ValueError: If `keras.initializers.get` does not know the identifier.
    """
    initializer = get(identifier)
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer
