"""What is installed together, and checked there: see tools/versions.py."""

import configparser
import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_shift
from networks import ROOT, load_tool

tool = load_tool("versions")
checks = load_tool("check_installation")

FIRST = tool.COMBINATIONS[0]


@pytest.fixture(scope="module")
def config():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def numbers(version):
    return [int(number) for number in version.split(".")]


# The table


def test_results_are_those_of_the_combinations():
    rows = tool.read(tool.RESULTS)
    assert [tool.name_of(row) for row in rows] == [*map(str, tool.COMBINATIONS)]
    for row in rows:
        native = row["backend"].startswith("tensorflow")
        assert row["native_op"] == ("yes" if native else "no")
        left_out = () if native else checks.TENSORFLOW
        parts = [name for name in checks.PARTS if name not in left_out]
        assert row["passed"].split(", ") == ["import", *parts]
        assert row["failure"] == ""
    assert len({row["wheel"] for row in rows}) == 1


def ranges(config):
    """Yields names, the versions of them in the table, and their range in setup.cfg."""
    rows = tool.read(tool.RESULTS)
    pythons = [row["python"] for row in rows]
    yield "python", pythons, config["options"]["python_requires"]
    texts = [config["options"]["install_requires"]]
    texts += config["options.extras_require"].values()
    for name in ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch"):
        found = {
            match
            for text in texts
            for match in re.findall(rf"^{name}\b(?!-)([^;\n]*)", text, re.M)
        }
        (wanted,) = found  # all extras want the same
        if name == "keras":
            yield name, [row["keras"] for row in rows], wanted
        else:
            # One of TensorFlow's two packages stands for the other.
            backend = name.removesuffix("-cpu")
            some = [row for row in rows if row["backend"].startswith(backend)]
            yield name, [row["version"] for row in some], wanted


def test_both_ends_of_all_ranges_were_tried(config):
    for name, versions, wanted in ranges(config):
        low, high = re.fullmatch(r">=([\d.]+),<([\d.]+)", wanted.strip()).groups()
        versions = sorted(map(numbers, versions))
        low, high = numbers(low), numbers(high)
        assert versions[0][: len(low)] == low, name
        # The end itself is left out.
        assert versions[-1][: len(high)] == [*high[:-1], high[-1] - 1], name


def test_pythons_are_those_of_the_classifiers(config):
    listed = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert listed == sorted({c.python for c in tool.COMBINATIONS}, key=numbers)


def test_results_on_aarch64_are_those_of_all_programs_and_files():
    rows = tool.read(tool.AARCH64_RESULTS)
    assert [tool.name_of(row) for row in rows] == tool.aarch64_names()
    for row in rows:
        assert row["failure"] == ""
        assert row["said"] and row["emulator"] and row["date"] and row["machine"]
    script = (ROOT / "tools" / "litert_aarch64.sh").read_text()
    assert "f\"fenet_{quantize or 'float32'}.tflite\"" in script
    assert 'for quantize in (None, "int8")' in script


# How it is made


def test_rows_are_replaced_and_in_order():
    def row(combination, failure):
        found = {"python": f"{combination.python}.9", "running": "fit"}
        return tool.row(combination, found | {"failure": failure})

    last = tool.COMBINATIONS[-1]
    rows = []
    for new in (row(last, ""), row(FIRST, "too slow"), row(last, "too fast")):
        rows = tool.with_row(rows, new, [*map(str, tool.COMBINATIONS)])
    assert [row["failure"] for row in rows] == ["fit: too slow", "fit: too fast"]
    assert [row["keras"] for row in rows] == [FIRST.keras, last.keras]


def test_failures_are_one_line():
    found = {
        "running": "shift",
        "failure": "AssertionError:\n\nNot equal\n" + 999 * "x",
    }
    failure = tool.row(FIRST, found)["failure"]
    assert failure.startswith("shift: AssertionError: Not equal xxx")
    assert len(failure) == tool.LONGEST_FAILURE


@pytest.mark.parametrize(
    "code, failure",
    [
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("raise OSError('no\\nmore')", "more"),
    ],
)
def test_processes_that_do_not_write_how_they_ended(code, failure, tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    result = tmp_path / "result.json"
    assert tool.outcome(result, process) == {"running": "import", "failure": failure}
    result.write_text('{"running": "golden", "failure": ""}')
    assert tool.outcome(result, process) == {"running": "golden", "failure": failure}


def test_installations_that_fail(monkeypatch, tmp_path):
    def install(*arguments):
        said = "WARNING: slow\nERROR: No matching distribution found for keras==99\n"
        raise subprocess.CalledProcessError(1, ["pip"], stderr=said)

    monkeypatch.setattr(tool, "install", install)
    row = tool.run(FIRST, tmp_path / "a-1-py3-none-linux_x86_64.whl", tmp_path)
    assert row["wheel"] == "linux_x86_64"
    assert (
        row["failure"] == "install: ERROR: No matching distribution found for keras==99"
    )
    assert (row["passed"], row["native_op"]) == ("", "no")


def test_pythons_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    version = ".".join(map(str, sys.version_info[:2]))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"no python{version}, nor one in "):
        tool.interpreter(version)
    link = tmp_path / "versions" / f"{version}.99" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(sys.executable)
    assert tool.interpreter(version) == link


def script(status, said):
    return subprocess.CompletedProcess([], status, stdout=said)


@pytest.mark.parametrize(
    "status, said, last, failure",
    [
        (
            0,
            "5 checks, 0 failed\n1 C++ test programs passed\n",
            "5 checks, 0 failed",
            "",
        ),
        (
            1,
            "== a_test\nFAILED: a sum\nFAILED: a product\n5 checks, 2 failed\n",
            "5 checks, 2 failed",
            "FAILED: a sum",
        ),
        (127, "a.sh: g++: not found\n", "a.sh: g++: not found", "a.sh: g++: not found"),
        (1, "", "", "status 1"),
        (137, "== a_test\n", "== a_test", "killed: not done after 600 s, or out of "),
    ],
)
def test_programs_on_aarch64(status, said, last, failure):
    row = tool.program_row("a_test", "GCC 12", script(status, said))
    assert (row["check"], row["made_by"], row["said"]) == ("a_test", "GCC 12", last)
    assert row["failure"].startswith(failure)
    assert bool(row["failure"]) == bool(status)


def test_files_on_aarch64():
    said = "x86_64 LiteRT 2.1\naarch64 LiteRT 2.1\na: difference 0\nb: FAILED: 3\n"
    one, other = (tool.file_row(name, script(1, said)) for name in "ab")
    assert (one["said"], one["failure"]) == ("difference 0", "")
    assert (other["said"], other["failure"]) == ("FAILED: 3", "FAILED: 3")
    assert one["made_by"] == other["made_by"] == "LiteRT 2.1"
    # Neither has run.
    row = tool.file_row(
        "a", script(139, "x86_64 LiteRT 2.1\n/a.sh: line 9: 8 Segfault\n")
    )
    assert (row["made_by"], row["said"]) == ("LiteRT", "")
    assert row["failure"] == "Segfault"


def test_emulators_that_are_not_there(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tool, "AARCH64_RESULTS", tmp_path / "aarch64.csv")
    with pytest.raises(SystemExit):
        tool.main(["--aarch64", "--qemu", str(tmp_path / "qemu")])
    assert f"needs {tmp_path / 'qemu'}, which is not" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", "jax9"],
        ["--only", "jax", "--aarch64"],
        ["--wheel", "none.whl"],
    ],
)
def test_command_lines_that_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert f"error: Argument {arguments[0]} must be " in capsys.readouterr().err


# What is checked


def written(path):
    checks.main(path)
    return json.loads(path.read_text())


def test_checks_pass_here_and_fail_where_shifts_are_wrong(monkeypatch, tmp_path):
    some = ("shift", "fit", "save")
    parts = {name: checks.PARTS[name] for name in some}
    monkeypatch.setattr(checks, "PARTS", parts)
    found = written(tmp_path / "result.json")
    assert (found["passed"], found["failure"]) == (["import", *some], "")
    monkeypatch.setattr(keras_shift.ops, "sparse_shift", lambda x, displacements: x)
    found = written(tmp_path / "result.json")
    assert (found["passed"], found["running"]) == (["import"], "shift")
    assert found["failure"].startswith("AssertionError")


def test_files_and_published_networks_that_answer_otherwise(monkeypatch, tmp_path):
    model, golden = checks.published()
    (layer,) = model.layers[-1:]
    layer.bias.assign(keras.ops.convert_to_numpy(layer.bias) + 1)
    monkeypatch.setattr(checks, "published", lambda: (model, golden))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        checks.check_golden()


@pytest.mark.native
def test_the_op_is_compared_exactly(monkeypatch):
    checks.check_op()
    monkeypatch.setattr(checks, "shifted", lambda x, whole: np.nextafter(x, np.inf))
    with pytest.raises(AssertionError, match="not equal"):
        checks.check_op()
