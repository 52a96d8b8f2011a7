"""Lets random input look for faults, and writes what it came to.

python tools/fuzz.py [--seconds N] [--targets NAME ...]

Targets of the kernels (custom_ops/fuzz) are compiled with Clang (on Debian, apt-get
install clang) and run by libFuzzer under sanitizers, from the corpus beside them;
those of the package (tests/fuzzing.py) are run by hypothesis. Each gets so many
seconds. Ends with status 1 if one of them has found something, and says which input it
was: mend the fault, and put the input into the corpus or into a test.

benchmarks/results/fuzzing.csv holds the latest run of each target:

- cases: answers that were compared with a reference
- crashes, hangs, differences: what the target ended with, if any. A difference is a
  wrong answer of which nothing else would have told.
"""

import argparse
import csv
import datetime
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import records  # noqa: E402

from keras_shift.environment import machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "fuzzing.csv"
CORPUS = ROOT / "custom_ops" / "fuzz" / "corpus"
COLUMNS = ("target", "checked_by", "cases", "crashes", "hangs", "differences")
FINDINGS = COLUMNS[-3:]

SANITIZERS = {
    "address": "AddressSanitizer, UndefinedBehaviorSanitizer",
    "thread": "ThreadSanitizer",
}
# What an input takes more seconds than is taken for a hang.
SECONDS_PER_INPUT = 60


def main(arguments=None):
    """Runs all targets, or those that are named, and writes their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    targets = {**_kernel_targets(), **_package_targets()}
    parser.add_argument("--targets", nargs="+", choices=targets, default=[*targets])
    arguments = parser.parse_args(arguments)
    rows = {(row["target"], row["checked_by"]): row for row in read()}
    found = False
    for name in arguments.targets:
        for row in targets[name](arguments.seconds):
            row |= {"date": f"{datetime.date.today()}", "machine": machine()}
            rows[row["target"], row["checked_by"]] = row
            records.write(rows.values(), RESULTS)
            print(", ".join(f"{key}={value}" for key, value in row.items()), flush=True)
            found |= any(int(row[finding]) for finding in FINDINGS)
    return int(found)


def read():
    """Returns the rows of benchmarks/results/fuzzing.csv, as texts."""
    if not RESULTS.exists():
        return []
    with open(RESULTS, newline="") as file:
        return list(csv.DictReader(file))


# The kernels, by libFuzzer.


def _kernel_targets():
    sources = sorted((ROOT / "custom_ops" / "fuzz").glob("*_fuzz.cc"))
    return {
        source.stem.removesuffix("_fuzz"): lambda seconds, name=source.stem: (
            _run_libfuzzer(name, sanitizer, seconds) for sanitizer in SANITIZERS
        )
        for source in sources
    }


def _run_libfuzzer(name, sanitizer, seconds):
    """Returns the row of a target, compiled with a sanitizer."""
    environment = os.environ | {
        "LIBFUZZER": "1",
        "SANITIZE": sanitizer,
        "CXX": os.environ.get("CXX", "clang++"),
    }
    source = f"custom_ops/fuzz/{name}.cc"
    subprocess.run(["tools/cc_tests.sh", source], cwd=ROOT, env=environment, check=True)
    [program] = ROOT.glob(f".build/cc_tests/*-{sanitizer}-libfuzzer/{name}")
    findings = ROOT / ".build" / "fuzz" / f"{name}-{sanitizer}"
    findings.mkdir(parents=True, exist_ok=True)
    # What is new goes into the first folder; the second is only read.
    corpus = findings / "corpus"
    corpus.mkdir(exist_ok=True)
    command = [
        program,
        corpus,
        CORPUS / name,
        f"-max_total_time={seconds}",
        f"-timeout={SECONDS_PER_INPUT}",
        f"-artifact_prefix={findings}/",
        "-max_len=96",
        "-rss_limit_mb=4096",
    ]
    begin = time.monotonic()
    result = subprocess.run(
        command, cwd=findings, env=environment, capture_output=True, text=True
    )
    log = findings / "log.txt"
    log.write_text(result.stderr + result.stdout)
    hang = "ERROR: libFuzzer: timeout" in result.stderr
    difference = "WRONG (" in result.stderr
    crash = result.returncode != 0 and not hang and not difference
    if result.returncode:
        print(f"{name}: see {log}", file=sys.stderr)
    cases = re.search(r"^(\d+) cases$", result.stdout, re.MULTILINE)
    values = (
        name.removesuffix("_fuzz"),
        SANITIZERS[sanitizer],
        int(cases[1]) if cases else 0,
        *map(int, (crash, hang, difference)),
    )
    return dict(zip(COLUMNS, values)) | {"seconds": round(time.monotonic() - begin)}


# The package, by hypothesis.


def _package_targets():
    return {}


if __name__ == "__main__":
    sys.exit(main())
