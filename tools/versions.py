"""Has one wheel meet each Python, Keras and backend that setup.cfg admits.

python tools/versions.py [--work FOLDER] [--only TEXT ...] [--wheel FILE]
python tools/versions.py --aarch64 [--qemu FILE] [--only TEXT ...]

Builds one wheel of this checkout, or takes that of tools/manylinux.sh, installs it in
an environment for each of `COMBINATIONS` (1 to 2 GB each, kept in the folder, so that
a run that ended goes on where it was), and runs tools/check_installation.py there.
Wants the interpreters as python3.11 and so on, or in pyenv. Ends with status 1 if
something failed.

benchmarks/results/versions.csv has a row for each combination, of its latest run:

- passed: parts of tools/check_installation.py
- failure: the first part that did not, and why, in one line
- seconds: what these parts took
- wheel: for which systems it is, by its name

With --aarch64, kernels' tests and .tflite files run on that processor instead, under
qemu, by tools/cc_tests.sh and tools/litert_aarch64.sh (LITERT names its version). On
Debian, as root: apt-get install debootstrap g++-aarch64-linux-gnu qemu-user-static.
benchmarks/results/aarch64.csv has a row for each program and file, of its latest run:

- made_by: what compiled the program, or runs the file
- said: the last line of what it said
- failure: the first check that failed, in one line
"""

import argparse
import csv
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402

from keras_shift.environment import machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "versions.csv"
AARCH64_RESULTS = RESULTS.with_name("aarch64.csv")
CHECK = ROOT / "tools" / "check_installation.py"
LONGEST_FAILURE = 200


class Combination(NamedTuple):
    """What is installed together: versions as they are asked of pip."""

    python: str
    keras: str
    backend: str
    version: str

    def __str__(self):
        python, keras, backend, version = self
        return f"python{python}-keras{keras}-{backend}{version}"


# Both ends of each range in setup.cfg, on both ends of the Pythons where there are
# such wheels: tests/test_versions.py compares. PyPI's torch for Linux brings CUDA's
# libraries; of that version, one without them was at hand.
COMBINATIONS = [
    Combination("3.11", "3.13.2", "tensorflow-cpu", "2.18.0"),
    Combination("3.12", "3.14.1", "tensorflow-cpu", "2.19.1"),
    Combination("3.11", "3.15.1", "tensorflow-cpu", "2.21.0"),
    Combination("3.13", "3.15.1", "tensorflow-cpu", "2.21.0"),
    Combination("3.13", "3.14.0", "tensorflow", "2.20.0"),
    Combination("3.11", "3.13.2", "jax", "0.4.38"),
    Combination("3.13", "3.15.1", "jax", "0.12.0.1"),
    Combination("3.11", "3.15.1", "torch", "2.13.0"),
]
# The extras of setup.cfg that ask for each of the backends.
EXTRAS = {"tensorflow-cpu": "cpu", "tensorflow": "tf", "jax": "jax", "torch": "torch"}

# What runs on AArch64: programs, by the paths of their sources, and the files that
# tools/litert_aarch64.sh makes.
PROGRAMS = [
    *sorted(ROOT.glob("custom_ops/cc/*_test.cc")),
    *sorted(ROOT.glob("custom_ops/fuzz/*_fuzz.cc")),
]
FILES = ["fenet_float32.tflite", "fenet_int8.tflite"]
COMPILER = "aarch64-linux-gnu-g++"
# Of one program, which takes a minute at most. A process of qemu that hangs may ignore
# all signals but SIGKILL, after which a shell's status is 137.
LONGEST_RUN = 600
KILLED = 137


def main(arguments=None):
    """Checks all combinations, or those that are named, and writes their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / ".build" / "versions")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="parts of names such as jax0.12"
    )
    parser.add_argument("--wheel", type=Path, help="one that was built before")
    parser.add_argument(
        "--aarch64", action="store_true", help="kernels and files on AArch64 instead"
    )
    parser.add_argument(
        "--qemu", default="qemu-aarch64-static", help="the emulator of --aarch64"
    )
    arguments = parser.parse_args(arguments)
    names = aarch64_names() if arguments.aarch64 else [*map(str, COMBINATIONS)]
    chosen = [name for name in names if any(text in name for text in arguments.only)]
    if not chosen:
        parser.error(f"Argument --only must be a part of one of: {', '.join(names)}")
    if arguments.wheel and not arguments.wheel.is_file():
        parser.error(f"Argument --wheel must be a file. Received: {arguments.wheel}")
    if arguments.aarch64:
        for tool in (arguments.qemu, COMPILER):
            if not shutil.which(tool):
                parser.error(f"Argument --aarch64 needs {tool}, which is not there")
        path, rows = AARCH64_RESULTS, aarch64_rows(chosen, arguments.qemu)
    else:
        path, rows = RESULTS, version_rows(chosen, arguments.work, arguments.wheel)
    failed = False
    for row in rows:
        row |= {"date": f"{datetime.date.today()}", "machine": machine()}
        print(", ".join(f"{key}={value}" for key, value in row.items()), flush=True)
        failed |= bool(row["failure"])
        records.write(with_row(read(path), row, names), path)
    return int(failed)


def version_rows(names, work, wheel):
    """Yields the rows of combinations, as soon as each of them was checked."""
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    wheel = wheel or build(work)
    for combination in COMBINATIONS:
        if f"{combination}" in names:
            yield run(combination, wheel.resolve(), work / f"{combination}")


def build(work):
    """Returns the path of a wheel of this checkout, which is built for all."""
    folder = work / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(combination, wheel, folder):
    """Returns the row of a combination, whose environment is made in a folder."""
    print(f"{combination} ...", flush=True)
    result = folder / "result.json"
    try:
        python = install(combination, wheel, folder)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", f"{error}")
        found = {"running": "install", "failure": last_line(said)}
        seconds = 0
    else:
        result.unlink(missing_ok=True)
        begin = time.monotonic()
        process = subprocess.run(
            [python, CHECK, result],
            cwd=folder,
            env=environment(combination),
            capture_output=True,
            text=True,
        )
        seconds = round(time.monotonic() - begin)
        (folder / "log.txt").write_text(process.stdout + process.stderr)
        found = outcome(result, process)
    tag = wheel.stem.rpartition("-")[2]
    return row(combination, found) | {"seconds": seconds, "wheel": tag}


def install(combination, wheel, folder):
    """Makes an environment, or completes it, and returns the path of its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        _run(interpreter(combination.python), "-m", "venv", folder)
    wanted = [f"{wheel}[{EXTRAS[combination.backend]}]"]
    wanted.append(f"keras=={combination.keras}")
    wanted.append(f"{combination.backend}=={combination.version}")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # The wheel may have changed without its version.
    _run(*pip, "--no-deps", "--force-reinstall", wheel)
    # Where its requirements do not admit these versions, pip refuses.
    _run(*pip, *wanted)
    return python


def interpreter(version):
    """Returns the path of a Python such as "3.11"."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    paths = [shutil.which(f"python{version}")]
    paths += sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    for path in filter(None, paths):
        # pyenv has links for Pythons that are not switched on.
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    raise FileNotFoundError(f"There is no python{version}, nor one in {pyenv}.")


def environment(combination):
    """Returns variables for a process that sees no checkout and no accelerator."""
    hidden = ("PYTHONPATH", "KERAS_SHIFT_DISABLE_NATIVE_OP", "KERAS_SHIFT_WEIGHTS_DIR")
    backend = combination.backend.removesuffix("-cpu")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    added = {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    return kept | added | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}


def outcome(result, process):
    """Returns what a check has written, and what became of one that could not.

    Args:
        result: `pathlib.Path` of the check's file, which may be missing.
        process: `subprocess.CompletedProcess` of the check.
    """
    found = json.loads(result.read_text()) if result.exists() else {}
    if process.returncode:
        found.setdefault("running", "import")
        killed = process.returncode < 0
        end = f"signal {-process.returncode}" if killed else last_line(process.stderr)
        found["failure"] = end
    return found


def last_line(text):
    """Returns the last line of a traceback, or of what pip said."""
    return (text.strip().splitlines() or [""])[-1]


def row(combination, found):
    """Returns the row of a combination, from what its check has written."""
    failure = " ".join(f"{found.get('failure', '')}".split())
    if failure:
        failure = f"{found['running']}: {failure}"[:LONGEST_FAILURE]
    return {
        "python": found.get("python", combination.python),
        "keras": combination.keras,
        "backend": combination.backend,
        "version": combination.version,
        "native_op": "yes" if found.get("native_op") else "no",
        "passed": ", ".join(found.get("passed", [])),
        "failure": failure,
    }


def with_row(rows, new, names):
    """Returns the rows of a table, of which one is added or replaced, in order."""
    by_name = {name_of(old): old for old in [*rows, new]}
    return [by_name[name] for name in names if name in by_name]


def name_of(row):
    """Returns the name of what a row of either table is of."""
    if "check" in row:
        return row["check"]
    python = ".".join(row["python"].split(".")[:2])
    return f"{Combination(python, row['keras'], row['backend'], row['version'])}"


def read(path):
    """Returns the rows of a file of benchmarks/results, as texts."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def aarch64_names():
    """Returns the names of programs and files that run on AArch64."""
    return [*(path.stem for path in PROGRAMS), *FILES]


def aarch64_rows(names, qemu):
    """Yields the rows of programs and files, as soon as each of them has run."""
    said = _run(qemu, "--version")
    emulator = {"emulator": "qemu " + re.search(r"version ([\d.]+)", said)[1]}
    compiler = f"GCC {_run(COMPILER, '-dumpfullversion').strip()}"
    runner = f"timeout --signal KILL {LONGEST_RUN} {qemu}"
    for path in PROGRAMS:
        if path.stem in names:
            print(f"{path.stem} ...", flush=True)
            cxx = f"{COMPILER} -static"
            process = _script("cc_tests.sh", path, CXX=cxx, RUNNER=runner)
            yield program_row(path.stem, compiler, process) | emulator
    files = [name for name in FILES if name in names]
    if files:
        print(f"{' '.join(files)} ...", flush=True)
        process = _script("litert_aarch64.sh", PYTHON=sys.executable, RUNNER=runner)
        for name in files:
            yield file_row(name, process) | emulator


def _script(name, *arguments, **variables):
    """Runs one of tools/, whose messages come in the order in which they were said."""
    return subprocess.run(
        [ROOT / "tools" / name, *arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def program_row(name, compiler, process):
    """Returns the row of a program, from the process of tools/cc_tests.sh."""
    said = process.stdout
    if not process.returncode:
        said = said.strip().rpartition("\n")[0]  # the last line is the script's own
    return {
        "check": name,
        "made_by": compiler,
        "said": last_line(said),
        "failure": aarch64_failure(process, process.stdout),
    }


def file_row(name, process):
    """Returns the row of a .tflite file, from the process of litert_aarch64.sh."""
    lines = process.stdout.splitlines()
    own = [line for line in lines if line.startswith(f"{name}: ")]
    version = re.search(r"^aarch64 (LiteRT \S+)$", process.stdout, re.MULTILINE)
    said = last_line("".join(own)).removeprefix(f"{name}: ")
    # The other file may have failed.
    passed = own and "FAILED" not in said
    return {
        "check": name,
        "made_by": version[1] if version else "LiteRT",
        "said": said,
        "failure": "" if passed else aarch64_failure(process, said or process.stdout),
    }


def aarch64_failure(process, text):
    """Returns what failed, in one line, from what a script said."""
    if not process.returncode:
        return ""
    if process.returncode == KILLED:
        return f"killed: not done after {LONGEST_RUN} s, or out of memory"
    lines = text.splitlines()
    found = [line for line in lines if line.startswith("FAILED: ")] or lines[-1:]
    # Bash says first where the script lies, and the number of a process that crashed.
    failure = re.sub(r"^\S+: line \d+: +(\d+ +)?", "", "".join(found[:1]))
    return failure[:LONGEST_FAILURE] or f"status {process.returncode}"


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
