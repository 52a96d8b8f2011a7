import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_shift")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that trains faster on TensorFlow.

    It computes the same:

    ```
    y = gamma * (x - mean(x)) / sqrt(variance(x) + epsilon) + beta
    moving_mean = momentum * moving_mean + (1 - momentum) * mean(x)
    moving_variance = momentum * moving_variance + (1 - momentum) * variance(x)
    ```

    Keras composes this of a dozen operations, each of which passes over the whole
    tensor, forward and backward. TensorFlow has one operation for all of it. This
    layer takes that one in training where it serves: on images in the order of
    `"channels_last"`, in float32 or half precision, without a mask, and without
    `renorm` and `synchronized`. Everywhere else, and on other backends, it is
    Keras' layer.

    Example:

    >>> x = np.random.rand(4, 32, 32, 16)
    >>> y = keras_shift.layers.FusedBatchNormalization()(x, training=True)
    >>> print(y.shape)
    (4, 32, 32, 16)

    Args:
        **kwargs: The arguments of `keras.layers.BatchNormalization`.

    Input shape:
        Any; 4D for the fast operation.

    Output shape:
        The same as the input's.

    References:

    - [Batch Normalization](https://arxiv.org/abs/1502.03167)
    """

    def call(self, inputs, training=None, mask=None):
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
        # TensorFlow's is the estimate for a larger population, Keras' that of the
        # batch itself.
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
            and not getattr(self, "renorm", False)  # newer than Keras 3.13
        )

    def _move(self, variable, value):
        variable.assign(variable * self.momentum + value * (1 - self.momentum))
