"""What shifts cost in a .tflite file: FE-Net against MobileNetV2, lowered in two ways.

    python benchmarks/tflite_lowering.py

For float32, int8 and dynamically quantized files of FE-Net 1.0 for images of 224x224
pixels, with 60% of the wide channels unshifted and the others displaced at random by
up to 1 or 2 pixels, and with grouped shifts, which displace 8 of 9 channels:

- `layers`: every shift a depthwise convolution over all wide channels, which is what
  `to_tflite` makes of shifts outside of units;
- `units`: what `to_tflite` makes of units, where channels that do not move go their
  own way;
- `floor`: no shift at all.

All are shares of the time of MobileNetV2 1.0 in the same mode, one image at a time, on
one thread: medians, and first and third quartiles, of ratios round by round, taken in
turns in one process. Writes benchmarks/results/tflite_lowering.csv, with the machine
in it.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402
import rich.table  # noqa: E402
from records import write  # noqa: E402
from states import displaced  # noqa: E402

from keras_shift.deploy import (  # noqa: E402
    LiteRTModel,
    to_tflite,
    with_random_biases,
)
from keras_shift.deploy.lowering import lower_layers  # noqa: E402
from keras_shift.deploy.timing import time_alternately  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.zoo import FENet  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "tflite_lowering.csv"

# The design asks for these shares of MobileNetV2's time, with displacements of up to 1
# pixel.
GOALS = {None: 0.97, "int8": 1.0, "dynamic": 0.45}

UNSHIFTED = 0.6


def fenet(extent):
    """Returns FE-Net with shifts of up to `extent` pixels, or with grouped shifts."""
    if extent == "grouped":
        return FENet(spatial="grouped_shift", classifier_activation=None)
    model = FENet(classifier_activation=None)
    return displaced(model, extent, UNSHIFTED)


def files(quantize, folder, advance):
    """Writes the files to compare; yields the keys of a row, a report each."""
    images = np.random.default_rng(0).uniform(0, 255, (8, 224, 224, 3))
    images = images.astype("float32")

    def written(model, **keys):
        path = f"{folder}/{quantize}_{'_'.join(map(str, keys.values()))}.tflite"
        report = to_tflite(with_random_biases(model), path, quantize, images)
        advance()
        return keys, report

    baseline = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    yield written(baseline, network="mobilenet_v2", shifts="", lowering="")
    without = FENet(spatial="none", classifier_activation=None)
    yield written(without, network="fenet_1.0", shifts="none", lowering="floor")
    for extent in (1, 2, "grouped"):
        keys = {"network": "fenet_1.0", "shifts": extent}
        model = fenet(extent)
        yield written(lower_layers(model).model, **keys, lowering="layers")
        yield written(model, **keys, lowering="units")


def measure(quantize, rounds, folder, advance):
    """Returns a dictionary a file."""
    written = list(files(quantize, folder, advance))
    models = [LiteRTModel(report.path) for _, report in written]
    timings = time_alternately(
        {number: model.invoke for number, model in enumerate(models)}, rounds
    )
    return [
        {
            "quantize": quantize or "float32",
            **keys,
            "ratio": timings[number].ratio,
            "ratio_low": timings[number].ratio_low,
            "ratio_high": timings[number].ratio_high,
            "goal": (
                GOALS[quantize]
                if keys["lowering"] == "units" and keys["shifts"] == 1
                else ""
            ),
            "ms": timings[number].median * 1e3,
            "partitions": report.partitions,
            "megabytes": report.bytes / 1e6,
        }
        for number, (keys, report) in enumerate(written)
    ]


def show(rows, console):
    """Prints every ratio beside its goal; what misses it is marked."""
    table = rich.table.Table(
        title=f"Time / MobileNetV2's, {rows[0]['machine']}, one thread, batch 1",
        caption="Median (quartiles). * misses its goal.",
    )
    for column in ("mode", "shifts", "lowering", "ratio", "goal", "partitions"):
        table.add_column(column, justify="right")
    for row in rows:
        if row["lowering"]:
            missed = row["goal"] and row["ratio"] > row["goal"]
            table.add_row(
                row["quantize"],
                str(row["shifts"]),
                row["lowering"],
                f"{row['ratio']:.3f}{'*' if missed else ' '} "
                f"({row['ratio_low']:.3f} to {row['ratio_high']:.3f})",
                str(row["goal"]),
                str(row["partitions"]),
            )
    console.print(table)


def main():
    """Writes and times all files, prints the ratios and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=150, help="turns of each file")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, rich.progress.Progress() as progress:
        task = progress.add_task("files", total=8 * len(GOALS))
        for quantize in GOALS:
            rows += measure(
                quantize, arguments.rounds, folder, lambda: progress.advance(task)
            )
    for row in rows:
        row.update(machine=machine(), threads=1)
    write(rows, arguments.output)
    show(rows, rich.console.Console(width=100))
    print(f"Written to {arguments.output}")


if __name__ == "__main__":
    main()
