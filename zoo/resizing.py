"""Functions that tell and change the size of maps."""

from typing import Any

import keras

from keras_shift.typing import Tensor
from keras_shift.zoo.blocks import channel_axis


def size(x: Tensor) -> tuple[Any, Any]:
    """Returns the height and the width of a batch of images, ints or `None`."""
    height, width = x.shape[1:3] if channel_axis() == -1 else x.shape[2:4]
    return height, width


def enlarge(
    x: Tensor,
    factor: int,
    wanted: tuple[int | None, int | None],
    interpolation: str,
    name: str,
    dtype: str | None = None,
) -> Tensor:
    """Enlarges a map, so that its pixels lie where they lay in the image.

    What strides rounded up is cut off below and at the right, where the map was padded.

    Args:
        x: A batch of images.
        factor: How many times as high and wide the result is.
        wanted: Height and width of the result, at most `factor` times those of `x`.
            Where one is `None`, nothing is cut off.
        interpolation: `"nearest"` or `"bilinear"`.
        name: Prefix of the layers' names.
        dtype: Dtype policy of the layers, or `None` for Keras' own. Defaults to
            `None`.

    Returns:
        A batch of images with as many channels.
    """
    x = keras.layers.UpSampling2D(
        factor, interpolation=interpolation, dtype=dtype, name=f"{name}_enlarged"
    )(x)
    extra = [
        0 if now is None or end is None else now - end
        for now, end in zip(size(x), wanted)
    ]
    if any(extra):
        x = keras.layers.Cropping2D(
            ((0, extra[0]), (0, extra[1])), dtype=dtype, name=f"{name}_cropped"
        )(x)
    return x
