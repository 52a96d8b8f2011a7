"""Copies of models in which something takes other layers' places."""

import tempfile

import keras

from keras_shift.deploy.graph import Graph


def keep(x):
    """Hands on a tensor: what takes the place of a layer that is not needed."""
    return x


def rewrite(model, substitute, functions=None, path=""):
    """Returns a float32 copy of a model, with something else for some of its layers.

    Args:
        model: A functional or sequential `keras.Model`. Models in it are rewritten
            too.
        substitute: Function of a layer and of the shapes of its inputs, of all of its
            calls. It returns the layer to take its place, and this one's weights;
            `None` for a copy of the layer.
        functions: Function of a model and of the path to it that returns functions
            by names of the model's layers. They take the layer's first input, and
            what they return takes the place of the layer's output.
        path: Names of the models that this one is in, each followed by a slash.

    Returns:
        A `keras.Model` with weights of its own.

    Raises:
        ValueError: For a subclassed model, whose layers cannot be exchanged, and for
            layers that were quantized or have LoRA.
    """
    if not is_its_graph(model):
        raise ValueError(
            "Argument `model` must be a functional or sequential model that is "
            "built: the layers of others cannot be exchanged. "
            f"Received: model={model}"
        )
    shapes: dict[int, list[tuple]] = {}
    for made in Graph(model).calls:
        shapes.setdefault(id(made.layer), []).extend(x.shape for x in made.inputs)
    replaced, copies = [], []
    by_name = {} if functions is None else functions(model, path)
    if by_name and isinstance(model, keras.Sequential):
        # For which `clone_model` has no `call_function`.
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)

    def copy(layer):
        if isinstance(layer, keras.Model):
            return rewrite(layer, substitute, functions, f"{path}{layer.name}/")
        _check_plain(layer)
        if layer.name in by_name:
            return layer  # and `call` does not call it
        substituted = substitute(layer, shapes.get(id(layer), []))
        if substituted is not None:
            replaced.append(substituted)
            return substituted[0]
        config = layer.get_config()
        if not isinstance(layer, keras.layers.Layer):
            # One of keras.ops, such as the choice of some channels.
            return type(layer).from_config(config)
        config["dtype"] = "float32"
        # A Lambda's code runs in this process already.
        options = {"safe_mode": False} if type(layer) is keras.layers.Lambda else {}
        copied = type(layer).from_config(config, **options)
        copies.append((layer, copied))
        return copied

    def call(layer, *args, **kwargs):
        function = by_name.get(layer.name)
        if function is None:
            return layer(*args, **kwargs)
        x, *_ = keras.tree.flatten((args, kwargs))
        return function(x)

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


def is_its_graph(model):
    """Whether a model computes what its graph of layers does, and nothing else.

    Args:
        model: Whatever it is. Subclasses of functional and sequential models do not,
            if they have a `call` of their own.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return False
    functional = type(keras.Model(model.inputs, model.outputs))
    return type(model).call in (functional.call, keras.Sequential.call)


def _copy_adapted(layer, twin):
    """Copies what a layer has learned by `adapt`, as saving and loading do.

    `keras.layers.Normalization` computes with constants that it makes when weights are
    loaded, and not when they are set. Lookups have a vocabulary, in a file of its own.
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
    found = [layer]
    # The list grows while it is gone through.
    for part in found:
        for value in vars(part).values():
            inside = value if isinstance(value, (list, tuple)) else [value]
            for one in inside:
                if isinstance(one, keras.layers.Layer) and one not in found:
                    found.append(one)
    return found


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
