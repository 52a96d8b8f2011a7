"""A functional model as the calls of its layers."""

import collections
import dataclasses

import keras


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A layer's call: its tensors, in a copy of the model's graph.

    Attributes:
        layer: The layer, or an operation of `keras.ops`.
        args: Positional arguments, which may hold tensors.
        kwargs: Other arguments.
        inputs: All tensors among the arguments.
        outputs: All tensors that it returns.
    """

    layer: keras.Operation
    args: tuple
    kwargs: dict
    inputs: list
    outputs: list


class _Observer(keras.Operation):
    """Stands in a layer's place in the copy: calling it would change the model."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)


class Graph:
    """The calls of a model's layers, and which of them use a tensor."""

    def __init__(self, model):
        self.calls: list[Call] = []

        def observe(layer, *args, **kwargs):
            outputs = _Observer(layer)(*args, **kwargs)
            self.calls.append(
                Call(
                    layer,
                    args,
                    kwargs,
                    inputs=_tensors_of((args, kwargs)),
                    outputs=_tensors_of(outputs),
                )
            )
            return outputs

        self._copy = keras.models.clone_model(
            # `call_function` does not serve sequential models.
            keras.Model(model.inputs, model.outputs),
            clone_function=lambda layer: layer,
            call_function=observe,
        )
        self._makers = {
            id(tensor): call for call in self.calls for tensor in call.outputs
        }
        # None stands for whoever takes the model's outputs.
        self._users: dict[int, list[Call | None]] = collections.defaultdict(list)
        for call in self.calls:
            for tensor in call.inputs:
                self._users[id(tensor)].append(call)
        for tensor in self._copy.outputs:
            self._users[id(tensor)].append(None)
        self._times_called = collections.Counter(id(call.layer) for call in self.calls)

    def maker(self, tensor):
        """Returns the call that returns a tensor, or `None` for the model's inputs."""
        return self._makers.get(id(tensor))

    def users(self, tensor):
        """Returns the calls that use a tensor; `None` stands for the model's end."""
        return self._users[id(tensor)]

    def only_user(self, call):
        """Returns the one call that uses what a call returns, or `None`."""
        users = self.users(call.outputs[0])
        return users[0] if len(users) == 1 else None

    def is_simple(self, call):
        """Whether it is its layer's only call, as at inference, of a single map."""
        return (
            self._times_called[id(call.layer)] == 1
            and len(call.outputs) == 1
            and not any(value is not None for value in call.kwargs.values())
            and all(len(tensor.shape) == 4 for tensor in call.inputs)
        )


def _tensors_of(structure):
    flat = keras.tree.flatten(structure)
    return [tensor for tensor in flat if keras.utils.is_keras_tensor(tensor)]
