"""Turns a model's units into compiled ops, for fast inference on CPUs."""

import functools
import warnings
from typing import Literal

import keras

from keras_shift import dispatch
from keras_shift.deploy.classifiers import find_classifiers
from keras_shift.deploy.folding import (
    folded,
    is_normalization,
    is_plain_convolution,
)
from keras_shift.deploy.lowering import shift_as_convolution
from keras_shift.deploy.units import find_units
from keras_shift.graph import Call, Graph
from keras_shift.layers import FusedChain2D, FusedUnit2D
from keras_shift.rewriting import Replacement, models_inside, rewrite


def fuse(
    model: keras.Model, precision: Literal["float32", "bfloat16"] = "float32"
) -> keras.Model:
    """Returns a model for inference that computes the same in less time.

    Every unit (see `find_units`) with ReLU becomes a `keras_shift.layers.FusedUnit2D`:
    one compiled op in which the wide tensor never leaves the processor's cache, and in
    which shifts cost next to nothing. In an FE-block, it takes the whole map and hands
    on the channels that the unit does not change, so that no slices or concatenations
    remain. A classifier (a 1x1 convolution with ReLU, global average pooling and a
    dense layer) becomes such a layer, too. Where such layers follow each other, they
    become one `keras_shift.layers.FusedChain2D`, which is a single op. Other layers and
    units with ReLU6 remain, but batch normalization is folded into the convolution
    before it, and shifts become depthwise convolutions.

    The result is a Keras model for `predict`, with weights of its own. It takes and
    returns float32, whatever the dtype policy of the model was, and cannot be trained.
    It is saved and loaded as a .keras file. A SavedModel that it exports needs the
    compiled op, which `keras_shift.custom_ops.load()` registers (a SavedModel of the
    original model does not). If the op cannot run, a warning says why. Units are then
    computed with `keras.ops`, which may take longer than the original.

    Example:

    >>> model = keras_shift.zoo.FENet(input_shape=(96, 96, 3))
    >>> fast = keras_shift.deploy.fuse(model)
    >>> probabilities = fast.predict(np.zeros((1, 96, 96, 3)), verbose=0)

    Args:
        model: A functional or sequential `keras.Model` that is built.
        precision: `"float32"`, or `"bfloat16"` for half precision in the products of
            the fused units, with half of the memory for their weights. It takes less
            time on processors with AVX512-BF16, and more on others; see
            `FusedUnit2D`. Defaults to `"float32"`.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If `precision` is none of these, if the model is subclassed, since
            its layers cannot be exchanged, or if it has layers that were quantized or
            have LoRA.
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(
            'Argument `precision` must be "float32" or "bfloat16". '
            f"Received: precision={precision}"
        )
    replacements = {
        path: _replacements(part, precision)
        for path, part in models_inside(model).items()
    }
    fused = rewrite(model, shift_as_convolution, replacements)
    chains = {path: _chains(part) for path, part in models_inside(fused).items()}
    if any(chains.values()):
        fused = rewrite(fused, _as_it_is, chains, dtype=None)
    reason = dispatch.choose("float32", in_graph=True).reason
    if reason is not None:
        warnings.warn(
            "The fused model runs without the compiled op here, and perhaps more "
            f"slowly than the model that it was made of: {reason}.",
            UserWarning,
            stacklevel=2,
        )
    return fused


def _replacements(model, precision):
    """Returns what takes the place of a model's layers, as `Replacement`s."""
    units = find_units(model)
    # The compiled op knows no ceiling of ReLU6.
    fused = [unit for unit in units.found if unit.ceiling is None]
    replacements = [
        Replacement(unit.layers, functools.partial(_write_unit, unit, precision))
        for unit in fused
    ]
    names = {unit.name for unit in fused}
    # A fused unit takes the whole map and hands on the channels it does not change. One
    # slice may serve several groups of units.
    unneeded = dict.fromkeys(
        name
        for write_back in units.write_backs
        if names.issuperset(write_back.units)
        for name in write_back.layers
    )
    replacements += [Replacement((name,), _same) for name in unneeded]
    taken = {name for each in replacements for name in each.layers}
    for classifier in find_classifiers(model):
        if taken.isdisjoint(classifier.layers):
            taken.update(classifier.layers)
            write = functools.partial(_write_classifier, classifier, precision)
            replacements.append(Replacement(classifier.layers, write))
    graph = Graph(model)
    for call in graph.calls:
        normalization = graph.only_user(call)
        if (
            call.layer.name not in taken
            and normalization is not None
            and graph.is_simple(call)
            and graph.is_simple(normalization)
            and is_plain_convolution(call.layer)
            and is_normalization(normalization.layer)
        ):
            layers = call.layer, normalization.layer
            write = functools.partial(_write_convolution, *layers)
            replacements.append(Replacement(tuple(x.name for x in layers), write))
    return replacements


def _same(x):
    return x


def _as_it_is(layer, shapes):
    return None


def _chains(model):
    """Returns what takes the place of units that follow each other."""
    graph = Graph(model)
    chains = []
    taken = set()
    for call in graph.calls:
        units: list[FusedUnit2D] = []
        following: Call | None = call
        while (
            following is not None
            and isinstance(following.layer, FusedUnit2D)
            and following.layer.name not in taken
            and graph.is_simple(following)
        ):
            units.append(following.layer)
            taken.add(following.layer.name)
            following = graph.only_user(following)
        if len(units) > 1:
            names = tuple(unit.name for unit in units)
            write = functools.partial(_write_chain, units)
            chains.append(Replacement(names, write))
    return chains


def _write_chain(units, x):
    """Returns the output of units for an input, both tensors of a Keras graph."""
    layer = FusedChain2D(
        [{"name": unit.name, **unit.arguments()} for unit in units],
        precision=units[0].precision,
        name=f"{units[0].name}_chain",
    )
    y = layer(x)
    layer.set_units(units)
    return y


def _write_unit(unit, precision, x):
    """Returns a unit's output for an input, both tensors of a Keras graph."""
    # Channels that are always zero stay, so that the shapes of the fused weights do not
    # depend on the values of the model's weights.
    unit = unit.by_displacement()
    layer = FusedUnit2D(
        filters=len(unit.project_bias),
        wide_channels=len(unit.expand_bias),
        channels=len(unit.expand_kernel),
        strides=unit.strides,
        pool_padding=unit.pool_padding,
        output_relu=unit.output_relu,
        residual=unit.residual,
        precision=precision,
        name=f"{unit.name}_fused",
    )
    y = layer(x)
    layer.set_matrices(
        unit.expand_kernel,
        unit.expand_bias,
        unit.project_kernel,
        unit.project_bias,
        unit.displacements,
    )
    return y


def _write_classifier(classifier, precision, x):
    """Returns a classifier's output for an input, both tensors of a Keras graph."""
    *others, last = classifier.layers
    classes = len(classifier.project_bias)
    layer = FusedUnit2D(
        filters=classes,
        wide_channels=len(classifier.expand_bias),
        precision=precision,
        global_pool=True,
        name=f"{others[0]}_fused",
    )
    logits = keras.layers.Reshape((classes,), name=f"{last}_logits")(layer(x))
    layer.set_matrices(
        classifier.expand_kernel,
        classifier.expand_bias,
        classifier.project_kernel,
        classifier.project_bias,
    )
    return keras.layers.Activation(classifier.activation, name=last)(logits)


def _write_convolution(convolution, normalization, x):
    config = convolution.get_config()
    layer = type(convolution).from_config(
        {**config, "use_bias": True, "dtype": "float32"}
    )
    y = layer(x)
    layer.set_weights(folded(convolution, normalization))
    return y
