from typing import Any

import keras
from keras import ops

from keras_shift import initializers
from keras_shift.typing import (
    DataFormat,
    InitializerLike,
    RegularizerLike,
    Shape,
    Tensor,
)


@keras.saving.register_keras_serializable(package="keras_shift")
class SqueezeExcite2D(keras.layers.Layer):
    """Scales every channel by a gate computed from all channels' means.

    With the means `z` over all pixels and the kernels `squeeze` and `excite`,

    ```
    y[n, i, j, :] = x[n, i, j, :] * sigmoid(relu(z[n] @ squeeze) @ excite)
    ```

    There are no biases: with them, parameter counts would differ from the SSL paper's
    Table 7.

    Example:

    >>> x = np.random.rand(4, 14, 14, 96)
    >>> y = keras_shift.layers.SqueezeExcite2D(squeeze_ratio=8)(x)
    >>> print(y.shape)
    (4, 14, 14, 96)

    Args:
        squeeze_ratio: Positive number, by which the number of channels is divided
            for the length of the hidden vector. The length is rounded and at least
            1. Defaults to `4`.
        kernel_initializer: Initializer of both kernels. Defaults to
            `"glorot_uniform"`.
        kernel_regularizer: Regularizer of both kernels, or `None`. Defaults to
            `None`.
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

    - [Squeeze-and-Excitation Networks](https://arxiv.org/abs/1709.01507)
    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Fig. 6
    """

    def __init__(
        self,
        squeeze_ratio: float = 4,
        kernel_initializer: InitializerLike = "glorot_uniform",
        kernel_regularizer: RegularizerLike | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not squeeze_ratio > 0:
            raise ValueError(
                "Argument `squeeze_ratio` must be positive. "
                f"Received: squeeze_ratio={squeeze_ratio}"
            )
        self.squeeze_ratio = squeeze_ratio
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        # Keras' pooling layer checks the data format and fills in its default.
        self.pool = keras.layers.GlobalAveragePooling2D(
            data_format=data_format, keepdims=True, dtype=self.dtype_policy
        )
        self.data_format = self.pool.data_format
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        if channels is None:
            raise ValueError(
                "SqueezeExcite2D needs to know the number of channels. "
                f"Received: input_shape={tuple(input_shape)}, "
                f"data_format={self.data_format}"
            )
        hidden = max(1, round(channels / self.squeeze_ratio))

        def kernel(name, shape):
            return self.add_weight(
                name=name,
                shape=shape,
                initializer=initializers.fresh(self.kernel_initializer),
                regularizer=self.kernel_regularizer,
            )

        self.squeeze_kernel = kernel("squeeze_kernel", (channels, hidden))
        self.excite_kernel = kernel("excite_kernel", (hidden, channels))

    def call(self, inputs: Tensor) -> Tensor:
        channels = self.squeeze_kernel.shape[0]
        means = self.pool(inputs)
        gate = ops.matmul(ops.reshape(means, (-1, channels)), self.squeeze_kernel)
        gate = ops.sigmoid(ops.matmul(ops.relu(gate), self.excite_kernel))
        return inputs * ops.reshape(gate, (-1, *means.shape[1:]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "squeeze_ratio": self.squeeze_ratio,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "data_format": self.data_format,
        }
