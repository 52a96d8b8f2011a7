"""Models of one unit, for the tests of what finds units and what is made of them."""

import keras
import numpy as np

from keras_shift.layers import ActiveShift2D, GroupedShift2D, SparseShift2D
from networks import flat_layers, randomize


def unit_layers(wide=72, filters=5, shift="sparse", **options):
    """Layers of one unit by their parts in it, in order; `None` leaves one out."""
    shifts = {
        "sparse": lambda: SparseShift2D(name="shift"),
        "sparse with ReLU": lambda: SparseShift2D(input_relu=True, name="shift"),
        "grouped": lambda: GroupedShift2D(name="shift"),
        "active": lambda: ActiveShift2D(name="shift"),
        "pool": lambda: keras.layers.AveragePooling2D(2, padding="same", name="pool"),
        "pool inside": lambda: keras.layers.AveragePooling2D(2, name="pool"),
        None: lambda: None,
    }
    parts = {
        "expand": keras.layers.Conv2D(wide, 1, use_bias=False, name="expand"),
        "expand_bn": keras.layers.BatchNormalization(name="expand_bn"),
        "expand_relu": keras.layers.ReLU(name="expand_relu"),
        "shift": shifts[shift](),
        "project": keras.layers.Conv2D(filters, 1, use_bias=False, name="project"),
        "project_bn": keras.layers.BatchNormalization(name="project_bn"),
        "project_relu": None,
        **options,
    }
    return {part: layer for part, layer in parts.items() if layer is not None}


def one_unit(image_shape=(9, 7, 5), residual=True, **options):
    """A model that is one unit and nothing else, randomized."""
    keras.utils.set_random_seed(0)
    images = x = keras.Input(image_shape)
    for layer in unit_layers(**options).values():
        x = layer(x)
    if residual:
        x = keras.layers.Add(name="add")([images, x])
    return randomize(keras.Model(images, x), off=0)


CASES = {
    "as in FE-Net": {},
    "ReLU in the shift": {"expand_relu": None, "shift": "sparse with ReLU"},
    "few channels": {"wide": 7},
    "a multiple of all blocks": {"wide": 96},
    "grouped": {"shift": "grouped", "wide": 400},
    "pooled": {"shift": "pool", "residual": False},
    "nothing between": {"shift": None},
    "biases, nothing normalized": {
        "expand": keras.layers.Conv2D(72, 1, bias_initializer="normal"),
        "project": keras.layers.Conv2D(5, 1, bias_initializer="normal"),
        "expand_bn": None,
        "project_bn": None,
    },
    "biases and normalization": {
        "expand": keras.layers.Conv2D(72, 1, bias_initializer="normal"),
        "expand_bn": keras.layers.BatchNormalization(scale=False, epsilon=0.3),
        "project": keras.layers.Conv2D(5, 1, bias_initializer="normal"),
        "project_bn": keras.layers.BatchNormalization(center=False, epsilon=0.1),
    },
    "strides": {
        "project": keras.layers.Conv2D(5, 1, strides=(2, 3), padding="same"),
        "residual": False,
    },
    "equal strides": {
        "project": keras.layers.Conv2D(5, 1, strides=2),
        "residual": False,
    },
    "strides, and nothing between": {
        "shift": None,
        "project": keras.layers.Conv2D(5, 1, strides=3),
        "residual": False,
    },
    "ReLU at the end": {"project_relu": keras.layers.ReLU(name="last")},
    "one pixel": {"image_shape": (1, 1, 5)},
    "one row": {"image_shape": (1, 8, 5)},
    "channels that are off": {"wide": 80},
}


def model_of(case):
    options = {
        part: (
            type(option).from_config(option.get_config())
            if isinstance(option, keras.layers.Layer)
            else option
        )
        for part, option in CASES[case].items()
    }
    model = one_unit(**options)
    random = np.random.default_rng(1)
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale:
            # A sixth of the channels is the same everywhere, some of them zero.
            off = random.random(layer.gamma.shape) < 1 / 6
            layer.gamma.assign(np.where(off, 0, layer.gamma))
        if isinstance(layer, SparseShift2D):
            # Exact halves, the map's size, beyond it, and two thirds not at all.
            choices = [0.5, -0.5, 1.5, -2.5, 2.5, 1, -1, 7, -9, 30, 3e9]
            values = random.choice(choices, layer.displacements.shape)
            values[:, random.random(values.shape[1]) < 2 / 3] = 0.2
            layer.displacements.assign(values)
    return model
