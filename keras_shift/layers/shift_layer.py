"""The base classes of the shift layers."""

from typing import Any

import keras
import numpy as np

from keras_shift import initializers
from keras_shift.constraints import BoundedDisplacements
from keras_shift.shift_arguments import check_data_format, check_max_displacement
from keras_shift.typing import (
    DataFormat,
    InitializerLike,
    RegularizerLike,
    Shape,
)


class ShiftLayer(keras.layers.Layer):
    """Base class of layers that shift every channel by a displacement.

    It knows the data format, the shapes and the sparsity. Subclasses define `call`
    and `displacement_array`.

    Args:
        data_format: `"channels_last"`, `"channels_first"` or `None` for Keras'
            `image_data_format()`. Defaults to `None`.

    Raises:
        ValueError: If `data_format` is invalid, or the number of channels is
            unknown.
    """

    # This says whether the layer shifts by the rounded displacements.
    rounds = True

    # This says whether a ReLU is part of the layer, before the shift.
    input_relu = False

    def __init__(self, data_format: DataFormat | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Shape) -> None:
        axis = -1 if self.data_format == "channels_last" else 1
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(
                f"{type(self).__name__} needs to know the number of channels. "
                f"Received: input_shape={tuple(input_shape)}, "
                f"data_format={self.data_format}"
            )
        self.channels = channels
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: channels})

    def displacement_array(self) -> np.ndarray:
        """Returns the displacements as a NumPy array of shape `(2, channels)`."""
        raise NotImplementedError

    def whole_displacements(self) -> np.ndarray:
        """Returns what `displacement_array` does, rounded to whole pixels."""
        # Adding zero turns -0.0 into 0.0.
        return np.rint(self.displacement_array()) + 0.0

    @property
    def sparsity(self) -> float:
        """The share of unshifted channels, from 0 to 1.

        This is the "shift sparsity" of the SSL paper's Table 1. A channel is
        unshifted if both of its displacements are zero. In layers that round
        displacements, the rounded ones count.
        """
        displacements = self.displacement_array()
        if self.rounds:
            displacements = self.whole_displacements()
        return float(np.mean(~displacements.any(axis=0)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


class LearnedShift(ShiftLayer):
    """Base class of shift layers whose displacements are trainable.

    The displacements are one weight of shape `(2, channels)`. It is float32 under
    every dtype policy, because half precision cannot tell 3.499 from 3.5.

    Args:
        displacement_initializer: An initializer of the displacements, or
            `"grouped"` for `keras_shift.initializers.GroupedDisplacements()`.
            Defaults to `"grouped"`.
        displacement_regularizer: A regularizer of the displacements (Eq. 4 of
            the SSL paper), or `None`. Defaults to `None`.
        max_displacement: Int, a bound on the absolute values of the displacements,
            or `None` for no bound. Initial and loaded values beyond it are clipped
            when they are used. Defaults to `None`.
        data_format: As in `ShiftLayer`. Defaults to `None`.

    Raises:
        ValueError: If an argument is invalid, or the number of channels is unknown.
    """

    def __init__(
        self,
        displacement_initializer: InitializerLike | np.ndarray = "grouped",
        displacement_regularizer: RegularizerLike | None = None,
        max_displacement: int | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.displacement_initializer = initializers.get(displacement_initializer)
        self.displacement_regularizer = keras.regularizers.get(displacement_regularizer)
        self.max_displacement = check_max_displacement(max_displacement)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.displacements = self.add_weight(
            name="displacements",
            shape=(2, self.channels),
            dtype="float32",
            autocast=False,
            initializer=self.displacement_initializer,
            regularizer=self.displacement_regularizer,
            constraint=self.displacement_constraint(),
        )

    def displacement_constraint(self) -> BoundedDisplacements | None:
        """Returns the constraint that enforces `max_displacement`, or `None`."""
        if self.max_displacement is None:
            return None
        return BoundedDisplacements(self.max_displacement)

    def displacement_array(self) -> np.ndarray:
        displacements = self.displacements.numpy()
        if self.max_displacement is None:
            return displacements
        # Loaded values may lie beyond the bound; `call` clips them likewise.
        return np.clip(displacements, -self.max_displacement, self.max_displacement)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "displacement_initializer": keras.initializers.serialize(
                self.displacement_initializer
            ),
            "displacement_regularizer": keras.regularizers.serialize(
                self.displacement_regularizer
            ),
            "max_displacement": self.max_displacement,
        }


def shift_layers(model: keras.Model) -> list[ShiftLayer]:
    """Returns the shift layers of a model and of the models inside it.

    Args:
        model: A `keras.Model`. Shift layers inside of custom layers are not found.
    """
    layers = {}
    for layer in model.layers:
        if isinstance(layer, ShiftLayer):
            layers[id(layer)] = layer
        elif hasattr(layer, "layers"):
            layers.update((id(inner), inner) for inner in shift_layers(layer))
    return list(layers.values())
