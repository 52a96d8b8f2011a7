"""Keras callbacks for learned shifts."""

import keras
import numpy as np

from keras_shift.constraints import Pinned
from keras_shift.layers.shift_layer import LearnedShift, shift_layers


class FreezeShifts(keras.callbacks.Callback):
    """Ends the learning of shifts in the middle of training.

    From the given step or epoch on, the displacements of all
    `keras_shift.layers.SparseShift2D` layers are their rounded pattern, bit for
    bit, whatever momentum, weight decay and regularizers would do to them, while
    everything else goes on training with its optimizer's state. The SSL paper
    freezes after 48k of 64k steps on CIFAR and after 240 of 480 epochs on
    ImageNet.

    Once frozen, a model's shifts stay frozen in later calls of `fit` as well.
    In a process that loads the model anew, pass the callback again.

    Example:

    >>> freeze = keras_shift.callbacks.FreezeShifts(at_epoch=2)
    >>> history = model.fit(images, labels, epochs=4, callbacks=[freeze], verbose=0)

    Args:
        at_step: Number of optimizer steps after which to freeze, counted by
            `model.optimizer.iterations` (so that a resumed training freezes
            where an uninterrupted one would). With `steps_per_execution` above
            1, the first end of an execution that is not earlier.
        at_epoch: Epoch, counted from 0, before which to freeze.
    """

    def __init__(self, at_step=None, at_epoch=None):
        super().__init__()
        if (at_step is None) == (at_epoch is None):
            raise ValueError(
                "Exactly one of the arguments `at_step` and `at_epoch` must be "
                f"given. Received: at_step={at_step}, at_epoch={at_epoch}"
            )
        when = at_epoch if at_step is None else at_step
        if when < 0:
            raise ValueError(
                "Arguments `at_step` and `at_epoch` count from 0. "
                f"Received: at_step={at_step}, at_epoch={at_epoch}"
            )
        self.at_step = at_step
        self.at_epoch = at_epoch

    def on_train_begin(self, logs=None):
        self._frozen = False
        # Counted here, since reading the optimizer's count in the middle of an
        # epoch costs a synchronization on JAX.
        self._epoch_begins = int(self.model.optimizer.iterations)
        self._steps = self._epoch_begins
        self._freeze_if_due()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_begins = self._steps
        if self.at_epoch is not None and epoch >= self.at_epoch:
            self._freeze()

    def on_train_batch_end(self, batch, logs=None):
        self._steps = self._epoch_begins + batch + 1
        self._freeze_if_due()

    def on_train_end(self, logs=None):
        # An exponential moving average (`use_ema`) has overwritten the weights.
        if self._frozen:
            for layer in self._layers():
                layer.displacements.assign(layer.displacements.constraint.value)

    def _freeze_if_due(self):
        if self.at_step is not None and self._steps >= self.at_step:
            self._freeze()

    def _freeze(self):
        if self._frozen:
            return
        self._frozen = True
        if keras.backend.backend() == "jax":
            # During an epoch, JAX keeps the weights outside of the model.
            self.model.jax_state_sync()
        for layer in self._layers():
            pattern = np.rint(layer.displacement_array())
            # Adding zero turns -0.0 into 0.0.
            layer.displacements.assign(pattern + 0.0)
            layer.displacements.constraint = Pinned(pattern + 0.0)
        # The compiled step has the old constraints in it. (Clearing `trainable`
        # instead would not do: the optimizer's variables belong to the trainable
        # ones, one by one.)
        self.model.make_train_function(force=True)

    def _layers(self):
        return [
            layer
            for layer in shift_layers(self.model)
            if isinstance(layer, LearnedShift) and layer.rounds
        ]


class ShiftSparsityLogger(keras.callbacks.Callback):
    """Adds the share of unshifted channels to the logs of every epoch.

    The value `logs["shift_sparsity"]` is taken over the channels of all shift
    layers together, as in Table 1 of the SSL paper. It appears in the progress
    bar, in `History`, and in what callbacks after this one write.

    Example:

    >>> sparsity = keras_shift.callbacks.ShiftSparsityLogger()
    >>> log = keras.callbacks.CSVLogger("log.csv")
    >>> history = model.fit(
    ...     images, labels, epochs=4, callbacks=[sparsity, log], verbose=0
    ... )
    >>> len(history.history["shift_sparsity"])
    4

    Args:
        per_layer: Whether to add `"shift_sparsity/<layer name>"` for each layer.
    """

    def __init__(self, per_layer=False):
        super().__init__()
        self.per_layer = per_layer

    def on_epoch_end(self, epoch, logs=None):
        layers = shift_layers(self.model)
        if logs is None or not layers:
            return
        channels = sum(layer.channels for layer in layers)
        unshifted = sum(layer.sparsity * layer.channels for layer in layers)
        logs["shift_sparsity"] = unshifted / channels
        if self.per_layer:
            for layer in layers:
                logs[f"shift_sparsity/{layer.name}"] = layer.sparsity
