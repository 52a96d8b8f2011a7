"""How displacements are distributed before they are rounded."""

import dataclasses
import math
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_shift.analysis import drawing
from keras_shift.layers.shift_layer import LearnedShift, ShiftLayer, shift_layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True, eq=False)
class DisplacementDistribution:
    """Holds how displacements are distributed before they are rounded.

    Attributes:
        name: Name of the layer or the model.
        edges: Array of the borders of the bins, in pixels, one more than bins.
        counts: Array of the number of displacements in each bin.
        rounded_to_zero: Share of the displacements that round to zero, from 0 to 1.
    """

    name: str
    edges: np.ndarray
    counts: np.ndarray
    rounded_to_zero: float

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the distribution, and what rounds to zero.

        Args:
            ax: Matplotlib axes to draw into, or `None` for those of a new figure.
                Defaults to `None`.

        Returns:
            The Matplotlib axes.
        """
        ax = drawing.one_axes(ax, 6, 3.6)
        drawing.plain(ax)
        share = f"{self.rounded_to_zero:.1%} round to zero"
        ax.axvspan(-0.5, 0.5, color=drawing.ORANGE, alpha=0.25, lw=0, label=share)
        ax.stairs(self.counts, self.edges, fill=True, color=drawing.BLUE)
        # Most displacements may be in one bin, beside which the others vanish.
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.8)
        ax.set_xlabel("displacement before rounding, pixels")
        ax.set_ylabel("displacements, two for each channel")
        ax.set_title(self.name, loc="left", fontsize="medium")
        ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
        return ax


def displacement_distribution(
    target: ShiftLayer | keras.Model, bin_width: float = 0.1
) -> DisplacementDistribution:
    """Counts displacements before they are rounded, in bins.

    Rounding is a truncated regularizer: a displacement below half a pixel is exactly
    zero, so that a penalty need not do all of the way. To see it, take the weights of a
    training that goes on: where shifts were frozen, displacements are whole numbers.

    Example:

    >>> found = keras_shift.analysis.displacement_distribution(model)
    >>> displacements = keras_shift.analysis.summary(model).displacements
    >>> bool(found.counts.sum() == displacements)
    True

    Args:
        target: A layer with learned shifts, or a `keras.Model` with such layers, whose
            displacements are counted together.
        bin_width: Float, width of a bin in pixels. Zero is in the middle of a bin.
            Defaults to `0.1`.

    Returns:
        A `DisplacementDistribution`, which `plot` draws.

    Raises:
        ValueError: If there are no learned shifts, if some are not built or not finite,
            or if `bin_width` is not positive.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Section 4.2
    """
    if not bin_width > 0:
        raise ValueError(
            f"Argument `bin_width` must be positive. Received: bin_width={bin_width}"
        )
    layers = shift_layers(target) if isinstance(target, keras.Model) else [target]
    learned = [layer for layer in layers if isinstance(layer, LearnedShift)]
    if not learned or not all(layer.built for layer in learned):
        raise ValueError(
            "Argument `target` must be a layer with learned shifts, or a model with "
            f"such layers, and built. Received: target={target}"
        )
    values = np.concatenate([layer.displacement_array().ravel() for layer in learned])
    if not np.isfinite(values).all():
        raise ValueError(
            "Argument `target` must have finite displacements. "
            f"Received: {np.sum(~np.isfinite(values))} that are not"
        )
    # There is a bin more on either side, since the largest displacement may lie beyond
    # the middle of its own.
    bins = math.ceil(np.abs(values).max() / bin_width) + 1
    edges = bin_width * (np.arange(-bins, bins + 2) - 0.5)
    counts, _ = np.histogram(values, edges)
    rounded_to_zero = float(np.mean(np.rint(values) == 0))
    return DisplacementDistribution(target.name, edges, counts, rounded_to_zero)
