"""Short names for marks."""

import pytest


def exhaustive(*values):
    """One set of parameters for a test, which .ci/run has no time for."""
    return pytest.param(*values, marks=pytest.mark.exhaustive)
