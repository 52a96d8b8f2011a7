"""Has machines fail while files are written, and writes what became of the files.

python tools/faults.py

Every place of the package that writes files meets every fault, in a process of its own.
Then what stands under the files' names has to be what stood there before or a whole
new file, and writing once more has to mend everything; anything else ends this script.
benchmarks/results/faults.csv says what the user was told.
"""

import contextlib
import csv
import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import h5py  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import records  # noqa: E402

import keras_shift  # noqa: E402
import trained  # noqa: E402
import training_process  # noqa: E402
from keras_shift import files, publishing  # noqa: E402
from keras_shift.training import trainer  # noqa: E402
from keras_shift.zoo import published_weights, record  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "faults.csv"
OLD = b"what stood here before"
# A file that is cut off here is one of the smallest of these.
FULL_AT_BYTES = 500
NOBODY = 65534
# A process is killed before each of so many files takes its place, if it writes more.
MOST_KILLS = 3


# Each of the following functions writes into a folder, in which `OLD` stands under some
# of the names. Its docstring names what it calls.


def export(folder):
    """keras_shift.deploy.to_tflite"""
    images = np.zeros((2, 8, 8, 3), "float32")
    keras_shift.deploy.to_tflite(
        training_process.network(),
        folder / "model.tflite",
        representative_data=images,
    )


def train(folder):
    """keras_shift.training.train"""
    run = folder / "run"
    network, data = training_process.network(), training_process.data()
    recipe = dataclasses.replace(training_process.RECIPE, epochs=1)
    resume = (run / trainer.CHECKPOINT).exists()
    keras_shift.training.train(network, recipe, data, run, resume=resume, verbose=0)


def publish(folder):
    """keras_shift.publishing.publish"""
    run = folder.parent / "trained"
    if not run.exists():
        trained.write_data(folder.parent)
        trained.write_run(run)
    figures = publishing.Figures(images=40, top1=0.25, top5=1.0, int8_top1=0.25)
    with mock.patch.object(publishing, "measure", lambda model, data: figures):
        publishing.publish(run, folder.parent, folder, "0" * 40)


def save(folder):
    """keras_shift.files.replacing around model.save"""
    with files.replacing(folder / "model.keras") as temporary:
        training_process.network().save(temporary)


def summarize(folder):
    """keras_shift.analysis.summary(model).to_csv"""
    summary = keras_shift.analysis.summary(training_process.network())
    summary.to_csv(folder / "layers.csv")


def plot(folder):
    """keras-shift plot"""
    from keras_shift import cli

    model = folder.parent / "plotted.keras"
    if not model.exists():
        training_process.network().save(model)
    with mock.patch.object(cli, "_last_words", _raise):
        cli.main(
            ["plot", str(model), "--what", "shifts", "--output"]
            + [str(folder / "shifts.png")]
        )


def _raise(error):
    raise error


PLACES = {
    function.__doc__: function
    for function in (export, train, publish, save, summarize, plot)
}


# The following contexts cause a fault.


@contextlib.contextmanager
def file_sizes_limited(folder):
    """a limit on the size of files"""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AT_BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def folder_read_only(folder):
    """a folder that is read-only"""
    mode = folder.stat().st_mode
    os.chmod(folder, 0o555)
    # Root may write everywhere.
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        os.chmod(folder, mode)


@contextlib.contextmanager
def disk_full(folder):
    """a full disk"""
    filling = folder / "filling"
    with open(filling, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
    try:
        yield
    finally:
        filling.unlink()


FAULTS = {
    function.__doc__: function
    for function in (file_sizes_limited, folder_read_only, disk_full)
}
KILLED = "kill -9"
STARVED = "a limit on memory"


def suffer(place, fault, folder):
    """Writes under a fault, checks what became of the files, and writes once more.

    Args:
        place: Key of `PLACES`.
        fault: Key of `FAULTS`.
        folder: `pathlib.Path` of an empty folder. The one above it is used, too.

    Returns:
        What the user was told, as a text.
    """
    write = PLACES[place]
    names = prepare(place, folder)
    before = {name: (folder / name).read_bytes() for name in written(folder)}
    try:
        with FAULTS[fault](folder):
            write(folder)
    except OSError as error:
        said = str(error)
    else:
        raise AssertionError(f"{place} wrote in spite of {fault}")
    after = {name: (folder / name).read_bytes() for name in written(folder)}
    # A training keeps what it has written before the one that failed.
    if write is not train:
        assert after == before, (place, fault)
    check(folder)
    write(folder)
    assert written(folder) == names
    check(folder, allowed=())
    return said.replace(str(folder), "FOLDER")


def prepare(place, folder):
    """Puts `OLD` under the names that are written, and returns these.

    A training refuses a folder with files of another. It gets an empty one.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as other:
        # It also makes and loads what is needed later, when there may be no space.
        PLACES[place](Path(other))
        names = written(Path(other))
    if PLACES[place] is train:
        (folder / "run").mkdir()
    else:
        for name in names:
            (folder / name).write_bytes(OLD)
    return names


def written(folder):
    """Returns the names of the files in a folder, without those of TensorBoard."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(f"{path}" for path in paths if "tensorboard" not in path.parts)


READERS = {
    ".csv": lambda path: next(csv.DictReader(path.read_text().splitlines())),
    ".h5": lambda path: h5py.File(path).close(),
    ".json": lambda path: json.loads(path.read_text()),
    ".keras": lambda path: keras.saving.load_model(path),
    ".npz": lambda path: dict(np.load(path)),
    ".png": lambda path: keras.utils.load_img(path).load(),
    ".tflite": lambda path: keras_shift.deploy.LiteRTModel(path),
}


def check(folder, allowed=(OLD,)):
    """Raises an error if a file is neither a whole one nor allowed."""
    for name in written(folder):
        path = folder / name
        if path.name.startswith("unfinished_") or path.name == "lock":
            assert allowed, f"{name} was left behind"
        elif path.read_bytes() not in allowed:
            READERS[path.suffix](path)


def check_published(folder):
    """Raises an error if weights that do not belong to their record would be used."""
    path = folder / f"{trained.NAME}.json"
    if path.read_bytes() == OLD:
        return
    with mock.patch.dict(os.environ, KERAS_SHIFT_WEIGHTS_DIR=str(folder)):
        published_weights.checked_file(record.Record.from_json(path.read_text()))


# The following functions run places in processes, and end these.


def die_at(count):
    """Has this process killed when file number `count` is to take its place."""
    replace = os.replace
    left = iter(range(count - 1, -1, -1))

    def replace_or_die(*arguments):
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*arguments)

    return mock.patch.object(files.os, "replace", replace_or_die)


def mend(place, folder):
    """Checks what a process that was ended has left, and writes once more."""
    check(folder)
    if PLACES[place] is publish:
        check_published(folder)
    PLACES[place](folder)
    if PLACES[place] is train:
        check(folder, allowed=())


def kill(place, folder):
    """Kills processes that write, and returns how many of them."""
    for moment in range(1, MOST_KILLS + 1):
        own = folder / f"{moment}" / "folder"
        own.mkdir(parents=True)
        prepare(place, own)
        command = [sys.executable, __file__, "--die", place, own, moment]
        process = subprocess.run([*map(str, command)], capture_output=True, text=True)
        if process.returncode == 0:
            return moment - 1
        assert process.returncode == -signal.SIGKILL, process.stderr
        mend(place, own)
    return MOST_KILLS


def starve(place, folder):
    """Writes in a process that gets no further memory.

    Libraries that ask for some may end it. Nothing is left of its files then, or what
    `kill` leaves.

    Args:
        place: Key of `PLACES`.
        folder: `pathlib.Path` of an empty folder. The one above it is used, too.

    Returns:
        How it ended, and what the user was told, as texts.
    """
    prepare(place, folder)
    command = [sys.executable, __file__, "--starve", place, folder]
    process = subprocess.run([*map(str, command)], capture_output=True, text=True)
    mend(place, folder)
    if process.returncode < 0:
        return f"ended by {signal.Signals(-process.returncode).name}", ""
    said = process.stderr.strip().rpartition("\n")[2].replace(f"{folder}", "FOLDER")
    said = said.replace(f"{folder.parent}", "FOLDER/..")
    return ("refused", said) if process.returncode else ("written", "")


def write_starving(place, folder):
    """Writes, after this process has all libraries, in the memory that it has."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as other:
        PLACES[place](Path(other))
    size = re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())
    most = 1024 * int(size[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    PLACES[place](folder)


def main():
    """Has everything fail, and writes what happened."""
    rows = []
    for place in PLACES:
        for fault in FAULTS:
            with tempfile.TemporaryDirectory() as parent, disk(parent) as folder:
                os.chmod(parent, 0o755)
                rows.append(row(place, fault, "refused", suffer(place, fault, folder)))
        with tempfile.TemporaryDirectory() as folder:
            times = kill(place, Path(folder))
            end = "killed once" if times == 1 else f"killed {times} times"
            rows.append(row(place, KILLED, end, ""))
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "folder"
            folder.mkdir()
            rows.append(row(place, STARVED, *starve(place, folder)))
        records.write(rows, RESULTS)


def row(place, fault, end, message):
    """Returns a row of the table, which is printed, too."""
    print(f"{place}: {fault}: {end} {message}", flush=True)
    return {"place": place, "fault": fault, "end": end, "message": message}


@contextlib.contextmanager
def disk(parent):
    """Mounts a small disk of memory in a folder, which takes root."""
    folder = Path(parent) / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--die"]:
        _, _, place, folder, moment = sys.argv
        with die_at(int(moment)):
            PLACES[place](Path(folder))
    elif sys.argv[1:2] == ["--starve"]:
        _, _, place, folder = sys.argv
        write_starving(place, Path(folder))
    else:
        main()
