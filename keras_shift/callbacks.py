"""Keras callbacks for learned shifts."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_shift.constraints import Pinned
from keras_shift.layers.shift_layer import LearnedShift, shift_layers


class FreezeShifts(keras.callbacks.Callback):
    """Freezes the displacements in the middle of training.

    At the given step or epoch, the displacements of all
    `keras_shift.layers.SparseShift2D` layers are rounded. From then on they keep
    these values exactly: momentum, weight decay and regularizers do not change
    them. All other weights go on training, and the optimizer keeps its state. The
    SSL paper freezes after 48k of 64k steps on CIFAR and after 240 of 480 epochs
    on ImageNet.

    The displacements stay frozen at the same values in later calls of `fit` in
    this process. `keras_shift.callbacks.thaw_shifts` ends that. Call it before a
    frozen model gets other weights to train on. A process that loads the model
    again must pass the callback again.

    Example:

    >>> freeze = keras_shift.callbacks.FreezeShifts(at_epoch=2)
    >>> history = model.fit(images, labels, epochs=4, callbacks=[freeze], verbose=0)

    Args:
        at_step: Int, the number of optimizer steps after which to freeze, or
            `None` if `at_epoch` is given. Steps are counted by
            `model.optimizer.iterations`, so that a resumed training freezes at the
            same step as one without interruption. With `steps_per_execution` above
            1, the callback freezes at the end of the execution that reaches this
            step. Defaults to `None`.
        at_epoch: Int, the epoch before which to freeze, counted from 0, or `None`
            if `at_step` is given. Defaults to `None`.
        least_shifted: Float, a share of a layer's channels, at least 0 and less
            than 1. A layer that shifts a smaller share is frozen with all its
            displacements zero: the first shifted channel of a layer costs more time
            than each further one, above all on phones. Defaults to `0.0`.

    Raises:
        ValueError: If not exactly one of `at_step` and `at_epoch` is given, or an
            argument is out of range. When training begins: if there are learned
            displacements inside of custom layers, where the callback cannot find
            them.
    """

    def __init__(
        self,
        at_step: int | None = None,
        at_epoch: int | None = None,
        least_shifted: float = 0.0,
    ) -> None:
        super().__init__()
        if (at_step is None) == (at_epoch is None):
            raise ValueError(
                "Exactly one of the arguments `at_step` and `at_epoch` must be "
                f"given. Received: at_step={at_step}, at_epoch={at_epoch}"
            )
        when = at_epoch if at_step is None else at_step
        if when < 0:  # type: ignore[operator]  # One of the two is given.
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

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._frozen = False
        self._check_reach()
        self._freeze_at(self._steps())

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch_begins = self._steps()
        if self.at_epoch is not None and epoch >= self.at_epoch:
            self._freeze()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if self.at_step is None or self._frozen:
            return
        if keras.backend.backend() == "jax":
            # During an epoch, Keras on JAX keeps the weights outside of the model,
            # and fetching them takes time. The left side is the largest possible
            # number of steps: an optimizer that accumulates gradients made fewer.
            if self._epoch_begins + batch + 1 < self.at_step:
                return
            self.model.jax_state_sync()
        self._freeze_at(self._steps())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._frozen:
            layers = _rounding_layers(self.model)
            pinned = (layer.displacements.constraint.value for layer in layers)
            restore_pinned(self.model.optimizer, layers, pinned)

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
            pattern = layer.whole_displacements()
            if np.mean(pattern.any(axis=0)) < self.least_shifted:
                pattern[:] = 0.0
            layer.displacements.assign(pattern)
            layer.displacements.constraint = Pinned(pattern)
        # The compiled training step still holds the old constraints. (Clearing
        # `trainable` instead is not possible: the optimizer has one set of variables
        # for each trainable weight and would no longer fit.)
        self.model.make_train_function(force=True)

    def _check_reach(self):
        learned = [w for w in self.model.trainable_weights if w.name == "displacements"]
        within_reach = [
            layer
            for layer in shift_layers(self.model)
            if isinstance(layer, LearnedShift) and layer.trainable
        ]
        if len(learned) > len(within_reach):
            raise ValueError(
                "FreezeShifts finds the layers of models inside of models, but not "
                "those inside of custom layers. Received: a model with "
                f"{len(learned)} learned shifts, of which {len(within_reach)} are found"
            )


def thaw_shifts(model: keras.Model) -> None:
    """Makes displacements learn again after a callback has frozen them.

    Example:

    >>> keras_shift.callbacks.thaw_shifts(model)

    Args:
        model: A compiled `keras.Model`.
    """
    for layer in _rounding_layers(model):
        layer.displacements.constraint = layer.displacement_constraint()
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if hasattr(optimizer, "frozen"):
        optimizer.frozen = False
    model.make_train_function(force=True)


def restore_pinned(
    optimizer: keras.optimizers.Optimizer,
    layers: Iterable[LearnedShift],
    values: Iterable[np.ndarray | keras.Variable],
) -> None:
    """Gives pinned displacements their values again at the end of a training.

    An optimizer with `use_ema` has then replaced them by their moving average.

    Args:
        optimizer: The model's optimizer.
        layers: The layers.
        values: The value of each layer's displacements.
    """
    if getattr(optimizer, "inner_optimizer", optimizer).use_ema:
        for layer, value in zip(layers, values):
            layer.displacements.assign(value)


def _rounding_layers(model):
    return [
        layer
        for layer in shift_layers(model)
        if isinstance(layer, LearnedShift) and layer.rounds
    ]


class ShiftSparsityLogger(keras.callbacks.Callback):
    """Adds the sparsity of the shift layers to the logs of every epoch.

    Sparsity is the share of unshifted channels. The value `logs["shift_sparsity"]`
    is the share among the channels of all shift layers together, as in Table 1 of
    the SSL paper. It appears in the progress bar, in `History`, and in the output
    of callbacks that stand after this one.

    Example:

    >>> sparsity = keras_shift.callbacks.ShiftSparsityLogger()
    >>> log = keras.callbacks.CSVLogger("log.csv")
    >>> history = model.fit(
    ...     images, labels, epochs=4, callbacks=[sparsity, log], verbose=0
    ... )
    >>> len(history.history["shift_sparsity"])
    4

    Args:
        per_layer: Boolean, whether to add `"shift_sparsity/<layer name>"` for
            each layer as well. Defaults to `False`.
    """

    def __init__(self, per_layer: bool = False) -> None:
        super().__init__()
        self.per_layer = per_layer

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        layers = shift_layers(self.model)
        if logs is None or not layers:
            return
        channels = sum(layer.channels for layer in layers)
        unshifted = sum(layer.sparsity * layer.channels for layer in layers)
        logs["shift_sparsity"] = unshifted / channels
        if self.per_layer:
            for layer in layers:
                logs[f"shift_sparsity/{layer.name}"] = layer.sparsity
