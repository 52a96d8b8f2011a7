"""Copies of models in which something takes other layers' places."""

import keras


def keep(x):
    """Hands on a tensor: what takes the place of a layer that is not needed."""
    return x


def rewrite(model, substitute, functions=None, path=""):
    """Returns a float32 copy of a model, with something else for some of its layers.

    Args:
        model: A functional or sequential `keras.Model`. Models in it are rewritten
            too.
        substitute: Function that returns for a layer the one to take its place, and
            this one's weights; `None` for a copy of the layer.
        functions: Function of a model and of the path to it that returns functions
            by names of the model's layers. They take the layer's first input, and
            what they return takes the place of the layer's output.
        path: Names of the models that this one is in, each followed by a slash.

    Returns:
        A `keras.Model` with weights of its own.

    Raises:
        ValueError: For a subclassed model, whose layers cannot be exchanged.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "Argument `model` must be a functional or sequential model that is "
            "built: the layers of others cannot be exchanged. "
            f"Received: model={model}"
        )
    pairs = []
    by_name = {} if functions is None else functions(model, path)
    if by_name and isinstance(model, keras.Sequential):
        # For which `clone_model` has no `call_function`.
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)

    def copy(layer):
        if layer.name in by_name:
            return layer  # and `call` does not call it
        if isinstance(layer, keras.Model):
            return rewrite(layer, substitute, functions, f"{path}{layer.name}/")
        substituted = substitute(layer)
        if substituted is not None:
            pairs.append(substituted)
            return substituted[0]
        config = layer.get_config()
        if not isinstance(layer, keras.layers.Layer):
            # One of keras.ops, such as the choice of some channels.
            return type(layer).from_config(config)
        config["dtype"] = "float32"
        # A Lambda's code runs in this process already.
        options = {"safe_mode": False} if type(layer) is keras.layers.Lambda else {}
        copied = type(layer).from_config(config, **options)
        pairs.append((copied, layer.get_weights()))
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
    for layer, weights in pairs:
        layer.set_weights(weights)
    return copied
