"""What flows through a model: the maps at a layer, and how their channels correlate."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shift.graph_walk import walk
from keras_shift.image_batches import batches, no_image
from keras_shift.typing import Tensor

# The maps of so many images are in memory at once.
_BATCH_SIZE = 8


def layer_of(model: keras.Model, layer: str | keras.layers.Layer) -> keras.layers.Layer:
    """Returns a layer of a model by its name, or checks that it is one.

    Args:
        model: A `keras.Model`.
        layer: The layer or its name.

    Raises:
        ValueError: If the model has no such layer. Those of models inside it are none.
    """
    by_name = {one.name: one for one in model.layers}
    if isinstance(layer, str) and layer in by_name:
        return by_name[layer]
    if any(one is layer for one in model.layers):
        return layer
    close = difflib.get_close_matches(str(layer), by_name, n=5, cutoff=0.4)
    hint = f" such as {close}" if close else ""
    raise ValueError(
        "Argument `layer` must be a layer of the model or its name,"
        f"{hint} (of a layer in a model inside the model, pass the inner model). "
        f"Received: layer={layer}"
    )


def probe(
    model: keras.Model,
    choose: Callable[[keras.Operation, list[Tensor], Any], Tensor | None],
    if_none: str,
) -> tuple[list[str], keras.Model]:
    """Makes a model that returns tensors from inside of another one.

    Args:
        model: A functional or sequential `keras.Model` with one input.
        choose: Function of a layer (or an operation of `keras.ops`), the tensors that a
            call gives it, and what the call returns. It returns one of these tensors,
            or `None` where the call is of no interest.
        if_none: What the error says if it returns `None` for all calls.

    Returns:
        The names of the layers for which `choose` returned a tensor, and a
        `keras.Model` from images to these tensors, for `maps_of`.

    Raises:
        ValueError: If the model is subclassed or has several inputs, or no tensor is
            chosen.
    """
    if len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(
            "Argument `model` must be a functional or sequential model with one input "
            f"that is built. Received: model={model}"
        )
    names: list[str] = []
    tensors: list[Tensor] = []

    def note(layer, args, kwargs, outputs):
        given = [
            tensor
            for tensor in keras.tree.flatten((args, kwargs))
            if keras.utils.is_keras_tensor(tensor)
        ]
        chosen = choose(layer, given, outputs)
        if chosen is not None:
            names.append(layer.name)
            tensors.append(chosen)

    copy = walk(model, note)
    if not names:
        raise ValueError(if_none)
    return names, keras.Model(copy.inputs[0], tensors)


def probe_layer(
    model: keras.Model, layer: keras.layers.Layer, side: str
) -> keras.Model:
    """Makes a model that returns what goes into a layer, or comes out of it.

    Args:
        model: A functional or sequential `keras.Model` with one input.
        layer: A layer of it.
        side: `"input"` or `"output"`.

    Returns:
        A `keras.Model` from images to one tensor, for `maps_of`.

    Raises:
        ValueError: If the model cannot be probed, or does not call the layer once, with
            one map of pixels.
    """

    def choose(one, given, outputs):
        if one is not layer:
            return None
        return given[0] if side == "input" else outputs

    rule = (
        "Argument `layer` must be a layer that the model calls once and whose "
        f"{side} has height and width. Received: layer={layer.name!r}, "
    )
    _, probed = probe(model, choose, f"{rule}which is never called")
    shapes = [tuple(tensor.shape) for tensor in probed.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(f"{rule}with calls for {shapes}")
    return probed


def maps_of(probed: keras.Model, images: Tensor) -> list[Tensor]:
    """Returns the tensors of a probed model for some images, as inference has them.

    Args:
        probed: What `probe` or `probe_layer` made.
        images: Array or tensor of images.
    """
    return keras.tree.flatten(probed(images, training=False))


def image_batches(
    model: keras.Model, data: ArrayLike | Iterable[Any] | keras.utils.PyDataset
) -> Iterator[np.ndarray]:
    """Iterates over images in small batches.

    Args:
        model: A `keras.Model` with one input, of known size.
        data: Images, as `keras_shift.image_batches.batches` takes them.

    Yields:
        float32 arrays of images.

    Raises:
        ValueError: If the images are of another shape, or there is none.
    """
    shape = tuple(model.inputs[0].shape[1:])
    if None in shape:
        raise ValueError(
            "Argument `model` must be built for images of a known size. "
            f"Received: a model of images of shape {shape}"
        )
    count = 0
    for images, _ in batches(data, shape, "data"):
        for start in range(0, len(images), _BATCH_SIZE):
            part = images[start : start + _BATCH_SIZE]
            count += len(part)
            yield part
    if not count:
        raise no_image("data")


def pixels_of(tensor: Tensor, channel_axis: int) -> np.ndarray:
    """Returns maps as a float64 array of shape `(images * pixels, channels)`.

    Args:
        tensor: Tensor of shape `(images, height, width, channels)`, or with channels
            in axis 1.
        channel_axis: Axis of the channels.
    """
    tensor = keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
    tensor = np.moveaxis(tensor, channel_axis, -1)
    return tensor.reshape(-1, tensor.shape[-1]).astype("float64")


def channel_axis(layer: keras.Operation) -> int:
    """Returns the axis of channels, by a layer's data format or else by Keras'."""
    standard = keras.config.image_data_format()
    channels_first = getattr(layer, "data_format", standard) == "channels_first"
    return 1 if channels_first else -1


class Correlation:
    """Computes the correlation matrix of columns, some rows after the other.

    Args:
        columns: Number of columns.

    Attributes:
        rows: Number of rows so far.
    """

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self._sum = np.zeros(columns)
        self._products = np.zeros((columns, columns))
        self._start: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> None:
        """Adds rows.

        Args:
            rows: float64 array of shape `(rows, columns)`.
        """
        if self._start is None:
            # Without the first rows' mean, sums of squares lose no digits to it.
            self._start = rows.mean(axis=0)
        rows = rows - self._start
        self.rows += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows

    def matrix(self) -> np.ndarray:
        """Returns the correlations as an array of shape `(columns, columns)`.

        A column that never changes has no correlation with any, which NaN stands for.
        """
        mean = self._sum / self.rows
        covariance = self._products / self.rows - np.outer(mean, mean)
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
        # What rounding leaves of a column of one value is no deviation.
        size = np.abs(mean + (0 if self._start is None else self._start))
        deviation = np.where(deviation > 1e-7 * size, deviation, np.nan)
        matrix = covariance / np.outer(deviation, deviation)
        return np.clip(matrix, -1, 1)
