"""Networks in the state that benchmarks want them in."""

import itertools

import numpy as np

from keras_shift.layers import SparseShift2D


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
