"""Times FE-Net beside MobileNetV2 on a phone that is connected by USB.

    python examples/benchmark_on_phone.py benchmark_model

Writes both networks with their published weights as float32, float16 and int8 files,
pushes them to the phone with adb, has LiteRT's own benchmark time them there, in turns,
prints one table, and writes results.csv beside the files.

`benchmark_model` is LiteRT's program of this name for the phone's processor, which
https://ai.google.dev/edge/litert/models/measurement offers for download. adb comes with
Android's platform tools; the phone must allow USB debugging. For times that mean
something, let the phone be cool, charged, and otherwise idle.

Int8 files are quantized with random pixels: their times are right, their answers are
not.
"""

import argparse
import contextlib
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import quiet_start  # noqa: F401  # isort: skip

import numpy as np
import rich.console
import rich.progress
import rich.table
from finetune_and_export import write_csv
from steps import NETWORKS, errors_in_one_line

from keras_shift import zoo
from keras_shift.deploy import to_tflite
from keras_shift.files import replacing
from keras_shift.image_batches import random_pixels

KINDS = {"float32": None, "float16": "float16", "int8": "int8"}

# Programs that adb starts may write here, and be started from here.
FOLDER = "/data/local/tmp/keras_shift"

AVERAGE = re.compile(r"Inference timings in us:.*Inference \(avg\): ([\d.e+]+)")


class Phone:
    """A phone that adb reaches.

    Args:
        serial: String, its serial number, or `None` if there is only one phone.
            Defaults to `None`.

    Raises:
        OSError: If there is no adb, or no phone that it may use.
        ValueError: If there are several phones, or none of this serial number.
    """

    def __init__(self, serial=None):
        self._adb = shutil.which("adb")
        if self._adb is None:
            raise OSError(
                "There is no adb. It comes with Android's platform tools: on Debian "
                "and Ubuntu, apt-get install adb."
            )
        self._serial = _chosen(self._run("devices"), serial)

    def push(self, path):
        """Copies a file to the phone, and returns its path there."""
        target = f"{FOLDER}/{Path(path).name}"
        self._run("-s", self._serial, "push", str(path), target)
        return target

    def shell(self, *words):
        """Returns what a command on the phone prints."""
        return self._run("-s", self._serial, "shell", *words)

    def _run(self, *arguments):
        result = subprocess.run(
            [self._adb, *arguments], capture_output=True, text=True, errors="replace"
        )
        if result.returncode:
            said = (result.stderr.strip() or result.stdout.strip()).splitlines()
            raise OSError(
                f"adb {' '.join(arguments)} failed with status {result.returncode}: "
                f"{said[-1] if said else 'it says nothing'}"
            )
        # The program writes its log to one or the other.
        return result.stdout + result.stderr


def _chosen(listed, serial):
    """Returns the serial number to use, out of what `adb devices` prints."""
    states = dict(re.findall(r"^(\S+)\t(.+)$", listed, re.MULTILINE))
    if serial is not None and serial not in states:
        raise ValueError(
            f"--serial must be one of {sorted(states)}. Received: --serial {serial}"
        )
    if not states:
        raise OSError(
            "adb finds no phone. Connect one by USB, allow USB debugging in its "
            "developer options, and look at `adb devices`."
        )
    if serial is None and len(states) > 1:
        raise ValueError(
            f"There are several phones: name one of {sorted(states)} with --serial."
        )
    serial = serial or next(iter(states))
    if states[serial] != "device":
        raise OSError(
            f"The phone {serial} is {states[serial]}: unlock it, and allow this "
            "computer to debug it."
        )
    return serial


def write_files(output, image_size):
    """Writes all files into a folder; returns their paths by weights and kind."""
    shape = (image_size, image_size, 3)
    paths = {}
    for name in NETWORKS:
        model = zoo.models.model_of_record(zoo.get_record(name), input_shape=shape)
        for kind, quantize in KINDS.items():
            path = paths[name, kind] = output / f"{name}_{image_size}_{kind}.tflite"
            to_tflite(model, path, quantize, random_pixels(shape))
    return paths


def measure(phone, program, paths, arguments, progress=iter):
    """Times files on a phone in turns.

    A round starts the program once for every file, in a random order.

    Args:
        phone: A `Phone`.
        program: Path of LiteRT's program there.
        paths: Paths of the files there, by weights and kind.
        arguments: Arguments of the command line.
        progress: Function that an iterable goes through. Defaults to `iter`.

    Returns:
        Dictionary of arrays of microseconds, one a round, by weights and kind.
    """
    random = np.random.default_rng(0)
    keys = list(paths)
    times = {key: np.zeros(arguments.rounds) for key in keys}
    turns = itertools.product(range(arguments.rounds), range(len(keys)))
    orders = [random.permutation(len(keys)) for _ in range(arguments.rounds)]
    for turn, place in progress(list(turns)):
        key = keys[orders[turn][place]]
        said = phone.shell(
            program,
            f"--graph={paths[key]}",
            f"--num_threads={arguments.threads}",
            f"--num_runs={arguments.runs}",
        )
        found = AVERAGE.search(said)
        if found is None:
            last = said.strip().splitlines()[-1:] or ["nothing"]
            raise OSError(
                f"{Path(program).name} told no time of {Path(paths[key]).name} on the "
                f"phone. Its last words: {last[0]}"
            )
        times[key][turn] = float(found[1])
    return times


def summarize(times, about):
    """Returns a row for every file: its time, also as a share of the last network's."""
    rows = []
    for (name, kind), own in times.items():
        milliseconds = np.percentile(own / 1e3, [25, 50, 75])
        ratios = np.percentile(own / times[NETWORKS[-1], kind], [25, 50, 75])
        rows.append(
            {
                "weights": name,
                "kind": kind,
                **dict(zip(("ms_low", "ms", "ms_high"), milliseconds)),
                **dict(zip(("ratio_low", "ratio", "ratio_high"), ratios)),
                **about,
            }
        )
    return rows


def report_rows(rows, console):
    """Prints the table."""
    first = rows[0]
    table = rich.table.Table(
        title=f"{first['phone']}, Android {first['android']}",
        caption=f"One image of {first['image_size']}x{first['image_size']} pixels, "
        f"{first['threads']} thread(s). Medians and quartiles of {first['rounds']} "
        f"rounds; shares of {NETWORKS[-1]}'s time with the same kind of file.",
    )
    for column in ("weights", "file", "milliseconds", "share"):
        table.add_column(column, overflow="fold")
    for row in rows:
        texts = [
            f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"
            for name in ("ms", "ratio")
        ]
        table.add_row(row["weights"], row["kind"], *texts)
    console.print(table)


def main(arguments):
    """Writes files, times them on the phone, and prints the table."""
    for name in ("rounds", "runs", "threads"):
        if getattr(arguments, name) < 1:
            raise ValueError(
                f"--{name} must be a positive integer. "
                f"Received: --{name} {getattr(arguments, name)}"
            )
    if not arguments.program.is_file():
        raise ValueError(
            "The first argument must be LiteRT's benchmark_model for the phone, which "
            "https://ai.google.dev/edge/litert/models/measurement offers. "
            f"Received: {arguments.program}"
        )
    # What is wrong with the phone shows before the files are made.
    phone = Phone(arguments.serial)
    about = {
        "image_size": arguments.image_size,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "runs": arguments.runs,
        "phone": phone.shell("getprop", "ro.product.model").strip(),
        "android": phone.shell("getprop", "ro.build.version.release").strip(),
    }
    console = rich.console.Console()
    arguments.output.mkdir(parents=True, exist_ok=True)
    paths = write_files(arguments.output, arguments.image_size)
    phone.shell("mkdir", "-p", FOLDER)
    try:
        program = phone.push(arguments.program)
        phone.shell("chmod", "755", program)
        pushed = {key: phone.push(path) for key, path in paths.items()}
        times = measure(
            phone,
            program,
            pushed,
            arguments,
            lambda turns: rich.progress.track(turns, "on the phone", console=console),
        )
    finally:
        # From a phone that is unplugged nothing can be removed.
        with contextlib.suppress(OSError):
            phone.shell("rm", "-r", FOLDER)
    rows = summarize(times, about)
    report_rows(rows, console)
    with replacing(arguments.output / "results.csv") as path:
        write_csv(rows, path)
    console.print(f"The files and results.csv are in {arguments.output}/.")


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "program", type=Path, help="LiteRT's benchmark_model for the phone"
    )
    parser.add_argument("--serial", help="which phone, as `adb devices` lists it")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=10, help="turns of each file")
    parser.add_argument("--runs", type=int, default=50, help="images in a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmark_on_phone_output")
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with errors_in_one_line("benchmark_on_phone.py"):
        main(parse())
