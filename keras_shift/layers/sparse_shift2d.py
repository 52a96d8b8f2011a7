from typing import Any

import keras
import numpy as np

from keras_shift import ops as shift_ops
from keras_shift.former_names import with_new_names
from keras_shift.layers.shift_layer import LearnedShift
from keras_shift.typing import DataFormat, InitializerLike, RegularizerLike, Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class SparseShift2D(LearnedShift):
    r"""Shifts every channel by a learned displacement, rounded to whole pixels.

    This is the sparse shift layer (SSL). In the forward pass, the displacements `d`
    of shape `(2, channels)` are rounded, so that whole pixels move and nothing is
    interpolated (Eq. 5 of the SSL paper):

    ```
    y[n, i, j, c] = x[n, i + round(d[0, c]), j + round(d[1, c]), c]
    ```

    where `x` is zero outside the image. In the backward pass, the input gets the
    inverse shift of the incoming gradient (Eq. 7), and the displacements get the
    gradient of the unrounded, bilinear shift (Eq. 6). The formula is in
    `keras_shift.ops.sparse_shift`.

    A penalty on the displacements makes most of them round to zero. A channel whose
    displacements are both zero is unshifted: it need not be moved. The loss of Eq. 4,

    ```
    total = loss + strength * (sum(|d[0]|) + sum(|d[1]|))
    ```

    is the result of `displacement_regularizer=keras.regularizers.L1(strength)`. The
    paper's experiments use `L2` instead. `layer.sparsity` is the share of unshifted
    channels. `keras_shift.callbacks.FreezeShifts` freezes the displacements in the
    middle of training, as the paper does.

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
            `2 * max_displacement + 1` taps where the compiled op does not run.
            Defaults to `None`.
        data_format: A string, one of `"channels_last"` or `"channels_first"`,
            or `None` for the `image_data_format` of your Keras configuration.
            Defaults to `None`.
        input_relu: Boolean, whether the input goes through a ReLU first. The result
            is that of a `keras.layers.ReLU` before this layer, but the compiled op
            needs no further pass over memory for it. Defaults to `False`.

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

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285),
      Sections 4.1 and 4.2
    """

    def __init__(
        self,
        displacement_initializer: InitializerLike | np.ndarray = "grouped",
        displacement_regularizer: RegularizerLike | None = None,
        max_displacement: int | None = None,
        data_format: DataFormat | None = None,
        *,
        input_relu: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            displacement_initializer=displacement_initializer,
            displacement_regularizer=displacement_regularizer,
            max_displacement=max_displacement,
            data_format=data_format,
            **kwargs,
        )
        self.input_relu = bool(input_relu)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return shift_ops.sparse_shift(
            inputs,
            self.displacements,
            max_displacement=self.max_displacement,
            data_format=self.data_format,
            training=training,
            input_relu=self.input_relu,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "input_relu": self.input_relu}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SparseShift2D":
        return super().from_config(with_new_names(config, {"relu": "input_relu"}))
