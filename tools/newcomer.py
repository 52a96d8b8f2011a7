"""Walks a newcomer's path in a fresh clone, and writes how long its steps take.

python tools/newcomer.py PHOTOGRAPHS

Clones this checkout's last commit into an empty folder, where there is no environment,
and does there what README.md says: `make demo`, the first example on PHOTOGRAPHS (a
folder with one folder of images for each class), and what one does with its files.
Ends with the output of the first step that fails. benchmarks/results/newcomer.csv has a
row for each step. Reading is not in it, nor is downloading: pip and npm keep packages.
"""

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402

from keras_shift.environment import machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "newcomer.csv"

# What is typed in the clone. Everything but make finds its programs in the
# environment that make has made.
STEPS = {
    "`make demo`": "make demo",
    "README's example": "python readme_example.py",
    "`keras-shift verify`": (
        "keras-shift verify model.tflite model.keras --data photographs/"
    ),
    "`keras-shift benchmark`": "keras-shift benchmark model.tflite",
    "the page of `model.tflite`": (
        "python examples/web_page.py --files model.tflite --write-only"
    ),
}


def main(arguments=None):
    """Takes all steps and writes their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path)
    arguments = parser.parse_args(arguments)
    if not arguments.photographs.is_dir():
        parser.error(
            "Argument PHOTOGRAPHS must be a folder. "
            f"Received: {arguments.photographs}"
        )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "keras_shift"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        (clone / "photographs").symlink_to(arguments.photographs.resolve())
        (clone / "readme_example.py").write_text(example())
        for step, command in STEPS.items():
            rows.append({"step": step, "seconds": round(seconds_of(command, clone))})
            print(f"{step}: {rows[-1]['seconds']} s", flush=True)
    where = {"date": f"{datetime.date.today()}", "machine": machine()}
    records.write([row | where for row in rows], RESULTS)


def example():
    """Returns the first example of README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def seconds_of(command, folder):
    """Returns how long a command takes, or ends the program if it fails."""
    begin = time.monotonic()
    result = subprocess.run(
        f'PATH="$PWD/.venv/bin:$PATH"; {command}',
        shell=True,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        sys.exit(f"{command}\n{result.stdout}")
    return time.monotonic() - begin


if __name__ == "__main__":
    main()
