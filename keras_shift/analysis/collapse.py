"""How many dimensions the features have that convolutions take in."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shift.analysis import drawing
from keras_shift.analysis.activations import (
    Correlation,
    channel_axis,
    image_batches,
    maps_of,
    pixels_of,
    probe,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# With fewer pixels for each channel, a rank depends on their number.
_ENOUGH = 10


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureCollapse:
    """Holds the rank of the features that a model's convolutions take in.

    Attributes:
        name: Name of the model.
        layers: Tuple of the names of the convolutions, in the order of their calls.
        channels: Array of the number of channels that each of them takes in.
        ranks: Array of the number of principal components that hold the share
            `variance` of these channels' variance.
        pixels: Array of the number of pixels, of all images together, from which each
            rank was estimated.
        variance: Share of the variance, from 0 to 1.
        images: Number of images from which it was estimated.
        shares: Array of the ranks, as shares of the numbers of channels.
    """

    name: str
    layers: tuple[str, ...]
    channels: np.ndarray
    ranks: np.ndarray
    pixels: np.ndarray
    variance: float
    images: int

    @property
    def shares(self) -> np.ndarray:
        """The ranks as shares of the numbers of channels, from 0 to 1."""
        return self.ranks / self.channels

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the rank of the features in front of every convolution.

        Bars have another colour where there were fewer than ten pixels for each
        channel: such a rank would grow with more images.

        Args:
            ax: Matplotlib axes to draw into, or `None` for those of a new figure.
                Defaults to `None`.

        Returns:
            The Matplotlib axes. Its bars have the layers' order, from top to bottom.
        """
        count = len(self.layers)
        ax = drawing.one_axes(ax, 6.8, 1.2 + 0.21 * count)
        positions = drawing.share_bars(ax, self.layers, self.ranks, self.channels)
        for few, colour, label in (
            (False, drawing.BLUE, f"{_ENOUGH} pixels for each channel or more"),
            (True, drawing.SKY, "fewer: may grow with more images"),
        ):
            chosen = (self.pixels < _ENOUGH * self.channels) == few
            if chosen.any():
                shares = 100 * self.shares[chosen]
                ax.barh(positions[chosen], shares, color=colour, label=label)
        ax.set_xlabel(
            f"components with {self.variance:.0%} of the variance, % of the channels"
        )
        ax.set_ylabel("convolution that takes the features in")
        title = f"{self.name}: rank of the features, {self.images:,} images"
        ax.set_title(title, loc="left", fontsize="medium", pad=22)
        ax.legend(
            frameon=False,
            fontsize="small",
            ncols=2,
            loc="lower right",
            bbox_to_anchor=(1.22, 1),
            borderaxespad=0.1,
        )
        return ax


def feature_collapse(
    model: keras.Model,
    data: ArrayLike | Iterable[Any] | keras.utils.PyDataset,
    variance: float = 0.99,
) -> FeatureCollapse:
    """Computes how many of their dimensions a model's features really use.

    "Feature maps usually tend to collapse into a small subset" is the SSL paper's
    reason for FE-blocks, which let only a part of the channels into the first
    convolutions. The paper gives no measure of it. Here it is the rank of the features
    that a convolution takes in: the number of principal components that hold most of
    their variance, over all pixels of all images. Every channel counts with the
    variance 1, so that its scale does not matter, or not at all if it never changes.
    To compare a network with FE-blocks and one without, give both the same images.

    Example:

    >>> found = keras_shift.analysis.feature_collapse(model, images)
    >>> bool((found.ranks <= found.channels).all())
    True

    Args:
        model: A functional or sequential `keras.Model` with one input, of known size.
        data: Array of images, or an iterable of images, of batches of them or of tuples
            `(images, labels)`, such as a `tf.data.Dataset`. There should be far more
            pixels in the smallest maps of all images together than there are channels.
        variance: Float, share of the variance that the components hold, above 0 and at
            most 1. Defaults to `0.99`.

    Returns:
        A `FeatureCollapse`, which `plot` draws.

    Raises:
        ValueError: If the model has no convolutions behind the first one, the images do
            not fit, or `variance` is no such share.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Section 4.3
    """
    if not 0 < variance <= 1:
        raise ValueError(
            "Argument `variance` must be above 0 and at most 1. "
            f"Received: variance={variance}"
        )
    axes: list[int] = []
    # These tensors come after some convolution. The first convolutions take in the
    # image, whose channels are colours and no features.
    behind: dict[int, Any] = {}

    def choose(layer, given, outputs):
        convolution = isinstance(layer, keras.layers.Conv2D)
        features = any(id(tensor) in behind for tensor in given)
        if convolution or features:
            behind.update((id(one), one) for one in keras.tree.flatten(outputs))
        if not (convolution and features):
            return None
        axes.append(channel_axis(layer))
        return given[0]

    names, probed = probe(
        model,
        choose,
        "Argument `model` must have convolutions behind the first one. "
        f"Received: model={model.name!r}",
    )
    channels = [tensor.shape[axis] for tensor, axis in zip(probed.outputs, axes)]
    correlations = [Correlation(number) for number in channels]
    count = 0
    for images in image_batches(model, data):
        for one, maps, axis in zip(correlations, maps_of(probed, images), axes):
            one.add(pixels_of(maps, axis))
        count += len(images)
    ranks = [_rank(one.matrix(), variance) for one in correlations]
    return FeatureCollapse(
        name=model.name,
        layers=tuple(names),
        channels=np.array(channels),
        pixels=np.array([one.rows for one in correlations]),
        ranks=np.array(ranks),
        variance=variance,
        images=count,
    )


def _rank(correlations, variance):
    """Returns how many principal components hold a share of the variance."""
    changes = ~np.isnan(np.diag(correlations))
    if not changes.any():
        return 0
    values = np.linalg.eigvalsh(correlations[np.ix_(changes, changes)])[::-1]
    held = np.cumsum(np.maximum(values, 0))
    # Rounding must not ask for a component more than the share needs.
    return int(np.searchsorted(held / held[-1], variance - 1e-9)) + 1
