"""Constraints of displacements."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_shift")
class BoundedDisplacements(keras.constraints.Constraint):
    """Keeps displacements within a window around the unshifted pixel.

    Args:
        max_displacement: Number of pixels, the largest absolute value.
    """

    def __init__(self, max_displacement):
        if not max_displacement >= 0:
            raise ValueError(
                "Argument `max_displacement` must be zero or more. "
                f"Received: max_displacement={max_displacement}"
            )
        self.max_displacement = max_displacement

    def __call__(self, w):
        return ops.clip(w, -self.max_displacement, self.max_displacement)

    def get_config(self):
        return {"max_displacement": self.max_displacement}


class Pinned(keras.constraints.Constraint):
    """Holds a variable at a value, whatever an optimizer does to it.

    Args:
        value: Array, the value; or a `keras.Variable`, whose value it is at every step.
    """

    def __init__(self, value):
        variable = isinstance(value, keras.Variable)
        self.value = value if variable else np.array(value)

    def __call__(self, w):
        return ops.convert_to_tensor(self.value, w.dtype)
