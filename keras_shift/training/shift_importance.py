"""Computes how much the shift of each channel matters."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_shift.graph_walk import walk
from keras_shift.layers import SparseShift2D
from keras_shift.typing import Tensor

# Gradients are computed for this many images at once. Larger batches need much memory.
_BATCH_SIZE = 50


class ShiftImportance:
    r"""Computes how a model's loss changes without the shifts of single channels.

    Every shift gets a gate `g` for each image and channel, which is zero:

    ```
    y[n, i, j, c] = shifted[n, i, j, c] + g[n, c] * (x - shifted)[n, i, j, c]
    ```

    The derivative of an image's loss by its gate is the loss's change without this
    shift, to first order.

    Args:
        model: A compiled functional or sequential `keras.Model`, on TensorFlow or JAX.
        layers: List of its `SparseShift2D` layers.
    """

    def __init__(self, model: keras.Model, layers: Sequence[SparseShift2D]) -> None:
        self._model = model
        self._gates = [_Gate(layer) for layer in layers]
        gates = {id(layer): gate for layer, gate in zip(layers, self._gates)}

        def mix(layer, args, kwargs, shifted):
            gate = gates.get(id(layer))
            return gate and gate(*keras.tree.flatten((args, kwargs))[:1], shifted)

        self._copy = walk(model, mix)
        self._slopes = self._of_tensorflow
        if keras.backend.backend() == "jax":
            import jax

            # Weights are arguments, since this is compiled once.
            slopes = jax.jit(jax.grad(self._total_of))
            self._slopes = lambda *batch: slopes(
                *batch, [variable.value for variable in model.variables]
            )

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        """Returns the importance of shifts.

        Args:
            images: Array of images.
            labels: Array of the images' labels, as the model's loss takes them.

        Returns:
            A list with an array of shape `(channels,)` for each layer. It holds the
            squared change of an image's loss without the shift, to first order,
            averaged over images.
        """
        importance = [np.zeros(gate.layer.channels) for gate in self._gates]
        for start in range(0, len(images), _BATCH_SIZE):
            part = slice(start, start + _BATCH_SIZE)
            x = keras.ops.convert_to_tensor(images[part], "float32")
            values = [gate.zeros(len(x)) for gate in self._gates]
            slopes = self._slopes(values, x, keras.ops.convert_to_tensor(labels[part]))
            for total, slope in zip(importance, slopes):
                slope = np.asarray(keras.ops.convert_to_numpy(slope), "float64")
                total += np.sum(np.square(slope), axis=0) / len(images)
        return importance

    def _total(self, values: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Returns the sum of the images' losses. The model's loss is their mean."""
        for gate, value in zip(self._gates, values):
            gate.value = value
        predictions = self._copy(x, training=False)
        return self._model.compute_loss(x=x, y=y, y_pred=predictions) * len(x)

    def _total_of(self, values, x, y, weights):
        with keras.StatelessScope(list(zip(self._model.variables, weights))):
            return self._total(values, x, y)

    def _of_tensorflow(self, values, x, y):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            total = self._total(values, x, y)
        return tape.gradient(total, values)


class _Gate(keras.Operation):
    """Mixes shifted and unshifted channels by `value`, of shape (batch, channels)."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.value = None

    def zeros(self, count):
        """Returns values for a number of images.

        Their derivatives are sums over pixels, for which half precision is too little.
        """
        dtype = keras.backend.result_type(self.layer.compute_dtype, "float32")
        return keras.ops.zeros((count, self.layer.channels), dtype)

    def call(self, x, shifted):
        x = keras.ops.relu(x) if self.layer.input_relu else x
        channels_last = self.layer.data_format == "channels_last"
        value = keras.ops.expand_dims(self.value, (1, 2) if channels_last else (2, 3))
        change = value * keras.ops.cast(x - shifted, value.dtype)
        return shifted + keras.ops.cast(change, shifted.dtype)

    def compute_output_spec(self, x, shifted):
        return keras.KerasTensor(shifted.shape, shifted.dtype)
