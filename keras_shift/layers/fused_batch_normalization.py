import keras
from keras import ops

from keras_shift.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Normalizes like `keras.layers.BatchNormalization`, but trains faster.

    It computes the same as that layer:

    ```
    y = gamma * (x - mean(x)) / sqrt(variance(x) + epsilon) + beta
    moving_mean = momentum * moving_mean + (1 - momentum) * mean(x)
    moving_variance = momentum * moving_variance + (1 - momentum) * variance(x)
    ```

    Keras computes this with many operations, each of which passes over the whole
    tensor, forward and backward. TensorFlow has one operation for all of it. In
    training on TensorFlow, this layer uses that operation where it can: for images
    in the format `"channels_last"`, in float32 or half precision, with `center` and
    `scale`, and without a mask, `renorm` or `synchronized`. In all other cases it
    computes as Keras' layer does.

    Example:

    >>> x = np.random.rand(4, 32, 32, 16)
    >>> y = keras_shift.layers.FusedBatchNormalization()(x, training=True)
    >>> print(y.shape)
    (4, 32, 32, 16)

    Args:
        **kwargs: The arguments of `keras.layers.BatchNormalization`.

    Input shape:
        Any shape; only 4D tensors use the fast operation.

    Output shape:
        The same as the input's.

    References:

    - [Batch Normalization](https://arxiv.org/abs/1502.03167)
    """

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        if not (training and self.trainable and mask is None and self._fuses(inputs)):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        none = tf.zeros([0])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma),
            offset=ops.convert_to_tensor(self.beta),
            mean=none,
            variance=none,
            epsilon=self.epsilon,
            is_training=True,
        )
        # TensorFlow returns the unbiased estimate of the variance, while Keras uses
        # the variance of the batch itself.
        count = ops.cast(ops.prod(ops.shape(inputs)[:-1]), "float32")
        variance = variance * (1 - 1 / count)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance)
        return outputs

    def _fuses(self, inputs):
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and inputs.dtype in ("float32", "float16", "bfloat16")
            and self.variable_dtype == "float32"
            and self.center
            and self.scale
            and not self.synchronized
            and not getattr(self, "renorm", False)  # Keras 3.13 has no `renorm`.
        )

    def _move(self, variable, value):
        variable.assign(variable * self.momentum + value * (1 - self.momentum))
