"""The example that times files on a phone, with a program in the place of adb."""

import csv
import os
import sys

import keras
import pytest

from networks import load_example, three_shifts

pytestmark = pytest.mark.tensorflow

if keras.backend.backend() != "tensorflow":
    pytest.skip("files for LiteRT need TensorFlow", allow_module_level=True)

example = load_example("benchmark_on_phone")

# It writes down what it is asked for. In the first round, a float32 file of MobileNetV2
# takes 800 microseconds; every round of six files takes longer than the one before, and
# FE-Net's take half.
ADB = f"""#!{sys.executable} -IS
import os, sys
folder = os.path.dirname(os.path.abspath(__file__))
words = sys.argv[1:]
with open(folder + "/log", "a") as log:
    log.write(" ".join(words) + "\\n")
if words == ["devices"]:
    print("List of devices attached")
    print(open(folder + "/phones").read())
    sys.exit()
if "getprop" in words:
    print({{"ro.product.model": "Test phone"}}.get(words[-1], "15"))
if "--num_runs=50" in words:
    if os.path.exists(folder + "/broken"):
        print("cannot execute: exec format error", file=sys.stderr)
        sys.exit(126)
    if os.path.exists(folder + "/silent"):
        print("ERROR: no such option")
        sys.exit()
    with open(folder + "/calls", "a") as calls:
        calls.write(".")
    turn = 1 + (os.path.getsize(folder + "/calls") - 1) // 6
    graph = next(word for word in words if word.startswith("--graph="))
    kind = graph.removesuffix(".tflite").split("_")[-1]
    time = 800 * turn / {{"float32": 1, "float16": 2, "int8": 4}}[kind]
    time /= 1 + ("fenet" in graph)
    print("INFO: Inference timings in us: Init: 5685, First inference: 18535, "
          f"Warmup (avg): 14462.3, Inference (avg): {{time}}", file=sys.stderr)
"""


@pytest.fixture
def adb(tmp_path, monkeypatch):
    """A folder with an adb that finds one phone; everything else is on the path."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "adb").write_text(ADB)
    (folder / "adb").chmod(0o755)
    (folder / "phones").write_text("A1\tdevice\n")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.fixture
def written(monkeypatch):
    """How files are quantized that the example writes, by their names."""
    written = {}

    def to_tflite(model, path, quantize, images):
        assert images.shape[1:] == model.input_shape[1:]
        path.write_text("")
        written[path.name] = quantize

    def model_of_record(record, input_shape):
        assert input_shape == (32, 32, 3)
        return three_shifts(record.classes)

    monkeypatch.setattr(example, "to_tflite", to_tflite)
    monkeypatch.setattr(example.zoo.models, "model_of_record", model_of_record)
    return written


@pytest.fixture
def command(tmp_path):
    """The arguments of a command line, with a program that exists."""
    (tmp_path / "benchmark_model").write_text("")
    return [
        str(tmp_path / "benchmark_model"),
        *("--output", str(tmp_path / "output")),
        *("--rounds", "3", "--image-size", "32"),
    ]


def log(adb):
    return (adb / "log").read_text().splitlines()


def test_times_all_files_in_turns(adb, written, command, tmp_path, capsys):
    example.main(example.parse(command))
    assert list(written.values()) == [None, "float16", "int8"] * 2
    lines = log(adb)
    assert lines[0] == "devices"
    assert all(line.startswith("-s A1 ") for line in lines[1:])
    assert lines[-1] == f"-s A1 shell rm -r {example.FOLDER}"
    pushed = [line.split()[-1] for line in lines if " push " in line]
    assert pushed == [
        f"{example.FOLDER}/{name}" for name in ("benchmark_model", *written)
    ]
    assert f"-s A1 shell chmod 755 {pushed[0]}" in lines
    runs = [line.split() for line in lines if "--graph=" in line]
    assert {(*run[:4], *run[5:]) for run in runs} == {
        ("-s", "A1", "shell", pushed[0], "--num_threads=1", "--num_runs=50")
    }
    graphs = [run[4].removeprefix("--graph=") for run in runs]
    rounds = [graphs[start : start + 6] for start in range(0, 18, 6)]
    assert [sorted(each) for each in rounds] == [sorted(pushed[1:])] * 3
    assert len({tuple(each) for each in rounds}) > 1

    with open(tmp_path / "output" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["weights"], row["kind"]) for row in rows] == [
        (name, kind) for name in example.NETWORKS for kind in example.KINDS
    ]
    for row, middle in zip(rows, (0.8, 0.4, 0.2, 1.6, 0.8, 0.4), strict=True):
        assert float(row["ms"]) == pytest.approx(middle)
        assert float(row["ms_low"]) == pytest.approx(0.75 * middle)
        assert float(row["ms_high"]) == pytest.approx(1.25 * middle)
        ratio = 0.5 if "fenet" in row["weights"] else 1
        for column in ("ratio_low", "ratio", "ratio_high"):
            assert float(row[column]) == pytest.approx(ratio)
        assert (row["phone"], row["android"]) == ("Test phone", "15")
    printed = capsys.readouterr().out
    assert "Test phone, Android 15" in printed
    assert "0.80 (0.60 to 1.00)" in printed and "0.50 (0.50 to 0.50)" in printed


def test_one_of_several_phones(adb, written, command):
    (adb / "phones").write_text("A1\tdevice\nB2\tdevice\n")
    with pytest.raises(ValueError, match=r"name one of \['A1', 'B2'\] with --serial"):
        example.main(example.parse(command))
    with pytest.raises(ValueError, match=r"--serial must be one of .*Received: --ser"):
        example.main(example.parse([*command, "--serial", "C3"]))
    assert not written
    example.main(example.parse([*command, "--serial", "B2"]))
    assert log(adb)[-1].startswith("-s B2 ")


@pytest.mark.parametrize(
    "phones, message",
    [
        ("", "adb finds no phone. Connect one by USB"),
        ("A1\tunauthorized\n", "The phone A1 is unauthorized: unlock it"),
        ("A1\toffline\n", "The phone A1 is offline"),
    ],
)
def test_without_a_phone(phones, message, adb, written, command):
    (adb / "phones").write_text(phones)
    with pytest.raises(OSError, match=message):
        example.main(example.parse(command))
    assert not written


def test_without_adb(written, command, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="There is no adb.*apt-get install adb"):
        example.main(example.parse(command))
    assert not written


@pytest.mark.parametrize(
    "how, message",
    [
        ("broken", "failed with status 126: cannot execute: exec format error"),
        ("silent", "told no time of .*float|int.*last words: ERROR: no such option"),
    ],
)
def test_a_program_that_fails(how, message, adb, written, command, tmp_path):
    (adb / how).write_text("")
    with pytest.raises(OSError, match=message):
        example.main(example.parse(command))
    assert log(adb)[-1] == f"-s A1 shell rm -r {example.FOLDER}"
    assert not (tmp_path / "output" / "results.csv").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (["--rounds", "0"], "--rounds must be a positive integer.*--rounds 0"),
        (["--threads", "-1"], "--threads must be a positive integer.*--threads -1"),
    ],
)
def test_refuses_numbers(change, message, adb, command):
    with pytest.raises(ValueError, match=message):
        example.main(example.parse([*command, *change]))


def test_the_program_must_be_there(adb, command):
    with pytest.raises(ValueError, match="LiteRT's benchmark_model.*Received: none"):
        example.main(example.parse(["none", *command[1:]]))
    assert not (adb / "log").exists()
