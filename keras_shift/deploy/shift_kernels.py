"""Makes the kernels of depthwise convolutions that shift."""

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


def shift_kernels(
    displacements: np.ndarray | None, quantize: str | None
) -> list[tuple[np.ndarray, int]]:
    """Returns the convolutions that shift a unit's channels, in order.

    Where all displacements are multiples of the same number of pixels, as those of a
    dilated shift are, the convolutions are dilated by it and have no more taps than
    those of a shift that is not.

    Args:
        displacements: int32 array of shape `(2, channels)`, or `None` if nothing moves.
        quantize: As in `to_tflite`.

    Returns:
        A list of pairs: a kernel, as `bilinear_kernel` returns it, and the dilation
        rate. It is empty if nothing moves.
    """
    if displacements is None:
        return []
    dilation_rate = max(1, int(np.gcd.reduce(displacements, axis=None)))
    rows, columns = steps = displacements // dilation_rate
    if quantize == "int8" and np.abs(steps).max() == 1:
        # Two passes, one by rows and one by columns, take the same time, but round
        # twice.
        return [(bilinear_kernel(steps), dilation_rate)]
    passes = np.stack([rows, 0 * rows]), np.stack([0 * rows, columns])
    return [(bilinear_kernel(moves), dilation_rate) for moves in passes if moves.any()]
