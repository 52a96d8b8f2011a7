"""Names for the types in keras_shift's annotations."""

from typing import Any

# Keras and TensorFlow tensors, symbolic or with values. This is `Any` because neither
# library ships types, and because a NumPy array serves wherever they take a tensor.
Tensor = Any
