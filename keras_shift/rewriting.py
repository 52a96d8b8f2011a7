"""Copies models, with other layers in the place of some."""

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras

from keras_shift.graph import Graph
from keras_shift.typing import Tensor


class Replacement(NamedTuple):
    """A function in the place of layers that make one tensor of another.

    Attributes:
        layers: Names of the layers, in the order of their calls. A single layer may be
            called several times. Of several layers, each is called once, and only the
            last one's output is used by other layers.
        function: Function of the first layer's first input. What it returns takes the
            place of the last layer's output.
    """

    layers: tuple[str, ...]
    function: Callable[[Tensor], Tensor]


def duplicate(model: keras.Model) -> keras.Model:
    """Returns a copy of a model, with all that its layers learned and adapted to.

    Args:
        model: A functional or sequential `keras.Model`.

    Raises:
        ValueError: As `rewrite` does.
    """
    return rewrite(model, lambda layer, shapes: None, dtype=None)


def rewrite(
    model: keras.Model,
    substitute: Callable[[keras.Operation, list[tuple]], tuple | None],
    replacements: Mapping[str, Sequence[Replacement]] | None = None,
    *,
    dtype: str | None = "float32",
) -> keras.Model:
    """Returns a copy of a model, with something else in the place of some layers.

    Args:
        model: A functional or sequential `keras.Model`. The models inside of it are
            rewritten too.
        substitute: Function of a layer and of a list with the shapes of all inputs of
            all of its calls. It returns a pair of the layer that takes its place and
            the weights of that layer, or `None` for a copy of the layer.
        replacements: The `Replacement`s in a model, by the model's path as
            `models_inside` names it, or `None` for none. Defaults to `None`.
        dtype: Dtype policy of copied layers, or `None` for their own. Defaults to
            `"float32"`.

    Returns:
        A `keras.Model` with weights of its own. It is compiled if `model` is, unless
        that is sequential and has replacements outside of the models inside of it.

    Raises:
        ValueError: For a subclassed model, whose layers cannot be exchanged, for layers
            that were quantized or have LoRA, and for replacements of layers that there
            are not, or of one layer twice.
    """
    replacements = {} if replacements is None else replacements
    _check_replacements(model, replacements)
    return _rewrite(model, substitute, replacements, "", dtype)


def _rewrite(model, substitute, replacements, path, dtype):
    shapes: dict[int, list[tuple]] = {}
    for made in Graph(model).calls:
        shapes.setdefault(id(made.layer), []).extend(x.shape for x in made.inputs)
    replaced, copies = [], []
    by_name = {
        name: each for each in replacements.get(path, ()) for name in each.layers
    }
    # What the first layers of replacements were called with, by their names.
    given: dict[str, Tensor] = {}
    if by_name and isinstance(model, keras.Sequential):
        # For a sequential model, `clone_model` refuses a `call_function`.
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)

    def copy(layer):
        if isinstance(layer, keras.Model):
            inside = _path_inside(path, layer)
            return _rewrite(layer, substitute, replacements, inside, dtype)
        _check_plain(layer)
        if layer.name in by_name:
            return layer  # `call` does not call it.
        substituted = substitute(layer, shapes.get(id(layer), []))
        if substituted is not None:
            replaced.append(substituted)
            return substituted[0]
        config = layer.get_config()
        if not isinstance(layer, keras.layers.Layer):
            # This is an operation of `keras.ops`, such as one that slices channels.
            return type(layer).from_config(config)
        if dtype is not None:
            config["dtype"] = dtype
        # The code of a Lambda layer is part of this process already.
        options = {"safe_mode": False} if type(layer) is keras.layers.Lambda else {}
        copied = type(layer).from_config(config, **options)
        copies.append((layer, copied))
        return copied

    def call(layer, *args, **kwargs):
        replacement = by_name.get(layer.name)
        if replacement is None:
            return layer(*args, **kwargs)
        first, last = replacement.layers[0], replacement.layers[-1]
        if layer.name == first:
            given[first], *_ = keras.tree.flatten((args, kwargs))
        # What comes out of the other layers is not used.
        return (
            replacement.function(given[first]) if layer.name == last else given[first]
        )

    copied = keras.models.clone_model(
        model, clone_function=copy, call_function=call if by_name else None
    )
    for layer, weights in replaced:
        layer.set_weights(weights)
    for layer, twin in copies:
        twin.set_weights(layer.get_weights())
        for part, part_of_twin in zip(_with_parts(layer), _with_parts(twin)):
            if hasattr(part, "finalize_state"):
                _copy_adapted(part, part_of_twin)
    return copied


def models_inside(model: keras.Model) -> dict[str, keras.Model]:
    """Returns a model and the models inside of it, by their paths.

    A path holds the names of the models that one is in, each followed by a slash, and
    is `""` for `model` itself.

    Args:
        model: A functional or sequential `keras.Model`.

    Raises:
        ValueError: If one of them is subclassed or not built.
    """
    models: dict[str, keras.Model] = {}

    def add(path, model):
        _check_graph(model)
        models[path] = model
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                add(_path_inside(path, layer), layer)

    add("", model)
    return models


def is_its_graph(model: object) -> bool:
    """Returns whether a model computes what its graph of layers does, nothing else.

    This is false for what is no functional or sequential model, for a model that is not
    built, and for instances of subclasses that have a `call` of their own.

    Args:
        model: Any object.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return False
    functional = type(keras.Model(model.inputs, model.outputs))
    return type(model).call in (functional.call, keras.Sequential.call)


def _check_graph(model):
    if not is_its_graph(model):
        raise ValueError(
            "Argument `model` must be a functional or sequential model that is "
            "built: the layers of others cannot be exchanged. "
            f"Received: model={model}"
        )


def _check_replacements(model, replacements):
    models = models_inside(model)
    for path, here in replacements.items():
        # Operations of `keras.ops` are no layers of a model, but have calls, too.
        calls = Graph(models[path]).calls if path in models else []
        names = {call.layer.name for call in calls}
        for name in itertools.chain.from_iterable(each.layers for each in here):
            if name not in names:
                raise ValueError(
                    "Argument `replacements` must name layers of the model, and each "
                    f"once. Received: {path + name!r}"
                )
            names.remove(name)


def _path_inside(path, model):
    return f"{path}{model.name}/"


def _copy_adapted(layer, twin):
    """Copies what a layer has learned by `adapt`, as saving and loading do.

    `keras.layers.Normalization` computes with constants that it makes when weights are
    loaded, and not when they are set. Lookup layers save their vocabulary as a file.
    """
    store: dict[str, object] = {}
    layer.save_own_variables(store)
    twin.load_own_variables(store)
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            twin.load_assets(folder)


def _with_parts(layer):
    """Returns a layer and the layers inside of it, in the order of their creation."""
    layers = [layer]
    # The list grows during the loop.
    for part in layers:
        for value in vars(part).values():
            inside = value if isinstance(value, (list, tuple)) else [value]
            for one in inside:
                if isinstance(one, keras.layers.Layer) and one not in layers:
                    layers.append(one)
    return layers


def _check_plain(layer):
    for part in _with_parts(layer):
        state = None
        if getattr(part, "lora_enabled", False):
            state = (
                "has LoRA enabled. Save the model's weights, in which LoRA is merged, "
                "and load them into a model that never had it"
            )
        elif getattr(part, "quantization_mode", None) is not None:
            state = "was quantized by Keras. Pass the model as it was before"
        if state:
            raise ValueError(
                "Argument `model` must be of layers with plain float weights, and the "
                f"layer {part.name!r} {state}. Received: {type(part).__name__} in "
                f"{layer.name!r}"
            )
