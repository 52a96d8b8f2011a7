"""Constraints of displacements."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_shift.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class BoundedDisplacements(keras.constraints.Constraint):
    """Keeps displacements within a window around the unshifted pixel.

    Args:
        max_displacement: Number of pixels, zero or more, the largest absolute
            value that a displacement may have.

    Raises:
        ValueError: If `max_displacement` is negative or not a number.
    """

    def __init__(self, max_displacement: float) -> None:
        if not max_displacement >= 0:
            raise ValueError(
                "Argument `max_displacement` must be zero or more. "
                f"Received: max_displacement={max_displacement}"
            )
        self.max_displacement = max_displacement

    def __call__(self, w: Tensor) -> Tensor:
        return ops.clip(w, -self.max_displacement, self.max_displacement)

    def get_config(self) -> dict[str, Any]:
        return {"max_displacement": self.max_displacement}


class Pinned(keras.constraints.Constraint):
    """Holds a variable at a value, whatever an optimizer does to it.

    Args:
        value: An array, which is copied; or a `keras.Variable`, whose value at that
            moment counts each time the constraint is applied.
    """

    def __init__(self, value: npt.ArrayLike | keras.Variable) -> None:
        variable = isinstance(value, keras.Variable)
        self.value = value if variable else np.array(value)

    def __call__(self, w: Tensor) -> Tensor:
        return ops.convert_to_tensor(self.value, w.dtype)
