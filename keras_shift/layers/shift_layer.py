"""What the shift layers have in common."""

import keras
import numpy as np

from keras_shift import initializers
from keras_shift import native as native_op
from keras_shift.constraints import BoundedDisplacements
from keras_shift.ops import check_data_format, check_max_displacement


class ShiftLayer(keras.layers.Layer):
    """Base of layers that displace every channel: shapes, format, sparsity.

    Args:
        data_format: `"channels_last"`, `"channels_first"` or `None` for Keras'
            `image_data_format()`.
    """

    # Whether the layer shifts by the rounded displacements.
    rounds = True

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
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

    def displacement_array(self):
        """Returns the displacements as a NumPy array of shape `(2, channels)`."""
        raise NotImplementedError

    @property
    def sparsity(self):
        """Share of the channels that are not shifted, from 0 to 1.

        The SSL paper's "shift sparsity" (Table 1). A channel counts as
        unshifted where both of its displacements are zero, in layers that
        round them after rounding.
        """
        displacements = self.displacement_array()
        if self.rounds:
            displacements = np.rint(displacements)
        return float(np.mean(~displacements.any(axis=0)))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}

    def _native(self, inputs, training):
        # None lets the op decide, which outside of a training step may be traced
        # for export.
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        kernel = dtype in native_op.DTYPES and native_op.serves(training)
        return True if kernel else None


class LearnedShift(ShiftLayer):
    """Base of shift layers whose displacements are trainable.

    Displacements are one float32 weight of shape `(2, channels)`, whatever the
    dtype policy: half precision cannot tell 3.499 from 3.5.

    Args:
        displacement_initializer: An initializer of the displacements, or
            `"grouped"` for `keras_shift.initializers.GroupedDisplacements()`.
        displacement_regularizer: A regularizer of the displacements (Eq. 4 of
            the SSL paper), or `None`.
        max_displacement: Int, a bound on the displacements' absolute values, or
            `None` for no bound. Initial and loaded values beyond it count as the
            bound.
        data_format: As in `ShiftLayer`.
    """

    def __init__(
        self,
        displacement_initializer="grouped",
        displacement_regularizer=None,
        max_displacement=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.displacement_initializer = initializers.get(displacement_initializer)
        self.displacement_regularizer = keras.regularizers.get(displacement_regularizer)
        self.max_displacement = check_max_displacement(max_displacement)

    def build(self, input_shape):
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

    def displacement_constraint(self):
        """Returns the constraint that holds `max_displacement`, or `None`."""
        if self.max_displacement is None:
            return None
        return BoundedDisplacements(self.max_displacement)

    def displacement_array(self):
        displacements = self.displacements.numpy()
        if self.max_displacement is None:
            return displacements
        # As in `call`: what was loaded may lie beyond the bound.
        return np.clip(displacements, -self.max_displacement, self.max_displacement)

    def get_config(self):
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


def shift_layers(model):
    """Returns the shift layers of a model, those of nested models included.

    Args:
        model: A `keras.Model`. Layers inside of custom layers are not found.
    """
    found = {}
    for layer in model.layers:
        if isinstance(layer, ShiftLayer):
            found[id(layer)] = layer
        elif hasattr(layer, "layers"):
            found.update((id(inner), inner) for inner in shift_layers(layer))
    return list(found.values())
