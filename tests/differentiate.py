"""Values and gradients of a function on whichever backend Keras runs."""

import keras
import numpy as np
from keras import ops


def value_and_gradients(function, arrays, upstream):
    """Returns `function(*arrays)` and the gradients of its product with `upstream`.

    Args:
        function: Function of tensors.
        arrays: NumPy arrays, one for each argument.
        upstream: Array of the output's shape, the incoming gradient.

    Returns:
        A pair: the output, and a list of gradients (`None` where there is none),
        as NumPy arrays.
    """
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    backend = keras.backend.backend()

    def loss(*tensors):
        y = function(*tensors)
        return ops.sum(y * ops.convert_to_tensor(upstream, y.dtype)), y

    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            total, y = loss(*tensors)
        gradients = tape.gradient(total, tensors)
    elif backend == "jax":
        import jax

        argnums = tuple(range(len(tensors)))
        gradients, y = jax.grad(loss, argnums, has_aux=True)(*tensors)
    else:
        tensors = [tensor.clone().requires_grad_() for tensor in tensors]
        total, y = loss(*tensors)
        total.backward()
        gradients = [tensor.grad for tensor in tensors]
    return ops.convert_to_numpy(y), [
        None if gradient is None else np.asarray(ops.convert_to_numpy(gradient))
        for gradient in gradients
    ]
