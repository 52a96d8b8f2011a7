"""Shift layers and shift networks for Keras 3."""

try:
    import keras as _keras  # noqa: F401
except ImportError as error:
    raise ImportError(
        "keras_shift needs Keras and one of its backends, and importing Keras "
        f"failed: {error}. Install a backend with "
        '`pip install "keras-shift[cpu]"` (TensorFlow for CPUs), '
        '`"keras-shift[tf]"`, `"keras-shift[jax]"` or `"keras-shift[torch]"`; '
        "the environment variable KERAS_BACKEND chooses among those installed."
    ) from error

# The imports stand below the check for Keras.
from keras_shift import analysis  # noqa: E402
from keras_shift import callbacks  # noqa: E402
from keras_shift import constraints  # noqa: E402
from keras_shift import deploy  # noqa: E402
from keras_shift import initializers  # noqa: E402
from keras_shift import layers  # noqa: E402
from keras_shift import ops  # noqa: E402
from keras_shift import reporting  # noqa: E402
from keras_shift import training  # noqa: E402
from keras_shift import zoo  # noqa: E402
from keras_shift.depthwise_replacement import replace_depthwise  # noqa: E402
from keras_shift.version import __version__  # noqa: E402

__all__ = [
    "__version__",
    "analysis",
    "callbacks",
    "constraints",
    "deploy",
    "initializers",
    "layers",
    "ops",
    "replace_depthwise",
    "reporting",
    "training",
    "zoo",
]
