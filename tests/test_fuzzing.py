"""Some random input for the targets of tests/fuzzing.py."""

import hypothesis
import keras
import pytest

import fuzzing

# So many that all together take some seconds.
EXAMPLES = {"constructors": 8, "records": 300, "recipes": 300, "models": 2}


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_random_input(name):
    if name == "models" and keras.backend.backend() != "tensorflow":
        pytest.skip("the export is TensorFlow's")
    check, strategy = fuzzing.TARGETS[name]

    @hypothesis.settings(
        max_examples=EXAMPLES[name],
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def test(drawn):
        check(drawn)

    test()
