from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_shift import dispatch
from keras_shift.layers.fused_unit2d import FusedUnit2D
from keras_shift.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class FusedChain2D(keras.layers.Layer):
    """Computes units of a trained shift network in one pass, for inference only.

    It returns to the bit what `keras_shift.layers.FusedUnit2D` layers would, each on
    the output of the one before. On TensorFlow, on machines without other devices than
    CPUs, all of them are one compiled op. What lies between two units stays in memory
    that is used again in the next call, and in an FE-block, the channels that a unit
    does not change are not even copied. `keras_shift.deploy.fuse` makes models of such
    layers.

    There are two weights, however many units there are, since TensorFlow takes some
    time for each of them in every call. `panels` has what `expand_panels` and
    `project_panels` of each unit would be, all one behind the other in one vector, and
    `displacements` has those of all units.

    Example:

    >>> x = np.random.rand(1, 14, 14, 24).astype("float32")
    >>> layer = keras_shift.layers.FusedChain2D(
    ...     [
    ...         {"filters": 24, "wide_channels": 144},
    ...         {"filters": 32, "wide_channels": 144, "strides": 2},
    ...     ]
    ... )
    >>> y = layer(x)
    >>> print(y.shape)
    (1, 7, 7, 32)

    Args:
        units: A list of dictionaries, each with the arguments of a `FusedUnit2D`, in
            the order in which they compute. `precision` is not among them, and of what
            all Keras layers take, only `name` is.
        precision: `"float32"` or `"bfloat16"`, what is multiplied in all units; see
            `FusedUnit2D`. Defaults to `"float32"`.

    Input shape:
        That of the first unit.

    Output shape:
        That of the last unit.

    Raises:
        ValueError: If there are no units, if the arguments of one are invalid or do not
            fit the others or the input, or if the layer is called with `training=True`.
    """

    def __init__(
        self,
        units: Sequence[Mapping[str, Any]],
        precision: Literal["float32", "bfloat16"] = "float32",
        **kwargs: Any,
    ) -> None:
        # Images are float32 only, so the global dtype policy is ignored.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if self.compute_dtype != "float32":
            raise ValueError(
                "FusedChain2D computes in float32 only, but for what `precision` "
                f"rounds. Received: dtype={self.dtype_policy.name}"
            )
        if not units:
            raise ValueError(
                f"Argument `units` must have a unit at least. Received: units={units}"
            )
        if any("precision" in unit for unit in units):
            raise ValueError(
                "Argument `units` must not have a `precision` of their own: it is that "
                f"of all. Received: units={units}"
            )
        self.precision = precision
        made = [FusedUnit2D(**unit, precision=precision) for unit in units]
        # They have no weights of their own. Where Keras does not look, they are neither
        # saved nor listed.
        self._hidden = SimpleNamespace(units=made)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        if keras.backend.backend() == "tensorflow":
            # XLA cannot compile the op, as in FusedUnit2D.
            self.supports_jit = False

    @property
    def units(self) -> list[FusedUnit2D]:
        """The units, which are not built and have no weights."""
        return list(self._hidden.units)

    def build(self, input_shape: Shape) -> None:
        panels = displacements = 0
        for unit in self.units:
            unit.set_channels(input_shape)
            shapes = [int(np.prod(shape)) for shape in unit.weight_shapes()]
            panels += sum(shapes[:2])
            displacements += shapes[2]
            input_shape = unit.compute_output_shape(input_shape)
        self.input_spec = self.units[0].input_spec
        self.panels = self.add_weight(
            name="panels",
            shape=(panels,),
            dtype=self.precision,
            autocast=False,
            initializer="zeros",
            trainable=False,
        )
        self.displacements = self.add_weight(
            name="displacements",
            shape=(displacements,),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )

    def set_units(self, units: Sequence[FusedUnit2D]) -> None:
        """Sets the weights of the layer, which must be built, to those of its units.

        Args:
            units: A list of `FusedUnit2D` layers that are built, with the arguments
                that this layer was given.
        """
        by_unit = [
            [ops.convert_to_numpy(weight) for weight in unit.weights] for unit in units
        ]
        found = [[weight.shape for weight in weights] for weights in by_unit]
        expected = [list(unit.weight_shapes()) for unit in self.units]
        if found != expected:
            raise ValueError(
                "Argument `units` must have weights of the shapes of this layer's "
                f"units, which are {expected}. Received: weights of shapes {found}"
            )
        panels = [each.ravel() for weights in by_unit for each in weights[:2]]
        displacements = [weights[2].ravel() for weights in by_unit]
        self.set_weights([np.concatenate(panels), np.concatenate(displacements)])

    def unit_weights(self) -> list[tuple[Tensor, ...]]:
        """Returns what would be each unit's own weights, in their order."""
        weights = []
        panel = displacement = 0
        for unit in self.units:
            parts = []
            for shape in unit.weight_shapes()[:2]:
                end = panel + int(np.prod(shape))
                parts.append(ops.reshape(self.panels[panel:end], shape))
                panel = end
            end = displacement + 2 * unit.wide_channels
            of_unit = self.displacements[displacement:end]
            weights.append((*parts, ops.reshape(of_unit, (2, unit.wide_channels))))
            displacement = end
        return weights

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if training:
            raise ValueError(
                "FusedChain2D is for inference. Train the model that it was made of, "
                "and call keras_shift.deploy.fuse again. Received: training=True"
            )
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        kernels = dispatch.choose(dtype, in_graph=True).kernels
        if kernels is not None:
            return kernels.fused_chain(
                inputs,
                self.panels,
                self.displacements,
                wide_channels=[unit.wide_channels for unit in self.units],
                options=[unit.options() for unit in self.units],
                output_shape=self.compute_output_shape(inputs.shape),
            )
        for unit, weights in zip(self.units, self.unit_weights()):
            inputs = unit.compute(inputs, *weights)
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        for unit in self.units:
            input_shape = unit.compute_output_shape(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": [{"name": unit.name, **unit.arguments()} for unit in self.units],
            "precision": self.precision,
        }
