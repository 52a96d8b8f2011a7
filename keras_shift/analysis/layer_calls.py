"""Lists the layer calls in a model's graph, from which this package counts."""

import dataclasses
from collections.abc import Sequence

import keras

from keras_shift.graph_walk import walk


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One call of a layer in a model's graph.

    Attributes:
        path: Name of the layer, preceded by the names of the models that it is in,
            such as `"backbone/stem"`.
        layer: The layer, or an operation of `keras.ops`.
        input_shape: Shape of the first argument that holds a tensor, including the
            batch, or a tuple of shapes if this argument holds several tensors.
        output_shape: Shape of what the call returns, likewise.
    """

    path: str
    layer: keras.Operation
    input_shape: tuple
    output_shape: tuple


def layer_calls(
    model: keras.Model, input_shape: Sequence[int] | None = None
) -> list[LayerCall]:
    """Returns the calls of all layers in a model's graph, in their order.

    The shapes in a nested model are those of the map on which the outer model calls
    it, not those that it was built with. Nothing is computed, and the model stays as
    it is.

    Args:
        model: A functional or sequential `keras.Model` that is built. Models inside
            it are replaced by their layers; a subclassed model inside it counts as
            one layer.
        input_shape: Shape of one image, for a model with one input that was built
            with unknown sizes, or `None` for the shapes it was built with. Defaults
            to `None`.

    Returns:
        A list of `LayerCall`.

    Raises:
        ValueError: If the model is subclassed or not built, or does not take images
            of `input_shape`.
    """
    if not _is_graph(model):
        raise ValueError(
            "Layers can be counted of functional and sequential models that are "
            f"built. Received: model={model}"
        )
    shapes = [tensor.shape for tensor in model.inputs]
    if input_shape is not None:
        shapes = [_input_shape(model, input_shape)]
    calls: list[LayerCall] = []
    _follow(model, shapes, "", calls)
    return calls


def _is_graph(layer):
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def _input_shape(model, input_shape):
    built = [tuple(tensor.shape) for tensor in model.inputs]
    shape = (None, *input_shape)
    if (
        len(built) != 1
        or len(built[0]) != len(shape)
        or any(size not in (None, new) for size, new in zip(built[0][1:], shape[1:]))
    ):
        raise ValueError(
            "Argument `input_shape` must be a shape that the model's only input "
            f"takes. Received: input_shape={tuple(input_shape)}, for a model with "
            f"inputs of shape {', '.join(str(shape[1:]) for shape in built)}"
        )
    return (built[0][0], *input_shape)


def _follow(model, shapes, prefix, calls):
    inputs = [
        keras.Input(batch_shape=shape, dtype=tensor.dtype)
        for shape, tensor in zip(shapes, model.inputs)
    ]

    def note(layer, args, kwargs, outputs):
        path = prefix + layer.name
        first = next(filter(_shapes, (*args, *kwargs.values())), ())
        if _is_graph(layer):
            shapes = [tensor.shape for tensor in _in_order(layer, first)]
            _follow(layer, shapes, f"{path}/", calls)
        else:
            calls.append(LayerCall(path, layer, _shapes(first), _shapes(outputs)))

    walk(model, note, inputs)


def _in_order(model, inputs):
    if isinstance(inputs, dict) and not isinstance(model.input, dict):
        return [inputs[tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(inputs)


def _shapes(tensors):
    shapes = tuple(
        tuple(tensor.shape)
        for tensor in keras.tree.flatten(tensors)
        if keras.utils.is_keras_tensor(tensor)
    )
    return shapes[0] if len(shapes) == 1 else shapes
