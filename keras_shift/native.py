"""Calls the compiled TensorFlow op, and tells TensorFlow its gradients."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras

from keras_shift import custom_ops, portable_shift
from keras_shift.typing import Shape, Tensor

# The op refuses more threads.
_MOST_THREADS = 256

# The numbers that stand for them in the op of a chain are their indices.
_POOLINGS = ("none", "valid", "same", "global")


class Kernels:
    """The compiled op's kernels, as functions of NHWC tensors.

    Raises:
        RuntimeError: If the op cannot run here, which `keras_shift.dispatch` knows.
    """

    def __init__(self) -> None:
        self._op = _loaded_op()

    def shift(self, x: Tensor, displacements: Tensor) -> Tensor:
        """Shifts images by displacements that are whole numbers (Eq. 1 and 7).

        Args:
            x: A tensor of images.
            displacements: A float tensor of shape `(2, channels)`.
        """
        import tensorflow as tf

        return self._op.keras_shift_shift2d(
            x=x, displacements=_whole(tf, displacements), num_threads=_threads(tf)
        )

    def sparse_shift(
        self, x: Tensor, displacements: Tensor, input_relu: bool = False
    ) -> Tensor:
        """Shifts images by rounded displacements, with both gradients (Eq. 5 to 7).

        Args:
            x: A float tensor of images.
            displacements: A float tensor of shape `(2, channels)`.
            input_relu: Boolean, whether `relu(x)` takes the place of `x`, without
                another pass over memory. Defaults to `False`.
        """
        import tensorflow as tf

        op = self._op
        options = {"relu": input_relu, "num_threads": _threads(tf)}

        @tf.custom_gradient
        def sparse_shift(x, displacements):
            def gradient(upstream):
                result = op.keras_shift_sparse_shift2d_grad(
                    x=x, upstream=upstream, displacements=displacements, **options
                )
                return result.input_gradient, result.displacement_gradient

            whole = _whole(tf, tf.round(displacements))
            return op.keras_shift_shift2d(x=x, displacements=whole, **options), gradient

        return sparse_shift(x, displacements)

    def fused_unit(
        self,
        x: Tensor,
        expand: Tensor,
        project: Tensor,
        displacements: Tensor,
        *,
        channels: int | None,
        filters: int,
        strides: Sequence[int],
        pooling: Literal["none", "valid", "same", "global"],
        output_relu: bool,
        residual: bool,
        output_shape: Shape,
    ) -> Tensor:
        """Computes `keras_shift.layers.FusedUnit2D` from images and its weights.

        Images are float32, displacements int32. The matrices are in panels of float32
        or bfloat16, as `FusedUnit2D` describes them. `pooling` is 2x2 pooling with the
        padding that it names, or over all pixels.
        """
        import tensorflow as tf

        y = self._op.keras_shift_fused_unit2d(
            x=x,
            expand=expand,
            project=project,
            displacements=displacements,
            channels=channels or 0,
            filters=filters,
            strides=strides,
            pool=pooling,
            relu=output_relu,
            residual=residual,
            num_threads=_threads(tf),
        )
        # The op cannot infer this shape itself: in the C API, shape inference sees only
        # those attributes that are types.
        y.set_shape(output_shape)
        return y

    def fused_chain(
        self,
        x: Tensor,
        panels: Tensor,
        displacements: Tensor,
        *,
        wide_channels: Sequence[int],
        options: Sequence[Mapping[str, Any]],
        output_shape: Shape,
    ) -> Tensor:
        """Computes `keras_shift.layers.FusedChain2D` from images and its weights.

        `options` are for each unit the keyword arguments of `fused_unit`, without the
        shape.
        """
        import tensorflow as tf

        units = [
            number
            for wide, unit in zip(wide_channels, options)
            for number in (
                unit["channels"],
                wide,
                unit["filters"],
                *unit["strides"],
                _POOLINGS.index(unit["pooling"]),
                int(unit["output_relu"]),
                int(unit["residual"]),
            )
        ]
        y = self._op.keras_shift_fused_chain2d(
            x=x,
            panels=panels,
            displacements=displacements,
            units=units,
            num_threads=_threads(tf),
        )
        y.set_shape(output_shape)
        return y


def _whole(tf, displacements):
    # A displacement that is NaN moves its channel out of the image.
    far = tf.cast(portable_shift.FAR, displacements.dtype)
    return tf.cast(
        tf.where(tf.math.is_nan(displacements), far, displacements), tf.int32
    )


def _loaded_op():
    op = custom_ops.load()
    if op is None:
        raise RuntimeError(
            f"The compiled op cannot run: {custom_ops.why_unavailable()}"
        )
    return op


def _register_gradients():
    """Tells TensorFlow the gradients of the compiled ops.

    Gradients of second order and those in forward mode are made of them.
    """
    import tensorflow as tf

    @tf.RegisterGradient("KerasShift>Shift2D")
    def shift_gradient(operation, upstream):
        x, displacements = operation.inputs
        by_image = _loaded_op().keras_shift_shift2d(
            x=upstream,
            displacements=-displacements,
            num_threads=operation.get_attr("num_threads"),
        )
        if operation.get_attr("relu"):
            by_image = tf.where(x > 0, by_image, tf.zeros_like(by_image))
        return by_image, None

    @tf.RegisterGradient("KerasShift>SparseShift2DGrad")
    def second_gradient(operation, *upstreams):
        # There is no compiled op for it.
        gradients = portable_shift.both_gradients(None, operation.get_attr("relu"))
        inputs = list(operation.inputs)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            results = gradients(*inputs)
        return tape.gradient(results, inputs, upstreams)


def _threads(tf):
    # Zero is TensorFlow's default and stands for all cores.
    return min(tf.config.threading.get_intra_op_parallelism_threads(), _MOST_THREADS)


if keras.backend.backend() == "tensorflow":
    # An earlier import of this module may have registered them.
    with contextlib.suppress(KeyError):
        _register_gradients()
