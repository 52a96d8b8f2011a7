"""The compiled TensorFlow op: where it serves, and its gradients."""

import keras

from keras_shift import custom_ops, tracing

# The dtypes for which the op has kernels.
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8")

# Displacements beyond it move everything out of any image. They are clipped so
# that the cast to integers cannot overflow.
_FAR = 2.0**29


def why_unavailable():
    """Returns why the op cannot run in this process, or `None` where it can."""
    if keras.backend.backend() != "tensorflow":
        return (
            "the op is TensorFlow's, and Keras runs on "
            f"{keras.backend.backend()} (KERAS_BACKEND)"
        )
    return custom_ops.why_unavailable()


def serves(training=False):
    """Returns whether the op should run here and now.

    It runs eagerly, and in functions that are traced for training, on a machine
    on which TensorFlow sees no other device than CPUs. It does not run in
    functions that XLA compiles, which admit no custom ops, nor in functions
    traced for inference, which may be on their way to a SavedModel or a
    .tflite file that must do without it.

    Args:
        training: Whether a traced function is known to be a training step.
    """
    if keras.backend.backend() != "tensorflow" or custom_ops.load() is None:
        return False
    import tensorflow as tf

    if any(device.device_type != "CPU" for device in tf.config.get_visible_devices()):
        return False
    return tf.executing_eagerly() or bool(training and not tracing.under_xla())


def shift(x, displacements):
    """Integer shift of NHWC images by whole `displacements` (Eq. 1 and 7)."""
    import tensorflow as tf

    op = _op()
    threads = _threads(tf)

    @tf.custom_gradient
    def shift(x, displacements):
        def gradient(upstream):
            return shift(upstream, -displacements), None

        whole = tf.cast(tf.clip_by_value(displacements, -_FAR, _FAR), tf.int32)
        y = op.keras_shift_shift2d(x=x, displacements=whole, num_threads=threads)
        return y, gradient

    return shift(x, displacements)


def sparse_shift(x, displacements):
    """Rounded shift of NHWC images with both gradients (Eq. 5 to 7)."""
    import tensorflow as tf

    op = _op()
    threads = _threads(tf)

    @tf.custom_gradient
    def sparse_shift(x, displacements):
        def gradient(upstream):
            result = op.keras_shift_sparse_shift2d_grad(
                x=x,
                upstream=upstream,
                displacements=displacements,
                num_threads=threads,
            )
            return result.input_gradient, result.displacement_gradient

        return shift(x, tf.round(displacements)), gradient

    return sparse_shift(x, displacements)


def _op():
    op = custom_ops.load()
    if op is None:
        raise RuntimeError(f"The compiled op cannot run: {why_unavailable()}")
    return op


def _threads(tf):
    # Zero, which is also TensorFlow's default, stands for all cores.
    return tf.config.threading.get_intra_op_parallelism_threads()
