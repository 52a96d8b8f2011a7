"""Penalties on displacements that weigh layers by what their shifts cost."""

import keras
import numpy as np

from keras_shift.layers.shift_layer import LearnedShift, shift_layers
from keras_shift.training.learning_rate import learning_rate

# Learning rates change slowly: their mean over a training takes no more places.
_PLACES = 1000


def penalize_shifts(model, strength, costs=None):
    r"""Gives every learned shift of a model an L2 penalty, dearer shifts a larger one.

    The penalty of Eq. 4 of the SSL paper has one λ for all layers. But a shift in a map
    of 112x112 pixels moves 256 times the pixels of one in a map of 7x7, and λ spares
    both alike. Here layer `l` with the cost `costs[l]` of a shifted channel gets

    ```
    strength * costs[l] / mean(costs) * sum(square(d[l]))
    ```

    with the mean over all shifted channels, so that `strength` is the λ of all if costs
    are equal. Penalties that the layers had are replaced.

    Example:

    >>> model = keras_shift.zoo.FENet((64, 64, 3), weights="tiny_imagenet")
    >>> keras_shift.training.penalize_shifts(model, 1e-4, costs="pixels")
    >>> model.compile(optimizer, "sparse_categorical_crossentropy")
    >>> model.fit(images, labels)

    Args:
        model: A `keras.Model`. Compile it afterwards.
        strength: Float, the mean λ.
        costs: Dictionary from the names of layers to the cost of shifting one channel,
            in any unit; `"pixels"`, the number of pixels of the layer's map; or `None`,
            for equal costs.

    Raises:
        ValueError: If the model has no learned shifts; if `costs` leaves some of its
            layers out or is negative; or if the size of a map is not known.
    """
    layers = [layer for layer in shift_layers(model) if isinstance(layer, LearnedShift)]
    if not layers:
        raise ValueError(
            "Argument `model` has no layers with learned shifts. "
            f"Received: model={model.name!r}"
        )
    channels = np.array([layer.channels for layer in layers])
    weights = np.array([_cost(layer, costs) for layer in layers])
    mean = np.average(weights, weights=channels)
    if not (weights.min() >= 0 and mean > 0 and np.isfinite(mean)):
        raise ValueError(
            "Argument `costs` must be finite and not negative, and not all zero. "
            f"Received: costs={costs}"
        )
    for layer, weight in zip(layers, weights / mean):
        penalty = keras.regularizers.L2(float(strength * weight))
        layer.displacement_regularizer = penalty
        layer.displacements.regularizer = penalty


def _cost(layer, costs):
    if costs is None:
        return 1.0
    if costs == "pixels":
        shape = layer.input.shape
        sizes = shape[1:3] if layer.data_format == "channels_last" else shape[2:]
        if None in sizes:
            raise ValueError(
                'costs="pixels" needs a model whose `input_shape` has a height and a '
                f"width. Received: a map of {tuple(sizes)} at the layer {layer.name!r}"
            )
        return float(np.prod(sizes))
    try:
        return float(costs[layer.name])
    except (KeyError, TypeError) as error:
        raise ValueError(
            'Argument `costs` must be None, "pixels", or a dictionary with the name of '
            f"every shift layer. Received: costs={costs!r}, without {layer.name!r}"
        ) from error


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
