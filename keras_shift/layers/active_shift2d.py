import keras

from keras_shift import ops as shift_ops
from keras_shift.layers.shift_layer import LearnedShift
from keras_shift.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class ActiveShift2D(LearnedShift):
    """Shifts every channel by a learned, real displacement.

    Values between pixels come from bilinear interpolation (Eq. 3 of the SSL paper,
    where this layer is the baseline that sparse shifts improve on). With
    `d = displacements[:, c]`,

    ```
    y[n, i, j, c] = sum over the pixels (p, q) next to (i + d[0], j + d[1]) of
                    x[n, p, q, c] * (1 - |i + d[0] - p|) * (1 - |j + d[1] - q|)
    ```

    where `x` is zero outside the image. Unlike `keras_shift.layers.SparseShift2D`,
    this layer multiplies in inference as well.

    Example:

    >>> x = np.random.rand(4, 32, 32, 18)
    >>> y = keras_shift.layers.ActiveShift2D()(x)
    >>> print(y.shape)
    (4, 32, 32, 18)

    Args:
        displacement_initializer: An initializer of the displacements, which are
            one weight of shape `(2, channels)` in pixels: row 0 counts rows of the
            image, row 1 counts columns. `"grouped"` stands for
            `keras_shift.initializers.GroupedDisplacements()`. Defaults to
            `"grouped"`.
        displacement_regularizer: A regularizer of the displacements, or `None`.
            Defaults to `None`.
        max_displacement: Int, the largest absolute value of a displacement, or
            `None` for no bound. A constraint keeps trained values within it;
            initial and loaded values beyond it are clipped when they are used. A
            small bound allows a depthwise convolution of
            `2 * max_displacement + 3` taps where the compiled op does not run.
            Defaults to `None`.
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

    - [Constructing Fast Network through Deconstruction of Convolution](
        https://arxiv.org/abs/1806.07370)
    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Eq. 3
    """

    rounds = False

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return shift_ops.active_shift(
            inputs,
            self.displacements,
            max_displacement=self.max_displacement,
            data_format=self.data_format,
            training=training,
        )
