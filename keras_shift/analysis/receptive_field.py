"""How far a unit of a map really sees."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shift.analysis import drawing
from keras_shift.analysis.activations import (
    channel_axis,
    image_batches,
    layer_of,
    maps_of,
    probe_layer,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True, eq=False)
class ReceptiveField:
    """Holds which pixels of an image a unit of a map depends on.

    Attributes:
        name: Name of the layer.
        gradient: Array of shape `(height, width)` of the image: how much the unit
            changes with each pixel, as a share of the largest.
        images: Number of images over which it was averaged.
        spread: Standard deviation of the gradient around its centre along rows and
            along columns, in pixels.
    """

    name: str
    gradient: np.ndarray
    images: int

    @property
    def spread(self) -> tuple[float, float]:
        """Standard deviation along rows and along columns, in pixels."""
        total = self.gradient.sum()
        if not total:
            return 0.0, 0.0
        deviations = []
        for axis, size in enumerate(self.gradient.shape):
            weights = self.gradient.sum(axis=1 - axis) / total
            positions = np.arange(size)
            mean = np.sum(weights * positions)
            variance = np.sum(weights * np.square(positions - mean))
            deviations.append(float(np.sqrt(variance)))
        return deviations[0], deviations[1]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the gradient as a picture of the image's size.

        Its colours are on the scale of the square root, on which faint borders are
        seen.

        Args:
            ax: Matplotlib axes to draw into, or `None` for those of a new figure.
                Defaults to `None`.

        Returns:
            The Matplotlib axes. A bar beside them has the colours.
        """
        from matplotlib.colors import PowerNorm

        ax = drawing.one_axes(ax, 5.4, 4.6)
        height, width = self.gradient.shape
        colours = ax.imshow(
            self.gradient,
            cmap="cividis",
            norm=PowerNorm(0.5, vmin=0, vmax=1),
            interpolation="nearest",
            extent=(0, width, height, 0),
        )
        bar = ax.figure.colorbar(
            colours, ax=ax, label="gradient, share of the largest (square-root scale)"
        )
        bar.set_ticks([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
        ax.set_xlabel("column of the image, pixels")
        ax.set_ylabel("row of the image, pixels")
        rows, columns = self.spread
        ax.set_title(
            f"{self.name}: what its central unit sees, {self.images:,} images\n"
            f"standard deviation {rows:.1f} rows, {columns:.1f} columns",
            fontsize="medium",
        )
        return ax


def effective_receptive_field(
    model: keras.Model,
    layer: str | keras.layers.Layer,
    data: ArrayLike | Iterable[Any] | keras.utils.PyDataset,
) -> ReceptiveField:
    """Computes which pixels the central unit of a layer's map depends on.

    It is the gradient of the sum of the central unit's channels with respect to the
    image, in absolute values, averaged over colours and images. 1x1 convolutions see
    one pixel, so in a shift network it is the shifts and poolings that make it wide.

    Example:

    >>> found = keras_shift.analysis.effective_receptive_field(
    ...     model, "unit2_shift", images
    ... )
    >>> found.gradient.shape
    (32, 32)
    >>> print(found.gradient.max())
    1.0

    Args:
        model: A functional or sequential `keras.Model` with one input, of known size,
            on TensorFlow or JAX.
        layer: A layer of the model whose output has height and width, or its name. In a
            map with an even number of rows or columns, the central unit is the one
            below the middle, or to the right of it.
        data: Array of images, or an iterable of images, of batches of them or of tuples
            `(images, labels)`, such as a `tf.data.Dataset`.

    Returns:
        A `ReceptiveField`, which `plot` draws.

    Raises:
        ValueError: If the model or the layer is none of these, or the images do not
            fit.
        RuntimeError: If the backend is another one.

    References:

    - [Understanding the Effective Receptive Field in Deep Convolutional Neural
      Networks](https://arxiv.org/abs/1701.04128)
    """
    backend = keras.backend.backend()
    if backend not in _SLOPES:
        raise RuntimeError(
            "Effective receptive fields are computed on TensorFlow and on JAX. "
            f"Received: KERAS_BACKEND={backend}"
        )
    chosen = layer_of(model, layer)
    probed = probe_layer(model, chosen, "output")
    axis = channel_axis(chosen)

    def central(images):
        maps = keras.ops.moveaxis(maps_of(probed, images)[0], axis, -1)
        unit = maps[:, maps.shape[1] // 2, maps.shape[2] // 2]
        return keras.ops.sum(keras.ops.cast(unit, "float32"))

    slopes = _SLOPES[backend](central)
    total: Any = 0
    count = 0
    for images in image_batches(model, data):
        slope = keras.ops.convert_to_numpy(slopes(keras.ops.convert_to_tensor(images)))
        colours = 1 if keras.config.image_data_format() == "channels_first" else -1
        total += np.abs(slope.astype("float64")).mean(axis=colours).sum(axis=0)
        count += len(images)
    largest = total.max()
    gradient = total / largest if largest else total
    return ReceptiveField(chosen.name, gradient, count)


def _slopes_of_tensorflow(function):
    import tensorflow as tf

    def slopes(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = function(images)
        return tape.gradient(value, images)

    return slopes


def _slopes_of_jax(function):
    import jax

    return jax.grad(function)


_SLOPES = {"jax": _slopes_of_jax, "tensorflow": _slopes_of_tensorflow}
