"""Makes the kernels of depthwise convolutions that shift."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike


def bilinear_kernel(displacements: ArrayLike) -> np.ndarray:
    """Returns depthwise kernels that shift, as small as the displacements allow.

    Args:
        displacements: Array of shape `(2, channels)`.

    Returns:
        A float32 array of shape `(rows, columns, channels, 1)` with odd numbers of rows
        and columns.
    """
    lines = []
    for displacement in np.asarray(displacements, "float32"):
        radius = int(np.ceil(np.abs(displacement).max(initial=0)))
        window = np.arange(-radius, radius + 1, dtype="float32")
        distance = np.abs(window[:, None] - displacement)
        lines.append(np.maximum(1 - distance, 0))
    rows, columns = lines
    return (rows[:, None, :] * columns[None, :, :])[..., None]


@dataclasses.dataclass(frozen=True, eq=False)
class ShiftConvolution:
    """A depthwise convolution that shifts channels, or does a part of it.

    Attributes:
        kernel: The kernel, as `bilinear_kernel` returns it.
        dilation_rate: Distance of neighbouring taps in pixels. Defaults to `1`.
        strides: Strides. Defaults to `(1, 1)`.
    """

    kernel: np.ndarray
    dilation_rate: int = 1
    strides: tuple[int, int] = (1, 1)


def shift_convolutions(
    displacements: np.ndarray | None,
    quantize: str | None,
    strides: tuple[int, int] = (1, 1),
) -> list[ShiftConvolution]:
    """Returns the convolutions that shift a unit's channels, in order.

    Where all displacements are multiples of the same number of pixels, as those of a
    dilated shift are, the convolutions are dilated by it and have no more taps than
    those of a shift that is not.

    Args:
        displacements: int32 array of shape `(2, channels)`, or `None` if nothing moves.
        quantize: As in `to_tflite`.
        strides: Strides of what follows. Defaults to `(1, 1)`.

    Returns:
        A list of `ShiftConvolution`s, which is empty if nothing moves. Those that have
        strides have the ones given, so that what follows needs none.
    """
    if displacements is None:
        return []
    dilation_rate = max(1, int(np.gcd.reduce(displacements, axis=None)))
    rows, columns = steps = displacements // dilation_rate
    if np.abs(displacements).max() == 1 and strides[0] == strides[1] > 1:
        # The first of two passes would compute more pixels than needed. TensorFlow has
        # no strides that differ, and none with dilation.
        return [ShiftConvolution(bilinear_kernel(displacements), strides=strides)]
    if quantize == "int8" and np.abs(steps).max() == 1:
        # Two passes, one by rows and one by columns, take the same time, but round
        # twice.
        return [ShiftConvolution(bilinear_kernel(steps), dilation_rate)]
    passes = np.stack([rows, 0 * rows]), np.stack([0 * rows, columns])
    return [
        ShiftConvolution(bilinear_kernel(moves), dilation_rate)
        for moves in passes
        if moves.any()
    ]
