"""Where the time of one image goes in a network of fused units.

    python benchmarks/one_image.py

FE-Net 1.0 for 224x224 pixels, 60% of its wide channels unshifted, as `deploy.fuse`
makes it, one image at a time, on one thread and on two. The time of a call is divided
into

- `call`: calling a `tf.function` that adds one to a number;
- `stem`: by how much a call takes less time if the map behind the stem is its input;
- a row for each unit, and one for the classifier: in a C++ program (one_image.cc),
  which calls one after the other as the network does, each on the output of the one
  before;
- `between units`: what remains of a call. TensorFlow's own code is no longer in the
  cache after the weights of a network went through it, so that a call takes longer than
  one that adds one to a number. The network has its units in one op, which copies less
  than the C++ program does.

So the parts add up to `whole`. `multiply_adds` and `weight_bytes` are those of a part;
`peak_share` is the share of its time that its multiply-adds would take at the
processor's peak, which a loop of multiply-adds in registers measures in the same
rounds. Besides, `read weights` is the time to read the weights of all units in their
order, when all have just run. With two threads, `meet a helper` is a loop in which a
helper takes part that had work a moment ago, and `wake a helper` one with a helper that
had none for a millisecond. Where a helper does not come in time, since other programs
are busy, there are no rows for two threads.

All are medians with quartiles, those of TensorFlow and those of C++ each taken in turns
in one process. Writes benchmarks/results/one_image.csv, with the machine in it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.table  # noqa: E402
from inference import fenet, frozen  # noqa: E402
from records import write  # noqa: E402

from keras_shift import custom_ops, deploy  # noqa: E402
from keras_shift.deploy.timing import time_alternately  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.layers import FusedChain2D, FusedUnit2D  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "one_image.csv"

THREADS = (1, 2)

# A helper that starts later than this, in seconds, had no core to run on.
LATEST_HELPER = 2e-4


def network():
    """Returns the network in which the time is spent."""
    return deploy.fuse(fenet(1.0))


def units_of(model):
    """Returns the layers that are units, and those that chains are made of."""
    units = []
    for layer in model.layers:
        if isinstance(layer, FusedUnit2D):
            units.append(layer)
        elif isinstance(layer, FusedChain2D):
            x = keras.Input(layer.input.shape[1:])
            for unit, weights in zip(layer.units, layer.unit_weights()):
                x = unit(x)
                unit.set_weights(weights)
                units.append(unit)
    return units


def described(layer):
    """Returns the line of a unit for the C++ program."""
    pooling = "global" if layer.global_pool else layer.pool_padding or "none"
    numbers = (
        *layer.input.shape[1:],
        layer.channels,
        layer.wide_channels,
        layer.filters,
        *layer.strides,
        pooling,
        int(layer.output_relu),
        int(layer.residual),
        *np.asarray(layer.displacements).ravel(),
    )
    return " ".join(map(str, (layer.name, *numbers)))


def multiply_adds(layer):
    """Returns the multiply-adds of a unit for an image."""

    def pixels(tensor):
        return int(np.prod(tensor.shape[1:3]))

    return layer.wide_channels * (
        layer.channels * pixels(layer.input) + layer.filters * pixels(layer.output)
    )


def weight_bytes(layer):
    """Bytes of a unit's matrices."""
    panels = (layer.expand_panels, layer.project_panels)
    return sum(4 * int(np.prod(variable.shape)) for variable in panels)


def in_cc(units, rounds):
    """Times of the C++ program in seconds, by name and number of threads."""
    process = subprocess.run(
        ["tools/cc_tests.sh", "benchmarks/one_image.cc"],
        cwd=ROOT,
        env={**os.environ, "ROUNDS": str(rounds)},
        input="\n".join(map(described, units)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times = {}
    for line in process.stdout.splitlines():
        kind, *values = line.split(",")
        if kind == "time":
            name, threads, *seconds = values
            times[name, int(threads)] = tuple(map(float, seconds))
    return times


def in_tensorflow(threads, rounds):
    """Times of calls in seconds, by name, each a list of median and quartiles."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = network()
    without_stem = keras.Model(model.get_layer("stem").output, model.output)
    add_one = tf.function(lambda number: number + 1)

    def caller(function, shape):
        values = np.random.default_rng(0).uniform(-1, 1, shape)
        x = tf.constant(values, "float32")
        return lambda: function(x).numpy()

    calls = {
        "whole": caller(frozen(model), (1, *model.input_shape[1:])),
        "without stem": caller(
            frozen(without_stem), (1, *without_stem.input_shape[1:])
        ),
        "call": caller(add_one, ()),
    }
    timings = time_alternately(calls, rounds)
    return {name: [t.median, t.low, t.high] for name, t in timings.items()}


def measured(threads, rounds):
    """Runs `in_tensorflow` in a process of its own."""
    command = [sys.executable, __file__, "--rounds", str(rounds)]
    output = subprocess.check_output([*command, "--threads", str(threads)], text=True)
    return json.loads(output)


def account(units, of_cc, of_tensorflow, threads):
    """Returns the rows for a number of threads.

    Args:
        units: Dictionary of multiply-adds and bytes of weights by unit, in their order.
        of_cc: What `in_cc` returns.
        of_tensorflow: What `in_tensorflow` returns.
        threads: Int, the number of threads.
    """
    whole, without_stem, call = (
        of_tensorflow[name][0] for name in ("whole", "without stem", "call")
    )
    parts = {
        "whole": of_tensorflow["whole"],
        "call": of_tensorflow["call"],
        "stem": [whole - without_stem],
        **{name: of_cc[name, threads] for name in units},
        "between units": [
            without_stem - call - sum(of_cc[name, threads][0] for name in units)
        ],
    }
    amounts = dict(units)
    if threads == 1:
        parts["read weights"] = of_cc["read weights", 1]
        amounts["read weights"] = [0, sum(weights for _, weights in units.values())]
    else:
        for name in ("meet a helper", "wake a helper"):
            parts[name] = of_cc[name, threads]
    peak = of_cc["multiply-add", 1][0] / threads
    rows = []
    for name, (median, *quartiles) in parts.items():
        row = {"part": name, "threads": threads, "ms": median * 1e3}
        row["share"] = median / whole
        if quartiles:
            row["ms_low"], row["ms_high"] = (value * 1e3 for value in quartiles)
        if name in amounts:
            products, row["weight_bytes"] = amounts[name]
            if products:
                row["multiply_adds"] = products
                row["peak_share"] = products * peak / median
        rows.append(row)
    return rows


def show(rows, console):
    """Prints a row for each part, with both numbers of threads side by side."""
    table = rich.table.Table(
        title=f"One image through FE-Net 1.0, fused, {rows[0]['machine']}"
    )
    table.add_column("part")
    for threads in THREADS:
        title = f"{threads} thread{'s' * (threads > 1)}"
        for column in (f"{title}: ms", "share", "of peak"):
            table.add_column(column, justify="right")
    found = {(row["part"], row["threads"]): row for row in rows}
    for part in dict.fromkeys(row["part"] for row in rows):
        cells = []
        for threads in THREADS:
            row = found.get((part, threads), {})
            cells += [
                f"{row['ms']:.3f}" if row else "",
                f"{row['share']:.1%}" if row else "",
                f"{row['peak_share']:.0%}" if "peak_share" in row else "",
            ]
        table.add_row(part, *cells)
    console.print(table)


def main():
    """Measures all parts, prints their shares and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="turns of each part")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, help="print calls with so many threads")
    arguments = parser.parse_args()
    if custom_ops.load() is None:
        raise SystemExit(f"There is no native op: {custom_ops.why_unavailable()}")
    if arguments.threads:  # `measured` has started this process.
        print(json.dumps(in_tensorflow(arguments.threads, arguments.rounds)))
        return
    layers = units_of(network())
    units = {
        layer.name: [multiply_adds(layer), weight_bytes(layer)] for layer in layers
    }
    of_cc = in_cc(layers, arguments.rounds)
    rows = []
    for threads in THREADS:
        if threads > 1 and of_cc["meet a helper", threads][0] > LATEST_HELPER:
            print(f"Other programs keep helpers away: no rows for {threads} threads.")
            continue
        rows += account(units, of_cc, measured(threads, arguments.rounds), threads)
    for row in rows:
        row["machine"] = machine()
    write(rows, arguments.output)
    show(rows, rich.console.Console(width=110))
    print(f"Written to {arguments.output}")


if __name__ == "__main__":
    main()
