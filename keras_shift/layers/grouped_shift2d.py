from typing import Any

import keras
import numpy as np

from keras_shift import ops as shift_ops
from keras_shift.layers.shift_layer import ShiftLayer
from keras_shift.typing import DataFormat, Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class GroupedShift2D(ShiftLayer):
    """Shifts groups of channels by fixed displacements.

    The channels are divided evenly among the positions of a window of
    `kernel_size` by `kernel_size` pixels, and each group is displaced by its
    position (Eq. 2 of the SSL paper):

    ```
    y[n, i, j, c] = x[n, i + displacements[0, c], j + displacements[1, c], c]
    ```

    where `x` is zero outside the image, and
    `displacements = keras_shift.ops.grouped_displacements(channels, ...)`.
    The layer has no weights. Followed by a 1x1 convolution, it replaces a
    convolution of the same kernel size.

    Example:

    >>> x = np.random.rand(4, 32, 32, 18)
    >>> y = keras_shift.layers.GroupedShift2D(kernel_size=3)(x)
    >>> print(y.shape)
    (4, 32, 32, 18)

    Args:
        kernel_size: Odd int, the size of the window in pixels. Defaults to `3`.
        dilation_rate: Int, the distance of neighbouring positions in the
            window, in pixels. Defaults to `1`.
        data_format: A string, one of `"channels_last"` or `"channels_first"`,
            or `None` for the `image_data_format` of your Keras configuration.
            Defaults to `None`.

    Input shape:
        4D tensor with shape:
        - If `data_format` is `"channels_last"`:
          `(batch_size, height, width, channels)`
        - If `data_format` is `"channels_first"`:
          `(batch_size, channels, height, width)`

    Output shape:
        The same as the input's.

    Raises:
        ValueError: If an argument is invalid, or the number of channels is unknown.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Section 2
    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Eq. 2
    """

    def __init__(
        self,
        kernel_size: int = 3,
        dilation_rate: int = 1,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        # This call refuses bad arguments here rather than when the layer is built.
        shift_ops.grouped_displacements(1, kernel_size, dilation_rate)
        self.kernel_size = kernel_size
        self.dilation_rate = dilation_rate

    def displacement_array(self) -> np.ndarray:
        return shift_ops.grouped_displacements(
            self.channels, self.kernel_size, self.dilation_rate
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return shift_ops.shift(
            inputs,
            self.displacement_array(),
            data_format=self.data_format,
            training=training,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "dilation_rate": self.dilation_rate,
        }
