"""The command `keras-shift`."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from keras_shift import analysis, cli, zoo
from keras_shift.analysis import summary
from keras_shift.cli import limits, main
from keras_shift.layers import SparseShift2D
from keras_shift.quiet import quiet
from keras_shift.training import Recipe
from keras_shift.zoo import recipes

ROOT = Path(__file__).resolve().parent.parent
COUNTS = json.loads(
    (Path(__file__).parent / "data" / "expected_counts.json").read_text()
)

# As the console script starts, and then which of the large libraries were imported.
START = """
import atexit, sys
from keras_shift_command import main
large = {"jax", "keras", "tensorflow", "torch"}
if sys.argv.pop(1) == "look":
    atexit.register(lambda: print("imported:", sorted(large & set(sys.modules))))
main()
"""


def start(*arguments, look=False):
    """Runs `keras-shift` in a process of its own, on whose user's settings none are."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", START, "look" if look else "", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
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
        commands = "list summary plot report recipes train evaluate export verify"
        for command in [*commands.split(), "benchmark"]:
            assert re.search(rf"\n    {command}\s", out)

    def test_as_a_module(self, saved, capsys, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["keras_shift", "summary", saved])
        runpy.run_module("keras_shift", run_name="__main__")
        assert capsys.readouterr().out.startswith("small: ")

    @pytest.mark.parametrize("arguments", [[], ["sumary"], ["summary"]])
    def test_mistyped_commands(self, arguments, capsys):
        assert "usage: keras-shift" in fails(arguments, capsys)

    @pytest.mark.parametrize(
        "arguments", [["--help"], ["export", "--help"], ["list"], ["list", "--weights"]]
    )
    def test_without_keras(self, arguments):
        result = start(*arguments, look=True)
        assert result.returncode == 0 and result.stderr == ""
        assert len(result.stdout) > 200 and result.stdout.endswith("\nimported: []\n")

    @pytest.mark.tensorflow
    def test_nothing_but_ours(self, saved, tmp_path):
        """Neither of the import nor of the conversion; and our layers are known."""
        path = str(tmp_path / "small.tflite")
        result = start("export", saved, path)
        assert result.stderr == (
            "Converting small, running the file and comparing it with Keras.\n"
        )
        assert result.stdout.startswith(f"{path}\n  size ")
        assert "100.0% of the pixels of 8 images" in result.stdout

    def test_reader_that_has_enough(self):
        command = [sys.executable, "-c", START, "", "list"]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 1


class TestQuiet:
    # As in a terminal, where `sys.stderr` is the file descriptor's. A logger is made
    # while libraries are imported, and writes later.
    CODE = """
import logging, os, runpy, sys
quiet = runpy.run_path("keras_shift/quiet.py")["quiet"]
verbose = len(sys.argv) > 1
with quiet(verbose, passing=False):
    os.write(2, b"import\\n")
    logger = logging.StreamHandler()
with quiet(verbose):
    os.write(2, b"library\\n")
    logger.emit(logging.makeLogRecord({"msg": "log"}))
    print("ours", file=sys.stderr)
    os.write(2, b"library\\n")
print("after", file=sys.stderr)
"""

    @pytest.mark.parametrize(
        "arguments, expected",
        [([], "ours after"), (["verbose"], "import library log ours library after")],
    )
    def test_terminal(self, arguments, expected):
        command = [sys.executable, "-c", self.CODE, *arguments]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.stderr.split() == expected.split()

    def test_exceptions_tell_what_was_kept(self, capfd):
        with pytest.raises(ValueError) as error, quiet(verbose=False):
            os.write(2, b"because\n")
            raise ValueError
        assert "because" in error.value.__notes__[0]
        os.write(2, b"after\n")
        assert capfd.readouterr().err == "after\n"

    @pytest.mark.parametrize("verbose, expected", [(True, "library\n"), (False, "")])
    def test_the_first_one_decides(self, capfd, verbose, expected):
        with quiet(verbose):
            with quiet(not verbose):
                os.write(2, b"library\n")
            assert capfd.readouterr().err == expected
        os.write(2, b"after\n")
        assert capfd.readouterr().err == "after\n"

    def test_the_first_of_several_threads_decides(self, capfd):
        def other():
            with quiet(verbose=True):
                os.write(2, b"library\n")

        with quiet():
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            os.write(2, b"library\n")
        os.write(2, b"after\n")
        assert capfd.readouterr().err == "after\n"

    def test_streams_may_be_any_that_can_be_written(self, capfd, monkeypatch):
        class Stream:
            written = ""

            def write(self, text):
                self.written += text

            def flush(self):
                raise BrokenPipeError

        stream = Stream()
        monkeypatch.setattr(sys, "stderr", stream)
        with quiet():
            os.write(2, b"library\n")
            print("ours", file=sys.stderr)
        os.write(2, b"after\n")
        assert capfd.readouterr().err == "after\n"
        assert sys.stderr is stream and stream.written == "ours\n"

    def test_all_messages_may_be_asked_for(self, capfd, monkeypatch):
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
        with quiet():
            os.write(2, b"library\n")
        assert capfd.readouterr().err == "library\n"

    def test_without_a_place_for_files_nothing_is_hidden(self, capfd, monkeypatch):
        def full():
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tempfile, "TemporaryFile", full)
        with quiet():
            os.write(2, b"library\n")
        assert capfd.readouterr().err == "library\n"


class TestErrors:
    @pytest.mark.parametrize("switches", [["--traceback"], []])
    def test_faults(self, switches, saved, monkeypatch, capsys):
        monkeypatch.setattr(analysis, "summary", lambda *_: {}["key"])
        if switches:
            with pytest.raises(KeyError):
                main(["summary", saved, *switches])
            with pytest.raises(KeyError):
                main([*switches, "summary", saved])
            return
        with pytest.raises(SystemExit) as end:
            main(["summary", saved])
        assert end.value.code == 1
        message = capsys.readouterr().err
        assert message.startswith("keras-shift: error: KeyError: 'key' (")
        assert "--traceback" in message and message.count("\n") == 1

    def test_messages_are_one_line(self, saved, monkeypatch, capsys):
        def fail(*_):
            raise ValueError("one\n\n  two" + 999 * " and more")

        monkeypatch.setattr(analysis, "summary", fail)
        message = fails(["summary", saved], capsys)
        assert message.startswith("keras-shift: error: one two and more and")
        assert message.endswith(" ...\n") and len(message) < 2100

    def test_interrupted_while_libraries_are_imported(self, monkeypatch, capsys):
        def interrupt(name):
            raise KeyboardInterrupt

        monkeypatch.setattr(cli.importlib, "import_module", interrupt)
        with pytest.raises(SystemExit) as end:
            main(["recipes"])
        assert end.value.code == 130
        assert capsys.readouterr().err == "\nkeras-shift: interrupted\n"

    def test_only_our_warnings_are_shown(self, saved, monkeypatch):
        def warn(*_):
            for module in ("keras_shift.native", "tensorflow.lite.python.lite"):
                warnings.warn_explicit(module, UserWarning, "a.py", 1, module)

        monkeypatch.setattr(analysis, "summary", warn)
        for switches, expected in ([], 1), (["--verbose"], 2):
            with pytest.warns(UserWarning) as caught:
                main(["summary", saved, *switches])
            assert len(caught) == expected
            assert str(caught[0].message) == "keras_shift.native"

    def test_numbers_that_no_machine_serves(self, tmp_path, saved, capsys):
        path = str(tmp_path / "small.tflite")
        for arguments, message in {
            (
                "benchmark",
                path,
                "--threads",
                "100000000",
            ): "`num_threads` must be a positive integer, 256 at most",
            ("summary", "FENet", "--classes", "9" * 9): "--classes must be 100,000",
            ("export", saved, path, "--batch-size", "9" * 9): "--batch-size 999999999",
        }.items():
            assert message in fails([*arguments], capsys)

    def test_memory(self, monkeypatch):
        """The largest layer, of 10 x 8 pixels, has 9 channels on either side."""
        pages = {"SC_PAGE_SIZE": 8, "SC_PHYS_PAGES": 10 * 8 * (9 + 9) * 5}
        monkeypatch.setattr(limits.os, "sysconf", pages.get)
        limits.check_memory(small(), 5)
        with pytest.raises(ValueError, match="on 6 images"):
            limits.check_memory(small(), 6)


class TestList:
    def test_all(self, capsys):
        main(["list"])
        out = capsys.readouterr().out
        names = [line.split()[0] for line in out.split("\n") if "224x" in line]
        assert names == [name for name in zoo.list_models() if name in names]
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

    def test_weights(self, capsys):
        main(["list", "--weights", "fenet*"])
        lines = capsys.readouterr().out.split("\n")
        rows = [line.split() for line in lines if line.startswith(" fenet")]
        assert [row[0] for row in rows] == zoo.list_weights("fenet*")
        for row in rows:
            record = zoo.get_record(row[0])
            assert row[1:3] == [record.constructor, record.weights]
            assert row[4:6] == [f"{record.top1:.2%}", f"{record.top5:.2%}"]

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": 1}'])
    def test_damaged_record(self, text, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("KERAS_SHIFT_WEIGHTS_DIR", str(tmp_path))
        (tmp_path / "a.json").write_text(text)
        # Without weights beside it, a JSON file may be about anything.
        assert "none yet in" in fails(["list", "--weights"], capsys)
        (tmp_path / "a.weights.h5").touch()
        assert "a.json is no record" in fails(["list", "--weights"], capsys)

    def test_folder_of_weights_that_is_none(self, capsys, monkeypatch):
        monkeypatch.setenv("KERAS_SHIFT_WEIGHTS_DIR", "nowhere")
        message = fails(["list", "--weights"], capsys)
        assert (
            "must name a folder. Received: KERAS_SHIFT_WEIGHTS_DIR=nowhere" in message
        )


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

    @pytest.mark.tensorflow
    def test_published_weights(self, capsys):
        """Their name stands for the network, whose width may have no other one."""
        main(["summary", "fenet_0.75.tiny_imagenet.emptied"])
        record = zoo.get_record("fenet_0.75.tiny_imagenet.emptied")
        out = " ".join(capsys.readouterr().out.split())
        unshifted = sum(count for count, _ in record.unshifted.values())
        assert f"Unshifted: {unshifted:,} of the 4,008 channels" in out
        twice = ["summary", "fenet_1.0.tiny_imagenet", "--weights", "tiny_imagenet"]
        assert "weights already. Received: --weights tiny" in fails(twice, capsys)

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

    @pytest.mark.parametrize(
        "part, content, message",
        [
            ("config.json", None, "no item named 'config.json'"),
            ("config.json", b"{", "Expecting property name"),
            ("config.json", b"[1]", "list indices"),
            ("model.weights.h5", None, "Expected a model.weights.h5"),
            ("model.weights.h5", b"weights", "file signature"),
        ],
    )
    def test_damaged_files(self, part, content, message, saved, tmp_path, capsys):
        path = str(tmp_path / "damaged.keras")
        with zipfile.ZipFile(saved) as whole, zipfile.ZipFile(path, "w") as damaged:
            parts = {name: whole.read(name) for name in whole.namelist()}
            for name, data in (parts | {part: content}).items():
                if data is not None:
                    damaged.writestr(name, data)
        found = fails(["summary", path], capsys)
        assert f"{path} cannot be loaded" in found and message in found

    def test_changed_bytes(self, saved, capsys):
        content = Path(saved).read_bytes()
        with zipfile.ZipFile(saved) as archive:
            weights = archive.read("model.weights.h5")
        place = content.index(weights[:64]) + len(weights) // 2
        changed = bytes([content[place] ^ 255])
        Path(saved).write_bytes(content[:place] + changed + content[place + 1 :])
        assert "Bad CRC-32" in fails(["summary", saved], capsys)
        Path(saved).write_bytes(content[: len(content) // 2])
        assert "damaged or no .keras file" in fails(["summary", saved], capsys)

    def test_class_that_is_not_known(self, tmp_path, capsys):
        class Mine(layers.Layer):
            def call(self, x):
                return x

        images = keras.Input((4, 4, 3))
        path = str(tmp_path / "mine.keras")
        keras.Model(images, Mine()(images)).save(path)
        message = fails(["summary", path], capsys)
        assert "a layer of the class Mine" in message and len(message) < 400

    def test_arguments_that_do_not_fit(self, saved, capsys):
        shape = ["--input-shape", "9", "8", "3"]
        assert "(9, 8, 3)" in fails(["summary", saved, *shape], capsys)
        assert "--classes 5" in fails(["summary", saved, "--classes", "5"], capsys)
        assert "--weights a" in fails(["summary", saved, "--weights", "a"], capsys)
        both = ["--csv", "a", "--markdown", "b"]
        assert "not allowed with" in fails(["summary", saved, *both], capsys)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of class folders of images, larger than a network's."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "emu"):
        (folder / name).mkdir()
        for number in range(12):
            pixels = random.integers(0, 256, (20, 24, 3)).astype("uint8")
            path = str(folder / name / f"{number}.png")
            tf.io.write_file(path, tf.io.encode_png(pixels))
    return str(folder)


@pytest.fixture
def classifier(tmp_path):
    keras.utils.set_random_seed(0)
    images = keras.Input((10, 8, 3))
    x = SparseShift2D(name="shift")(layers.Conv2D(9, 1, name="stem")(images))
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    path = tmp_path / "animals.keras"
    keras.Model(images, x, name="animals").save(path)
    return str(path)


@pytest.mark.tensorflow
class TestPlot:
    @pytest.fixture(autouse=True)
    def matplotlib(self):
        pytest.importorskip("matplotlib")

    @pytest.fixture
    def trained(self, tmp_path):
        """A network that can be drawn in every way: a 1x1 convolution at its end."""
        images = keras.Input((10, 8, 3))
        x = SparseShift2D(name="shift")(layers.Conv2D(9, 1, name="stem")(images))
        path = tmp_path / "trained.keras"
        keras.Model(images, layers.Conv2D(2, 1)(x), name="trained").save(path)
        return str(path)

    @pytest.mark.parametrize(
        "what, said",
        [
            ("shifts", ""),
            ("sparsity", ""),
            ("displacements", ""),
            ("correlation", "random pixels"),
            ("contribution", "layer shift of trained"),
            ("receptive-field", "random pixels"),
        ],
    )
    @pytest.mark.parametrize("ending, start", [("png", b"\x89PNG"), ("svg", b"<?xml")])
    def test_draws(self, what, said, ending, start, trained, tmp_path, capsys):
        path = tmp_path / f"picture.{ending}"
        main(["plot", trained, "--what", what, "--output", str(path)])
        assert path.read_bytes().startswith(start)
        captured = capsys.readouterr()
        assert captured.out == f"{path}\n"
        assert said in captured.err and bool(said) == bool(captured.err)
        # Nothing else is left in the folder.
        assert {file.name for file in tmp_path.iterdir()} == {
            "trained.keras",
            path.name,
        }

    def test_one_layer(self, trained, tmp_path, capsys):
        path = str(tmp_path / "a.png")
        main(["plot", trained, "--what", "shifts", "--output", path, "--layer=shift"])
        wrong = ["plot", trained, "--what", "shifts", "--output", path, "--layer=stem"]
        capsys.readouterr()
        assert "trained: ['shift']. Received: --layer stem" in fails(wrong, capsys)

    @pytest.fixture
    def two_photographs(self, tmp_path):
        for name in ("cat", "dog"):
            folder = tmp_path / "photographs" / name
            folder.mkdir(parents=True)
            image = np.random.default_rng(0).uniform(0, 255, (10, 8, 3))
            keras.utils.save_img(folder / "a.png", image)
        return str(tmp_path / "photographs")

    def test_collapse_needs_images(self, trained, two_photographs, tmp_path, capsys):
        path = tmp_path / "a.png"
        command = ["plot", trained, "--what", "collapse", "--output", str(path)]
        assert "needs many images" in fails(command, capsys)
        main([*command, "--data", two_photographs])
        assert path.read_bytes().startswith(b"\x89PNG")

    def test_options_that_would_be_ignored_are_refused(
        self, trained, two_photographs, tmp_path, capsys
    ):
        command = ["plot", trained, "--output", str(tmp_path / "a.png"), "--what"]
        for what, *option in (
            ("sparsity", "--layer", "shift"),
            ("collapse", "--layer", "shift"),
            ("history", "--layer", "shift"),
            ("shifts", "--data", two_photographs),
            ("contribution", "--data", two_photographs),
        ):
            said = fails([*command, what, *option], capsys)
            assert f"{option[0]} serves only" in said and f"--what {what}" in said

    def test_networks_of_any_size_see_no_random_pixels(self, tmp_path, capsys):
        x = SparseShift2D(name="shift")(images := keras.Input((None, None, 3)))
        path = str(tmp_path / "any.keras")
        keras.Model(images, layers.Conv2D(2, 1)(x)).save(path)
        command = ["plot", path, "--what", "correlation", "--output"]
        assert "of a known size" in fails([*command, str(tmp_path / "a.png")], capsys)

    def test_images_of_a_folder(
        self, trained, two_photographs, tmp_path, capsys, monkeypatch
    ):
        counts = []

        def study(model, layer, data):
            counts.append(len(data))
            return analysis.effective_receptive_field(
                model, layer, np.zeros((1, 10, 8, 3))
            )

        monkeypatch.setattr(analysis, "channel_correlation", study)
        command = ["plot", trained, "--what", "correlation", "--data"]
        path = str(tmp_path / "a.png")
        main([*command, two_photographs, "--output", path])
        assert counts == [2] and "random" not in capsys.readouterr().err
        missing = [*command, str(tmp_path / "none"), "--output", path]
        assert "--data must be a folder" in fails(missing, capsys)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["FENet", "--weights", "tiny_imagenet"],
            ["fenet_0.75.tiny_imagenet.emptied"],
            [str(ROOT / "zoo/weights/fenet_1.0.tiny_imagenet.log.csv")],
            [
                "FENet",
                "--weights",
                str(ROOT / "zoo/weights/fenet_1.0.cifar100.weights.h5"),
            ],
        ],
    )
    def test_history(self, arguments, tmp_path, capsys):
        path = tmp_path / "history.svg"
        main(["plot", *arguments, "--what", "history", "--output", str(path)])
        assert path.stat().st_size > 5000

    def test_refusals(self, trained, saved, tmp_path, capsys):
        path = str(tmp_path / "a.png")
        for arguments, message in {
            (trained, "shifts", str(tmp_path / "a.gif")): "a .png or .svg file",
            (trained, "shifts", str(tmp_path / "no" / "a.png")): "a folder that is",
            ("FENet", "history", path): "needs trained weights",
            ("FENet", "history", path, "--weights", "photographs"): "`weights` must be",
            (str(tmp_path), "history", path): "`log` must be the path of a log.csv",
            (saved, "contribution", path): "that a 1x1 convolution follows",
            (trained, "receptive-field", path, "--layer", "no"): "`layer` must be a",
            ("MobileNetV2", "correlation", path): "no shift layers of its own",
        }.items():
            name, what, output, *more = arguments
            command = ["plot", name, "--what", what, "--output", output, *more]
            assert message in fails(command, capsys)
        assert not (tmp_path / "a.png").exists()

    def test_without_matplotlib(self, trained, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
        path = str(tmp_path / "a.png")
        message = fails(["plot", trained, "--what=shifts", "--output", path], capsys)
        assert 'pip install "keras-shift[plot]"' in message
        assert message.count("\n") == 1


@pytest.mark.tensorflow
class TestExport:
    def test_file(self, classifier, tmp_path, capsys):
        path = str(tmp_path / "animals.tflite")
        main(["export", classifier, path, "--batch-size", "2"])
        out, progress = capsys.readouterr()
        assert out.startswith(f"{path}\n") and "100.0% of 8 images" in out
        assert "(2, 10, 8, 3) float32" in out and "labels" not in out
        assert "Converting animals" in progress and "random weights" not in progress

    def test_int8_with_pixels_and_labels(
        self, classifier, photographs, tmp_path, capsys
    ):
        path = str(tmp_path / "animals.tflite")
        command = ["export", classifier, path, "--quantize", "int8"]
        command += ["--data", photographs, "--input-type", "uint8"]
        main([*command, "--output-type", "int8"])
        out = capsys.readouterr().out
        assert "(1, 10, 8, 3) uint8" in out and "(1, 3) int8, with 3 labels" in out
        assert "32 images (representative_data)" in out
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt") == b"cat\ndog\nemu\n"

    def test_labels_of_a_file(self, classifier, photographs, tmp_path, capsys):
        labels = tmp_path / "labels.txt"
        labels.write_text("a\nb\nc\n", encoding="utf-8-sig")
        path = str(tmp_path / "animals.tflite")
        command = ["export", classifier, path, "--data", photographs]
        main([*command, "--labels", str(labels)])
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt") == b"a\nb\nc\n"
        capsys.readouterr()
        labels.write_text("a\nb\n")
        message = fails([*command, "--labels", str(labels)], capsys)
        assert "names of 3 classes" in message and "['a', 'b']" in message
        labels.write_text("")
        message = fails([*command, "--labels", str(labels)], capsys)
        assert "names of 3 classes" in message and "labels=[]" in message

    def test_network_of_the_zoo(self, tmp_path, capsys):
        """Its weights are random, but the same ones when the file is verified."""
        path = str(tmp_path / "shiftresnet.tflite")
        network = ["shiftresnet20_e3", "--input-shape", "8", "8", "3"]
        main(["export", network[0], path, *network[1:]])
        assert "random weights" in capsys.readouterr().err
        main(["verify", path, *network])
        out, progress = capsys.readouterr()
        assert "100.0% of 8 images (random pixels)" in out
        assert "random weights" in progress

    def test_errors(self, classifier, saved, photographs, tmp_path, capsys):
        path = str(tmp_path / "animals.tflite")
        command = ["export", classifier, path]
        for arguments, message in {
            ("--quantize", "int8"): "with --data",
            ("--data", "nowhere"): "--data nowhere",
            ("--data", str(tmp_path)): "No images found",
            ("--input-type", "uint8"): "`input_type`",
            ("--quantize", "int4"): "invalid choice",
            ("--labels", "nowhere.txt"): "nowhere.txt",
            ("--batch-size", "0"): "`batch_size`",
        }.items():
            assert message in fails([*command, *arguments], capsys)
        assert "end in .tflite" in fails(["export", classifier, "a.onnx"], capsys)
        size = str(tmp_path / "any_size.keras")
        small((None, None)).save(size)
        assert "fixed image size" in fails(["export", size, path], capsys)
        command = ["export", size, path, "--data", photographs]
        assert "fixed size" in fails(command, capsys)

    def test_operations_that_a_phone_lacks(self, tmp_path, capsys):
        images = keras.Input((9, 7, 5))
        path = str(tmp_path / "erf.keras")
        keras.Model(images, keras.ops.erfinv(images / 256)).save(path)
        message = fails(["export", path, str(tmp_path / "erf.tflite")], capsys)
        assert "Erfinv" in message


@pytest.mark.tensorflow
class TestVerify:
    @pytest.fixture
    def exported(self, classifier, tmp_path, capsys):
        path = str(tmp_path / "animals.tflite")
        main(["export", classifier, path])
        capsys.readouterr()
        return path

    def test_folder(self, exported, classifier, photographs, capsys):
        main(["verify", exported, classifier, "--data", photographs])
        out, notes = capsys.readouterr()
        assert "100.0% of 36 images (data)" in out and "top-1 accuracy" in out
        assert "only if the network was trained on none of these" in notes

    def test_folder_of_other_classes(self, exported, classifier, tmp_path, capsys):
        import tensorflow as tf

        (tmp_path / "other" / "yak").mkdir(parents=True)
        image = tf.io.encode_png(np.zeros((9, 9, 3), "uint8"))
        tf.io.write_file(str(tmp_path / "other" / "yak" / "1.png"), image)
        main(["verify", exported, classifier, "--data", str(tmp_path / "other")])
        out, notes = capsys.readouterr()
        assert "of 1 images" in out and "accuracy" not in out
        assert "trained on none" not in notes
        assert "1 folders" in notes and "3 classes" in notes

    @pytest.mark.parametrize("command", ["export", "verify"])
    def test_a_file_that_is_no_image_is_named(
        self, command, exported, classifier, photographs, tmp_path, capsys
    ):
        folder = shutil.copytree(photographs, tmp_path / "photographs")
        (folder / "cat" / "odd.png").write_text("no pixels")
        files = [classifier, str(tmp_path / "other.tflite")]
        if command == "verify":
            files = [exported, classifier]
        with pytest.raises(SystemExit) as end:
            main([command, *files, "--data", str(folder)])
        assert end.value.code == 2
        notes = capsys.readouterr().err
        assert "odd.png is no image that can be read" in notes
        assert "Traceback" not in notes

    def test_disagreement_is_status_1(self, exported, classifier, capsys):
        model = keras.models.load_model(classifier)
        dense = model.layers[-1]
        dense.kernel.assign(-dense.kernel)
        model.save(classifier)
        for arguments, message in {
            (): "agree on 0.0% .* less than --min-agreement 0.9",
            ("--min-agreement", "0", "--max-difference", "1"): "--max-difference 1",
        }.items():
            with pytest.raises(SystemExit) as end:
                main(["verify", exported, classifier, *arguments])
            assert end.value.code == 1
            out, notes = capsys.readouterr()
            assert "same top-1" in out and re.search(message, notes)
        main(["verify", exported, classifier, "--min-agreement", "0"])

    def test_errors(self, exported, classifier, saved, tmp_path, capsys):
        assert "missing.tflite" in fails(["verify", "missing.tflite", saved], capsys)
        assert "made from" in fails(["verify", exported, saved], capsys)
        Path(exported).write_bytes(Path(exported).read_bytes()[:999])
        assert "undamaged" in fails(["verify", exported, classifier], capsys)

    def test_images_for_what_takes_none(self, photographs, tmp_path, capsys):
        numbers = keras.Input((5,))
        path = str(tmp_path / "flat.keras")
        keras.Model(numbers, layers.Dense(3)(numbers)).save(path)
        command = ["verify", "flat.tflite", path, "--data", photographs]
        assert "inputs of shape [(5,)]" in fails(command, capsys)


@pytest.mark.tensorflow
class TestBenchmark:
    def test_files(self, classifier, tmp_path, capsys):
        paths = [str(tmp_path / name) for name in ("a.tflite", "b.tflite")]
        for path in paths:
            main(["export", classifier, path])
        capsys.readouterr()
        main(["benchmark", *paths, "--threads", "2", "--repeats", "3"])
        out = capsys.readouterr().out
        for text in (*paths, "2 threads", "3 runs of each file, in turns", "Ratio"):
            assert text in out

    def test_errors(self, saved, capsys):
        assert "no.tflite" in fails(["benchmark", "no.tflite"], capsys)
        assert "undamaged" in fails(["benchmark", saved], capsys)
        assert "usage" in fails(["benchmark"], capsys)


class TestRecipes:
    def test_lists_recipes(self, capsys):
        main(["recipes", "imagenet2012.*"])
        out = capsys.readouterr().out
        assert "imagenet2012.fenet_1.375" in out and "480 epochs" in out
        assert "cifar10" not in out

    def test_says_when_there_are_none(self, capsys):
        assert "No recipe has a name like this" in fails(["recipes", "x*"], capsys)


class TestTrain:
    @pytest.fixture
    def recipe(self, tmp_path):
        """A small recipe's file, and data in the working folder."""
        recipe = Recipe(
            name="toy",
            network="ShiftResNet20",
            arguments={"alpha": 0.25, "classes": 3, "input_shape": [8, 8, 3]},
            dataset="toy",
            batch_size=4,
            epochs=1,
            learning_rate=0.01,
        )
        images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), "uint8")
        arrays = {"x_train": images[:8], "x_test": images[8:]}
        np.savez(
            tmp_path / "toy.npz",
            y_train=[0, 1, 2, 0, 1, 2, 0, 1],
            y_test=[2, 1, 0, 0],
            **arrays,
        )
        path = tmp_path / "toy.json"
        path.write_text(recipe.to_json())
        return path

    def arguments(self, recipe):
        folder = recipe.parent
        return [
            "train",
            str(recipe),
            "--data-dir",
            str(folder),
            "--output",
            str(folder / "run"),
        ]

    @pytest.fixture
    def one_layer(self, monkeypatch):
        """In place of the network, since these tests are not about it."""

        def build(recipe, classifier_activation):
            assert classifier_activation is None
            shape = recipe.arguments["input_shape"]
            dense = layers.Dense(recipe.arguments["classes"])
            return keras.Sequential([keras.Input(shape), layers.Flatten(), dense])

        monkeypatch.setattr(recipes, "build", build)

    def test_trains_and_goes_on(self, recipe, one_layer, capsys):
        main([*self.arguments(recipe), "--epochs", "2", "--seed", "3"])
        assert "after 2 epochs" in capsys.readouterr().out
        written = Recipe.from_json((recipe.parent / "run" / "recipe.json").read_text())
        assert (written.epochs, written.seed) == (2, 3)
        assert "--resume" in fails(self.arguments(recipe), capsys)
        main([*self.arguments(recipe), "--epochs", "2", "--seed", "3", "--resume"])
        assert "after 2 epochs" in capsys.readouterr().out

    def test_refuses_another_number_of_classes(self, recipe, capsys):
        text = recipe.read_text().replace('"classes": 3', '"classes": 5')
        recipe.write_text(text)
        assert "Received: a model with 5" in fails(self.arguments(recipe), capsys)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"arguments": {"alhpa": 0.25}}, "Received: ['alhpa']"),
            ({"arguments": {"alpha": "wide"}}, "Received: alpha='wide'"),
            ({"arguments": [1]}, "Received: arguments=[1]"),
            ({"network": 5}, "network=5"),
            ({"name": 5}, "name=5"),
            ({"batch_size": "4"}, "batch_size='4'"),
            ({"epoch": 1}, "unexpected keyword argument 'epoch'"),
        ],
    )
    def test_recipe_that_is_wrong(self, change, message, recipe, capsys):
        recipe.write_text(json.dumps(json.loads(recipe.read_text()) | change))
        assert message in fails(self.arguments(recipe), capsys)

    def test_refuses_a_folder_that_is_taken_before_it_loads_data(self, recipe, capsys):
        (recipe.parent / "run").mkdir()
        (recipe.parent / "run" / "final.weights.h5").touch()
        (recipe.parent / "toy.npz").unlink()
        assert "no checkpoint.npz to go on from" in fails(
            self.arguments(recipe), capsys
        )

    def test_a_loss_that_is_no_number(self, recipe, one_layer, capsys):
        text = recipe.read_text().replace("0.01", "1e38")
        recipe.write_text(text)
        arguments = [*self.arguments(recipe), "--epochs", "9"]
        assert "a smaller `learning_rate`" in fails(arguments, capsys)

    def test_refuses_unknown_recipes_and_files(self, tmp_path, capsys):
        assert "no recipe of this name" in fails(["train", "cifar10.x"], capsys)
        missing = str(tmp_path / "missing.json")
        assert "No such file" in fails(["train", missing], capsys)
        broken = tmp_path / "broken.json"
        broken.write_text("{")
        assert "This is no recipe" in fails(["train", str(broken)], capsys)
