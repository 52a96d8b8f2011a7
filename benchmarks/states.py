"""Networks in the state that benchmarks want them in."""

import itertools

import keras
import numpy as np

from keras_shift.layers import SparseShift2D


def with_random_biases(model):
    """Or a fresh MobileNetV2 computes nothing but zeros, which int8 cannot hold."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(random.normal(0, 0.5, layer.beta.shape))
    return model


def displaced(model, extent, unshifted):
    """Gives sparse shifts random displacements, and returns the model.

    Args:
        model: A `keras.Model`.
        extent: Largest displacement, in pixels.
        unshifted: Share of the channels that stay where they are; all others move.
    """
    random = np.random.default_rng(0)
    window = range(-extent, extent + 1)
    moves = np.array([pair for pair in itertools.product(window, window) if any(pair)])
    for layer in model.layers:
        if isinstance(layer, SparseShift2D):
            channels = layer.displacements.shape[1]
            displacements = random.choice(moves, channels).T
            still = random.permutation(channels)[: round(unshifted * channels)]
            displacements[:, still] = 0
            layer.displacements.assign(displacements)
    return model
