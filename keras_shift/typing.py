"""Names for the types in keras_shift's annotations."""

from collections.abc import Callable
from typing import Any, Literal

# Keras and TensorFlow tensors, symbolic or with values. This is `Any` because neither
# library ships types, and because a NumPy array serves wherever they take a tensor.
Tensor = Any

# The shape of a tensor. A size that is not known is `None`; it is `Any` here because
# most code asks for a size only where it is known.
Shape = tuple[int | Any, ...]

DataFormat = Literal["channels_last", "channels_first"]

# What layers take for an initializer or a regularizer: a name, a serialized object, a
# function, or an object of Keras' classes, which can be called like a function.
InitializerLike = str | dict[str, Any] | Callable[..., Tensor]
RegularizerLike = str | dict[str, Any] | Callable[[Tensor], Tensor]
