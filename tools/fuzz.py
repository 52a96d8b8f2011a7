"""Lets random input look for faults, and writes what it came to.

python tools/fuzz.py [--seconds N] [--targets NAME ...]

Targets of the kernels (custom_ops/fuzz) are compiled with Clang (on Debian, apt-get
install clang) and run by libFuzzer under sanitizers, from the corpus beside them, and
then on bytes that are drawn at random, several times as many a second; those of the
package (tests/fuzzing.py) are run by hypothesis. Each gets so many seconds, a kernel
for each way to check it. Ends with status 1 if one of them has found something, and
says which input it was: mend the fault, and put the input into the corpus or into a
test.

benchmarks/results/fuzzing.csv holds what all runs of a target on a machine came to:

- cases: answers that were compared with a reference
- crashes, hangs, differences: what runs ended with, if anything. A difference is a
  wrong answer of which nothing else would have told.
"""

import argparse
import csv
import datetime
import functools
import os
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import hypothesis  # noqa: E402
import records  # noqa: E402

from keras_shift.environment import machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "fuzzing.csv"
CORPUS = ROOT / "custom_ops" / "fuzz" / "corpus"
COLUMNS = ("target", "checked_by", "cases", "crashes", "hangs", "differences")
FINDINGS = COLUMNS[-3:]

# Without a sanitizer, far more answers are compared in the same time.
SANITIZERS = {
    "address": "AddressSanitizer, UndefinedBehaviorSanitizer",
    "": "comparison alone",
    "thread": "ThreadSanitizer",
}
RANDOM = "comparison of random input"
# Hypothesis draws so many new examples in each round, and so many inputs are drawn for
# one process.
EXAMPLES_PER_ROUND = 1000
INPUTS_PER_ROUND = 50_000
# An input, or a round, that takes more is taken for a hang.
SECONDS_PER_INPUT = 60
SECONDS_PER_ROUND = 900


def main(arguments=None):
    """Runs all targets, or those that are named, and writes their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    targets = {**_kernel_targets(), **_package_targets()}
    parser.add_argument("--targets", nargs="+", choices=targets, default=[*targets])
    arguments = parser.parse_args(arguments)
    found = False
    for name in arguments.targets:
        for row in targets[name](arguments.seconds):
            row |= {"date": f"{datetime.date.today()}", "machine": machine()}
            print(", ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            found |= any(row[finding] for finding in FINDINGS)
            records.write(with_run(read(), row), RESULTS)
    return int(found)


def with_run(rows, run):
    """Returns the rows of the table with a further run, of which it has the numbers."""
    same = ("target", "checked_by", "machine")
    earlier = [row for row in rows if all(row[key] == run[key] for key in same)]
    others = [row for row in rows if row not in earlier]
    sums = {
        key: run[key] + sum(int(row[key]) for row in earlier)
        for key in ("cases", *FINDINGS, "seconds")
    }
    return [*others, run | sums]


def read():
    """Returns the rows of benchmarks/results/fuzzing.csv, as texts."""
    if not RESULTS.exists():
        return []
    with open(RESULTS, newline="") as file:
        return list(csv.DictReader(file))


# The following functions fuzz the kernels.


def _kernel_targets():
    def runs(name, seconds):
        for sanitizer in SANITIZERS:
            yield _run_libfuzzer(name, sanitizer, seconds)
        yield _run_random(name, seconds)

    sources = sorted((ROOT / "custom_ops" / "fuzz").glob("*_fuzz.cc"))
    return {
        source.stem.removesuffix("_fuzz"): functools.partial(runs, source.stem)
        for source in sources
    }


def _run_libfuzzer(name, sanitizer, seconds):
    """Returns the row of a target, compiled with a sanitizer."""
    program = _compiled(name, sanitizer)
    folder = ROOT / ".build" / "fuzz"
    findings = folder / f"{name}-{sanitizer or 'plain'}"
    # What is new goes into a folder that all sanitizers share.
    corpus = folder / "corpus" / name
    for path in (findings, corpus):
        path.mkdir(parents=True, exist_ok=True)
    options = [f"-timeout={SECONDS_PER_INPUT}", f"-artifact_prefix={findings}/"]
    options += ["-max_len=96", "-rss_limit_mb=4096"]
    cases = 0
    begin = time.monotonic()
    while (left := seconds - int(time.monotonic() - begin)) > 0:
        result = _run(
            program, *options, f"-max_total_time={left}", corpus, CORPUS / name
        )
        output = result.stderr + result.stdout
        (findings / "log.txt").write_text(output)
        cases += _cases(output)
        hang = re.search(r"Test unit written to (.*/timeout-\w+)", output)
        # A machine that stood still for a while looks like a hang at first.
        if hang and _run(program, *options, hang[1]).returncode == 0:
            continue
        break
    difference = "WRONG (" in output
    crash = result.returncode != 0 and not hang and not difference
    if result.returncode:
        print(f"{name}: see {findings}", file=sys.stderr)
    values = SANITIZERS[sanitizer], cases, crash, bool(hang), difference
    return _row(name, *values, time.monotonic() - begin)


def _run_random(name, seconds):
    """Returns the row of a target that random bytes are given to, without libFuzzer."""
    program = _compiled(name, "", libfuzzer=False)
    findings = ROOT / ".build" / "fuzz" / f"{name}-random"
    findings.mkdir(parents=True, exist_ok=True)
    cases = 0
    crash = hang = difference = False
    begin = time.monotonic()
    # Whoever fuzzes again should not draw the same.
    seed = int(time.time()) % 2**31
    while time.monotonic() - begin < seconds:
        command = program, f"--inputs={INPUTS_PER_ROUND}", f"--seed={seed}"
        code, output = _finished(*command)
        if code != 0:
            # Once more, to keep the input.
            again = _finished(*command, f"--keep={findings / 'input'}")
            if again[0] == 0:
                (findings / "input").unlink()
            if code is None:
                # A machine that stood still for a while looks like a hang at first.
                code, output = again
        if code != 0:
            hang = code is None
            difference = not hang and "WRONG (" in output
            crash = not hang and not difference
            (findings / "log.txt").write_text(f"{command}\n{output}")
            print(f"{name}: see {findings}", file=sys.stderr)
            break
        cases += _cases(output)
        seed += 1
    values = RANDOM, cases, crash, hang, difference
    return _row(name, *values, time.monotonic() - begin)


def _finished(*command):
    """Returns a process's exit status, or `None` if it had to be ended, and output."""
    try:
        result = _run(*command, timeout=SECONDS_PER_ROUND)
    except subprocess.TimeoutExpired:
        return None, ""
    return result.returncode, result.stdout + result.stderr


def _cases(output):
    """Returns how many comparisons a process says that it made."""
    counted = re.search(r"^(\d+) cases$", output, re.MULTILINE)
    return int(counted[1]) if counted else 0


def _row(name, checked_by, cases, crash, hang, difference, seconds):
    values = checked_by, cases, int(crash), int(hang), int(difference)
    row = dict(zip(COLUMNS, (name.removesuffix("_fuzz"), *values)))
    return row | {"seconds": round(seconds)}


def _compiled(name, sanitizer, libfuzzer=True):
    """Compiles a target, if it has to be, and returns its path."""
    compiler = os.environ.get("CXX", "clang++")
    added = {"SANITIZE": sanitizer, "CXX": compiler}
    added["LIBFUZZER"] = "1" if libfuzzer else ""
    command = ["tools/cc_tests.sh", f"custom_ops/fuzz/{name}.cc"]
    subprocess.run(command, cwd=ROOT, env=os.environ | added, check=True)
    machine = subprocess.run(
        [compiler, "-dumpmachine"], capture_output=True, text=True, check=True
    )
    parts = [machine.stdout.strip(), sanitizer, "libfuzzer" if libfuzzer else ""]
    folder = "-".join(filter(None, parts))
    return ROOT / ".build" / "cc_tests" / folder / name


def _run(*command, timeout=None):
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout
    )


# The following functions fuzz the package by hypothesis.


def _package_targets():
    return {
        name: lambda seconds, name=name: [_run_hypothesis(name, seconds)]
        for name in ("constructors", "records", "recipes", "models")
    }


def _run_hypothesis(name, seconds):
    """Returns the row of a target of tests/fuzzing.py."""
    # It imports TensorFlow, which targets of the kernels do without.
    import fuzzing

    check, strategy = fuzzing.TARGETS[name]
    cases = 0
    begin = time.monotonic()

    def test(drawn):
        nonlocal cases
        if time.monotonic() - begin < seconds:
            cases += 1
            check(drawn)

    crash = difference = False
    settings = hypothesis.settings(
        max_examples=EXAMPLES_PER_ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        while time.monotonic() - begin < seconds:
            settings(hypothesis.given(strategy)(test))()
    except AssertionError:
        difference = True
        traceback.print_exc()
    except Exception:
        crash = True
        traceback.print_exc()
    values = "hypothesis", cases, crash, False, difference
    return _row(name, *values, time.monotonic() - begin)


if __name__ == "__main__":
    sys.exit(main())
