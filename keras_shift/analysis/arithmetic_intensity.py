"""Arithmetic intensity of convolutions and shifts (ShiftNet paper, Eq. 4 and 5)."""

import dataclasses
import math
import operator
from collections.abc import Sequence

from keras_shift.integers import positive_integer


@dataclasses.dataclass(frozen=True)
class ArithmeticIntensity:
    """How much an operation computes for what it reads and writes.

    Attributes:
        multiply_adds: Number of multiply-adds. At the border of a map, products with
            the padding count as well.
        memory_accesses: Number of values that are read or written, each of them once:
            the map that comes in, the map that goes out, and the kernel. In float32 a
            value has four bytes.
        ratio: Multiply-adds for one memory access.
    """

    multiply_adds: int
    memory_accesses: int

    @property
    def ratio(self) -> float:
        """Multiply-adds for one memory access."""
        return self.multiply_adds / self.memory_accesses


def convolution_intensity(
    input_shape: Sequence[int],
    filters: int,
    kernel_size: int | Sequence[int] = 3,
    batch_size: int = 1,
) -> ArithmeticIntensity:
    """Returns the arithmetic intensity of a convolution (ShiftNet paper, Eq. 4).

    For `M` channels of `D_F x D_F` pixels, `N` filters of `D_K x D_K` pixels, stride 1
    and maps that keep their size, the ratio between computation and memory access is

    ```
    M * N * D_F**2 * D_K**2 / (D_F**2 * (M + N) + D_K**2 * M * N)
    ```

    With `kernel_size=1`, this is the convolution that follows a depthwise convolution
    or a shift. Where a shift is fused with it, so that it reads from shifted addresses
    (section 2.1), the ratio is that of both together.

    Example:

    >>> intensity = keras_shift.analysis.convolution_intensity((56, 56, 64), 64)
    >>> intensity.multiply_adds, intensity.memory_accesses
    (115605504, 438272)
    >>> round(intensity.ratio, 1)
    263.8

    Args:
        input_shape: Shape of one image, `(height, width, channels)`, such as
            `(56, 56, 64)`.
        filters: Int, number of output channels.
        kernel_size: Int, height and width of the kernel in pixels, or a pair of both.
            Defaults to `3`.
        batch_size: Int, number of images, for all of which the kernel is read once.
            The equation has one. Defaults to `1`.

    Returns:
        An `ArithmeticIntensity`.

    Raises:
        ValueError: If a size or number is not a positive integer.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Eq. 4
    """
    pixels, channels = _map(input_shape, batch_size)
    filters = positive_integer("filters", filters)
    kernel = _area(kernel_size) * channels * filters
    return ArithmeticIntensity(pixels * kernel, pixels * (channels + filters) + kernel)


def depthwise_convolution_intensity(
    input_shape: Sequence[int],
    kernel_size: int | Sequence[int] = 3,
    batch_size: int = 1,
) -> ArithmeticIntensity:
    """Returns the intensity of a depthwise convolution (ShiftNet paper, Eq. 5).

    For `M` channels of `D_F x D_F` pixels, kernels of `D_K x D_K` pixels, stride 1 and
    maps that keep their size, the ratio between computation and memory access is

    ```
    M * D_F**2 * D_K**2 / (D_F**2 * 2 * M + D_K**2 * M)
    ```

    which is less than `D_K**2 / 2`, whatever the number of channels.

    Example:

    >>> intensity = keras_shift.analysis.depthwise_convolution_intensity((56, 56, 64))
    >>> intensity.multiply_adds, intensity.memory_accesses
    (1806336, 401984)
    >>> round(intensity.ratio, 2)
    4.49

    Args:
        input_shape: Shape of one image, `(height, width, channels)`, such as
            `(56, 56, 64)`.
        kernel_size: Int, height and width of the kernels in pixels, or a pair of both.
            Defaults to `3`.
        batch_size: Int, number of images, for all of which the kernels are read once.
            The equation has one. Defaults to `1`.

    Returns:
        An `ArithmeticIntensity`.

    Raises:
        ValueError: If a size or number is not a positive integer.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Eq. 5
    """
    pixels, channels = _map(input_shape, batch_size)
    kernel = _area(kernel_size) * channels
    return ArithmeticIntensity(pixels * kernel, pixels * 2 * channels + kernel)


def shift_intensity(
    input_shape: Sequence[int], batch_size: int = 1
) -> ArithmeticIntensity:
    """Returns the arithmetic intensity of a shift (ShiftNet paper, section 2.1).

    A shift "does not require parameters or floating point operations", so that its
    ratio is zero: it reads and writes every value of the map, as a depthwise
    convolution does, and has no kernel to read.

    Example:

    >>> intensity = keras_shift.analysis.shift_intensity((56, 56, 64))
    >>> intensity.multiply_adds, intensity.memory_accesses
    (0, 401408)

    Args:
        input_shape: Shape of one image, `(height, width, channels)`, such as
            `(56, 56, 64)`.
        batch_size: Int, number of images. Defaults to `1`.

    Returns:
        An `ArithmeticIntensity`.

    Raises:
        ValueError: If a size or number is not a positive integer.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), section 2.1
    """
    pixels, channels = _map(input_shape, batch_size)
    return ArithmeticIntensity(0, pixels * 2 * channels)


def _map(input_shape, batch_size):
    """Returns a batch's number of pixels, and the number of channels."""
    height, width, channels = _checked(
        "input_shape",
        input_shape,
        input_shape,
        3,
        "three positive integers (height, width, channels)",
    )
    return positive_integer("batch_size", batch_size) * height * width, channels


def _area(kernel_size):
    """Returns a kernel's number of pixels."""
    if isinstance(kernel_size, Sequence):
        allowed = "a positive integer or a pair of them"
        sizes = _checked("kernel_size", kernel_size, kernel_size, 2, allowed)
        return math.prod(sizes)
    return positive_integer("kernel_size", kernel_size) ** 2


def _checked(argument, received, values, count, allowed):
    """Returns `values` as a list of integers if there are `count` positive ones."""
    try:
        numbers = [operator.index(value) for value in values]
    except TypeError:
        numbers = []
    if len(numbers) != count or min(numbers) < 1:
        raise ValueError(
            f"Argument `{argument}` must be {allowed}. Received: {argument}={received}"
        )
    return numbers
