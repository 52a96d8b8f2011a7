"""Files that are written whole or not at all, and folders with one writer."""

import os
import subprocess
import sys
import threading

import pytest

from keras_shift.files import only_writer, replacing
from networks import ROOT, python_environment, run_python


@pytest.fixture
def path(tmp_path):
    """Path of a file that is there already."""
    path = tmp_path / "model.weights.h5"
    path.write_text("earlier")
    return path


def test_the_new_file_takes_the_place_of_the_old_one(path):
    with replacing(str(path)) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".weights.h5")  # as Keras wants it
        temporary.write_text("new")
        assert path.read_text() == "earlier"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_one(path, error):
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "earlier"
    assert list(path.parent.iterdir()) == [path]


def test_writing_nothing_is_an_error(path):
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "earlier"


def test_files_of_others_stay(path):
    mine = path.with_name(f"unfinished_{path.name}")
    mine.write_text("mine")
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert mine.read_text() == "mine"


def test_writers_of_one_file_do_not_disturb_each_other(path):
    with replacing(path) as one:
        one.write_text("one")
        with replacing(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
        assert one.read_text() == "one"
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_links_stay(path, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = folder / "link.weights.h5"
    link.symlink_to(path)
    with replacing(link) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
    assert link.is_symlink() and path.read_text() == "new"
    missing = folder / "missing.csv"
    missing.symlink_to(folder / "target.csv")
    with replacing(missing) as temporary:
        temporary.write_text("new")
    assert missing.is_symlink() and (folder / "target.csv").read_text() == "new"


def test_pipes_get_what_is_written(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with replacing(pipe) as temporary:
        assert temporary.name == "pipe.csv"
        temporary.write_text("new")
    reader.join()
    assert read == ["new"] and pipe.is_fifo()


def test_devices_stay():
    with replacing("/dev/null") as temporary:
        temporary.write_text("new")
    assert not os.path.isfile("/dev/null")


# The file alone, since importing the package takes longer than all of these tests.
IMPORT = f"""
import runpy
files = runpy.run_path({str(ROOT / "keras_shift" / "files.py")!r})
only_writer, replacing = files["only_writer"], files["replacing"]
"""

PRINT = IMPORT + """
print("before", flush=True)
with replacing("/dev/stdout") as temporary:
    temporary.write_text("new\\n")
print("after")
"""


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="there is no /dev/stdout")
def test_what_is_printed_to_gets_it(tmp_path):
    assert run_python(PRINT) == "before\nnew\nafter\n"
    log = tmp_path / "log.txt"
    log.write_text("earlier\n")
    with open(log, "a") as file:
        command = [sys.executable, "-c", PRINT]
        subprocess.run(command, stdout=file, env=python_environment(), check=True)
    assert log.read_text() == "earlier\nbefore\nnew\nafter\n"


FILL_THE_DISK = IMPORT + """
import os, resource, sys
os.environ["KERAS_BACKEND"] = "numpy"  # which takes no time to import, either
import keras
model = keras.Sequential([keras.Input((100,))])
for index in range(4):
    model.add(keras.layers.Dense(400))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    with replacing(sys.argv[1]) as temporary:
        model.save_weights(temporary)
except OSError as error:
    print(error)
"""


def test_full_disks_are_told_in_one_line(path):
    said = run_python(FILL_THE_DISK, path).splitlines()
    assert said == [f"[Errno 27] File too large: {str(path)!r}"]
    assert path.read_text() == "earlier"
    assert list(path.parent.iterdir()) == [path]


class TestOnlyWriter:
    def test_keeps_others_out(self, tmp_path):
        with only_writer(tmp_path, []):
            with pytest.raises(FileExistsError, match="Another process is writing"):
                with only_writer(tmp_path, []):
                    raise AssertionError
            assert [path.name for path in tmp_path.iterdir()] == ["lock"]
        assert list(tmp_path.iterdir()) == []
        with only_writer(tmp_path, []):
            pass

    def test_lets_in_after_a_killed_process(self, tmp_path):
        code = IMPORT + """
import sys, time
with only_writer(sys.argv[1], ["log.csv"]), replacing(sys.argv[1] + "/log.csv") as path:
    path.write_text("half")
    print("locked", flush=True)
    time.sleep(600)
"""
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            env=python_environment(),
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout.readline() == b"locked\n"
            with pytest.raises(FileExistsError), only_writer(tmp_path, ["log.csv"]):
                pass
            process.kill()
        mine = tmp_path / "unfinished_letter.csv"
        mine.write_text("mine")
        assert len(list(tmp_path.iterdir())) == 3
        with only_writer(tmp_path, ["log.csv"]):
            assert {path.name for path in tmp_path.iterdir()} == {"lock", mine.name}

    def test_goes_on_where_there_are_no_locks(self, tmp_path, monkeypatch):
        from keras_shift import files

        def refuse(*arguments):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(files.fcntl, "flock", refuse)
        with only_writer(tmp_path, []):
            pass
