import keras

from keras_shift import ops
from keras_shift.layers.shift_layer import LearnedShift


@keras.saving.register_keras_serializable(package="keras_shift")
class SparseShift2D(LearnedShift):
    r"""Shifts every channel by a learned displacement, rounded to whole pixels.

    The sparse shift layer (SSL). Forward, the displacements `d` of shape
    `(2, channels)` are rounded, so that pixels are moved and nothing is
    interpolated (Eq. 5 of the SSL paper):

    ```
    y[n, i, j, c] = x[n, i + round(d[0, c]), j + round(d[1, c]), c]
    ```

    with zero outside the image. Backward, the input gets the inverse move of
    the incoming gradient (Eq. 7), and the displacements get the gradient of the
    bilinear interpolation at the unrounded place (Eq. 6); its formula is in
    `keras_shift.ops.sparse_shift`.

    A penalty on the displacements makes most of them round to zero, and such a
    channel need not move: the loss of Eq. 4,

    ```
    total = loss + strength * (sum(|d[0]|) + sum(|d[1]|))
    ```

    is `displacement_regularizer=keras.regularizers.L1(strength)`. The paper's
    experiments use `L2` instead. `layer.sparsity` is the share of unshifted
    channels; `keras_shift.callbacks.FreezeShifts` ends the learning of shifts
    in the middle of training, as the paper does.

    Example:

    >>> x = np.random.rand(4, 32, 32, 18)
    >>> layer = keras_shift.layers.SparseShift2D()
    >>> y = layer(x)
    >>> print(y.shape)
    (4, 32, 32, 18)
    >>> print(layer.displacements.shape)
    (2, 18)

    Args:
        displacement_initializer: An initializer of the displacements, which are
            one weight of shape `(2, channels)`: rows first, columns second, in
            pixels. `"grouped"` is
            `keras_shift.initializers.GroupedDisplacements()`.
        displacement_regularizer: A regularizer of the displacements, or `None`.
        max_displacement: Int, the largest absolute value of a displacement,
            held by a constraint, or `None` for no bound; initial and loaded
            values beyond it count as the bound. A small bound allows
            a depthwise convolution of `2 * max_displacement + 1` taps where the
            compiled op does not run.
        data_format: A string, one of `"channels_last"` or `"channels_first"`,
            or `None` for the `image_data_format` of your Keras configuration.
        relu: Boolean, whether the input goes through a ReLU first. That is what
            a `keras.layers.ReLU` before this layer does, but where the compiled op
            runs it takes no passes over memory of its own.

    Input shape:
        4D tensor with shape:
        - If `data_format` is `"channels_last"`:
          `(batch_size, height, width, channels)`
        - If `data_format` is `"channels_first"`:
          `(batch_size, channels, height, width)`

    Output shape:
        The same as the input's.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285),
      Sections 4.1 and 4.2
    """

    def __init__(
        self,
        displacement_initializer="grouped",
        displacement_regularizer=None,
        max_displacement=None,
        data_format=None,
        *,
        relu=False,
        **kwargs,
    ):
        super().__init__(
            displacement_initializer=displacement_initializer,
            displacement_regularizer=displacement_regularizer,
            max_displacement=max_displacement,
            data_format=data_format,
            **kwargs,
        )
        self.relu = bool(relu)

    def call(self, inputs, training=None):
        return ops.sparse_shift(
            inputs,
            self.displacements,
            max_displacement=self.max_displacement,
            data_format=self.data_format,
            native=self._native(inputs, training),
            relu=self.relu,
        )

    def get_config(self):
        return {**super().get_config(), "relu": self.relu}
