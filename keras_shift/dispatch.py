"""Decides whether the compiled TensorFlow op computes a shift, or keras.ops do."""

from typing import NamedTuple

import keras

from keras_shift import custom_ops, tracing
from keras_shift.native import Kernels

# The op has kernels for these dtypes.
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8")


class Choice(NamedTuple):
    """What computes a shift.

    Attributes:
        kernels: The compiled op's kernels, or `None` where keras.ops compute.
        reason: Why keras.ops compute, or `None` where the kernels do.
    """

    kernels: Kernels | None
    reason: str | None


def choose(
    dtype: str, wish: bool | None = None, in_graph: bool | None = False
) -> Choice:
    """Chooses what computes a shift here and now.

    This is decided here, and nowhere else. The op runs on the CPU, and not in functions
    that XLA compiles, because they cannot contain custom ops.

    Args:
        dtype: The images' dtype.
        wish: Boolean, what the caller asks for, or `None` for what is faster. That is
            the op on machines on which TensorFlow sees no other devices than CPUs.
            Defaults to `None`.
        in_graph: Boolean, whether the op may become part of a graph if a function is
            being traced and there is no `wish`. A training step may have it in its
            graph, and so may a model whose layers are made for the op. Other functions
            may be traced for a SavedModel or a .tflite file, which must not contain it.
            `None` counts as `False`. Defaults to `False`.

    Returns:
        A `Choice`.

    Raises:
        ValueError: If `wish` is `True` and the op cannot run here.
    """
    reason = _why_not(dtype, wish, in_graph)
    if wish and reason is not None:
        raise ValueError(
            f"Argument native=True, but the compiled op cannot serve: {reason}. "
            f"Received: native={wish}, a tensor of {dtype}"
        )
    return Choice(Kernels() if reason is None else None, reason)


def other_devices() -> list[str]:
    """Returns the names of the devices that TensorFlow sees in addition to CPUs."""
    import tensorflow as tf

    devices = tf.config.get_visible_devices()
    return [device.name for device in devices if device.device_type != "CPU"]


def _why_not(dtype, wish, in_graph):
    """Returns why keras.ops compute, or `None` if the op does."""
    if wish is not None and not wish:
        return "native=False asks for keras.ops"
    if keras.backend.backend() != "tensorflow":
        return (
            "the op is TensorFlow's, and Keras runs on "
            f"{keras.backend.backend()} (KERAS_BACKEND)"
        )
    if dtype not in DTYPES:
        return f"it has no kernel for {dtype}, only for {DTYPES}"
    if tracing.under_xla():
        return "XLA compiles this function, and the op has no kernel for XLA"
    if wish is None:
        import tensorflow as tf

        if devices := other_devices():
            return f"it runs on CPUs, and TensorFlow sees {', '.join(devices)}"
        if not (in_graph or tf.executing_eagerly()):
            return "this function may be traced for a file, which must not contain it"
    return custom_ops.why_unavailable()
