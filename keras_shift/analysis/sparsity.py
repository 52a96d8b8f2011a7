"""Which layers hardly shift."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_shift.analysis import drawing
from keras_shift.layers.shift_layer import shift_layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_sparsity(model: keras.Model, ax: "Axes | None" = None) -> "Axes":
    """Draws the share of unshifted channels of every shift layer.

    Example:

    >>> axes = keras_shift.analysis.plot_sparsity(model)
    >>> axes.get_xlabel()
    'unshifted channels, % of the layer'

    Args:
        model: A `keras.Model` with shift layers.
        ax: Matplotlib axes to draw into, or `None` for those of a new figure. Defaults
            to `None`.

    Returns:
        The Matplotlib axes. Its bars have the layers' order, from top to bottom.

    Raises:
        ValueError: If the model has no shift layers.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Table 2
    """
    layers = shift_layers(model)
    if not layers:
        raise ValueError(
            f"Argument `model` has no shift layers. Received: model={model.name!r}"
        )
    ax = drawing.one_axes(ax, 6.4, 1.1 + 0.24 * len(layers))
    channels = np.array([layer.channels for layer in layers])
    unshifted = np.array([round(layer.sparsity * layer.channels) for layer in layers])
    names = [layer.name for layer in layers]
    positions = drawing.share_bars(ax, names, unshifted, channels)
    ax.barh(positions, 100 * unshifted / channels, color=drawing.BLUE)
    ax.set_xlabel("unshifted channels, % of the layer")
    ax.set_ylabel("shift layer")
    ax.set_title(
        f"{model.name}: {unshifted.sum():,} of {channels.sum():,} channels unshifted "
        f"({unshifted.sum() / channels.sum():.1%})",
        loc="left",
        fontsize="medium",
    )
    return ax
