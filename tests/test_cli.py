"""The command `keras-shift`."""

import json
import runpy
import sys
from pathlib import Path

import keras
import pytest
from keras import layers

from keras_shift import zoo
from keras_shift.analysis import summary
from keras_shift.cli import main
from keras_shift.layers import SparseShift2D

COUNTS = json.loads(
    (Path(__file__).parent / "data" / "expected_counts.json").read_text()
)


def small(size=(10, 8)):
    images = keras.Input((*size, 3))
    x = SparseShift2D(name="shift")(layers.Conv2D(9, 1, name="stem")(images))
    return keras.Model(images, layers.ReLU(name="relu")(x), name="small")


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "small.keras"
    small().save(path)
    return str(path)


def fails(arguments, capsys):
    """Runs what must end with status 2, and returns its message."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    out, message = capsys.readouterr()
    assert out == "" and "Traceback" not in message
    return message


class TestStart:
    def test_every_command_has_help(self, capsys):
        with pytest.raises(SystemExit) as end:
            main(["--help"])
        assert end.value.code == 0
        out = capsys.readouterr().out
        assert "list the networks" in out and "show what each layer" in out

    def test_as_a_module(self, saved, capsys, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["keras_shift", "summary", saved])
        runpy.run_module("keras_shift", run_name="__main__")
        assert capsys.readouterr().out.startswith("small: ")

    @pytest.mark.parametrize("arguments", [[], ["sumary"], ["summary"]])
    def test_mistyped_commands(self, arguments, capsys):
        assert "usage: keras-shift" in fails(arguments, capsys)


class TestList:
    def test_all(self, capsys):
        main(["list"])
        out = capsys.readouterr().out
        for name in zoo.list_models():
            assert f" {name} " in out
        assert "without displacements" in out

    def test_figures(self, capsys):
        expected = COUNTS["fenet_1.0"]
        main(["list", "fenet_1.0"])
        (line,) = [
            line for line in capsys.readouterr().out.split("\n") if "fenet" in line
        ]
        madds, displacements = expected["madds"], expected["shift"]
        parameters = expected["trainable"] - displacements
        figures = f"{madds / 1e6:.1f} M {parameters / 1e6:.2f} M {displacements:,}"
        assert line.split() == f"fenet_1.0 224x224x3 {figures}".split()
        assert figures == "299.7 M 3.52 M 10,688"

    def test_pattern(self, capsys):
        main(["list", "shiftnet_?"])
        out = capsys.readouterr().out
        assert "shiftnet_a" in out and "shiftnet_c" in out and "fenet" not in out

    def test_terminal(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        main(["list"])
        assert max(map(len, capsys.readouterr().out.split("\n"))) <= 80

    def test_no_such_network(self, capsys):
        assert "Received: pattern='mobilenet*'" in fails(["list", "mobilenet*"], capsys)


class TestSummary:
    @pytest.mark.tensorflow
    def test_fenet(self, capsys):
        main(["summary", "FENet"])
        out = capsys.readouterr().out
        first = out.split("\n")[0]
        assert "299.7 M MAdds" in first and "3.52 M parameters" in first
        assert "3,524,544  299,676,320" in out
        words = " ".join(out.split())
        assert "Not among them: 10,688 displacements of shift layers" in words

    def test_file(self, saved, capsys):
        main(["summary", saved])
        assert capsys.readouterr().out == f"{summary(small())}\n"

    def test_csv_and_markdown(self, saved, tmp_path, capsys):
        expected = summary(small())
        main(["summary", saved, "--csv", str(tmp_path / "small.csv")])
        main(["summary", saved, "--markdown", str(tmp_path / "small.md")])
        assert (tmp_path / "small.csv").read_text() == expected.to_csv()
        assert (tmp_path / "small.md").read_text() == expected.to_markdown()
        assert capsys.readouterr().out == ""

    def test_size_of_a_model_without_one(self, tmp_path, capsys):
        path = str(tmp_path / "small.keras")
        small((None, None)).save(path)
        main(["summary", path, "--input-shape", "10", "8", "3"])
        assert capsys.readouterr().out == f"{summary(small())}\n"
        assert "pass `input_shape`" in fails(["summary", path], capsys)

    def test_arguments_of_the_network(self, capsys, monkeypatch):
        received = []

        def get_model(name, **arguments):
            received.append((name, arguments))
            return small()

        monkeypatch.setattr(zoo, "get_model", get_model)
        main(["summary", "fenet_1.0"])
        shape = ["--input-shape", "10", "8", "3"]
        main(["summary", "fenet_1.0", *shape, "--classes", "7"])
        assert received == [
            ("fenet_1.0", {}),
            ("fenet_1.0", {"input_shape": (10, 8, 3), "classes": 7}),
        ]

    def test_unknown_name(self, capsys):
        message = fails(["summary", "fenet_1.37"], capsys)
        assert message.startswith("keras-shift: error: ")
        assert "'fenet_1.375'" in message and "Received: name='fenet_1.37'" in message
        assert "'FENet'" in fails(["summary", "FEnet"], capsys)

    def test_files_that_are_not_there(self, saved, tmp_path, capsys):
        assert "missing.keras" in fails(["summary", "missing.keras"], capsys)
        nowhere = str(tmp_path / "nowhere" / "small.csv")
        assert "nowhere" in fails(["summary", saved, "--csv", nowhere], capsys)

    def test_arguments_that_do_not_fit(self, saved, capsys):
        shape = ["--input-shape", "9", "8", "3"]
        assert "(9, 8, 3)" in fails(["summary", saved, *shape], capsys)
        assert "--classes 5" in fails(["summary", saved, "--classes", "5"], capsys)
        both = ["--csv", "a", "--markdown", "b"]
        assert "not allowed with" in fails(["summary", saved, *both], capsys)
