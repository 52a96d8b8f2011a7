"""Measures times in a way that makes them comparable."""

import dataclasses
import os
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import keras
import numpy as np
import rich.box
import rich.table

from keras_shift.deploy.interpreter import LiteRTModel, check_threads
from keras_shift.environment import machine
from keras_shift.image_batches import random_pixels
from keras_shift.integers import positive_integer
from keras_shift.table import to_text

# A file runs this long before its runs are counted. Afterwards the processor's caches
# are filled, and its clock rate is stable.
_WARM_UP_SECONDS = 0.3

_Key = TypeVar("_Key", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long one call took, over many calls.

    Attributes:
        median: Median in seconds.
        low: First quartile in seconds.
        high: Third quartile in seconds.
        ratio: Median over the rounds of this call's time divided by the first
            call's in the same round.
        ratio_low: First quartile of these ratios.
        ratio_high: Third quartile of these ratios.
    """

    median: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """How long .tflite files take on this machine.

    Attributes:
        timings: `Timing` of one run of every file, by its path. Ratios are to the
            first file.
        batch_sizes: How many images one run takes, by path.
        partitions: Into how many parts XNNPACK cut a file, by path. See
            `keras_shift.deploy.LiteRTModel.partitions`.
        num_threads: Number of threads.
        repeats: Number of counted runs of every file.
        machine: The processor and its number of cores.
    """

    timings: dict[str, Timing]
    batch_sizes: dict[str, int]
    partitions: dict[str, int | None]
    num_threads: int
    repeats: int
    machine: str

    def __str__(self) -> str:
        table = rich.table.Table(
            box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
        )
        table.add_column("File", overflow="fold")
        several = len(self.timings) > 1
        for column in ("Images", "Median", "Quartiles", "Partitions"):
            table.add_column(column, justify="right", no_wrap=True)
        if several:
            table.add_column("Ratio", justify="right", no_wrap=True)
            table.add_column("Quartiles", justify="right", no_wrap=True)
        for path, timing in self.timings.items():
            partitions = self.partitions[path]
            row = [
                path,
                str(self.batch_sizes[path]),
                f"{timing.median * 1000:.3g} ms",
                f"{timing.low * 1000:.3g} to {timing.high * 1000:.3g}",
                "not known" if partitions is None else str(partitions),
            ]
            if several:
                row += [
                    f"{timing.ratio:.2f}",
                    f"{timing.ratio_low:.2f} to {timing.ratio_high:.2f}",
                ]
            table.add_row(*row)
        turns = " of each file, in turns" if several else ""
        threads = f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}"
        return (
            f"{to_text(table)}\n\n{self.repeats} runs{turns}, {threads}, "
            f"{self.machine}."
        )


def benchmark(
    path: str | os.PathLike[str],
    *others: str | os.PathLike[str],
    num_threads: int = 1,
    repeats: int = 50,
) -> Benchmark:
    """Times .tflite files with LiteRT on this machine.

    Several files run in turns. So other programs on the machine slow all of them
    alike, and their ratios tell more than their times.

    Example:

    >>> result = keras_shift.deploy.benchmark("model.tflite", repeats=10)
    >>> result.timings["model.tflite"].median < 1.0
    True
    >>> print(result)
    File ...

    Args:
        path: Path of a file.
        *others: Paths of files to compare with it.
        num_threads: Int, number of threads that LiteRT may use, 256 at most. Defaults
            to 1.
        repeats: Int, number of runs that are counted. Some runs before them are not.
            Defaults to 50.

    Returns:
        A `Benchmark`, which prints as a table.

    Raises:
        OSError: If there is no such file.
        ValueError: If a file is damaged or named twice, or a number is out of range.
    """
    paths = [os.fspath(name) for name in (path, *others)]
    if len(set(paths)) < len(paths):
        raise ValueError(f"Every file must be named once. Received: {paths}")
    check_threads(num_threads)
    num_threads, repeats = int(num_threads), positive_integer("repeats", repeats)
    files = {name: LiteRTModel(name, num_threads=num_threads) for name in paths}
    for lite in files.values():
        warm_up(lite)
    return Benchmark(
        timings=time_alternately(
            {name: lite.invoke for name, lite in files.items()}, repeats
        ),
        batch_sizes={name: lite.input_shape[0] for name, lite in files.items()},
        partitions={name: lite.partitions() for name, lite in files.items()},
        num_threads=num_threads,
        repeats=repeats,
        machine=machine(),
    )


def with_random_biases(model: keras.Model) -> keras.Model:
    """Prepares a network that was never trained for an int8 file to be timed.

    Deep networks with random weights, MobileNetV2 among them, may compute nothing but
    zeros, which an int8 file cannot hold. Random biases of batch normalization
    (normal, with a standard deviation of 0.5) keep channels apart. They are the same in
    every call.

    Example:

    >>> model = keras_shift.deploy.with_random_biases(model)
    >>> report = keras_shift.deploy.to_tflite(
    ...     model, "untrained.tflite", quantize="int8", representative_data=images
    ... )

    Args:
        model: A `keras.Model`, which is changed.

    Returns:
        The same model.
    """
    random = np.random.default_rng(0)
    layers = list(model.layers)
    # The list grows during the loop by the layers of models inside of the model.
    for layer in layers:
        if isinstance(layer, keras.Model):
            layers += layer.layers
        elif isinstance(layer, keras.layers.BatchNormalization) and layer.center:
            layer.beta.assign(random.normal(0, 0.5, layer.beta.shape))
    return model


def warm_up(lite: LiteRTModel) -> None:
    """Runs a file for a while on random pixels, which stay in its input.

    Without them, the input would hold zeros.

    Args:
        lite: A `LiteRTModel`.
    """
    batch_size, *shape = lite.input_shape
    pixels = random_pixels(shape)
    lite.predict(np.resize(pixels, (batch_size, *shape)))
    start = time.perf_counter()
    while time.perf_counter() - start < _WARM_UP_SECONDS:
        lite.invoke()


def time_alternately(
    calls: Mapping[_Key, Callable[[], object]], repeats: int = 30, seed: int = 0
) -> dict[_Key, Timing]:
    """Times several functions in one process, in turns.

    A round goes through all functions in a random order, and calls each of them twice:
    only the second call is counted. So other programs on the machine slow all functions
    alike, and their ratios in the same round tell more than their times.

    Args:
        calls: Dictionary of functions without arguments, by name.
        repeats: Int, number of rounds. Defaults to 30.
        seed: Int, seed of the random order. Defaults to 0.

    Returns:
        A dictionary of `Timing`s by name.

    Raises:
        ValueError: If there is no function or no round.
    """
    seconds = seconds_alternately(calls, repeats, seed)
    first = next(iter(seconds.values()))
    return {name: timing_of(own, first) for name, own in seconds.items()}


def seconds_alternately(
    calls: Mapping[_Key, Callable[[], object]], repeats: int = 30, seed: int = 0
) -> dict[_Key, np.ndarray]:
    """Measures what `time_alternately` summarizes.

    Args:
        calls: As in `time_alternately`.
        repeats: As in `time_alternately`. Defaults to 30.
        seed: As in `time_alternately`. Defaults to 0.

    Returns:
        A dictionary of arrays of shape `(repeats,)` by name: the seconds of the counted
        call in every round.

    Raises:
        ValueError: If there is no function or no round.
    """
    if not calls or repeats < 1:
        raise ValueError(
            "Arguments `calls` and `repeats` must ask for one call at least. "
            f"Received: calls={list(calls)}, repeats={repeats}"
        )
    names = list(calls)
    seconds = np.zeros((repeats, len(names)))
    order = np.random.default_rng(seed)
    for row in seconds:
        for index in order.permutation(len(names)):
            calls[names[index]]()
            start = time.perf_counter()
            calls[names[index]]()
            row[index] = time.perf_counter() - start
    return dict(zip(names, seconds.T))


def timing_of(seconds: np.ndarray, reference: np.ndarray) -> Timing:
    """Summarizes the rounds of one call, with its ratios to those of another one.

    Args:
        seconds: Array of shape `(rounds,)`, as of `seconds_alternately`.
        reference: Array of the same shape, of the call that ratios are to.

    Returns:
        A `Timing`.
    """
    low, median, high = np.percentile(seconds, [25, 50, 75])
    ratio_low, ratio, ratio_high = np.percentile(seconds / reference, [25, 50, 75])
    return Timing(
        median=float(median),
        low=float(low),
        high=float(high),
        ratio=float(ratio),
        ratio_low=float(ratio_low),
        ratio_high=float(ratio_high),
    )
