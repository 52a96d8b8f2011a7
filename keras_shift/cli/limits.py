"""Refuses numbers that are too large for any machine and would end the process."""

import math
import os

import keras

from keras_shift.analysis.layer_calls import layer_calls

# All threads start at once, and no processor has as many cores.
_MOST_THREADS = 1024

# The largest image datasets have a fifth of these classes. The memory for them is taken
# when the network is built.
_MOST_CLASSES = 100_000


def check_threads(threads: int) -> None:
    """Refuses more threads than can be started.

    Args:
        threads: Int, number of threads.

    Raises:
        ValueError: If there are more than 1024.
    """
    _check("--threads", threads, _MOST_THREADS)


def check_classes(classes: int | None) -> None:
    """Refuses more classes than there is memory for.

    Args:
        classes: Int, number of classes, or `None` if it is not given.

    Raises:
        ValueError: If there are more than 100,000.
    """
    _check("--classes", classes or 0, _MOST_CLASSES)


def _check(argument, value, most):
    if value > most:
        raise ValueError(
            f"{argument} must be {most:,} at most. Received: {argument} {value}"
        )


def check_memory(model: keras.Model, batch_size: int) -> None:
    """Refuses batches that do not fit into the machine's memory.

    A process that runs out of memory gets no exception: the system ends it.

    Args:
        model: A `keras.Model`.
        batch_size: Int, number of images.

    Raises:
        ValueError: If the inputs and outputs of the largest layer take more than half
            of the memory.
    """
    if not hasattr(os, "sysconf") or not getattr(model, "inputs", None):
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    numbers = max(
        _numbers(call.input_shape) + _numbers(call.output_shape)
        for call in layer_calls(model)
    )
    needed = 4 * numbers * batch_size
    if needed > memory / 2:
        raise ValueError(
            f"Running {model.name} on {batch_size:,} images at once takes "
            f"{needed / 1e9:,.1f} GB for its largest layer alone, and this machine has "
            f"{memory / 1e9:,.1f} GB. Received: --batch-size {batch_size}, images of "
            f"shape {tuple(model.inputs[0].shape[1:])}"
        )


def _numbers(shape):
    """Returns how many numbers one tensor or several have for one image."""
    if shape and isinstance(shape[0], tuple):
        return sum(map(_numbers, shape))
    return math.prod(size or 1 for size in shape[1:])
