"""Lists the calls of a functional model's layers, and their tensors."""

import collections
import dataclasses
from collections.abc import Callable

import keras

from keras_shift.graph_walk import walk
from keras_shift.typing import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer, with tensors of a copy of the model's graph.

    Attributes:
        layer: The layer, or an operation of `keras.ops`.
        args: Positional arguments, which may hold tensors.
        kwargs: Keyword arguments, which may hold tensors.
        inputs: All tensors among the arguments.
        outputs: All tensors that the call returns.
    """

    layer: keras.Operation
    args: tuple
    kwargs: dict
    inputs: list
    outputs: list


class Graph:
    """The calls of a model's layers, and which of them make and use a tensor.

    Args:
        model: A functional or sequential `keras.Model`, which is left as it is.
    """

    def __init__(self, model: keras.Model) -> None:
        self.calls: list[Call] = []

        def note(layer, args, kwargs, outputs):
            inputs = _tensors_of((args, kwargs))
            self.calls.append(Call(layer, args, kwargs, inputs, _tensors_of(outputs)))

        self._copy = walk(model, note)
        self._makers = {
            id(tensor): call for call in self.calls for tensor in call.outputs
        }
        # `None` stands for the use as an output of the model.
        self._users: dict[int, list[Call | None]] = collections.defaultdict(list)
        for call in self.calls:
            for tensor in call.inputs:
                self._users[id(tensor)].append(call)
        for tensor in self._copy.outputs:
            self._users[id(tensor)].append(None)
        self._times_called = collections.Counter(id(call.layer) for call in self.calls)

    def maker(self, tensor: Tensor) -> Call | None:
        """Returns the call that returns a tensor, or `None` for the model's inputs."""
        return self._makers.get(id(tensor))

    def users(self, tensor: Tensor) -> list[Call | None]:
        """Returns the calls that use a tensor.

        `None` among them stands for the use as an output of the model.
        """
        return self._users[id(tensor)]

    def only_user(self, call: Call) -> Call | None:
        """Returns the one call that uses the first tensor that a call returns.

        `None` if there is none, if there are several, or if it is the model's output.
        """
        users = self.users(call.outputs[0])
        return users[0] if len(users) == 1 else None

    def is_plain(self, call: Call) -> bool:
        """Returns whether a call is the only one of its layer, and has one output.

        It must have no keyword arguments, such as `training`, other than `None`.
        """
        return (
            self._times_called[id(call.layer)] == 1
            and len(call.outputs) == 1
            and not any(value is not None for value in call.kwargs.values())
        )

    def is_simple(self, call: Call) -> bool:
        """Returns whether a call is plain, and all of its inputs are maps."""
        return self.is_plain(call) and all(
            len(tensor.shape) == 4 for tensor in call.inputs
        )


class Chain:
    """Calls of which each is the only user of the one before, by their roles.

    Attributes:
        calls: A dict from roles to calls, in the calls' order.

    Args:
        graph: The `Graph` of the calls.
        role: Name of the first call's role.
        call: The first call.
    """

    def __init__(self, graph: Graph, role: str, call: Call) -> None:
        self._graph = graph
        self.calls = {role: call}

    @property
    def last(self) -> Call:
        """The last of the calls."""
        return next(reversed(self.calls.values()))

    def follow(self, role: str, accepts: Callable[[Call], bool]) -> bool:
        """Adds the only user of the last call, if there is one that is accepted.

        Args:
            role: Name of the user's role.
            accepts: Function from a call to whether it may have this role.

        Returns:
            Whether it was added.
        """
        call = self._graph.only_user(self.last)
        if call is None or not accepts(call):
            return False
        self.calls[role] = call
        return True


def _tensors_of(structure):
    flat = keras.tree.flatten(structure)
    return [tensor for tensor in flat if keras.utils.is_keras_tensor(tensor)]
