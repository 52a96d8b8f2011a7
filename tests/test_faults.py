"""Machines that fail while something is written: see tools/faults.py."""

import csv
import os
import re

import keras
import pytest

from networks import load_tool, run_python

if keras.backend.backend() != "tensorflow":
    pytest.skip("files are TensorFlow's", allow_module_level=True)

tool = load_tool("faults")

# Those that need no disk of their own, which takes root to mount. Root may write
# everywhere, and who it becomes instead may not read what tests of root have written.
HERE = ["a limit on the size of files"]
if os.geteuid():
    HERE.append("a folder that is read-only")


@pytest.mark.parametrize("fault", HERE)
@pytest.mark.parametrize("place", tool.PLACES)
def test_files_are_old_or_whole(place, fault, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    said = tool.suffer(place, fault, folder)
    # One line that names the file, or the lock of the folder.
    (name,) = re.fullmatch(r"\[Errno \d+\] [\w ]+: 'FOLDER/(.*)'", said).groups()
    assert "unfinished" not in name


@pytest.mark.exhaustive
@pytest.mark.parametrize("place", tool.PLACES)
def test_killed_processes_leave_files_old_or_whole(place, tmp_path):
    assert tool.kill(place, tmp_path) > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("place", tool.PLACES)
def test_processes_without_memory_leave_files_old_or_whole(place, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    end, _ = tool.starve(place, folder)
    assert re.fullmatch(r"refused|written|ended by SIG\w+", end)


def test_results_are_those_of_places_and_faults():
    with open(tool.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["place"], row["fault"]) for row in rows] == [
        (place, fault)
        for place in tool.PLACES
        for fault in (*tool.FAULTS, tool.KILLED, tool.STARVED)
    ]


LITTLE_MEMORY = """
import re, resource
import tensorflow as tf
from keras_shift import ops
images, displacements = tf.ones((8, 256, 256, 64)), tf.zeros((2, 64))
few = images[:1, :8, :8]
expected = ops.sparse_shift(few, displacements)
status = open("/proc/self/status").read()
size = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", status)[1])
resource.setrlimit(resource.RLIMIT_AS, (size + 2**25, resource.RLIM_INFINITY))
try:
    ops.sparse_shift(images, displacements)
except tf.errors.ResourceExhaustedError:
    print("refused")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert (ops.sparse_shift(few, displacements).numpy() == expected.numpy()).all()
"""


@pytest.mark.skipif(
    not tool.Path("/proc/self/status").exists(), reason="only Linux says its size"
)
@pytest.mark.exhaustive
def test_memory_that_the_op_does_not_get():
    assert run_python(LITTLE_MEMORY) == "refused\n"
