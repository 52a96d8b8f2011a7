"""Decides in which order a training takes shifts away."""

from collections.abc import Callable, Sequence

import numpy as np


def take_away(
    patterns: list[np.ndarray],
    importance: Sequence[np.ndarray],
    costs: np.ndarray,
    layer_cost: float,
    until: Callable[[list[np.ndarray]], bool],
) -> None:
    """Takes shifts away, those first that matter least for what they cost.

    At every moment it takes one channel's shift or all that a layer still has,
    whichever loses less importance for each unit of cost.

    Args:
        patterns: Arrays of displacements of shape `(2, channels)`, an array for each
            layer, which are changed.
        importance: Arrays of shape `(channels,)`, how much each shift matters.
        costs: Array of shape `(layers,)`, what a shifted channel of each layer costs.
        layer_cost: What it costs that a layer shifts at all, as a number of its
            channels.
        until: Function of the patterns that says whether enough has gone. It must be
            true of patterns without any shift.
    """
    bargains = [
        _bargain(pattern, importance[index], costs[index], layer_cost)
        for index, pattern in enumerate(patterns)
    ]
    while not until(patterns):
        index = int(np.argmin([price for price, _ in bargains]))
        patterns[index][:, bargains[index][1]] = 0.0
        bargains[index] = _bargain(
            patterns[index], importance[index], costs[index], layer_cost
        )


def _bargain(pattern, importance, cost, layer_cost):
    """Returns what it is best to take from a layer next: one channel, or all.

    Returns:
        A pair: the importance that is lost for each unit of cost that is saved, and the
        channels' numbers. If nothing is left, the first is infinite.
    """
    shifted = np.flatnonzero(pattern.any(axis=0))
    if not len(shifted):
        return np.inf, shifted
    least = shifted[np.argmin(importance[shifted])]
    one = importance[least] / cost
    whole = importance[shifted].sum() / (cost * (len(shifted) + layer_cost))
    return (whole, shifted) if whole < one else (one, [least])


def cost_of(
    patterns: Sequence[np.ndarray], costs: np.ndarray, layer_cost: float
) -> float:
    """Returns what all shifts cost together.

    Args:
        patterns: As in `take_away`.
        costs: As in `take_away`.
        layer_cost: As in `take_away`.
    """
    counts = counts_of_shifted(patterns)
    return float(np.dot(counts + layer_cost * (counts > 0), costs))


def counts_of_shifted(patterns: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the number of shifted channels of each layer.

    Args:
        patterns: As in `take_away`.
    """
    return np.array([np.count_nonzero(pattern.any(axis=0)) for pattern in patterns])
