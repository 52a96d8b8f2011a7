"""Some random input for the targets of tests/fuzzing.py."""

from pathlib import Path

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


@pytest.mark.parametrize(
    "code, output, finding",
    [(-6, "WRONG (avx2): x", "differences"), (-11, "", "crashes"), (None, "", "hangs")],
)
def test_random_bytes_find_what_repeats(code, output, finding, tmp_path, monkeypatch):
    tool = load_tool("fuzz")
    # The second process stands still, as its machine may, and not when it runs again.
    ends = [(0, "5 cases\n"), (None, ""), (0, "7 cases\n"), (code, output)]
    commands = []

    def finished(*command):
        commands.append(command)
        for option in command:
            if option.startswith("--keep="):
                Path(option.removeprefix("--keep=")).write_bytes(b"input")
        return ends.pop(0) if len(ends) > 1 else ends[0]

    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "_compiled", lambda *names, **options: "program")
    monkeypatch.setattr(tool, "_finished", finished)
    row = tool._run_random("shift_fuzz", 60)
    found = {key: row[key] for key in ("crashes", "hangs", "differences")}
    assert found == {**dict.fromkeys(found, 0), finding: 1}
    assert (row["target"], row["cases"]) == ("shift", 12)
    folder = tmp_path / ".build" / "fuzz" / "shift_fuzz-random"
    assert (folder / "input").read_bytes() == b"input"
    seeds = [command[2] for command in commands]
    assert seeds[0] != seeds[1] == seeds[2] != seeds[3] == seeds[4]
    assert seeds[3] in (folder / "log.txt").read_text()


def test_results_are_those_of_the_targets():
    tool = load_tool("fuzz")
    names = {row["target"] for row in tool.read()}
    assert names <= {*tool._kernel_targets(), *fuzzing.TARGETS}
    assert set(tool._package_targets()) == set(fuzzing.TARGETS)
