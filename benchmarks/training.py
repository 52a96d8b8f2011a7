"""What learned shifts cost in training, and how fast FE-Net trains.

    python benchmarks/training.py

Steps of training (forward, backward, update) on all cores, in turns in one process, of

- ShiftResNet-20 as in the SSL paper's Table 1, for images of 32x32 pixels: with sparse
  shifts, with grouped shifts, with nothing in their place, and with depthwise
  convolutions;
- FE-Net 1.0 for images of 64x64 pixels: the same; and MobileNetV2 1.0, both with this
  package's batch normalization and as keras.applications has it.

Ratios are to the network with nothing in the shifts' place, below 1 being faster:
medians and quartiles, round by round. Batches of 128 random images, once in float32
and once in mixed_bfloat16, which newer processors multiply faster. Writes
benchmarks/results/training.csv, with the machine in it.
"""

import argparse
import functools
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402
import rich.table  # noqa: E402
import tensorflow as tf  # noqa: E402
from records import write  # noqa: E402

from keras_shift import custom_ops, zoo  # noqa: E402
from keras_shift.deploy.timing import time_alternately  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.training import ShiftSGD  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "training.csv"
PRECISIONS = ("float32", "mixed_bfloat16")
# Sparse shifts may take this multiple of the time without shifts.
GOAL = 1.15


def published_mobilenet_v2(**options):
    """Returns keras.applications' network behind the zoo's preprocessing."""
    x = images = keras.Input((64, 64, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    return keras.Model(
        images, keras.applications.MobileNetV2(weights=None, **options)(x)
    )


def groups():
    """Networks to compare, by name; the first of a group is what others relate to."""
    small = {"input_shape": (32, 32, 3), "classes": 10, "wiring": "concatenate"}
    large = {"input_shape": (64, 64, 3), "classes": 200}
    spatial = {
        "nothing": "none",
        "sparse shifts": "sparse_shift",
        "grouped shifts": "grouped_shift",
        "depthwise": "depthwise",
    }
    yield {
        f"ShiftResNet-20, {name}": functools.partial(
            zoo.ShiftResNet20, spatial=value, **small
        )
        for name, value in spatial.items()
    }
    yield {
        **{
            f"FE-Net 1.0, {name}": functools.partial(zoo.FENet, spatial=value, **large)
            for name, value in spatial.items()
        },
        "MobileNetV2 1.0": functools.partial(zoo.MobileNetV2, **large),
        "MobileNetV2 1.0, keras.applications": functools.partial(
            published_mobilenet_v2, **large
        ),
    }


def step(build, precision, batch_size):
    """Returns a function that does one step of training."""
    keras.config.set_dtype_policy(precision)
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(
        ShiftSGD(0.01, momentum=0.9, displacement_gradient_factor=10),
        "sparse_categorical_crossentropy",
    )
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (batch_size, *model.input_shape[1:]))
    images = tf.constant(images.astype("float32"))
    labels = tf.constant(random.integers(0, model.output_shape[-1], batch_size))
    model.train_on_batch(images, labels)  # The first call traces the step.
    return functools.partial(model.train_on_batch, images, labels)


def measure(rounds, batch_size, progress):
    """Yields a row for every network and precision."""
    for precision in PRECISIONS:
        for group in groups():
            steps = {}
            for name, build in progress.track(
                group.items(), description=f"Compiling, {precision}"
            ):
                steps[name] = step(build, precision, batch_size)
            progress.console.log(f"Timing {len(steps)} networks, {precision}")
            timings = time_alternately(steps, rounds)
            baseline = next(iter(steps))
            for name, timing in timings.items():
                yield {
                    "precision": precision,
                    "network": name,
                    "baseline": baseline,
                    "ratio": timing.ratio,
                    "ratio_low": timing.ratio_low,
                    "ratio_high": timing.ratio_high,
                    "goal": GOAL if name.endswith("sparse shifts") else "",
                    "images_per_second": batch_size / timing.median,
                    "batch": batch_size,
                    "threads": os.cpu_count(),
                    "machine": machine(),
                }


def table_of(rows):
    """Returns the table that is printed."""
    table = rich.table.Table(
        caption="Median (quartiles) of ratios round by round. * misses its goal."
    )
    for title in ("Precision", "Network", "Images/s", "Ratio", "Goal"):
        table.add_column(title, justify="left" if title in ("Network",) else "right")
    for row in rows:
        missed = "*" if row["goal"] and row["ratio"] > row["goal"] else " "
        table.add_row(
            row["precision"],
            row["network"],
            f"{row['images_per_second']:.0f}",
            f"{row['ratio']:.3f}{missed} "
            f"({row['ratio_low']:.3f}-{row['ratio_high']:.3f})",
            str(row["goal"]),
        )
    return table


def main(arguments):
    """Measures, prints and writes everything."""
    if custom_ops.load() is None:
        raise SystemExit(f"There is no compiled op: {custom_ops.why_unavailable()}")
    console = rich.console.Console()
    with rich.progress.Progress(console=console, transient=True) as progress:
        rows = list(measure(arguments.rounds, arguments.batch_size, progress))
    console.print(table_of(rows))
    write(rows, Path(arguments.output))
    console.print(f"Written to {arguments.output}", soft_wrap=True)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--output", default=str(RESULTS))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
