"""What Keras' own export of an FE-Net to a .tflite file costs, beside `to_tflite`'s.

    python benchmarks/keras_export.py

Exports published weights at 224x224 pixels in both ways, as float32, and times the
files in turns: LiteRT, one image, one thread. Keras' time is a multiple of ours: the
median and quartiles of ratios round by round. Writes
benchmarks/results/keras_export.csv, with the machine in it.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from records import write  # noqa: E402

import keras_shift  # noqa: E402
from keras_shift.deploy import LiteRTModel, to_tflite  # noqa: E402
from keras_shift.deploy.timing import time_alternately, warm_up  # noqa: E402
from keras_shift.environment import machine, versions  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "keras_export.csv"
NETWORKS = ((0.75, "tiny_imagenet.emptied"), (1.0, "tiny_imagenet"))


def measure(alpha, weights, size, rounds):
    """Returns the row of one network."""
    model = keras_shift.zoo.FENet((size, size, 3), alpha=alpha, weights=weights)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.tflite", Path(folder) / "keras.tflite"
        to_tflite(model, ours)
        model.export(theirs, format="litert", verbose=False)
        files = {"ours": LiteRTModel(ours), "keras": LiteRTModel(theirs)}
        for file in files.values():
            warm_up(file)
        calls = {name: file.invoke for name, file in files.items()}
        timing = time_alternately(calls, rounds)["keras"]
        return {
            "alpha": alpha,
            "weights": weights,
            "partitions": files["ours"].partitions(),
            "keras_partitions": files["keras"].partitions(),
            "ratio": timing.ratio,
            "ratio_low": timing.ratio_low,
            "ratio_high": timing.ratio_high,
            "keras": versions()["keras"],
            "machine": machine(),
        }


def main(arguments):
    """Measures and writes all rows."""
    rows = [measure(*pair, arguments.size, arguments.rounds) for pair in NETWORKS]
    write(rows, arguments.output)
    for row in rows:
        print(", ".join(f"{key}={value}" for key, value in row.items()))


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
