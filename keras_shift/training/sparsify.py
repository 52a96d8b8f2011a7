"""Takes shifts away from a model while it trains."""

import math
from collections.abc import Mapping
from typing import Literal

import keras
import numpy as np

from keras_shift.callbacks import restore_pinned
from keras_shift.constraints import Pinned
from keras_shift.integers import positive_integer
from keras_shift.layers import SparseShift2D
from keras_shift.shift_arguments import check_max_displacement
from keras_shift.training.layer_costs import costs_per_channel
from keras_shift.training.optimizer import ShiftSGD
from keras_shift.training.removal_order import cost_of, counts_of_shifted, take_away
from keras_shift.training.shift_importance import ShiftImportance


class SparsifyShifts(keras.callbacks.Callback):
    r"""Takes shifts away, step by step, while a model trains.

    A penalty hardly moves displacements in a fine-tuning of minutes. This callback
    takes away the shifts that cost most and matter least. The importance of the shift
    of channel `c` is the squared change of an image's loss without this shift, to first
    order, averaged over images:

    ```
    importance[c] = mean(square(sum(dL/dy[..., c] * (x[..., c] - y[..., c]))))
    ```

    Here `y` is the shifted channel, `x` is the unshifted channel, and the sum is taken
    over pixels. Shifts with the smallest ratio of importance to cost are taken away
    first. This happens at `stages` moments, between which the weights adapt. After the
    share `t` of these moments, the share `1 - (1 - t) ** 3` of the shifts that must go
    is gone (Zhu and Gupta, 2017). From `begin` on, displacements are whole pixels, and
    the remaining ones do not change any more, even in later calls of `fit` (see
    `keras_shift.callbacks.thaw_shifts`). With the optimizer's `use_ema`, later calls
    need the callback again, since the average remembers the displacements before it.

    On JAX, the optimizer must be a `keras_shift.training.ShiftSGD`, which is frozen at
    `begin`. (Constraints on the displacements would be constants there, and the train
    function would have to be compiled anew at every moment.)

    Example:

    >>> sparsify = keras_shift.training.SparsifyShifts(
    ...     images[:1000], labels[:1000], unshifted=0.8
    ... )
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> history = model.fit(images, labels, epochs=5, callbacks=[sparsify], verbose=0)

    Args:
        images: Array of training images, which are used to compute the importance. Some
            hundreds of images of all classes are enough.
        labels: Array of the images' labels, as the model's loss takes them.
        unshifted: Float from 0 to 1, the share of all channels that is unshifted at the
            end. Give either this or `cost`. Defaults to `None`.
        cost: Float from 0 to 1. At the end, the remaining shifts cost at most this
            share of what all shifts of the model cost at first. Give either this or
            `unshifted`. Defaults to `None`.
        costs: What shifts cost, see `keras_shift.training.penalize_shifts`. Defaults to
            `"pixels"`.
        layer_cost: Float, what it costs that a layer shifts at all, as a number of its
            channels. The larger it is, the more layers lose all their shifts at once.
            Defaults to `0.0`.
        max_displacement: Int, the largest displacement in pixels that is left, or
            `None`. Larger ones are reduced to it at `begin`. Shifts by at most one
            pixel are the fastest. Defaults to `None`.
        begin: Float, the share of the training after which displacements no longer
            learn and the first shifts are taken away. A model with random weights first
            has to learn which shifts matter. Defaults to `0.0`, for a trained model.
        end: Float, the share of the training after which no more shifts are taken away,
            or `None` for the middle between `begin` and the end of the training.
            Defaults to `None`.
        stages: Int, number of moments at which shifts are taken away. Defaults to `10`.

    Raises:
        ValueError: If an argument is none of the above or the backend is neither
            TensorFlow nor JAX. In training, also if the model itself has no sparse
            shifts (those of models inside of it do not count), if the number of steps
            is unknown, or on JAX if the optimizer is another.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        unshifted: float | None = None,
        cost: float | None = None,
        costs: Mapping[str, float] | Literal["pixels"] | None = "pixels",
        layer_cost: float = 0.0,
        max_displacement: int | None = None,
        begin: float = 0.0,
        end: float | None = None,
        stages: int = 10,
    ) -> None:
        super().__init__()
        if (unshifted is None) == (cost is None):
            raise ValueError(
                "Exactly one of the arguments `unshifted` and `cost` must be given. "
                f"Received: unshifted={unshifted}, cost={cost}"
            )
        end = (begin + 1) / 2 if end is None else end
        shares = {"unshifted": unshifted, "cost": cost, "begin": begin, "end": end}
        for name, share in shares.items():
            if share is not None and not 0 <= share <= 1:
                raise ValueError(
                    f"Argument `{name}` must be a share, from 0 to 1. "
                    f"Received: {name}={share}"
                )
        if not 0 <= layer_cost < math.inf:
            raise ValueError(
                "Argument `layer_cost` must be zero or more, and finite. "
                f"Received: layer_cost={layer_cost}"
            )
        if begin > end:
            raise ValueError(
                "Argument `begin` must not be larger than `end`. "
                f"Received: begin={begin}, end={end}"
            )
        stages = positive_integer("stages", stages)
        if len(images) != len(labels) or not len(images):
            raise ValueError(
                "Arguments `images` and `labels` must be of one length, and not empty. "
                f"Received: {len(images)} images and {len(labels)} labels"
            )
        if keras.backend.backend() not in ("tensorflow", "jax"):
            raise ValueError(
                "SparsifyShifts takes gradients with TensorFlow or JAX. "
                f"Received: backend {keras.backend.backend()}"
            )
        self.images = images
        self.labels = labels
        self.unshifted = unshifted
        self.cost = cost
        self.costs = costs
        self.layer_cost = layer_cost
        self.max_displacement = check_max_displacement(max_displacement)
        self.begin = begin
        self.end: float = end
        self.stages = stages
        self._on_jax = keras.backend.backend() == "jax"

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        layers = [
            layer for layer in self.model.layers if isinstance(layer, SparseShift2D)
        ]
        if not layers:
            raise ValueError(
                "SparsifyShifts finds sparse shifts among the layers of a functional "
                f"or sequential model. Received: model={self.model.name!r}, which has "
                "none there"
            )
        if not self.params.get("steps"):
            raise ValueError(
                "SparsifyShifts must know how long the training is: pass "
                "`steps_per_epoch` to `fit`."
            )
        optimizer = self.model.optimizer
        # Keras wraps an optimizer to scale losses.
        self._optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if self._on_jax and not isinstance(self._optimizer, ShiftSGD):
            raise ValueError(
                "On JAX, SparsifyShifts needs the optimizer "
                "`keras_shift.training.ShiftSGD`, which can hold displacements still. "
                f"Received: optimizer={type(self._optimizer).__name__}"
            )
        self._layers = layers
        self._costs = costs_per_channel(layers, self.costs)
        self._importance = ShiftImportance(self.model, layers)
        share = np.arange(self.stages) / self.stages
        share = self.begin + (self.end - self.begin) * share
        epochs, steps = self.params["epochs"], self.params["steps"]
        # Callbacks are called where an execution of one or more steps begins.
        in_epoch = np.arange(0, steps, self.model.steps_per_execution)
        begins = (steps * np.arange(epochs)[:, None] + in_epoch).ravel()
        places = np.searchsorted(begins, np.rint(share * epochs * steps))
        self._moments = np.unique(begins[np.minimum(places, len(begins) - 1)])
        self._done: np.intp | None = None
        self._patterns: list[keras.Variable] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch_begins = epoch * self.params["steps"]

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        step = self._epoch_begins + batch
        if self._done is None:
            # A training that was resumed has already passed these moments.
            self._done = np.searchsorted(self._moments, step)
        reached = np.searchsorted(self._moments, step, side="right")
        if self._on_jax and (reached > self._done or reached and not self._patterns):
            # During an epoch, Keras on JAX keeps the weights outside of the model.
            self.model.jax_state_sync()
        if reached and not self._patterns:
            self._hold_still()
        if reached > self._done:
            count = len(self._moments)
            self._take_away(1 - ((count - reached) / (count - self._done)) ** 3)
            self._done = reached

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._patterns:
            restore_pinned(self.model.optimizer, self._layers, self._patterns)

    def _hold_still(self):
        """Rounds displacements. From now on only `_pin` changes them."""
        patterns = [layer.whole_displacements() for layer in self._layers]
        if self.max_displacement is not None:
            bound = self.max_displacement
            patterns = [pattern.clip(-bound, bound) for pattern in patterns]
        self._first_cost = self._cost_of(patterns)
        self._patterns = [
            keras.Variable(pattern, trainable=False) for pattern in patterns
        ]
        if self._on_jax:
            self._optimizer.frozen = True
        else:
            for layer, pattern in zip(self._layers, self._patterns):
                layer.displacements.constraint = Pinned(pattern)
        # The train function that is already compiled lets displacements learn.
        self.model.make_train_function(force=True)
        self._pin(patterns)

    def _take_away(self, share):
        """Takes away a share of the shifts that exceed the budget."""
        patterns = [pattern.numpy().copy() for pattern in self._patterns]
        present = self._measure(patterns)
        target = present - share * (present - self._budget())
        take_away(
            patterns,
            self._importance(self.images, self.labels),
            self._costs,
            self.layer_cost,
            until=lambda patterns: self._measure(patterns) <= target,
        )
        self._pin(patterns)

    def _measure(self, patterns):
        """Returns the share of shifted channels, or the cost if the budget is one."""
        if self.cost is not None:
            return self._cost_of(patterns)
        shifted = sum(counts_of_shifted(patterns))
        return shifted / sum(layer.channels for layer in self._layers)

    def _cost_of(self, patterns):
        return cost_of(patterns, self._costs, self.layer_cost)

    def _budget(self):
        if self.cost is not None:
            return self.cost * self._first_cost
        # Without `cost` there is `unshifted`.
        return 1 - self.unshifted  # type: ignore[operator]

    def _pin(self, patterns):
        for layer, variable, pattern in zip(self._layers, self._patterns, patterns):
            variable.assign(pattern)
            layer.displacements.assign(pattern)
