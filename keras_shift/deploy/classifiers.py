"""Finds the classifiers that networks end with, and folds them."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from keras_shift.deploy import unit_layers
from keras_shift.deploy.folding import folded, is_normalization
from keras_shift.graph import Graph


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier for inference: two matrices, and a mean between them.

    ```
    wide = relu(x @ expand_kernel + expand_bias)
    y = activation(mean(wide, axis=(1, 2)) @ project_kernel + project_bias)
    ```

    Batch normalization is part of the first kernel and bias.

    Attributes:
        layers: Names of the layers that the classifier consists of, in the order of
            their calls.
        expand_kernel: float32 array of shape `(channels, wide_channels)`.
        expand_bias: float32 array of shape `(wide_channels,)`.
        project_kernel: float32 array of shape `(wide_channels, classes)`.
        project_bias: float32 array of shape `(classes,)`.
        activation: The last layer's activation.
    """

    layers: tuple[str, ...]
    expand_kernel: np.ndarray
    expand_bias: np.ndarray
    project_kernel: np.ndarray
    project_bias: np.ndarray
    activation: Callable


def find_classifiers(model: keras.Model) -> tuple[Classifier, ...]:
    """Finds the classifiers of a model, and folds batch normalization into them.

    A classifier is a 1x1 convolution, batch normalization (or not), ReLU, global
    average pooling, dropout (or not) and a dense layer. No layer outside of it may use
    its intermediate results, and no layer may be called twice.

    Args:
        model: A functional or sequential `keras.Model` that is built.

    Returns:
        A tuple of `Classifier`s, in the order of their first layers' calls.
    """
    graph = Graph(model)
    chains = (_match(graph, call) for call in graph.calls)
    return tuple(_fold(chain) for chain in chains if chain is not None)


def _match(graph, expand):
    """Returns a classifier's calls by their roles in it, in order, or `None`."""
    chain = unit_layers.expansion(graph, expand)
    if chain is None:
        return None

    def follow(role, accepts):
        return chain.follow(
            role, lambda call: graph.is_plain(call) and accepts(call.layer)
        )

    follow("expand_bn", is_normalization)
    if not follow("expand_relu", unit_layers.is_relu):
        return None
    if not follow("mean", unit_layers.is_global_pooling):
        return None
    chain.follow("dropout", _drops_nothing)
    if not follow("project", lambda layer: type(layer) is keras.layers.Dense):
        return None
    return chain.calls


def _drops_nothing(call):
    """Returns whether a call is that of a dropout which does nothing at inference."""
    return type(call.layer) is keras.layers.Dropout and not call.kwargs.get("training")


def _fold(chain):
    layers = {part: call.layer for part, call in chain.items()}
    expand_kernel, expand_bias = folded(layers["expand"], layers.get("expand_bn"))
    dense = layers["project"]
    project_kernel = keras.ops.convert_to_numpy(dense.kernel).astype("float32")
    project_bias = np.zeros(dense.units, "float32")
    if dense.use_bias:
        project_bias += keras.ops.convert_to_numpy(dense.bias)
    return Classifier(
        layers=tuple(layer.name for layer in layers.values()),
        expand_kernel=expand_kernel[0, 0],
        expand_bias=expand_bias,
        project_kernel=project_kernel,
        project_bias=project_bias,
        activation=dense.activation,
    )
