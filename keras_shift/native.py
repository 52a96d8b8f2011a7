"""The compiled TensorFlow op: where it serves, and its gradients."""

import keras

from keras_shift import custom_ops, tracing

# The dtypes for which the op has kernels.
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8")

# Displacements from here on move everything out of any image. They are clipped, so
# that neither the cast to integers nor the sum with a pixel's index can overflow; the
# number is exact in float32.
FAR = 2.0**29


def why_unavailable():
    """Returns why the op cannot run here, or `None` where it can."""
    if keras.backend.backend() != "tensorflow":
        return (
            "the op is TensorFlow's, and Keras runs on "
            f"{keras.backend.backend()} (KERAS_BACKEND)"
        )
    if tracing.under_xla():
        return "XLA compiles this function, and the op has no kernel for XLA"
    return custom_ops.why_unavailable()


def other_devices():
    """Returns the devices that TensorFlow sees beside CPUs, by name."""
    import tensorflow as tf

    devices = tf.config.get_visible_devices()
    return [device.name for device in devices if device.device_type != "CPU"]


def serves(traced=False):
    """Returns whether the op should run here and now.

    It runs eagerly, and in functions that may hold it, on a machine on which
    TensorFlow sees no other device than CPUs. It does not run in functions that XLA
    compiles, which admit no custom ops.

    Args:
        traced: Whether a traced function may hold the op: that of a training step,
            or of a model that is made of the op. Other functions that are traced
            for inference may be on their way to a SavedModel or a .tflite file that
            must do without it.
    """
    if keras.backend.backend() != "tensorflow" or other_devices():
        return False
    import tensorflow as tf

    if not (tf.executing_eagerly() or (traced and not tracing.under_xla())):
        return False
    return custom_ops.load() is not None


def shift(x, displacements):
    """Integer shift of NHWC images by whole `displacements` (Eq. 1 and 7)."""
    import tensorflow as tf

    op = _op()
    threads = _threads(tf)

    @tf.custom_gradient
    def shift(x, displacements):
        def gradient(upstream):
            return shift(upstream, -displacements), None

        whole = _whole(tf, displacements)
        y = op.keras_shift_shift2d(x=x, displacements=whole, num_threads=threads)
        return y, gradient

    return shift(x, displacements)


def sparse_shift(x, displacements, gradients, relu=False):
    """Rounded shift of NHWC images with both gradients (Eq. 5 to 7).

    With `relu`, that of `relu(x)`, in as many passes over memory. `gradients` is a
    function of `x`, the incoming gradient and displacements that returns both
    gradients in `keras.ops`. The op's have none themselves, so those of second order
    are taken from it.
    """
    import tensorflow as tf

    op = _op()
    threads = _threads(tf)

    @tf.custom_gradient
    def both_gradients(x, upstream, displacements):
        def gradient(*upstreams):
            arguments = x, upstream, displacements
            with tf.GradientTape() as tape:
                tape.watch(arguments)
                results = gradients(*arguments)
            return tape.gradient(results, arguments, upstreams)

        result = op.keras_shift_sparse_shift2d_grad(
            x=x,
            upstream=upstream,
            displacements=displacements,
            relu=relu,
            num_threads=threads,
        )
        return (result.input_gradient, result.displacement_gradient), gradient

    @tf.custom_gradient
    def sparse_shift(x, displacements):
        def gradient(upstream):
            return both_gradients(x, upstream, displacements)

        y = op.keras_shift_shift2d(
            x=x,
            displacements=_whole(tf, tf.round(displacements)),
            relu=relu,
            num_threads=threads,
        )
        return y, gradient

    return sparse_shift(x, displacements)


def fused_unit(
    x,
    expand,
    project,
    displacements,
    *,
    filters,
    strides,
    pool,
    relu,
    residual,
    output_shape,
):
    """`keras_shift.layers.FusedUnit2D` with its weights, of NHWC images in float32."""
    import tensorflow as tf

    y = _op().keras_shift_fused_unit2d(
        x=x,
        expand=expand,
        project=project,
        displacements=displacements,
        filters=filters,
        strides=strides,
        pool=pool or "none",
        relu=relu,
        residual=residual,
        num_threads=_threads(tf),
    )
    # The C API shows no attribute but types to an op's own shape inference.
    y.set_shape(output_shape)
    return y


def _whole(tf, displacements):
    far = tf.clip_by_value(displacements, -FAR, FAR)
    # What is not a number moves its channel out of the image.
    far = tf.cast(FAR, displacements.dtype)
    return tf.cast(
        tf.where(tf.math.is_nan(displacements), far, displacements), tf.int32
    )


def _op():
    op = custom_ops.load()
    if op is None:
        raise RuntimeError(f"The compiled op cannot run: {why_unavailable()}")
    return op


def _threads(tf):
    # Zero, which is also TensorFlow's default, stands for all cores.
    return tf.config.threading.get_intra_op_parallelism_threads()
