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
    displacements: np.ndarray | None,
    quantize: str | None,
    strides: tuple[int, int] = (1, 1),
) -> list[np.ndarray]:
    """Returns the kernels of the convolutions that shift a unit's channels, in order.

    Args:
        displacements: int32 array of shape `(2, channels)`, or `None` if nothing moves.
        quantize: As in `to_tflite`.
        strides: Strides of the convolutions. Defaults to `(1, 1)`.

    Returns:
        A list of kernels, as `bilinear_kernel` returns them. It is empty if nothing
        moves. With strides it has one kernel.
    """
    if displacements is None:
        return []
    if strides != (1, 1) or quantize == "int8" and np.abs(displacements).max() == 1:
        # Two passes, one by rows and one by columns, take the same time in int8, but
        # round twice. With strides, the first of them computes more pixels than needed.
        return [bilinear_kernel(displacements)]
    rows, columns = displacements
    passes = np.stack([rows, 0 * rows]), np.stack([0 * rows, columns])
    return [bilinear_kernel(moves) for moves in passes if moves.any()]
