"""For all of these modules: the files that their figures come from."""

import csv
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WEIGHTS = ROOT / "zoo" / "weights"

# Of .tflite files, as columns and rows of the results name them.
KINDS = ("float32", "int8")


def read_results(name):
    """Returns the rows of what a benchmark wrote, as dictionaries of strings."""
    return read_csv(RESULTS / name)


def read_csv(path):
    """Returns the rows of any CSV file, likewise."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_record(name):
    """Returns what is known of published weights, as zoo/weights has it."""
    return json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))
