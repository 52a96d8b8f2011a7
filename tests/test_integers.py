import math
import re

import numpy as np
import pytest

from keras_shift.integers import positive_integer


@pytest.mark.parametrize("value", [1, np.int32(3), 2.0, True, 10**30], ids=repr)
def test_whole_numbers_of_any_type(value):
    number = positive_integer("steps", value)
    assert type(number) is int and number == value


@pytest.mark.parametrize(
    "value", [0, -1, 0.5, math.nan, math.inf, "3", None, [1, 2], np.ones(2)], ids=repr
)
def test_nothing_else(value):
    message = f"`steps` must be a positive integer. Received: steps={value}"
    with pytest.raises(ValueError, match=re.escape(message)):
        positive_integer("steps", value)
