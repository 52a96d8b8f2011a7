"""Times that can be compared."""

import dataclasses
import os
import platform
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long one call took, over many calls.

    Attributes:
        median: Median in seconds.
        low: First quartile in seconds.
        high: Third quartile in seconds.
        ratio: Median over the rounds of this call's time divided by the first
            call's in the same round.
        ratio_low: First quartile of the same.
        ratio_high: Third quartile of the same.
    """

    median: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float


def time_alternately(calls, repeats=30, seed=0):
    """Times several functions in one process, in turns.

    A round calls every function once, in a random order, after one call that is
    not counted; what else the machine does then slows all of them alike, and
    their ratio round by round tells more than their times.

    Args:
        calls: Dictionary of functions without arguments, by name.
        repeats: Number of rounds.
        seed: Seed of the order.

    Returns:
        A dictionary of `Timing`s by name.
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
    low, median, high = np.percentile(seconds, [25, 50, 75], axis=0)
    ratios = np.percentile(seconds / seconds[:, :1], [25, 50, 75], axis=0)
    return {
        name: Timing(
            median=float(median[index]),
            low=float(low[index]),
            high=float(high[index]),
            ratio=float(ratios[1, index]),
            ratio_low=float(ratios[0, index]),
            ratio_high=float(ratios[2, index]),
        )
        for index, name in enumerate(names)
    }


def machine():
    """Returns the name of this machine's processor and its number of cores."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    name = line.split(":")[1].strip()
                    break
    return f"{name}, {os.cpu_count()} cores"
