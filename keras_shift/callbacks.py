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

    In this process, a model's shifts then stay frozen in later calls of `fit` as
    well, at the same pattern; `keras_shift.callbacks.thaw_shifts` ends that, and
    is due before a frozen model is given other weights to train on. In a process
    that loads the model anew, pass the callback again.

    Example:

    >>> freeze = keras_shift.callbacks.FreezeShifts(at_epoch=2)
    >>> history = model.fit(images, labels, epochs=4, callbacks=[freeze], verbose=0)

    Args:
        at_step: Number of optimizer steps after which to freeze, counted by
            `model.optimizer.iterations` (so that a resumed training freezes
            where an uninterrupted one would). With `steps_per_execution` above
            1, the first end of an execution that is not earlier.
        at_epoch: Epoch, counted from 0, before which to freeze.
        least_shifted: Share of a layer's channels, 0 by default. Layers in which fewer
            channels are shifted are frozen without any shift: the first shifted channel
            of a layer costs more than the next, on phones most of all.

    Raises:
        ValueError: When training begins, if there are learned shifts inside of
            custom layers, where the callback cannot find them.
    """

    def __init__(self, at_step=None, at_epoch=None, least_shifted=0.0):
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
        if not 0 <= least_shifted < 1:
            raise ValueError(
                "Argument `least_shifted` must be at least 0 and less than 1. "
                f"Received: least_shifted={least_shifted}"
            )
        self.at_step = at_step
        self.at_epoch = at_epoch
        self.least_shifted = least_shifted

    def on_train_begin(self, logs=None):
        self._frozen = False
        self._check_reach()
        self._freeze_at(self._steps())

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_begins = self._steps()
        if self.at_epoch is not None and epoch >= self.at_epoch:
            self._freeze()

    def on_train_batch_end(self, batch, logs=None):
        if self.at_step is None or self._frozen:
            return
        if keras.backend.backend() == "jax":
            # During an epoch, JAX keeps the weights outside of the model, and
            # fetching them takes time. An optimizer that accumulates gradients
            # has made fewer steps than this.
            if self._epoch_begins + batch + 1 < self.at_step:
                return
            self.model.jax_state_sync()
        self._freeze_at(self._steps())

    def on_train_end(self, logs=None):
        # A moving average of the weights has taken their place.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", None)
        if self._frozen and (optimizer or self.model.optimizer).use_ema:
            for layer in _rounding_layers(self.model):
                layer.displacements.assign(layer.displacements.constraint.value)

    def _steps(self):
        return int(self.model.optimizer.iterations.numpy())

    def _freeze_at(self, steps):
        if self.at_step is not None and steps >= self.at_step:
            self._freeze()

    def _freeze(self):
        if self._frozen:
            return
        self._frozen = True
        for layer in _rounding_layers(self.model):
            # Adding zero turns -0.0 into 0.0.
            pattern = np.rint(layer.displacement_array()) + 0.0
            if np.mean(pattern.any(axis=0)) < self.least_shifted:
                pattern[:] = 0.0
            layer.displacements.assign(pattern)
            layer.displacements.constraint = Pinned(pattern)
        # The compiled step has the old constraints in it. (Clearing `trainable`
        # instead would not do: the optimizer's variables belong to the trainable
        # ones, one by one.)
        self.model.make_train_function(force=True)

    def _check_reach(self):
        learned = [w for w in self.model.trainable_weights if w.name == "displacements"]
        found = [
            layer
            for layer in shift_layers(self.model)
            if isinstance(layer, LearnedShift) and layer.trainable
        ]
        if len(learned) > len(found):
            raise ValueError(
                "FreezeShifts finds the layers of models inside of models, but not "
                "those inside of custom layers. Received: a model with "
                f"{len(learned)} learned shifts, of which {len(found)} are found"
            )


def thaw_shifts(model):
    """Lets shifts learn again that `FreezeShifts` has frozen.

    Args:
        model: A compiled `keras.Model`.

    Example:

    >>> keras_shift.callbacks.thaw_shifts(model)
    """
    for layer in _rounding_layers(model):
        layer.displacements.constraint = layer.displacement_constraint()
    model.make_train_function(force=True)


def _rounding_layers(model):
    return [
        layer
        for layer in shift_layers(model)
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
