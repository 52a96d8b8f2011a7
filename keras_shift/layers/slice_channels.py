from typing import Any

import keras

from keras_shift.integers import whole_number
from keras_shift.shift_arguments import check_data_format
from keras_shift.typing import DataFormat, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class SliceChannels(keras.layers.Layer):
    """Selects consecutive channels of an image.

    ```
    y = x[:, :, :, start:stop]
    ```

    On TensorFlow, this layer trains with `tf.slice`, because the gradient of an index
    takes longer.

    Example:

    >>> x = np.random.rand(4, 32, 32, 16)
    >>> y = keras_shift.layers.SliceChannels(4, 12)(x)
    >>> print(y.shape)
    (4, 32, 32, 8)

    Args:
        start: Int, the number of the first channel, counted from 0.
        stop: Int, the number of the channel after the last one.
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
        The same as the input's, with `stop - start` channels.

    Raises:
        ValueError: If an argument is invalid, or the input has fewer than `stop`
            channels or an unknown number of them.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        first, end = whole_number(start), whole_number(stop)
        if first is None or end is None or not 0 <= first < end:
            raise ValueError(
                "Arguments `start` and `stop` must be integers, numbers of channels "
                "that are counted from 0, and `stop` the larger one. "
                f"Received: start={start}, stop={stop}"
            )
        self.start = first
        self.stop = end
        self.data_format = check_data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[self._axis]
        if channels is None:
            raise ValueError(
                "SliceChannels needs to know the number of channels. "
                f"Received: input_shape={tuple(input_shape)}, "
                f"data_format={self.data_format}"
            )
        if channels < self.stop:
            raise ValueError(
                f"Argument `stop` must not exceed the {channels} channels of the "
                f"input. Received: stop={self.stop}, input_shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={self._axis: channels})

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        # Outside of training, an index is better: LiteRT has faster kernels for it.
        if training and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            begin, size = [0] * 4, [-1] * 4
            begin[self._axis], size[self._axis] = self.start, self.stop - self.start
            return tf.slice(inputs, begin, size)
        if self._axis == 1:
            return inputs[:, self.start : self.stop]
        return inputs[..., self.start : self.stop]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = list(input_shape)
        shape[self._axis] = self.stop - self.start
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "start": self.start,
            "stop": self.stop,
            "data_format": self.data_format,
        }

    @property
    def _axis(self) -> int:
        return 3 if self.data_format == "channels_last" else 1
