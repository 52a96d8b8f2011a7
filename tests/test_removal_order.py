"""Which shifts go first, in cases that are small enough to count."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_shift.training.removal_order import cost_of, counts_of_shifted, take_away


def patterns(*shifted):
    """Displacements of a layer each: 1 pixel where a channel is shifted."""
    return [np.array([mask, np.zeros_like(mask)], "float32") for mask in shifted]


def shifted(arrays):
    return [list(pattern.any(axis=0)) for pattern in arrays]


def taken(number, found, importance, costs, layer_cost=0.0):
    """What is left when `number` or more of the shifts are gone."""
    left = sum(counts_of_shifted(found)) - number
    take_away(
        found,
        [np.array(values, "float64") for values in importance],
        np.array(costs, "float64"),
        layer_cost,
        until=lambda arrays: sum(counts_of_shifted(arrays)) <= left,
    )
    return shifted(found)


def test_what_matters_least_for_its_cost_goes_first():
    found = patterns([1, 1, 1], [1, 1, 1])
    importance = [[5, 3, 9], [2, 4, 1]]
    # By cost, the first layer's are 5/8, 3/8 and 9/8, the other's 2, 4 and 1.
    assert taken(3, found, importance, [8, 1]) == [
        [False, False, True],
        [True, True, False],
    ]


def test_a_layer_that_costs_much_by_itself_goes_as_a_whole():
    importance = [[3, 3], [1, 10, 10, 10]]
    without = taken(1, patterns([1, 1], [1, 1, 1, 1]), importance, [1, 1])
    assert without == [[True, True], [False, True, True, True]]
    # All of the first layer: 6 for 2 + 10 units, less than 1 for one.
    whole = taken(1, patterns([1, 1], [1, 1, 1, 1]), importance, [1, 1], layer_cost=10)
    assert whole == [[False, False], [True, True, True, True]]


def test_channels_without_a_shift_are_none_to_take_away():
    found = patterns([0, 1, 0], [0, 0, 0])
    assert taken(1, found, [[0, 7, 0], [0, 0, 0]], [1, 1], 4.0) == [[False] * 3] * 2


def test_cost():
    found = patterns([1, 0, 1], [0, 0], [1, 1])
    assert cost_of(found, np.array([4.0, 100.0, 1.0]), 10.0) == 4 * 12 + 1 * 12
    assert list(counts_of_shifted(found)) == [2, 0, 2]


@given(st.data())
def test_single_shifts_go_in_order_of_importance_by_cost(data):
    """Without a layer's own cost, it is a sorting."""
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    total = sum(sizes)
    values = data.draw(st.permutations([float(rank) for rank in range(1, total + 1)]))
    costs = data.draw(
        st.lists(st.sampled_from([1.0, 3.7, 64.1]), min_size=len(sizes), max_size=4)
    )[: len(sizes)]
    number = data.draw(st.integers(0, total))
    ends = np.cumsum(sizes)
    importance = [values[end - size : end] for size, end in zip(sizes, ends)]
    left = taken(number, patterns(*([1] * size for size in sizes)), importance, costs)
    price = np.concatenate([np.array(v) / c for v, c in zip(importance, costs)])
    gone = set(np.flatnonzero(~np.concatenate(left)))
    assert gone == set(np.argsort(price)[:number])
