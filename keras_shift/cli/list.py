"""Runs the sub-command `keras-shift list`.

It reads the zoo's data, but not its modules, which would import Keras.
"""

import argparse
import csv
import fnmatch
import json
from pathlib import Path

from keras_shift import weights_folder
from keras_shift.table import simple_table, to_text

_COUNTS = Path(__file__).resolve().parents[1] / "zoo" / "counts.csv"


def run(arguments: argparse.Namespace) -> None:
    """Lists networks, or published weights.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ValueError: If there are no networks or weights of this name, or if the
            environment variable KERAS_SHIFT_WEIGHTS_DIR does not name a folder.
    """
    if arguments.weights:
        print(_table_of_weights(arguments.pattern))
        return
    with open(_COUNTS, newline="") as file:
        counts = {row["name"]: row for row in csv.DictReader(file)}
    names = fnmatch.filter(counts, arguments.pattern)
    if not names:
        raise ValueError(
            "No network of the zoo has a name like this; `keras-shift list` shows "
            f"all of them. Received: pattern={arguments.pattern!r}"
        )
    table = simple_table(
        ("Name", "Input"), numbers=("MAdds", "Parameters", "Displacements")
    )
    for name in names:
        counted = counts[name]
        table.add_row(
            name,
            counted["input_shape"],
            f"{int(counted['multiply_adds']) / 1e6:,.1f} M",
            f"{int(counted['parameters']) / 1e6:,.2f} M",
            f"{int(counted['displacements']):,}",
        )
    print(to_text(table))
    print(
        "\nMAdds are those of one image. Parameters are without displacements, "
        "which\nthe papers do not count, and without moving statistics."
    )


def _table_of_weights(pattern):
    folder, names = weights_folder.folder(), weights_folder.published()
    matching = fnmatch.filter(names, pattern)
    if not matching:
        raise ValueError(
            "No published weights have a name like this. There are "
            f"{names or 'none yet'} in {folder}. Received: pattern={pattern!r}"
        )
    table = simple_table(
        ("Name", "Constructor", "weights="),
        numbers=("Input", "Top-1", "Top-5", "int8", "MB"),
    )
    terms: dict[str, list[str]] = {}
    for name in matching:
        path = folder / f"{name}.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            table.add_row(*_row_of_weights(record))
            terms.setdefault(record["licence"], []).append(name)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no record of weights: {error!r}") from error
    lines = [f"{', '.join(weights)}: {licence}" for licence, weights in terms.items()]
    return "\n".join([to_text(table), "", "Terms", *lines])


def _row_of_weights(record):
    return (
        record["name"],
        record["constructor"],
        record["weights"],
        "x".join(map(str, record["input_shape"])),
        f"{record['top1']:.2%}",
        f"{record['top5']:.2%}",
        "" if record["int8_top1"] is None else f"{record['int8_top1']:.2%}",
        f"{record['bytes'] / 1e6:.1f}",
    )
