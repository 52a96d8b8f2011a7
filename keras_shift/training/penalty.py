"""Penalties on displacements that weigh layers by what their shifts cost."""

import keras
import numpy as np

from keras_shift.layers.shift_layer import LearnedShift, shift_layers
from keras_shift.training.layer_costs import costs_per_channel
from keras_shift.training.learning_rate import learning_rate

# Learning rates change slowly: their mean over a training takes no more places.
_PLACES = 1000


def penalize_shifts(model, strength, costs=None):
    r"""Gives every learned shift of a model an L2 penalty, dearer shifts a larger one.

    The penalty of Eq. 4 of the SSL paper has one λ for all layers. But a shift in a map
    of 112x112 pixels moves 256 times the pixels of one in a map of 7x7, and λ spares
    both alike. Here layer `l`, in which a shifted channel costs `c[l]`, gets

    ```
    strength * c[l] / mean(c) * sum(square(d[l]))
    ```

    with the mean over the channels of all layers, so that `strength` is the λ of every
    layer if costs are equal. Penalties that the layers had are replaced.

    Example:

    >>> model = keras_shift.zoo.FENet((64, 64, 3), classes=10)
    >>> keras_shift.training.penalize_shifts(model, 1e-4, costs="pixels")
    >>> model.compile("sgd", "sparse_categorical_crossentropy")

    Args:
        model: A `keras.Model`. Compile it afterwards.
        strength: Float, the mean λ.
        costs: `None` for equal costs; `"pixels"` for the number of pixels of a layer's
            map; or a dictionary of costs in any unit by the names of layers, such as
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


def strength_of_decay(recipe, steps):
    r"""Returns the λ that lets displacements decay as a recipe's `displacement_decay`.

    A displacement that nothing but its penalty pulls at takes, in a step with learning
    rate `r`, momentum `m` and the displacements' factor `f`, the fraction
    `2 * λ * f * r / (1 - m)` of its way to zero (on average, once momentum has built
    up). Over all steps in which shifts learn, a share `exp(-decay)` is left with

    ```
    λ = decay * (1 - m) / (2 * f * sum(r))
    ```

    Args:
        recipe: A `Recipe`.
        steps: Number of steps of the whole training.
    """
    schedule = learning_rate(recipe, steps)
    last = steps if recipe.freeze_shifts is None else recipe.freeze_shifts * steps
    rates = [
        float(schedule((place + 0.5) / _PLACES * last)) for place in range(_PLACES)
    ]
    total = recipe.displacement_learning_rate * np.mean(rates) * last
    return recipe.displacement_decay * (1 - recipe.momentum) / (2 * total)
