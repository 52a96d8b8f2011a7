"""Walks through the graphs of functional models and of tensors."""

from collections.abc import Callable
from typing import Any

import keras

from keras_shift.typing import Tensor


def walk(
    model: keras.Model,
    note: Callable[[keras.Operation, tuple, dict, Any], Any],
    inputs: list[Tensor] | None = None,
) -> keras.Model:
    """Calls a function for every call of a layer in a model's graph, in their order.

    Nothing is computed, and the model stays as it is: the calls are repeated in a copy
    of the graph, whose tensors the function sees.

    Args:
        model: A functional or sequential `keras.Model` that is built.
        note: Function of a layer (or an operation of `keras.ops`), the positional and
            the keyword arguments of its call, and what the call returns. If the
            function itself returns something else than `None`, the copy goes on with
            that instead.
        inputs: Inputs of the copy, which may have other sizes than those of the model,
            or `None` for inputs of the same shapes. Defaults to `None`.

    Returns:
        The copy. It calls the model's layers but does not know them: it has no weights.
    """

    def call(layer, *args, **kwargs):
        outputs = _Call(layer)(*args, **kwargs)
        instead = note(layer, args, kwargs, outputs)
        return outputs if instead is None else instead

    return keras.models.clone_model(
        # `call_function` serves neither subclasses nor sequential models.
        keras.Model(model.inputs, model.outputs),
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call,
    )


def source_inputs(tensor: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Returns the inputs from which a symbolic tensor is computed.

    `keras.utils.get_source_inputs` takes every path back to them. FE-blocks have
    millions of paths and a few hundred calls, each of which is visited once here.

    Args:
        tensor: A `keras.KerasTensor`.

    Returns:
        The inputs, each once.
    """
    sources: list[keras.KerasTensor] = []
    seen, waiting = set(), [tensor]
    while waiting:
        tensor = waiting.pop()
        operation, index, _ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if node.is_input:
            if not any(tensor is source for source in sources):
                sources.append(tensor)
        elif node not in seen:
            seen.add(node)
            waiting += reversed(node.input_tensors)
    return sources


def maker(tensor: keras.KerasTensor) -> keras.Operation:
    """Returns the layer that computes a symbolic tensor.

    Args:
        tensor: A `keras.KerasTensor`.

    Returns:
        A layer, or an operation of `keras.ops`; where a functional model is called in
        another one, its own layer.
    """
    operation, _, index = tensor._keras_history
    if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        return maker(operation.outputs[index])
    return operation


class _Call(keras.Operation):
    """Takes a layer's place in the copy, since to call the layer changes its model."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, *args, **kwargs):
        return self.layer(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)
