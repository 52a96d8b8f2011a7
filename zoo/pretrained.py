"""Weights by name or path."""

import os


def load(model, weights):
    """Loads weights into a model of the zoo.

    Args:
        model: The network.
        weights: Path of a `.weights.h5` file.
    """
    if isinstance(weights, (str, os.PathLike)) and os.path.isfile(weights):
        model.load_weights(weights)
        return
    hint = (
        "FE-Net's authors never released weights, and nobody has trained ours on "
        "ImageNet yet."
        if weights == "imagenet"
        else "There is no such file."
    )
    raise ValueError(
        "Argument `weights` must be None (random weights) or the path of a "
        f".weights.h5 file; no trained weights are published yet. {hint} "
        f"Received: weights={weights!r}"
    )
