"""The walk through a model's graph that every count of this package takes."""

import dataclasses

import keras


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One call of a layer in a model's graph.

    Attributes:
        path: Name of the layer, after those of the models that it is in, such as
            `"backbone/stem"`.
        layer: The layer, or an operation of `keras.ops`.
        input_shape: Shape of its first argument that is a tensor, the batch
            included, or a tuple of shapes where that holds several.
        output_shape: The same of what it returns.
    """

    path: str
    layer: keras.Operation
    input_shape: tuple
    output_shape: tuple


def layer_calls(model, input_shape=None):
    """Returns the calls of all layers in a model's graph, in their order.

    Shapes are those of the model as a whole: layers of a nested model see the
    map that it is called on, whatever size it was built for. Nothing is computed,
    and the model stays as it is.

    Args:
        model: A functional or sequential `keras.Model` that is built. Models in
            it are followed likewise; subclassed ones count as a layer.
        input_shape: Shape of one image, for a model with one input that leaves
            sizes open, or `None` for the shapes it was built with.

    Returns:
        A list of `LayerCall`.

    Raises:
        ValueError: For a subclassed model, or if the model does not take
            `input_shape`.
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
    keras.models.clone_model(
        # A plain functional model in place of any subclass and of sequential
        # models, which `call_function` does not serve.
        keras.Model(model.inputs, model.outputs),
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=lambda layer, *args, **kwargs: _Observer(layer, prefix, calls)(
            *args, **kwargs
        ),
    )


class _Observer(keras.Operation):
    """Stands in a layer's place in a copy of the graph and notes its calls.

    Calling the layer itself would add the call to the user's model.
    """

    def __init__(self, layer, prefix, calls):
        super().__init__()
        self.layer = layer
        self.prefix = prefix
        self.calls = calls

    def compute_output_spec(self, *args, **kwargs):
        outputs = self.layer.compute_output_spec(*args, **kwargs)
        path = self.prefix + self.layer.name
        inputs = next(filter(_shapes, (*args, *kwargs.values())), ())
        if _is_graph(self.layer):
            shapes = [tensor.shape for tensor in _in_order(self.layer, inputs)]
            _follow(self.layer, shapes, f"{path}/", self.calls)
        else:
            call = LayerCall(path, self.layer, _shapes(inputs), _shapes(outputs))
            self.calls.append(call)
        return outputs


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
