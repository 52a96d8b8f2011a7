"""What the shifts of each of FE-Net's layers cost in a phone's file.

    python benchmarks/shift_costs.py

Measures FE-Net 0.75 for images of 224x224 pixels by `keras_shift.deploy.shift_costs`:
for every layer, files with an eighth and with half of its channels shifted by one pixel
are timed in turns with one without any shift, in float32 and in int8 (LiteRT, one
image, one thread).

Writes benchmarks/results/shift_costs.csv.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
from records import write  # noqa: E402

from keras_shift import zoo  # noqa: E402
from keras_shift.deploy import shift_costs  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "shift_costs.csv"

ALPHA = 0.75
KINDS = {"float32": None, "int8": "int8"}


def measure(model, repeats):
    """Yields a row for every layer and type of file."""
    images = np.random.default_rng(0).uniform(0, 255, (8, *model.input_shape[1:]))
    for kind, quantize in KINDS.items():
        data = None if quantize is None else images.astype("float32")
        costs = shift_costs(model, quantize, data, repeats=repeats)
        for name, cost in costs.layers.items():
            height, width = cost.map_size
            yield {
                "unit": name.removesuffix("_shift"),
                "kind": kind,
                "map": f"{height}x{width}",
                "channels": cost.channels,
                "eighth": cost.fixed + cost.per_channel * (cost.channels / 8),
                "half": cost.fixed + cost.per_channel * (cost.channels / 2),
                "machine": costs.machine,
            }


def main(arguments):
    """Writes the table."""
    model = zoo.FENet((224, 224, 3), alpha=ALPHA, max_displacement=1)
    write(list(measure(model, arguments.repeats)), arguments.output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--repeats", type=int, default=100, help="counted runs of every file"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="table to write")
    main(parser.parse_args())
