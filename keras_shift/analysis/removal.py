"""Which layers' shifts matter least, and models without them."""

from collections.abc import Sequence

import keras

from keras_shift.analysis.layer_calls import layer_calls
from keras_shift.layers.shift_layer import ShiftLayer
from keras_shift.rewriting import rewrite


def least_important_shifts(model: keras.Model, n: int | None = None) -> list[str]:
    """Ranks shift layers by their sparsity, the least important one first.

    The measure is that of the SSL paper's section 5.3: the sparsity of a layer, which
    is the share of its channels that are unshifted. Where most channels stay in their
    place, the shift matters little. This says something of layers whose displacements
    were learned with a penalty (Table 2 has λ = 5e-4). Layers that are equally sparse
    stay in the model's order.

    Example:

    >>> names = keras_shift.analysis.least_important_shifts(model, 3)
    >>> smaller = keras_shift.analysis.remove_shifts(model, names)

    Args:
        model: A functional or sequential `keras.Model`.
        n: Int, how many layers to return, or `None` for all shift layers. Defaults to
            `None`.

    Returns:
        A list of names, as `keras_shift.analysis.summary` has them: that of a layer in
        a model inside of the model is preceded by the inner model's, as in
        `"backbone/unit1_shift"`.

    Raises:
        ValueError: If the model is subclassed or not built, or has no `n` shift layers.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Section 5.3,
      Tables 2 and 3
    """
    layers = shifts_by_path(model)
    if n is None:
        n = len(layers)
    if not 0 <= n <= len(layers):
        raise ValueError(
            f"Argument `n` must be an integer from 0 to {len(layers)}, the number of "
            f"the model's shift layers. Received: n={n}"
        )
    # Sorting is stable, in this direction, too.
    return sorted(layers, key=lambda path: layers[path].sparsity, reverse=True)[:n]


def remove_shifts(
    model: keras.Model, layers: Sequence[str | ShiftLayer]
) -> keras.Model:
    """Returns a copy of a model in which some shift layers move nothing.

    An `Identity` takes the place of each of these layers, or a `ReLU` if the shift
    layer had one. Unlike displacements that are zero, it never learns to move anything,
    so that the copy can be trained as the networks of the SSL paper's Table 3 are. All
    other layers keep their names and weights.

    Example:

    >>> names = keras_shift.analysis.least_important_shifts(model, 2)
    >>> copy = keras_shift.analysis.remove_shifts(model, names)
    >>> left = keras_shift.analysis.least_important_shifts(copy)
    >>> len(left) == len(keras_shift.analysis.least_important_shifts(model)) - 2
    True

    Args:
        model: A functional or sequential `keras.Model`. It is left as it is.
        layers: List of shift layers of the model, or of their names, as
            `least_important_shifts` returns them.

    Returns:
        A `keras.Model` with weights of its own, which is compiled if `model` is.

    Raises:
        ValueError: If the model is subclassed or not built, if it has layers that were
            quantized or have LoRA, or if something in `layers` is no shift layer of it.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Section 5.3,
      Table 3
    """
    known = shifts_by_path(model)
    by_identity = {id(layer): layer for layer in known.values()}
    removed = set()
    if isinstance(layers, (str, keras.layers.Layer)):
        layers = [layers]
    for layer in layers:
        shift = known.get(layer) if isinstance(layer, str) else layer
        if id(shift) not in by_identity:
            raise ValueError(
                "Argument `layers` must be a list of shift layers of the model or of "
                f"their names: {list(known)}. Received: {layer!r} in it"
            )
        removed.add(id(shift))

    def without_shift(layer, shapes):
        if id(layer) not in removed:
            return None
        kind = keras.layers.ReLU if layer.input_relu else keras.layers.Identity
        return kind(name=layer.name, dtype=layer.dtype_policy), []

    return rewrite(model, without_shift, dtype=None)


def shifts_by_path(model: keras.Model) -> dict[str, ShiftLayer]:
    """Returns the shift layers that a model calls, by their names in `summary`.

    Args:
        model: A functional or sequential `keras.Model`.

    Raises:
        ValueError: If the model is subclassed or not built.
    """
    paths: dict[int, tuple[str, ShiftLayer]] = {}
    for call in layer_calls(model):
        if isinstance(call.layer, ShiftLayer):
            paths.setdefault(id(call.layer), (call.path, call.layer))
    return dict(paths.values())
