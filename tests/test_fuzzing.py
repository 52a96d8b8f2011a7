"""Some random input for the targets of tests/fuzzing.py."""

import hypothesis
import keras
import pytest

import fuzzing
from networks import load_tool

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


def test_runs_of_one_target_add_up():
    tool = load_tool("fuzz")
    run = {"target": "shift", "checked_by": "x", "cases": 5, "crashes": 0, "hangs": 1}
    run |= {"differences": 0, "seconds": 7, "date": "today", "machine": "a"}
    text = {key: str(value) for key, value in run.items()}
    other = text | {"machine": "b"}
    assert tool.with_run([text, other], run) == [
        other,
        run | {"cases": 10, "hangs": 2, "seconds": 14},
    ]


def test_results_are_those_of_the_targets():
    tool = load_tool("fuzz")
    names = {row["target"] for row in tool.read()}
    assert names <= {*tool._kernel_targets(), *fuzzing.TARGETS}
    assert set(tool._package_targets()) == set(fuzzing.TARGETS)
