"""Decides whether the compiled TensorFlow op computes a shift, or keras.ops do."""

import keras

from keras_shift import custom_ops, tracing
from keras_shift.typing import Tensor

# The op has kernels for these dtypes.
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8")


def why_unavailable() -> str | None:
    """Returns why the op cannot run here, or `None` where it can."""
    if keras.backend.backend() != "tensorflow":
        return (
            "the op is TensorFlow's, and Keras runs on "
            f"{keras.backend.backend()} (KERAS_BACKEND)"
        )
    if tracing.under_xla():
        return "XLA compiles this function, and the op has no kernel for XLA"
    return custom_ops.why_unavailable()


def other_devices() -> list[str]:
    """Returns the names of the devices that TensorFlow sees in addition to CPUs."""
    import tensorflow as tf

    devices = tf.config.get_visible_devices()
    return [device.name for device in devices if device.device_type != "CPU"]


def runs(x: Tensor, wish: bool | None = None, in_graph: bool | None = False) -> bool:
    """Decides whether the op computes on a tensor, or keras.ops do.

    This is decided here, and nowhere else.

    Args:
        x: The tensor, of any dtype.
        wish: Boolean, what the caller asks for, or `None` for what is faster. Defaults
            to `None`.
        in_graph: Boolean, whether a graph may contain the op: see `serves`. Defaults
            to `False`.

    Raises:
        ValueError: If `wish` is `True` and the op cannot run here.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if wish is None:
        return dtype in DTYPES and serves(in_graph)
    if wish:
        reason = why_unavailable()
        if reason is None and dtype not in DTYPES:
            reason = f"it has no kernel for {dtype}, only for {DTYPES}"
        if reason is not None:
            raise ValueError(
                f"Argument native=True, but the compiled op cannot serve: {reason}"
            )
    return wish


def serves(in_graph: bool | None = False) -> bool:
    """Returns whether the op should run here and now.

    The op runs on machines on which TensorFlow sees no other devices than CPUs, both
    eagerly and in traced functions that may contain it. It does not run in functions
    that XLA compiles, because they cannot contain custom ops.

    Args:
        in_graph: Boolean, whether the op may become part of a graph if a function is
            being traced. A training step may have it in its graph, and so may a model
            whose layers are made for the op. Other functions may be traced for a
            SavedModel or a .tflite file, which must not contain it. `None` counts as
            `False`. Defaults to `False`.
    """
    if keras.backend.backend() != "tensorflow" or other_devices():
        return False
    import tensorflow as tf

    if not (tf.executing_eagerly() or (in_graph and not tracing.under_xla())):
        return False
    return custom_ops.load() is not None
