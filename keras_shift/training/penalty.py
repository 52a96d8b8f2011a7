"""Penalizes displacements, more strongly in layers whose shifts cost more."""

from collections.abc import Mapping
from typing import Literal

import keras
import numpy as np

from keras_shift.layers.shift_layer import LearnedShift, shift_layers
from keras_shift.recipe import Recipe
from keras_shift.training.layer_costs import costs_per_channel
from keras_shift.training.learning_rate import learning_rate

# The mean learning rate of a training is computed from this many points in time.
# Learning rates change slowly, so more points would not change it.
_PLACES = 1000


def penalize_shifts(
    model: keras.Model,
    strength: float,
    costs: Mapping[str, float] | Literal["pixels"] | None = None,
) -> None:
    r"""Gives learned shifts an L2 penalty that grows with what a shift costs.

    The penalty of Eq. 4 of the SSL paper has one λ for all layers. But a shift in a map
    of 112x112 pixels moves 256 times as many pixels as one in a map of 7x7 pixels, and
    one λ penalizes both equally. Here layer `l`, in which a shifted channel costs
    `c[l]`, gets the penalty

    ```
    strength * c[l] / mean(c) * sum(square(d[l]))
    ```

    The mean is taken over the channels of all layers. If all costs are equal,
    `strength` is therefore the λ of every layer. Penalties that the layers already
    have are replaced.

    Example:

    >>> model = keras_shift.zoo.FENet((64, 64, 3), classes=10)
    >>> keras_shift.training.penalize_shifts(model, 1e-4, costs="pixels")
    >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        model: A `keras.Model`. Compile it afterwards.
        strength: Float, the mean λ.
        costs: `None` for equal costs, `"pixels"` for the number of pixels of a layer's
            map, or a dictionary from the layers' names to costs in any unit, such as
            `keras_shift.deploy.shift_costs(model).per_channel`. Defaults to `None`.

    Raises:
        ValueError: If the model has no learned shifts, or `costs` is none of the above.
    """
    layers = [layer for layer in shift_layers(model) if isinstance(layer, LearnedShift)]
    if not layers:
        raise ValueError(
            "Argument `model` has no layers with learned shifts. "
            f"Received: model={model.name!r}"
        )
    channels = np.array([layer.channels for layer in layers])
    weights = costs_per_channel(layers, costs)
    weights /= np.average(weights, weights=channels)
    for layer, weight in zip(layers, weights):
        penalty = keras.regularizers.L2(float(strength * weight))
        layer.displacement_regularizer = penalty
        layer.displacements.regularizer = penalty


def strength_of_decay(recipe: Recipe, steps: int) -> float:
    r"""Returns the λ that stands for a recipe's `displacement_decay`.

    Consider a displacement that only its penalty changes. In a step with the learning
    rate `r`, the momentum `m` and the displacements' factor `f`, it moves by the
    fraction `2 * λ * f * r / (1 - m)` of its distance from zero (on average, once
    momentum has built up). After all steps in which shifts learn, the share
    `exp(-decay)` of the displacement is left if

    ```
    λ = decay * (1 - m) / (2 * f * sum(r))
    ```

    Args:
        recipe: A `Recipe`.
        steps: Number of steps of the whole training.

    Returns:
        A float.
    """
    schedule = learning_rate(recipe, steps)
    last = steps if recipe.freeze_shifts is None else recipe.freeze_shifts * steps
    rates = [
        float(schedule((place + 0.5) / _PLACES * last)) for place in range(_PLACES)
    ]
    # The mean is a float64, which is a float.
    mean: float = np.mean(rates)  # type: ignore[assignment]
    total = recipe.displacement_gradient_factor * mean * last
    return recipe.displacement_decay * (1 - recipe.momentum) / (2 * total)
