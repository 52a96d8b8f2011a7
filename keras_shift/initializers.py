"""Starting values of displacements."""

import keras
from keras import ops

from keras_shift.ops import grouped_displacements


@keras.saving.register_keras_serializable(package="keras_shift")
class GroupedDisplacements(keras.initializers.Initializer):
    """The pattern of a grouped shift, as a start for learned displacements.

    It is the start of the SSL paper's learned shifts, and the value of
    `displacement_initializer="grouped"`; see
    `keras_shift.ops.grouped_displacements`. It is deterministic. For the
    fractional start of the SSL authors' later code, use
    `keras.initializers.RandomUniform(-1, 2)`.

    Example:

    >>> start = keras_shift.initializers.GroupedDisplacements(kernel_size=3)
    >>> layer = keras_shift.layers.SparseShift2D(displacement_initializer=start)

    Args:
        kernel_size: Odd int, the size of the window that the displacements
            cover.
        dilation_rate: Int, the distance of neighbouring displacements.
    """

    def __init__(self, kernel_size=3, dilation_rate=1):
        # Rejects a bad window here rather than where a layer is built.
        grouped_displacements(1, kernel_size, dilation_rate)
        self.kernel_size = kernel_size
        self.dilation_rate = dilation_rate

    def __call__(self, shape, dtype=None):
        shape = tuple(shape)
        if len(shape) != 2 or shape[0] != 2:
            raise ValueError(
                "Displacements have the shape (2, channels). "
                f"Received: shape={shape}"
            )
        pattern = grouped_displacements(shape[1], self.kernel_size, self.dilation_rate)
        return ops.convert_to_tensor(pattern, dtype or keras.config.floatx())

    def get_config(self):
        return {"kernel_size": self.kernel_size, "dilation_rate": self.dilation_rate}


def get(identifier):
    """Returns an initializer; knows `"grouped"` beside Keras' own names.

    Args:
        identifier: What `keras.initializers.get` takes, or `"grouped"`.
    """
    if identifier == "grouped":
        return GroupedDisplacements()
    return keras.initializers.get(identifier)


def fresh(identifier):
    """Returns an initializer for one more weight.

    An initializer that is random and has no seed gives the same values to all
    weights of a shape, unless each gets a copy of its own.

    Args:
        identifier: As in `get`.
    """
    initializer = get(identifier)
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer
