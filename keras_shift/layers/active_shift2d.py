import keras

from keras_shift import ops
from keras_shift.layers.shift_layer import LearnedShift


@keras.saving.register_keras_serializable(package="keras_shift")
class ActiveShift2D(LearnedShift):
    """Shifts every channel by a learned, real displacement.

    The value between pixels is that of bilinear interpolation (Eq. 3 of the SSL
    paper, where this layer is the baseline that sparse shifts improve on): with
    `d = displacements[:, c]`,

    ```
    y[n, i, j, c] = sum over the pixels (p, q) next to (i + d[0], j + d[1]) of
                    x[n, p, q, c] * (1 - |i + d[0] - p|) * (1 - |j + d[1] - q|)
    ```

    with zero outside the image. Unlike `keras_shift.layers.SparseShift2D` it
    multiplies in inference, too.

    Example:

    >>> x = np.random.rand(4, 32, 32, 18)
    >>> y = keras_shift.layers.ActiveShift2D()(x)
    >>> print(y.shape)
    (4, 32, 32, 18)

    Args:
        displacement_initializer: An initializer of the displacements, which are
            one weight of shape `(2, channels)`: rows first, columns second, in
            pixels. `"grouped"` is
            `keras_shift.initializers.GroupedDisplacements()`.
        displacement_regularizer: A regularizer of the displacements, or `None`.
        max_displacement: Int, the largest absolute value of a displacement,
            held by a constraint, or `None` for no bound; initial and loaded
            values beyond it count as the bound. A small bound allows
            a depthwise convolution of `2 * max_displacement + 3` taps where the
            compiled op does not run.
        data_format: A string, one of `"channels_last"` or `"channels_first"`,
            or `None` for the `image_data_format` of your Keras configuration.

    Input shape:
        4D tensor with shape:
        - If `data_format` is `"channels_last"`:
          `(batch_size, height, width, channels)`
        - If `data_format` is `"channels_first"`:
          `(batch_size, channels, height, width)`

    Output shape:
        The same as the input's.

    References:

    - [Constructing Fast Network through Deconstruction of Convolution](
        https://arxiv.org/abs/1806.07370)
    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Eq. 3
    """

    rounds = False

    def call(self, inputs, training=None):
        return ops.active_shift(
            inputs,
            self.displacements,
            max_displacement=self.max_displacement,
            data_format=self.data_format,
            native=self._native(inputs, training),
        )
